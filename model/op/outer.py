"""Attention between two vectors: the content query of CDSR's DQA.

Its matrix of weights is the softmax of an outer product, so nothing of (B, C, C) needs to be stored. PyTorch launches
six small kernels forward and thirteen backward, twenty times in a network. On a GPU one kernel of ours does the
forward, from the layer that makes the query on, and one most of the backward, in float32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import in_float32
from . import dispatch

DTYPES = (torch.float32,)
LARGEST = 64  # channels: a program of the kernels holds the weights of one sample


def outer_attention(
    mean: Tensor, parameters: tuple[Tensor, Tensor], key: Tensor, value: Tensor, code: Tensor, gamma: Tensor
) -> Tensor:
    """Return code_i + γ Σ_j softmax_j(query_i key_j) value_j with query = W·mean + b; in float32 under autocast.

    Args:
        mean, key, value, code: (B, C).
        parameters: weight W (C, C) and bias b (C,).
        gamma: γ, (1,).

    Examples:
        >>> mean, key, value, code = torch.rand(4, 2, 3)
        >>> torch.equal(outer_attention(mean, (torch.eye(3), mean[0]), key, value, code, torch.zeros(1)), code)
        True
    """
    return in_float32(_attend, mean, *parameters, key, value, code, gamma)  # (B, C)


def _attend(
    mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor
) -> Tensor:
    if _has_kernel(mean):
        return cast(Tensor, _Attention.apply(mean, weight, bias, key, value, code, gamma))
    return plain(mean, weight, bias, key, value, code, gamma)


def plain(
    mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor
) -> Tensor:
    """Compute the same by products, which autograd knows."""
    weights = _weights(F.linear(mean, weight, bias), key)  # (B, C, C)
    return code + gamma * (weights @ value[:, :, None]).squeeze(2)  # (B, C)


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return (query[:, :, None] * key[:, None, :]).softmax(2)  # (B, C, C)


def plain_backward(
    dy: Tensor, mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of mean, query, key and value, (B, C), and of γ by samples, (B,)."""
    query = F.linear(mean, weight, bias)  # (B, C)
    weights = _weights(query, key)  # (B, C, C)
    found = (weights @ value[:, :, None]).squeeze(2)  # (B, C)
    moved = weights * (gamma * dy)[:, :, None]  # (B, C, C)
    logits = moved * (value[:, None, :] - found[:, :, None])  # (B, C, C): their gradient
    dq = (logits @ key[:, :, None]).squeeze(2)
    dk = (query[:, None, :] @ logits).squeeze(1)
    return dq @ weight, dq, dk, moved.sum(1), (dy * found).sum(1)


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare forward and backward of the Triton kernels with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    for c in (64, 33):
        sizes = [(3, c)] * 5 + [(c,), (c, c)]
        *vectors, bias, weight = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
        exact = *vectors, bias, weight / c**0.5, torch.full((1,), 0.5, dtype=torch.float64)
        mean, key, value, code, dy, bias, weight, gamma = (t.to(device, torch.float32) for t in exact)
        ours = kernels.forward(mean, weight, bias, key, value, code, gamma)
        gradients = kernels.backward(dy, mean, weight, bias, key, value, gamma)
        mean, key, value, code, dy, bias, weight, gamma = exact
        expected = (
            plain(mean, weight, bias, key, value, code, gamma),
            *plain_backward(dy, mean, weight, bias, key, value, gamma),
        )
        names = "result", "gradient of the mean", "dq", "dk", "dv", "dγ"
        for name, found, theirs in zip(names, (ours, *gradients), expected, strict=True):
            if not (found.cpu().double() - theirs).abs().max() <= 1e-5 * theirs.abs().max():
                return f"the {name} of their attention is not that of PyTorch"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(
    mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor
) -> Tensor:
    return mean.new_empty(mean.shape)


@dispatch.operator(_fake)
def attention(
    mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor
) -> Tensor:
    """Return what `outer_attention` returns; of float32 arguments on a GPU by one kernel."""
    if dispatch.runs_kernels("outer", mean, mean.dtype):
        from . import outer_triton as kernels

        return kernels.forward(mean, weight, bias, key, value, code, gamma)
    return plain(mean, weight, bias, key, value, code, gamma)


def _fake_backward(
    dy: Tensor, mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dmean, dq, dk, dv = (mean.new_empty(mean.shape) for _ in range(4))
    return dmean, dq, dk, dv, mean.new_empty(len(mean))


@dispatch.operator(_fake_backward)
def attention_backward(
    dy: Tensor, mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of mean, query, key and value, (B, C), and of γ by samples, (B,)."""
    if dispatch.runs_kernels("outer", mean, mean.dtype):
        from . import outer_triton as kernels

        return kernels.backward(dy, mean, weight, bias, key, value, gamma)
    dmean, dq, dk, dv, dgamma = plain_backward(dy, mean, weight, bias, key, value, gamma)
    return dmean, dq, dk, dv, dgamma


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        mean, weight, bias, key, value, _, gamma = arguments
        ctx.save_for_backward(mean, weight, bias, key, value, gamma)
        return attention(*arguments)

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (dy,) = gradients
        mean, *others = ctx.saved_tensors  # once: a checkpoint computes them where they are read
        dmean, dq, dk, dv, dgamma = attention_backward(dy, mean, *others)
        return dmean, dq.T @ mean, dq.sum(0), dk, dv, dy, dgamma.sum(0, keepdim=True)


def _has_kernel(mean: Tensor) -> bool:
    return dispatch.has_kernels("outer", mean) and mean.dtype == torch.float32 and mean.shape[1] <= LARGEST
