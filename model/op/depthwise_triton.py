"""The Triton kernels of `depthwise`: forward, and one backward for maps and weights.

A program owns ROWS rows of BW columns of BC channels of one sample and walks down them, one row of input at a time. A
row of input adds to three rows of output, so three sums are carried along and one is done after each row. Thus of each
row, its left and right neighbours included, three tiles are read; all but one come from the cache.

The backward carries the gradient of the maps in the same way. For each of the nine taps it keeps Σ x·g as a tile, which
it sums up at the end; the host adds the programs' sums in order. So nothing depends on which program runs first.

Strides are arguments: Triton compiles one variant where channels lie side by side (channels_last), another where
columns do. Sums are float32, whatever the maps are.
"""

# pyright: reportArgumentType=false
# (Triton declares integers that are known when it compiles to be objects.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import dispatch

BW, BC = 16, 32  # four elements a thread: the backward's nine sums of them fill 128 registers
OPTIONS = dispatch.options(warps=4)
TILE = {"BW": BW, "BC": BC, **OPTIONS}
ROWS = 16
LONG = 64  # rows of the backward, which writes sums at the end, where the programs still are `MANY`
MANY = 512  # an H100 or H200 has 132 processors


def forward(x: Tensor, kernel: Tensor, slope: float, dtype: torch.dtype, keep: bool) -> tuple[Tensor, Tensor]:
    """Return LeakyReLU of the correlation, (B, C, H, W) of `dtype`, laid out as x; and x as `dtype`, if `keep`."""
    x, strides = _dense(x)
    b, c, h, w = x.shape
    y = torch.empty_like(x, dtype=dtype)
    kept = torch.empty_like(y) if keep else y.new_empty(0)
    if y.numel():
        grid = (dispatch.cdiv(w, BW) * dispatch.cdiv(c, BC), dispatch.cdiv(h, ROWS), b)
        forward_kernel[grid](x, kernel.contiguous(), y, kept, h, w, c, *strides, slope, KEEP=keep, ROWS=ROWS, **TILE)
    return y, kept


def backward(
    dy: Tensor, x: Tensor, kernel: Tensor, y: Tensor, slope: float, dtype: torch.dtype, add_to: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of the kernels from that of y, (B, C, H, W) of `dtype` and (B, C, 3, 3).

    `add_to`: another gradient of x, (B, C, H, W), which is added to the first.
    """
    x, strides = _dense(x)
    layout = dispatch.layout(x)
    dy, y = (t.contiguous(memory_format=layout) for t in (dy, y))
    b, c, h, w = x.shape
    dx = torch.empty_like(x, dtype=dtype)
    others = dx if add_to is None else add_to.contiguous(memory_format=layout)
    columns, chunks = dispatch.cdiv(w, BW), dispatch.cdiv(c, BC)
    height = LONG if columns * chunks * b * dispatch.cdiv(h, LONG) >= MANY else ROWS
    rows = dispatch.cdiv(h, height)
    sums = torch.empty(rows * columns, b, c, 3, 3, dtype=torch.float32, device=x.device)  # one per program
    if dx.numel():
        backward_kernel[columns * chunks, rows, b](
            *(dy, x, kernel.contiguous(), y, others, dx, sums, b, h, w, c, *strides, slope),
            ADD=add_to is not None,
            ROWS=height,
            **TILE,
        )
    return dx, sums.sum(0).to(kernel.dtype)


def _dense(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Return x in its `layout`, without gaps, and its strides over (B, C, H, W)."""
    _, c, h, w = x.shape
    if dispatch.layout(x) == torch.contiguous_format:
        return x, (c * h * w, h * w, w, 1)
    return x.contiguous(memory_format=torch.channels_last), (c * h * w, 1, w * c, c)


@triton.jit
def _tile(W, C, BW: tl.constexpr, BC: tl.constexpr):
    """Return the columns (BW,) and channels (BC,) of this program."""
    n = tl.cdiv(W, BW)
    w = tl.program_id(0) % n * BW + tl.arange(0, BW)
    c = tl.program_id(0) // n * BC + tl.arange(0, BC)
    return w, c


@triton.jit
def _load(base, row, w, c, H, W, C, stride_c, stride_h, stride_w):
    """Load a row's columns w and channels c as float32, (BW, BC); 0 outside of the map."""
    inside = ((row >= 0) & (row < H) & (w >= 0) & (w < W))[:, None] & (c < C)[None, :]
    return tl.load(base + row * stride_h + w[:, None] * stride_w + c[None, :] * stride_c, inside, 0.0).to(tl.float32)


@triton.jit
def _tap(kernel, c, C, i: tl.constexpr, j: tl.constexpr):
    """Load weight (i, j) of channels c, (1, BC)."""
    return tl.load(kernel + c * 9 + (3 * i + j), c < C, 0.0).to(tl.float32)[None, :]


@triton.jit
def _store(base, value, row, begin, end, w, c, W, C, stride_c, stride_h, stride_w):
    """Store (BW, BC) if the row is one of this program's."""
    inside = ((row >= begin) & (row < end) & (w < W))[:, None] & (c < C)[None, :]
    tl.store(base + row * stride_h + w[:, None] * stride_w + c[None, :] * stride_c, value, inside)


@triton.jit
def forward_kernel(
    x,
    kernel,
    y,
    kept,
    H,
    W,
    C,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    slope,
    KEEP: tl.constexpr,
    ROWS: tl.constexpr,
    BW: tl.constexpr,
    BC: tl.constexpr,
):
    w, c = _tile(W, C, BW, BC)
    sample = tl.program_id(2).to(tl.int64)
    x += sample * stride_b
    y += sample * stride_b
    kept += sample * stride_b
    kernel += sample * C * 9
    k00, k01, k02 = _tap(kernel, c, C, 0, 0), _tap(kernel, c, C, 0, 1), _tap(kernel, c, C, 0, 2)
    k10, k11, k12 = _tap(kernel, c, C, 1, 0), _tap(kernel, c, C, 1, 1), _tap(kernel, c, C, 1, 2)
    k20, k21, k22 = _tap(kernel, c, C, 2, 0), _tap(kernel, c, C, 2, 1), _tap(kernel, c, C, 2, 2)
    begin = tl.program_id(1) * ROWS
    end = tl.minimum(begin + ROWS, H)
    above = tl.zeros((BW, BC), tl.float32)  # output of the row above the one that is read
    here = tl.zeros((BW, BC), tl.float32)
    for row in range(begin - 1, end + 1):
        left = _load(x, row, w - 1, c, H, W, C, stride_c, stride_h, stride_w)
        middle = _load(x, row, w, c, H, W, C, stride_c, stride_h, stride_w)
        right = _load(x, row, w + 1, c, H, W, C, stride_c, stride_h, stride_w)
        if KEEP:
            _store(kept, middle, row, begin, end, w, c, W, C, stride_c, stride_h, stride_w)
        above += left * k20 + middle * k21 + right * k22
        here += left * k10 + middle * k11 + right * k12
        below = left * k00 + middle * k01 + right * k02
        value = tl.where(above > 0, above, above * slope)
        _store(y, value, row - 1, begin, end, w, c, W, C, stride_c, stride_h, stride_w)
        above, here = here, below


@triton.jit
def _load_gradient(dy, y, row, w, c, H, W, C, stride_c, stride_h, stride_w, slope):
    """Load the gradient before LeakyReLU, whose sign its output tells."""
    gradient = _load(dy, row, w, c, H, W, C, stride_c, stride_h, stride_w)
    value = _load(y, row, w, c, H, W, C, stride_c, stride_h, stride_w)
    return tl.where(value > 0, gradient, gradient * slope)


@triton.jit
def _store_sum(sums, value, c, C, i: tl.constexpr, j: tl.constexpr):
    """Store Σ over columns of (BW, BC) as the sum of tap (i, j)."""
    tl.store(sums + c * 9 + (3 * i + j), tl.sum(value, 0), c < C)


@triton.jit
def backward_kernel(
    dy,
    x,
    kernel,
    y,
    add_to,
    dx,
    sums,
    B,
    H,
    W,
    C,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    slope,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    BW: tl.constexpr,
    BC: tl.constexpr,
):
    w, c = _tile(W, C, BW, BC)
    sample = tl.program_id(2).to(tl.int64)
    dy += sample * stride_b
    add_to += sample * stride_b
    x += sample * stride_b
    y += sample * stride_b
    dx += sample * stride_b
    kernel += sample * C * 9
    k00, k01, k02 = _tap(kernel, c, C, 0, 0), _tap(kernel, c, C, 0, 1), _tap(kernel, c, C, 0, 2)
    k10, k11, k12 = _tap(kernel, c, C, 1, 0), _tap(kernel, c, C, 1, 1), _tap(kernel, c, C, 1, 2)
    k20, k21, k22 = _tap(kernel, c, C, 2, 0), _tap(kernel, c, C, 2, 1), _tap(kernel, c, C, 2, 2)
    begin = tl.program_id(1) * ROWS
    end = tl.minimum(begin + ROWS, H)
    zero = tl.zeros((BW, BC), tl.float32)
    s00, s01, s02, s10, s11, s12, s20, s21, s22 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    above, here = zero, zero  # gradient of x in the row above the one of g that is read, and in the row itself
    # x itself there; 0 in rows of other programs, which sum those up. Each with a zero of its own: Triton carries a
    # variable from one turn of a loop to the next only if a turn leaves it as another object, and x_above is left as
    # what x_here was.
    x_above, x_here = tl.zeros((BW, BC), tl.float32), tl.zeros((BW, BC), tl.float32)
    for row in range(begin - 1, end + 1):
        # x at column w meets g at w + 1 through the left tap, at w - 1 through the right one.
        left = _load_gradient(dy, y, row, w + 1, c, H, W, C, stride_c, stride_h, stride_w, slope)
        middle = _load_gradient(dy, y, row, w, c, H, W, C, stride_c, stride_h, stride_w, slope)
        right = _load_gradient(dy, y, row, w - 1, c, H, W, C, stride_c, stride_h, stride_w, slope)
        x_below = _load(x, row + 1, w, c, end, W, C, stride_c, stride_h, stride_w)
        above += left * k00 + middle * k01 + right * k02
        here += left * k10 + middle * k11 + right * k12
        below = left * k20 + middle * k21 + right * k22
        s00 += x_above * left
        s01 += x_above * middle
        s02 += x_above * right
        s10 += x_here * left
        s11 += x_here * middle
        s12 += x_here * right
        s20 += x_below * left
        s21 += x_below * middle
        s22 += x_below * right
        inside = ((row > begin) & (row <= end) & (w < W))[:, None] & (c < C)[None, :]
        at = (row - 1) * stride_h + w[:, None] * stride_w + c[None, :] * stride_c
        if ADD:
            above += tl.load(add_to + at, inside, 0.0).to(tl.float32)
        tl.store(dx + at, above, inside)
        above, here = here, below
        x_above, x_here = x_here, x_below
    program = tl.program_id(1) * tl.cdiv(W, BW) + tl.program_id(0) % tl.cdiv(W, BW)
    sums += (program.to(tl.int64) * B + sample) * C * 9
    _store_sum(sums, s00, c, C, 0, 0)
    _store_sum(sums, s01, c, C, 0, 1)
    _store_sum(sums, s02, c, C, 0, 2)
    _store_sum(sums, s10, c, C, 1, 0)
    _store_sum(sums, s11, c, C, 1, 1)
    _store_sum(sums, s12, c, C, 1, 2)
    _store_sum(sums, s20, c, C, 2, 0)
    _store_sum(sums, s21, c, C, 2, 1)
    _store_sum(sums, s22, c, C, 2, 2)
