"""Depthwise convolution of each sample with its own kernels, and the LeakyReLU that follows it everywhere.

PyTorch can run it as a grouped convolution with one group for each sample and channel. On a CPU nothing is faster. On a
GPU that is slow: in channels_last it copies the maps twice, autocast rounds them in passes of their own, and the
gradient of the weights keeps a fraction of the GPU busy. There one operator does it all, by the Triton kernels of
`depthwise_triton`: it reads the maps as they are, float32 or rounded, and writes what autocast asks for. Where Triton
is missing, or its kernels do not give what the grouped convolution gives, the grouped convolution runs there too.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import autocast_dtype
from . import dispatch

DTYPES = dispatch.DTYPES
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}  # of the largest value


def dynamic_depthwise(x: Tensor, kernel: Tensor, slope: float = 1.0) -> tuple[Tensor, Tensor]:
    """Correlate each channel of each sample with its own k×k kernel, zero padding k//2; then apply LeakyReLU.

    Args:
        x: (B, C, H, W).
        kernel: (B, C, k, k), k odd.
        slope: of LeakyReLU below 0, positive; 1 leaves the correlation as it is.

    Returns:
        x and the result, (B, C, H, W) each: x for what runs beside it, such as a trunk to which it is added. One pass
        over the map makes the gradient of the result and adds that of what ran beside.

    Examples:
        >>> kernel = torch.zeros(2, 4, 3, 3)
        >>> kernel[:, :, 1, 1] = 1  # the identity
        >>> x = torch.rand(2, 4, 5, 6) - 0.5
        >>> torch.equal(dynamic_depthwise(x, kernel)[1], x)
        True
        >>> torch.equal(dynamic_depthwise(x, kernel, 0.1)[1], F.leaky_relu(x, 0.1))
        True
    """
    if not _has_kernel(x, kernel):
        return x, plain(x, kernel, slope)
    dtype = autocast_dtype(x)
    if torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad):
        return cast(tuple[Tensor, Tensor], _DynamicDepthwise.apply(x, kernel, slope, dtype))
    return x, correlate(x, kernel, slope, dtype, False)[0]


def plain(x: Tensor, kernel: Tensor, slope: float) -> Tensor:
    """Compute the same by a grouped convolution, which autograd and autocast know."""
    b, c, h, w = x.shape
    maps, kernels = _groups(x, kernel)
    y = F.conv2d(maps, kernels, padding=kernel.shape[-1] // 2, groups=b * c)  # (1, B·C, H, W)
    # Before `view`: in-place on a view, autograd would copy the whole map three times.
    y = y if slope == 1 else F.leaky_relu_(y, slope)
    return y if b == 1 else y.view(b, c, h, w)  # (B, C, H, W)


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare forward and backward of the Triton kernels with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    shape, slope = (2, 33, 19, 37), 0.1
    exact = [torch.randn(size, generator=generator, dtype=torch.float64) for size in (shape, (2, 33, 3, 3), shape)]
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x, kernel, dy = (t.to(device, dtype) for t in exact)
            x = x.contiguous(memory_format=memory_format)
            y, kept = kernels.forward(x, kernel, slope, dtype, True)
            found = (y, *kernels.backward(dy, kept, kernel, y, slope, dtype, kept))
            x, kernel, dy, result = (t.cpu().double() for t in (x, kernel, dy, y))
            expected = (plain(x, kernel, slope), *_plain_backward(dy, x, kernel, result, slope, x))
            for name, ours, theirs in zip(("result", "dx", "dk"), found, expected, strict=True):
                if not (ours.cpu().double() - theirs).abs().max() <= TOLERANCE[dtype] * theirs.abs().max():
                    return f"their {name} in {dtype} is not that of the grouped convolution"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(x: Tensor, kernel: Tensor, slope: float, dtype: torch.dtype, keep: bool) -> tuple[Tensor, Tensor]:
    y = torch.empty_like(x, dtype=dtype, memory_format=dispatch.layout(x))
    return y, torch.empty_like(y) if keep else y.new_empty(0)


@dispatch.operator(_fake)
def correlate(x: Tensor, kernel: Tensor, slope: float, dtype: torch.dtype, keep: bool) -> tuple[Tensor, Tensor]:
    """Return the result as `dtype`, in the `layout` of x; autocast leaves the arguments alone.

    `keep`: return x as `dtype`, too, else an empty tensor. The backward then reads that, so a float32 trunk need not
    wait for it in memory.
    """
    if dispatch.runs_kernels("depthwise", x, dtype):
        from . import depthwise_triton as kernels

        return kernels.forward(x, kernel, slope, dtype, keep)
    rounded, layout = x.to(dtype), dispatch.layout(x)
    y = plain(rounded, kernel.to(dtype), slope).contiguous(memory_format=layout)
    return y, rounded.clone(memory_format=layout) if keep else y.new_empty(0)


def _fake_backward(
    dy: Tensor, x: Tensor, kernel: Tensor, y: Tensor, slope: float, dtype: torch.dtype, add_to: Tensor | None
) -> tuple[Tensor, Tensor]:
    dx = torch.empty_like(x, dtype=dtype, memory_format=dispatch.layout(x))
    return dx, torch.empty_like(kernel, memory_format=torch.contiguous_format)


@dispatch.operator(_fake_backward)
def correlate_backward(
    dy: Tensor, x: Tensor, kernel: Tensor, y: Tensor, slope: float, dtype: torch.dtype, add_to: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x, as `dtype`, and of kernel, as its own, from that of the result y.

    `add_to`: another gradient of x, which is added to the first.
    """
    if dispatch.runs_kernels("depthwise", x, y.dtype):
        from . import depthwise_triton as kernels

        return kernels.backward(dy, x, kernel, y, slope, dtype, add_to)
    dx, dk = _plain_backward(dy.to(y.dtype), x.to(y.dtype), kernel.to(y.dtype), y, slope, add_to)
    return dx.to(dtype).contiguous(memory_format=dispatch.layout(x)), dk.to(kernel.dtype)


class _DynamicDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, slope: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        rounds = dtype != x.dtype
        y, rounded = correlate(x, kernel, slope, dtype, rounds)
        ctx.slope, ctx.dtype = slope, x.dtype
        ctx.save_for_backward(rounded if rounds else x, kernel, y)
        ctx.set_materialize_grads(False)  # where x has no other gradient
        return x.view_as(x), y

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        add_to, dy = gradients
        if dy is None:
            return add_to, None, None, None
        dx, dk = correlate_backward(dy, *ctx.saved_tensors, ctx.slope, ctx.dtype, add_to)
        return dx, dk, None, None


def _has_kernel(x: Tensor, kernel: Tensor) -> bool:
    small = x.shape[1] * x.shape[2] * x.shape[3] < dispatch.INDEX  # they address one sample at a time
    return dispatch.has_kernels("depthwise", x) and x.dtype in TOLERANCE and kernel.shape[-2:] == (3, 3) and small


def _plain_backward(
    dy: Tensor, x: Tensor, kernel: Tensor, y: Tensor, slope: float, add_to: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    b, c = x.shape[:2]
    maps, kernels = _groups(x, kernel)
    g = torch.ops.aten.leaky_relu_backward(dy, y, slope, True)  # (B, C, H, W)
    padding = [kernel.shape[-1] // 2] * 2
    dx, dk, _ = torch.ops.aten.convolution_backward(
        *(g.reshape(maps.shape), maps, kernels, None),
        *([1, 1], padding, [1, 1], False, [0, 0], b * c, [True, True, False]),
    )
    dx = dx.view(x.shape)
    return dx if add_to is None else dx + add_to, dk.view(kernel.shape)


def _groups(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps (1, B·C, H, W) and kernels (B·C, 1, k, k): one group per sample and channel."""
    b, c, h, w = x.shape
    maps = x if b == 1 else x.reshape(1, b * c, h, w)  # one sample stays laid out as it is
    return maps, kernel.reshape(b * c, 1, *kernel.shape[2:])
