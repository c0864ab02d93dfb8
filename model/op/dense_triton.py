"""The Triton kernel of `dense`: a map gets its bias and LeakyReLU, and is appended to those before it.

Maps without gaps are matrices to it: a row for each pixel where channels lie side by side (channels_last), else one for
each sample. A program writes BLOCK elements of the result, whichever rows they belong to.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (Triton declares integers that are known when it compiles to be objects, and no `num_warps`.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import dispatch

BLOCK, WARPS = 1024, 4  # eight elements a thread, so 16 bytes in bf16


def append(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return `seen` (B, C, H, W) and LeakyReLU(y + bias), (B, growth, H, W), as one map that is laid out as `seen`."""
    layout = dispatch.layout(seen)
    seen, y = (x.contiguous(memory_format=layout) for x in (seen, y))
    b, c, h, w = seen.shape
    out = torch.empty((b, c + y.shape[1], h, w), dtype=seen.dtype, device=seen.device, memory_format=layout)
    run = h * w if layout == torch.contiguous_format else 1  # elements of one channel that lie side by side
    if n := out.numel():
        widths = c * run, y.shape[1] * run
        append_kernel[triton.cdiv(n, BLOCK),](
            *(seen, y, bias.contiguous(), out, n, *widths, run, slope), BLOCK=BLOCK, num_warps=WARPS
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
