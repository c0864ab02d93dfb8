"""The Triton kernels of `outer`: forward, and one backward for all that belongs to a sample.

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

from . import dispatch

OPTIONS = dispatch.options(warps=8)  # 16 of 64 × 64 weights a thread


def forward(
    mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, code: Tensor, gamma: Tensor
) -> Tensor:
    """Return code_i + γ Σ_j softmax_j(query_i key_j) value_j with query = W·mean + b, (B, C)."""
    mean, weight, bias, key, value, code = (t.contiguous() for t in (mean, weight, bias, key, value, code))
    b, c = mean.shape
    y = torch.empty_like(mean)
    if b:
        forward_kernel[(b,)](mean, weight, bias, key, value, code, gamma, y, c, **_tile(c))
    return y


def backward(
    dy: Tensor, mean: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of mean, query, key and value, (B, C), and of γ by samples, (B,)."""
    dy, mean, weight, bias, key, value = (t.contiguous() for t in (dy, mean, weight, bias, key, value))
    b, c = mean.shape
    dmean, dq, dk, dv = (torch.empty_like(mean) for _ in range(4))
    dgamma = torch.empty(b, dtype=mean.dtype, device=mean.device)
    if b:
        arguments = dy, mean, weight, bias, key, value, gamma, dmean, dq, dk, dv, dgamma
        backward_kernel[(b,)](*arguments, c, **_tile(c))
    return dmean, dq, dk, dv, dgamma


def _tile(c: int) -> dict[str, int]:
    return {"BC": triton.next_power_of_2(c), **OPTIONS}


@triton.jit
def _query(mean, weight, bias, sample, C, i, inside):
    """Return W (BC, BC) and W·mean + b (BC,); 0 beyond the C channels."""
    w = tl.load(weight + i[:, None] * C + i[None, :], inside[:, None] & inside[None, :], 0.0)
    m = tl.load(mean + sample * C + i, inside, 0.0)
    return w, tl.sum(w * m[None, :], 1) + tl.load(bias + i, inside, 0.0)


@triton.jit
def _weights(q, k, inside):
    """Return softmax over j of q_i k_j, (BC, BC); 0 where j is no channel."""
    logits = tl.where(inside[None, :], q[:, None] * k[None, :], -float("inf"))
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def forward_kernel(mean, weight, bias, key, value, code, gamma, y, C, BC: tl.constexpr):
    i = tl.arange(0, BC)
    inside = i < C
    sample = tl.program_id(0).to(tl.int64)
    at = sample * C + i
    _, q = _query(mean, weight, bias, sample, C, i, inside)
    k, v = tl.load(key + at, inside, 0.0), tl.load(value + at, inside, 0.0)
    found = tl.sum(_weights(q, k, inside) * v[None, :], 1)
    tl.store(y + at, tl.load(code + at, inside, 0.0) + tl.load(gamma) * found, inside)


@triton.jit
def backward_kernel(dy, mean, weight, bias, key, value, gamma, dmean, dq, dk, dv, dgamma, C, BC: tl.constexpr):
    i = tl.arange(0, BC)
    inside = i < C
    sample = tl.program_id(0).to(tl.int64)
    at = sample * C + i
    w, q = _query(mean, weight, bias, sample, C, i, inside)
    k, v = tl.load(key + at, inside, 0.0), tl.load(value + at, inside, 0.0)
    g = tl.load(dy + at, inside, 0.0)
    weights = _weights(q, k, inside)
    found = tl.sum(weights * v[None, :], 1)
    tl.store(dgamma + sample, tl.sum(g * found, 0))
    moved = weights * (g * tl.load(gamma))[:, None]
    logits = moved * (v[None, :] - found[:, None])
    of_query = tl.sum(logits * k[None, :], 1)
    tl.store(dv + at, tl.sum(moved, 0), inside)
    tl.store(dq + at, of_query, inside)
    tl.store(dk + at, tl.sum(logits * q[:, None], 0), inside)
    tl.store(dmean + at, tl.sum(w * of_query[:, None], 0), inside)
