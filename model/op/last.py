"""The last convolution of the networks, which makes the image of rounded maps: 3×3, in float32 under autocast.

PyTorch's own operators want a float32 copy of these maps, the largest of a network, and make such gradients. On a GPU
two kernels of ours, one forward and one backward, read them and write their gradients as they are.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..autocast import convolve_in_float32, parts
from . import dispatch

DTYPES = (torch.bfloat16, torch.float16)
LARGEST = 128  # channels: a program of the kernels holds the weights of all
MOST = 3  # output channels, likewise
TF32 = 2e-3  # of the largest value
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 3e-3}  # likewise, of maps that are rounded after it


def last_convolution(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `conv(x)`, (B, C', H, W); under autocast in float32, though x is rounded.

    Args:
        conv: 3×3, with zero padding of 1.
        x: (B, C, H, W).

    Examples:
        >>> conv, x = nn.Conv2d(4, 3, 3, padding=1), torch.rand(2, 4, 5, 6)
        >>> torch.equal(last_convolution(conv, x), conv(x))
        True
    """
    if conv.bias is not None and x.dtype != conv.weight.dtype == torch.float32 and _has_kernel(x, conv.weight):
        with torch.autocast(x.device.type, enabled=False):
            return cast(Tensor, _LastConvolution.apply(x, conv.weight, conv.bias))
    return convolve_in_float32(conv, x)


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what `convolve` returns, by PyTorch's own operators, which see some samples at a time."""
    return torch.cat([F.conv2d(part.to(weight.dtype), weight, bias, padding=1) for part in parts(x)])


def plain_backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `convolve_backward` returns, likewise."""
    dx, dweight = torch.empty_like(x), torch.zeros_like(weight)
    for of_x, part, of_y in zip(parts(dx), parts(x), parts(dy), strict=True):
        wide, more, _ = torch.ops.aten.convolution_backward(
            *(of_y, part.to(weight.dtype), weight, None),
            *([1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]),
        )
        of_x.copy_(wide)
        dweight += more
    return dx, dweight


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare forward and backward of the Triton kernels with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    for c in (64, 33):
        sizes = (2, 3, 19, 37), (2, c, 19, 37), (3, c, 3, 3), (3,)
        exact = [torch.randn(size, generator=generator) for size in sizes]
        dy, x, weight, bias = (t.to(device) for t in exact)
        x = x.to(dtype, memory_format=torch.channels_last)
        found = kernels.forward(x, weight, bias), *kernels.backward(dy, x, weight)
        dy, x, weight, bias = (t.cpu().double() for t in (dy, x, weight, bias))
        expected = plain(x, weight, bias), *plain_backward(dy, x, weight)
        for name, ours, theirs in zip(("result", "dx", "dw"), found, expected, strict=True):
            limit = TOLERANCE[dtype] if name == "dx" else TF32
            if not (ours.cpu().double() - theirs).abs().max() <= limit * theirs.abs().max():
                return f"their {name} of maps in {dtype} is not that of the convolution"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    b, _, h, w = x.shape
    size = (b, len(weight), h, w)
    return torch.empty(size, dtype=weight.dtype, device=x.device, memory_format=dispatch.layout(x))


@dispatch.operator(_fake)
def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x (B, C, H, W), convolved with zero padding of 1, (B, C', H, W), as weight (C', C, 3, 3), laid out as x.

    The kernels multiply in TF32, as cuDNN does where PyTorch lets it. Where it does not, PyTorch computes this.
    """
    if _runs_kernels(x):
        from . import last_triton as kernels

        return kernels.forward(x, weight, bias)
    return plain(x, weight, bias).contiguous(memory_format=dispatch.layout(x))


def _fake_backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=dispatch.layout(x)),
        torch.empty_like(weight, memory_format=dispatch.layout(weight)),
    )


@dispatch.operator(_fake_backward)
def convolve_backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and weight from that of the result, each as it is."""
    layouts = [dispatch.layout(t) for t in (x, weight)]
    if _runs_kernels(x):
        from . import last_triton as kernels

        found = kernels.backward(dy, x, weight)
    else:
        found = plain_backward(dy, x, weight)
    dx, dweight = (t.contiguous(memory_format=layout) for t, layout in zip(found, layouts, strict=True))
    return dx, dweight


class _LastConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolve(x, weight, bias)

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = gradients
        of_x, of_weight, of_bias = ctx.needs_input_grad
        dx, dweight = convolve_backward(dy, *ctx.saved_tensors) if of_x or of_weight else (None, None)
        return dx, dweight, dy.sum((0, 2, 3)) if of_bias else None


def _has_kernel(x: Tensor, weight: Tensor) -> bool:
    _, c, h, w = x.shape
    small = h * w * max(c, len(weight)) < dispatch.INDEX  # they address one sample at a time
    fits = weight.shape[2:] == (3, 3) and c <= LARGEST and len(weight) <= MOST
    as_is = x.dtype in DTYPES and x.is_contiguous(memory_format=torch.channels_last)
    return dispatch.has_kernels("last", x) and as_is and fits and small


def _runs_kernels(x: Tensor) -> bool:
    tf32 = torch.backends.cudnn.conv.fp32_precision == "tf32"  # pyright: ignore[reportAttributeAccessIssue]
    return tf32 and dispatch.runs_kernels("last", x, x.dtype)
