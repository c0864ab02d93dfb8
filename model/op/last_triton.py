"""The Triton kernels of `last`: forward, and one backward for maps and weights. Maps lie channels last.

Forward, a program owns ROWS rows of BW columns of one sample and walks down them, one row of input at a time. It loads
the row three times, once for each column of the kernel, and multiplies it by the weights of all three rows at once:
column 4·i + o of that product belongs to row i of the kernel and output o. A row of output adds up the columns of three
rows of input, of which the last two are carried along.

Backward, a program takes every so many tiles of BP pixels of input. For each it gathers the gradient of the output that
sees the pixels, a column for each output and tap (9·o + 3·i + j): times the weights that makes the gradient of the
maps, and times the maps that of the weights, whose sum it carries along. The host adds the programs' sums in order, so
nothing depends on which program runs first.

The few outputs fill no tile of a matrix product, so these are padded: 3 of 4 columns are used forward, 27 of 32
backward. Sums are float32. Products are in TF32, which has all bits of bf16 and fp16: it rounds weights and gradients
alone. (In float32 Triton has no tensor cores and too few registers.)
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (Triton declares integers that are known when it compiles to be objects, and names of axes to be ranges.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import dispatch

ROWS, BW = 16, 64
BP, PROGRAMS = 32, 1584  # twelve for each processor of an H200, which holds two or three at a time
OPTIONS = dispatch.options(warps=4)


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the convolution, (B, N, H, W) float32, channels last.

    Args: x (B, C, H, W) bf16 or fp16, weight (N, C, 3, 3) and bias (N,) float32, N at most 3.
    """
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    b, c, h, w = x.shape
    n = len(weight)
    y = torch.empty((b, n, h, w), dtype=weight.dtype, device=x.device, memory_format=torch.channels_last)
    if y.numel():
        grid = (dispatch.cdiv(w, BW), dispatch.cdiv(h, ROWS), b)
        forward_kernel[grid](x, weight, bias.contiguous(), y, h, w, c, ROWS=ROWS, BW=BW, **_constants(n, c))
    return y


def backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of x, as x, and of weight, (N, C, 3, 3) float32, both channels last, from that of y."""
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    dy = dy.contiguous(memory_format=dispatch.layout(dy))
    b, c, h, w = x.shape
    n = len(weight)
    strides = (n * h * w, h * w, 1) if dispatch.layout(dy) == torch.contiguous_format else (n * h * w, 1, n)
    dx = torch.empty_like(x)
    of_sample = dispatch.cdiv(h * w, BP)
    tiles = b * of_sample
    programs = min(PROGRAMS, tiles)
    sums = torch.empty((programs, n, 3, 3, c), dtype=torch.float32, device=x.device)
    if dx.numel():
        backward_kernel[programs,](
            *(dy, x, weight, dx, sums, tiles, of_sample, h, w, c, *strides), BP=BP, **_constants(n, c)
        )
    return dx, sums.sum(0).permute(0, 3, 1, 2)


def _constants(n: int, c: int) -> dict[str, int]:
    return {"N": n, "BC": max(16, triton.next_power_of_2(c)), **OPTIONS}


@triton.jit
def _weights(weight, c, i, o, C, N: tl.constexpr, j: tl.constexpr):
    """Load column j of the kernel, (BC, 16)."""
    inside = (c < C)[:, None] & ((i < 3) & (o < N))[None, :]
    return tl.load(weight + (9 * o + 3 * i + j)[None, :] * C + c[:, None], inside, 0.0)


@triton.jit
def _load(x, row, w, c, H, W, C):
    """Load a row's columns w and channels c as float32, (BW, BC); 0 outside of the map."""
    inside = ((row >= 0) & (row < H) & (w >= 0) & (w < W))[:, None] & (c < C)[None, :]
    return tl.load(x + (row * W + w)[:, None] * C + c[None, :], inside, 0.0).to(tl.float32)


@triton.jit
def forward_kernel(
    x,
    weight,
    bias,
    y,
    H,
    W,
    C,
    N: tl.constexpr,
    ROWS: tl.constexpr,
    BW: tl.constexpr,
    BC: tl.constexpr,
):
    w = tl.program_id(0) * BW + tl.arange(0, BW)
    c = tl.arange(0, BC)
    column = tl.arange(0, 16)
    i, o = column // 4, column % 4
    sample = tl.program_id(2).to(tl.int64)
    x += sample * (H * W * C)
    y += sample * (H * W * N)
    left = _weights(weight, c, i, o, C, N, 0)
    middle = _weights(weight, c, i, o, C, N, 1)
    right = _weights(weight, c, i, o, C, N, 2)
    out = tl.arange(0, 4)
    offset = tl.load(bias + out, out < N, 0.0)
    begin = tl.program_id(1) * ROWS
    end = tl.minimum(begin + ROWS, H)
    before = tl.zeros((BW, 16), tl.float32)  # products of the row two above the one that is read
    above = tl.zeros((BW, 16), tl.float32)  # of the one above; a zero of its own, see depthwise_triton.py
    for row in range(begin - 1, end + 1):
        here = tl.dot(_load(x, row, w - 1, c, H, W, C), left, input_precision="tf32")
        here = tl.dot(_load(x, row, w, c, H, W, C), middle, here, input_precision="tf32")
        here = tl.dot(_load(x, row, w + 1, c, H, W, C), right, here, input_precision="tf32")
        seen = tl.where((i == 0)[None, :], before, tl.where((i == 1)[None, :], above, here))
        value = tl.sum(tl.reshape(seen, (BW, 4, 4)), 1) + offset[None, :]  # of the row above
        inside = ((row > begin) & (w < W))[:, None] & (out < N)[None, :]
        tl.store(y + ((row - 1) * W + w)[:, None] * N + out[None, :], value, inside)
        before, above = above, here


@triton.jit
def backward_kernel(
    dy,
    x,
    weight,
    dx,
    sums,
    TILES,
    OF_SAMPLE,
    H,
    W,
    C,
    stride_b,
    stride_n,
    stride_w,
    N: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
):
    c = tl.arange(0, BC)
    k = tl.arange(0, 32)
    used = k < 9 * N
    o, i, j = k // 9, k // 3 % 3, k % 3
    tap = o * stride_n + ((1 - i) * W + 1 - j) * stride_w
    of_weights = used[:, None] & (c < C)[None, :]
    weights = tl.load(weight + k[:, None] * C + c[None, :], of_weights, 0.0)  # (32, BC)
    total = tl.zeros((32, BC), tl.float32)
    for tile in range(tl.program_id(0), TILES, tl.num_programs(0)):
        sample = (tile // OF_SAMPLE).to(tl.int64)
        pixel = tile % OF_SAMPLE * BP + tl.arange(0, BP)
        there = pixel < H * W
        h = (pixel // W)[:, None] + 1 - i[None, :]  # of the output that sees the pixel through tap (i, j)
        w = (pixel % W)[:, None] + 1 - j[None, :]
        inside = there[:, None] & used[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        g = tl.load(dy + sample * stride_b + (pixel * stride_w)[:, None] + tap[None, :], inside, 0.0)  # (BP, 32)
        at = sample * (H * W * C) + (pixel[:, None] * C + c[None, :])
        of_maps = there[:, None] & (c < C)[None, :]
        maps = tl.load(x + at, of_maps, 0.0).to(tl.float32)  # (BP, BC)
        tl.store(dx + at, tl.dot(g, weights, input_precision="tf32"), of_maps)
        total = tl.dot(tl.trans(g), maps, total, input_precision="tf32")
    at = tl.program_id(0).to(tl.int64) * (9 * N * C) + (k[:, None] * C + c[None, :])
    tl.store(sums + at, total, of_weights)
