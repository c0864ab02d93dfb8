"""The Triton kernels of `outer`: forward, and one backward for all arguments.

A program owns one sample and holds the (C, C) weights of its attention in registers. The backward computes them anew,
which costs less than to store them.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (Triton declares integers that are known when it compiles to be objects, and names of axes to be ranges.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WARPS = 8  # 16 of 64 × 64 weights a thread


def forward(query: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor) -> Tensor:
    """Return code_i + γ Σ_j softmax_j(query_i key_j) value_j of (B, C) each, (B, C)."""
    query, key, value, code = (t.contiguous() for t in (query, key, value, code))
    b, c = query.shape
    y = torch.empty_like(query)
    if b:
        forward_kernel[(b,)](query, key, value, code, gamma, y, c, **_tile(c))
    return y


def backward(
    dy: Tensor, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, (B, C), and of γ by samples, (B,)."""
    dy, query, key, value = (t.contiguous() for t in (dy, query, key, value))
    b, c = query.shape
    dq, dk, dv = (torch.empty_like(query) for _ in range(3))
    dgamma = torch.empty(b, dtype=query.dtype, device=query.device)
    if b:
        arguments = dy, query, key, value, gamma, dq, dk, dv, dgamma
        backward_kernel[(b,)](*arguments, c, **_tile(c))
    return dq, dk, dv, dgamma


def _tile(c: int) -> dict[str, int]:
    return {"BC": triton.next_power_of_2(c), "num_warps": WARPS}


@triton.jit
def _weights(q, k, inside):
    """Return softmax over j of q_i k_j, (BC, BC); 0 where j is no channel."""
    logits = tl.where(inside[None, :], q[:, None] * k[None, :], -float("inf"))
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def forward_kernel(query, key, value, code, gamma, y, C, BC: tl.constexpr):
    i = tl.arange(0, BC)
    inside = i < C
    at = tl.program_id(0).to(tl.int64) * C + i
    q, k, v = tl.load(query + at, inside, 0.0), tl.load(key + at, inside, 0.0), tl.load(value + at, inside, 0.0)
    found = tl.sum(_weights(q, k, inside) * v[None, :], 1)
    tl.store(y + at, tl.load(code + at, inside, 0.0) + tl.load(gamma) * found, inside)


@triton.jit
def backward_kernel(dy, query, key, value, gamma, dq, dk, dv, dgamma, C, BC: tl.constexpr):
    i = tl.arange(0, BC)
    inside = i < C
    sample = tl.program_id(0).to(tl.int64)
    at = sample * C + i
    q, k, v = tl.load(query + at, inside, 0.0), tl.load(key + at, inside, 0.0), tl.load(value + at, inside, 0.0)
    g = tl.load(dy + at, inside, 0.0)
    weights = _weights(q, k, inside)
    found = tl.sum(weights * v[None, :], 1)
    tl.store(dgamma + sample, tl.sum(g * found, 0))
    moved = weights * (g * tl.load(gamma))[:, None]
    logits = moved * (v[None, :] - found[:, None])
    tl.store(dv + at, tl.sum(moved, 0), inside)
    tl.store(dq + at, tl.sum(logits * k[None, :], 1), inside)
    tl.store(dk + at, tl.sum(logits * q[:, None], 0), inside)
