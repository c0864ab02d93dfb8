"""Attention between two vectors: the content query of CDSR's DQA.

Its matrix of weights is the softmax of an outer product, so nothing of (B, C, C) needs to be stored. PyTorch launches
five small kernels forward and ten backward, twenty times in a network. On a GPU one kernel of ours does the forward
and one the backward, in float32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import in_float32
from . import dispatch

LARGEST = 64  # channels: a program of the kernels holds the weights of one sample


def outer_attention(query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
    """Return code_i + γ Σ_j softmax_j(query_i key_j) value_j; in float32 under autocast.

    Args:
        query, key, value, code: (B, C).
        gamma: γ, (1,).

    Examples:
        >>> query, key, value, code = torch.rand(4, 2, 3)
        >>> torch.equal(outer_attention(query, key, value, code, torch.zeros(1)), code)
        True
    """
    return in_float32(_attend, query, key, value, code, gamma)  # (B, C)


def _attend(query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
    if _has_kernel(query):
        return cast(Tensor, _Attention.apply(query, key, value, code, gamma))
    return plain(query, key, value, code, gamma)


def plain(query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
    """Compute the same by products, which autograd knows."""
    weights = (query[:, :, None] * key[:, None, :]).softmax(2)  # (B, C, C)
    return code + gamma * (weights @ value[:, :, None]).squeeze(2)  # (B, C)


def plain_backward(dy: Tensor, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of query, key and value, (B, C), and of γ by samples, (B,)."""
    weights = (query[:, :, None] * key[:, None, :]).softmax(2)  # (B, C, C)
    found = (weights @ value[:, :, None]).squeeze(2)  # (B, C)
    moved = weights * (gamma * dy)[:, :, None]  # (B, C, C)
    logits = moved * (value[:, None, :] - found[:, :, None])  # (B, C, C): their gradient
    dq = (logits @ key[:, :, None]).squeeze(2)
    dk = (query[:, None, :] @ logits).squeeze(1)
    return dq, dk, moved.sum(1), (dy * found).sum(1)


def disagreement(kernels: Any, device: torch.device) -> str:
    """Compare forward and backward of the Triton kernels with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    for c in (64, 33):
        exact = [torch.randn(3, c, generator=generator, dtype=torch.float64) for _ in range(5)]
        gamma = torch.full((1,), 0.5, dtype=torch.float64)
        query, key, value, code, dy = (t.to(device, torch.float32) for t in exact)
        ours = kernels.forward(query, key, value, code, gamma.to(device, torch.float32))
        gradients = kernels.backward(dy, query, key, value, gamma.to(device, torch.float32))
        query, key, value, code, dy = exact
        expected = (plain(query, key, value, code, gamma), *plain_backward(dy, query, key, value, gamma))
        for name, found, theirs in zip(("result", "dq", "dk", "dv", "dγ"), (ours, *gradients), expected, strict=True):
            if not (found.cpu().double() - theirs).abs().max() <= 1e-5 * theirs.abs().max():
                return f"the {name} of their attention is not that of PyTorch"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
    return query.new_empty(query.shape)


@dispatch.operator(_fake)
def attention(query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
    """Return what `outer_attention` returns; of float32 arguments on a GPU by one kernel."""
    if dispatch.runs_kernels("outer", query):
        from . import outer_triton as kernels

        return kernels.forward(query, key, value, code, gamma)
    return plain(query, key, value, code, gamma)


def _fake_backward(
    dy: Tensor, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv = (query.new_empty(query.shape) for _ in range(3))
    return dq, dk, dv, query.new_empty(len(query))


@dispatch.operator(_fake_backward)
def attention_backward(
    dy: Tensor, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, (B, C), and of γ by samples, (B,)."""
    if dispatch.runs_kernels("outer", query):
        from . import outer_triton as kernels

        return kernels.backward(dy, query, key, value, gamma)
    dq, dk, dv, dgamma = plain_backward(dy, query, key, value, gamma)
    return dq, dk, dv, dgamma


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value, gamma)
        return attention(query, key, value, code, gamma)

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (dy,) = gradients
        dq, dk, dv, dgamma = attention_backward(dy, *ctx.saved_tensors)
        return dq, dk, dv, dy, dgamma.sum(0, keepdim=True)


def _has_kernel(query: Tensor) -> bool:
    return dispatch.has_kernels("outer", query) and query.dtype == torch.float32 and query.shape[1] <= LARGEST
