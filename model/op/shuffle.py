"""Convolutions with a pixel shuffle after each: the stages of EDSR's upsampler.

In PyTorch the bias is a pass of its own, and its gradient a sum that reads all the map again; the shuffle and its
gradient are copies in strides. They are the largest maps of a network, and in channels_last these four passes are slow.
On a GPU one kernel does what follows a convolution, and one its backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import float32_at_least, to_autocast
from . import dispatch

DTYPES = dispatch.DTYPES
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}  # of the largest value


def shuffled_convolutions(x: Tensor, stages: Sequence[tuple[tuple[Tensor, Tensor], int]]) -> Tensor:
    """Return x enlarged by one stage after the other; under autocast maps and weights are rounded.

    Each stage is a convolution with zero padding that keeps the size, and a pixel shuffle.

    Args:
        x: (B, C, H, W).
        stages: weight (C'·r², C, k, k), k odd, and bias (C'·r²,); and the factor r of the shuffle.

    Returns:
        (B, C', s·H, s·W) with the last C' and the product s of all r; channels last if x is.

    Examples:
        >>> parameters = torch.ones(4, 1, 1, 1), torch.arange(4.0)
        >>> shuffled_convolutions(torch.zeros(1, 1, 1, 1), [(parameters, 2)])
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    for (weight, bias), factor in stages:
        padding = weight.shape[-1] // 2
        # In steps: without gradients, each frees what the step before has read. The convolution is left to autograd: a
        # function of ours would hold the gradient of the result throughout its backward.
        if dispatch.is_channels_last(x) and _has_kernel(x, weight):
            x = F.conv2d(x, weight, padding=padding)
            x = cast(Tensor, _Shuffle.apply(x, bias, factor))
        else:
            x = F.conv2d(x, weight, to_autocast(bias), padding=padding)
            x = F.pixel_shuffle(x, factor)
    return x


class _Shuffle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return shuffle(y, bias, factor)

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *unshuffle(*gradients, ctx.factor), None


def plain(y: Tensor, bias: Tensor, factor: int) -> Tensor:
    """Return what `shuffle` returns, by PyTorch's own operators."""
    return F.pixel_shuffle((y + bias[:, None, None]).to(y.dtype), factor)


def plain_backward(dy: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return what `unshuffle` returns, by PyTorch's own operators."""
    g = F.pixel_unshuffle(dy, factor)
    return g, g.sum((0, 2, 3), dtype=float32_at_least(g))


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare the Triton kernels with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    # Widths that kernels read in 16 bytes, and others. Of the first map, the backward's programs take two tiles.
    for factor, c, size in ((2, 64, 75), (2, 33, 19), (3, 33, 19)):
        shapes = (2, c * factor**2, size, size + 2), (c * factor**2,), (2, c, factor * size, factor * (size + 2))
        exact = [torch.randn(shape, generator=generator) for shape in shapes]
        y, bias, dy = (t.to(device, kind) for t, kind in zip(exact, (dtype, torch.float32, dtype), strict=True))
        y, dy = (t.contiguous(memory_format=torch.channels_last) for t in (y, dy))
        ours = kernels.shuffle(y, bias, factor), *kernels.unshuffle(dy, factor)
        y, bias, dy = (t.cpu().double() for t in (y, bias, dy))
        theirs = plain(y, bias, factor), *plain_backward(dy, factor)
        for name, found, expected in zip(("result", "dy", "db"), ours, theirs, strict=True):
            if not (found.cpu().double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max():
                return f"the {name} of their shuffle in {dtype} is not that of PyTorch"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(y: Tensor, bias: Tensor, factor: int) -> Tensor:
    b, c, h, w = y.shape
    return dispatch.empty(y, (b, c // factor**2, factor * h, factor * w))


@dispatch.operator(_fake)
def shuffle(y: Tensor, bias: Tensor, factor: int) -> Tensor:
    """Return the pixel shuffle of y + bias, (B, C, r·H, r·W), channels last.

    Args: y (B, C·r², H, W), bias (C·r²,), factor r.
    """
    if dispatch.runs_kernels("shuffle", y, y.dtype):
        from . import shuffle_triton as kernels

        return kernels.shuffle(y, bias, factor)
    return plain(y, bias, factor).contiguous(memory_format=torch.channels_last)


def _fake_backward(dy: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    b, c, h, w = dy.shape
    g = dispatch.empty(dy, (b, c * factor**2, h // factor, w // factor))
    return g, dy.new_empty(c * factor**2, dtype=float32_at_least(dy))


@dispatch.operator(_fake_backward)
def unshuffle(dy: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the gradients of y, (B, C·r², H, W), channels last, and of bias, (C·r²,), from that of the result."""
    if dispatch.runs_kernels("shuffle", dy, dy.dtype):
        from . import shuffle_triton as kernels

        return kernels.unshuffle(dy, factor)
    g, dbias = plain_backward(dy, factor)
    return g.contiguous(memory_format=torch.channels_last), dbias


def _has_kernel(x: Tensor, weight: Tensor) -> bool:
    b, _, h, w = x.shape
    small = b * len(weight) * h * w < dispatch.INDEX
    return dispatch.has_kernels("shuffle", x) and x.dtype in dispatch.DTYPES and small
