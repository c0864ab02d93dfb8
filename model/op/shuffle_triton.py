"""The Triton kernels of `shuffle`: bias and shuffle by one pass over the maps, the way back and a sum by another.

Channels last, a pixel's C·r² values lie side by side, channel by channel; shuffled they are an r×r block, in each row
of which r·C lie side by side, pixel by pixel. A program reads a tile of BP pixels as it lies, turns it around in the
multiprocessor's shared memory, and writes it as it shall lie; so at r = 2 both sides move 16 bytes at once.

The backward's programs take tile after tile and keep Σ g of each channel as a tile, which they sum up at the end; the
host adds the programs' sums in order. So nothing depends on which program runs first.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (Triton declares integers that are known when it compiles to be objects, and no options of the compiler.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import dispatch

TILE = 2048  # elements of a program: 16 a thread, twice 16 bytes in bf16
OPTIONS = dispatch.options(warps=4)
WIDTH = 256  # of these elements, how many belong to one pixel before the shuffle
PROGRAMS = 1024  # of the backward, at most: about eight for each multiprocessor


def shuffle(y: Tensor, bias: Tensor, factor: int) -> Tensor:
    """Return y + bias shuffled, (B, C, r·H, r·W), channels last.

    Args: y (B, C·r², H, W), bias (C·r²,), factor r.
    """
    y = y.contiguous(memory_format=torch.channels_last)
    b, c, h, w = y.shape
    c //= factor**2
    out = dispatch.empty(y, (b, c, factor * h, factor * w))
    if out.numel():
        tile = sizes(factor)
        grid = dispatch.cdiv(b * h * w, tile["BP"]), dispatch.cdiv(c, tile["BC"])
        shuffle_kernel[grid](y, bias.contiguous(), out, b * h * w, w, c, **tile, **OPTIONS)
    return out


def unshuffle(dy: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the gradients of y, (B, C·r², H, W), channels last, and of bias, (C·r²,), from that of the result."""
    dy = dy.contiguous(memory_format=torch.channels_last)
    b, c, h, w = dy.shape
    h, w = h // factor, w // factor
    g = dispatch.empty(dy, (b, c * factor**2, h, w))
    tile = sizes(factor)
    programs = min(PROGRAMS, dispatch.cdiv(b * h * w, tile["BP"]))
    sums = torch.empty(programs, c * factor**2, dtype=torch.float32, device=dy.device)
    if g.numel():
        grid = programs, dispatch.cdiv(c, tile["BC"])
        unshuffle_kernel[grid](dy, g, sums, b * h * w, w, c, **tile, **OPTIONS)
    return g, sums.sum(0)


def sizes(factor: int) -> dict[str, int]:
    """Return what a program works on: BP pixels, BC channels of the result, and Q places, R² of which there are."""
    q = triton.next_power_of_2(factor**2)
    return {"R": factor, "Q": q, "BP": TILE // WIDTH, "BC": WIDTH // q}


@triton.jit
def _before(p, P, C, R: tl.constexpr, Q: tl.constexpr, BC: tl.constexpr):
    """Return where pixels p (BP,) lie before the shuffle, (BP, BC·Q), and if they are there; and both without p."""
    k = tl.arange(0, BC * Q)
    first = tl.program_id(1) * BC * R * R
    if Q == R * R:
        at = first + k  # Triton sees that these lie side by side
        inside = at < C * R * R
    else:
        at = first + k // Q * (R * R) + k % Q
        inside = (at < C * R * R) & (k % Q < R * R)
    return p[:, None] * (C * R * R) + at[None, :], (p < P)[:, None] & inside[None, :], at, inside


@triton.jit
def _after(p, P, W, C, R: tl.constexpr, Q: tl.constexpr, BC: tl.constexpr):
    """Return where pixels p (BP,) lie after the shuffle, (BP, Q, BC), and if they are there."""
    q = tl.arange(0, Q)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    block = p // W * (R * R * W) + p % W * R  # the upper left pixel of r×r
    pixel = block[:, None] + (q // R * (R * W) + q % R)[None, :]
    inside = (p < P)[:, None] & (q < R * R)[None, :]
    return pixel[:, :, None] * C + c[None, None, :], inside[:, :, None] & (c < C)[None, None, :]


@triton.jit
def shuffle_kernel(y, bias, out, P, W, C, R: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    before, inside, channel, there = _before(p, P, C, R, Q, BC)
    value = tl.load(y + before, inside, 0.0).to(tl.float32)
    value += tl.load(bias + channel, there, 0.0).to(tl.float32)[None, :]
    value = value.to(out.dtype.element_ty)  # before it is turned around, which then moves half the bytes
    after, inside = _after(p, P, W, C, R, Q, BC)
    tl.store(out + after, tl.permute(tl.reshape(value, (BP, BC, Q)), (0, 2, 1)), inside)


@triton.jit
def unshuffle_kernel(dy, g, sums, P, W, C, R: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    total = tl.zeros((BP, BC * Q), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(P, BP), tl.num_programs(0)):
        p = tile * BP + tl.arange(0, BP)
        after, there = _after(p, P, W, C, R, Q, BC)
        value = tl.permute(tl.load(dy + after, there, 0.0), (0, 2, 1))
        value = tl.reshape(value, (BP, BC * Q))
        before, inside, _, _ = _before(p, P, C, R, Q, BC)
        tl.store(g + before, value, inside)
        total += value.to(tl.float32)
    _, _, channel, inside = _before(tl.arange(0, BP), P, C, R, Q, BC)
    tl.store(sums + tl.program_id(0) * (C * R * R) + channel, tl.sum(total, 0), inside)
