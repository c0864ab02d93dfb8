"""The Triton kernel of `attended`: bias, attention, sum and LeakyReLU by one pass over the maps."""

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


def attend(y: Tensor, bias: Tensor, x: Tensor, attention: Tensor, slope: float) -> Tensor:
    """Return LeakyReLU(y + bias + attention·x), (B, C, H, W), laid out as x.

    Args: y and x (B, C, H, W), bias (C,), attention (B, C, 1, 1).
    """
    layout = dispatch.layout(x)
    y, x = (t.contiguous(memory_format=layout) for t in (y, x))
    _, c, h, w = x.shape
    out = torch.empty_like(x)
    run = h * w if layout == torch.contiguous_format else 1  # elements of one channel that lie side by side
    if n := out.numel():
        attend_kernel[dispatch.cdiv(n, BLOCK),](
            *(y, bias.contiguous(), x, attention.contiguous(), out, n, c, c * h * w, run, slope),
            BLOCK=BLOCK,
            **OPTIONS,
        )
    return out


@triton.jit
def attend_kernel(y, bias, x, attention, out, N, C, SAMPLE, RUN, slope, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < N
    c = at // RUN % C
    weight = tl.load(attention + at // SAMPLE * C + c, inside, 0.0).to(tl.float32)
    value = tl.load(y + at, inside, 0.0).to(tl.float32) + tl.load(bias + c, inside, 0.0).to(tl.float32)
    value += weight * tl.load(x + at, inside, 0.0).to(tl.float32)
    tl.store(out + at, tl.where(value > 0, value, value * slope), inside)
