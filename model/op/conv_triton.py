"""The Triton kernels of `conv`, for maps laid out channels last: after a convolution, and before its backward.

The backward sums the gradient over pixels. A program owns some pixels and keeps one sum for each of them and each
channel of its tile, which it adds up at the end; the host adds the programs' sums in order.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (Triton declares integers that are known when it compiles to be objects, and no options of the compiler.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import dispatch

BLOCK = 1024  # eight elements a thread, so 16 bytes in bf16
OPTIONS = dispatch.options(warps=4)
BP, BC = 32, 64  # pixels and channels of a tile of the backward: sixteen elements a thread
PROGRAMS = 1024  # of the backward, for all channels of a tile


def follow(y: Tensor, bias: Tensor, add_to: Tensor | None, slope: float, scale: float, out: Tensor) -> None:
    """Write LeakyReLU(y + b), or add_to + scale·(y + b), to out, which may be y; both (B, C, H, W), channels last."""
    added = y if add_to is None else add_to.contiguous(memory_format=torch.channels_last)
    if n := y.numel():
        follow_kernel[dispatch.cdiv(n, BLOCK),](
            *(y, bias.contiguous(), added, out, n, y.shape[1], slope, scale),
            ADD=add_to is not None,
            BLOCK=BLOCK,
            **OPTIONS,
        )


def precede(d: Tensor, out: Tensor | None, slope: float, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the gradient of y, (B, C, H, W) of `dtype`, channels last, and that of the bias, (C,) in float32."""
    d = d.contiguous(memory_format=torch.channels_last)
    b, c, h, w = d.shape
    dy, pixels = torch.empty_like(d, dtype=dtype), b * h * w
    turns = max(1, dispatch.cdiv(pixels, BP * PROGRAMS))
    programs = dispatch.cdiv(pixels, BP * turns)
    sums = torch.empty(programs, c, dtype=torch.float32, device=d.device)
    if pixels:
        result = d if out is None else out.contiguous(memory_format=torch.channels_last)
        precede_kernel[programs, dispatch.cdiv(c, BC)](
            *(d, result, dy, sums, pixels, c, turns, slope, scale),
            LRELU=out is not None,
            BP=BP,
            BC=BC,
            **OPTIONS,
        )
    return dy, sums.sum(0)


@triton.jit
def follow_kernel(y, bias, add_to, out, N, C, slope, scale, ADD: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < N
    value = tl.load(y + at, inside, 0.0).to(tl.float32) + tl.load(bias + at % C, inside, 0.0).to(tl.float32)
    if ADD:
        value = tl.load(add_to + at, inside, 0.0).to(tl.float32) + scale * value
    else:
        value = tl.where(value > 0, value, value * slope)
    tl.store(out + at, value, inside)


@triton.jit
def precede_kernel(
    d, out, dy, sums, P, C, TURNS, slope, scale, LRELU: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr
):
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    total = tl.zeros((BP, BC), tl.float32)
    for turn in range(TURNS):
        pixel = (tl.program_id(0) * TURNS + turn) * BP + tl.arange(0, BP)
        at = pixel[:, None] * C + c[None, :]
        inside = (pixel < P)[:, None] & (c < C)[None, :]
        value = scale * tl.load(d + at, inside, 0.0).to(tl.float32)
        if LRELU:
            value = tl.where(tl.load(out + at, inside, 0.0).to(tl.float32) > 0, value, value * slope)
        tl.store(dy + at, value, inside)
        total += value
    tl.store(sums + tl.program_id(0) * C + c, tl.sum(total, 0), c < C)
