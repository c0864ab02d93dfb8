"""The Triton kernels of `dense`: a map gets its bias and LeakyReLU, and is appended to those before it; and back.

Maps without gaps are matrices to them: a row for each pixel where channels lie side by side (channels_last), else one
for each sample. A program that appends writes BLOCK elements of the result, whichever rows they belong to.

The way back is for channels_last alone. A program takes ROWS pixels of CHANNELS channels: either of those that are only
added, or of those that go through LeakyReLU and are summed up over pixels. It stores its sums, and the host adds those
of all programs in order. So nothing depends on which program runs first.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (Triton declares integers that are known when it compiles to be objects, and no options of the compiler.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import dispatch
from .dense import ROWS

BLOCK = 1024  # eight elements a thread, so 16 bytes in bf16
OPTIONS = dispatch.options(warps=4)
CHANNELS = 32  # as many as most layers have: of ROWS pixels 16 elements a thread, so twice 16 bytes in bf16


def append(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return `seen` (B, C, H, W) and LeakyReLU(y + bias), (B, growth, H, W), as one map that is laid out as `seen`."""
    layout = dispatch.layout(seen)
    seen, y = (x.contiguous(memory_format=layout) for x in (seen, y))
    b, c, h, w = seen.shape
    out = torch.empty((b, c + y.shape[1], h, w), dtype=seen.dtype, device=seen.device, memory_format=layout)
    run = h * w if layout == torch.contiguous_format else 1  # elements of one channel that lie side by side
    if n := out.numel():
        widths = c * run, y.shape[1] * run
        append_kernel[dispatch.cdiv(n, BLOCK),](
            *(seen, y, bias.contiguous(), out, n, *widths, run, slope), BLOCK=BLOCK, **OPTIONS
        )
    return out


@triton.jit
def append_kernel(seen, y, bias, out, N, OLD, NEW, RUN, slope, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row, column = at // (OLD + NEW), at % (OLD + NEW)
    inside, old = at < N, column < OLD
    new = inside & ~old
    value = tl.load(y + row * NEW + column - OLD, new, 0.0).to(tl.float32)
    value += tl.load(bias + (column - OLD) // RUN, new, 0.0).to(tl.float32)
    value = tl.where(value > 0, value, value * slope)
    value = tl.where(old, tl.load(seen + row * OLD + column, inside & old, 0.0).to(tl.float32), value)
    tl.store(out + at, value, inside)


def peel(
    gradient: Tensor, more: Tensor | None, seen: Tensor, dys: Tensor, sums: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Return and write what `dense.peel` does."""
    b, growth, h, w = seen.shape
    n = gradient.shape[1] - growth
    adds = more is not None

    rest = dispatch.empty(seen, (b, n, h, w)) if adds else seen.new_empty(0)
    dy = dispatch.empty(seen, (b, growth, h, w))
    if pixels := b * h * w:
        tiles = (dispatch.cdiv(n, CHANNELS) if adds else 0) + dispatch.cdiv(growth, CHANNELS)
        more = more.contiguous(memory_format=torch.channels_last) if adds else gradient
        peel_kernel[dispatch.cdiv(pixels, ROWS) * tiles,](
            *(gradient, more, seen, rest, dy, dys, sums),
            *(pixels, n, growth, _width(gradient), _width(seen), _width(dys), sums.stride(0), slope),
            ADDS=adds,
            ROWS=ROWS,
            CHANNELS=CHANNELS,
            **OPTIONS,
        )
    return rest, dy


def _width(x: Tensor) -> int:
    """Return how far pixels are apart in a slice of channels, side by side, of (B, C, H, W)."""
    _, _, h, w = x.shape
    return x.stride(3) if w > 1 else x.stride(2) if h > 1 else x.stride(0)  # strides of one row or column mean nothing


@triton.jit
def peel_kernel(
    gradient,
    more,
    seen,
    rest,
    dy,
    dys,
    sums,
    PIXELS,
    N,
    GROWTH,
    WIDTH,
    SEEN,
    DYS,
    SUMS,
    slope,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    below = tl.cdiv(N, CHANNELS) if ADDS else 0  # programs for the channels that are only added
    tiles = below + tl.cdiv(GROWTH, CHANNELS)
    tile, part = tl.program_id(0) % tiles, tl.program_id(0) // tiles  # side by side in memory, side by side in time
    row = (part * ROWS + tl.arange(0, ROWS))[:, None]
    if tile < below:
        c = (tile * CHANNELS + tl.arange(0, CHANNELS))[None, :]
        inside = (row < PIXELS) & (c < N)
        value = tl.load(gradient + row * WIDTH + c, inside, 0.0).to(tl.float32)
        value += tl.load(more + row * (N + GROWTH) + c, inside, 0.0).to(tl.float32)
        tl.store(rest + row * N + c, value, inside)
    else:
        columns = (tile - below) * CHANNELS + tl.arange(0, CHANNELS)
        c = columns[None, :]
        inside = (row < PIXELS) & (c < GROWTH)
        value = tl.load(gradient + row * WIDTH + N + c, inside, 0.0).to(tl.float32)
        if ADDS:
            value += tl.load(more + row * (N + GROWTH) + N + c, inside, 0.0).to(tl.float32)
        sign = tl.load(seen + row * SEEN + c, inside, 0.0).to(tl.float32)
        value = tl.where(sign > 0, value, value * slope)
        tl.store(dy + row * GROWTH + c, value, inside)
        tl.store(dys + row * DYS + c, value, inside)
        tl.store(sums + part * SUMS + columns, tl.sum(value, 0), columns < GROWTH)
