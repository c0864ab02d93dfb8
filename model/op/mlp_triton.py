"""The Triton kernel of `mlp`: a program makes some outputs of one sample, from the first layer on."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# (Triton declares integers that are known when it compiles to be objects, names of axes to be ranges, and sums tuples.)

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import dispatch

BLOCK = 64  # outputs of a program; 32 weights of each layer a thread
OPTIONS = dispatch.options(warps=4)


def mlp(x: Tensor, first: Tensor, second: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Return W₂·LeakyReLU(W₁·x), (B, C''), and LeakyReLU(W₁·x), (B, C').

    Args: x (B, C), W₁ (C', C), W₂ (C'', C').
    """
    x, first, second = (t.contiguous() for t in (x, first, second))
    (b, c), (inner, _), (n, _) = x.shape, first.shape, second.shape
    y, hidden = x.new_empty(b, n), x.new_empty(b, inner)
    if b:
        tile = {"BC": triton.next_power_of_2(c), "BM": triton.next_power_of_2(inner), "BLOCK": BLOCK}
        grid = (b, dispatch.cdiv(n, BLOCK))
        mlp_kernel[grid](x, first, second, y, hidden, c, inner, n, slope, **tile, **OPTIONS)
    return y, hidden


@triton.jit
def mlp_kernel(x, first, second, y, hidden, C, M, N, slope, BC: tl.constexpr, BM: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64)
    c, m, n = tl.arange(0, BC), tl.arange(0, BM), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    w1 = tl.load(first + m[:, None] * C + c[None, :], (m < M)[:, None] & (c < C)[None, :], 0.0)
    h = tl.sum(w1 * tl.load(x + sample * C + c, c < C, 0.0)[None, :], 1)
    h = tl.where(h > 0, h, h * slope)
    tl.store(hidden + sample * M + m, h, (m < M) & (tl.program_id(1) == 0))
    w2 = tl.load(second + n[:, None] * M + m[None, :], (n < N)[:, None] & (m < M)[None, :], 0.0)
    tl.store(y + sample * N + n, tl.sum(w2 * h[None, :], 1), n < N)
