"""The growing maps of a dense block: convolutions that each see the input and all maps before their own.

Written layer by layer, every map is kept for the backward pass up to five times: as the output of its activation, and
in the input of each convolution that sees it. Here it is kept once, and the backward cuts each input from the last. On
a GPU one kernel adds the bias, activates, and appends the map to all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autocast import to_autocast
from . import dispatch


def dense_maps(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]], slope: float) -> Tensor:
    """Return x and the maps of all layers, (B, C + Σ growth, H, W).

    Each layer is a convolution with zero padding that keeps the size, and LeakyReLU. It sees x and the maps of all
    layers before it. Under autocast all of them are rounded.

    Args:
        x: (B, C, H, W).
        layers: weights (growth, C + growths before, k, k), k odd, and biases (growth,).
        slope: of LeakyReLU below 0, positive.

    Examples:
        >>> layers = [(torch.randn(2, 4, 3, 3), torch.zeros(2)), (torch.randn(2, 6, 3, 3), torch.zeros(2))]
        >>> dense_maps(torch.rand(1, 4, 5, 6), layers, 0.2).shape
        torch.Size([1, 8, 5, 6])
    """
    weights, biases = zip(*layers, strict=True)
    return cast(Tensor, _DenseMaps.apply(to_autocast(x), slope, *map(to_autocast, (*weights, *biases))))


class _DenseMaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        seen = x
        for weight, bias in zip(weights, biases, strict=True):
            seen = _grown(seen, weight, bias, slope)
        ctx.slope = slope
        ctx.save_for_backward(seen, *weights)
        return seen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        seen, *weights = ctx.saved_tensors
        (dx,) = gradients  # of all that the layers above have seen
        dweights: list[Tensor] = []
        dbiases: list[Tensor] = []
        of_x, _, *of_parameters = ctx.needs_input_grad
        for i, weight in reversed(list(enumerate(weights))):
            growth, n, _, k = weight.shape
            wanted = [i > 0 or of_x, of_parameters[i], of_parameters[len(weights) + i]]
            dy = torch.ops.aten.leaky_relu_backward(dx[:, n:], seen[:, n : n + growth], ctx.slope, True)
            before = seen[:, :n].contiguous(memory_format=dispatch.layout(seen))
            more, dweight, dbias = torch.ops.aten.convolution_backward(
                *(dy, before, weight, [growth], [1, 1], [k // 2] * 2, [1, 1], False, [0, 0], 1, wanted)
            )
            if more is not None:
                dx = dx[:, :n] + more
            dweights.insert(0, dweight)
            dbiases.insert(0, dbias)
        return dx if of_x else None, None, *dweights, *dbiases


def _grown(seen: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return `seen` (B, C, H, W) and the map of one layer, (B, C + growth, H, W)."""
    padding = weight.shape[-1] // 2
    if _has_kernel(seen, weight):
        return append(seen, F.conv2d(seen, weight, padding=padding), bias, slope)
    return torch.cat((seen, F.leaky_relu_(F.conv2d(seen, weight, bias, padding=padding), slope)), 1)


def disagreement(kernels: Any, device: torch.device) -> str:
    """Compare the Triton kernel with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(size, generator=generator) for size in ((2, 33, 19, 37), (2, 7, 19, 37), (7,))]
    for dtype in dispatch.DTYPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            seen, y, bias = (t.to(device, dtype) for t in exact)
            seen, y = (t.contiguous(memory_format=layout) for t in (seen, y))
            found = kernels.append(seen, y, bias, 0.1)
            seen, y, bias = (t.cpu().double() for t in (seen, y, bias))
            expected = plain(seen, y, bias, 0.1)
            error = (found.cpu().double() - expected).abs()
            if not (error <= 2 * torch.finfo(dtype).eps * expected.abs()).all():
                return f"what they append in {dtype} is not what PyTorch appends"
    return ""


def plain(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return what `append` returns, by PyTorch's own operators."""
    return torch.cat((seen, F.leaky_relu(y + bias[:, None, None], slope)), 1)


# ----------------------------------------------------------------------------------------------- the operator


def _fake(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    b, c, h, w = seen.shape
    size = (b, c + y.shape[1], h, w)
    return torch.empty(size, dtype=seen.dtype, device=seen.device, memory_format=dispatch.layout(seen))


@dispatch.operator(_fake)
def append(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return `seen` (B, C, H, W) and LeakyReLU(y + bias), (B, growth, H, W), as one map in the `layout` of `seen`."""
    if dispatch.runs_kernels("dense", seen):
        from . import dense_triton as kernels

        return kernels.append(seen, y, bias, slope)
    return plain(seen, y, bias, slope).contiguous(memory_format=dispatch.layout(seen))


def _has_kernel(seen: Tensor, weight: Tensor) -> bool:
    b, c, h, w = seen.shape
    small = b * (c + len(weight)) * h * w < dispatch.INDEX
    return dispatch.has_kernels("dense", seen) and seen.dtype in dispatch.DTYPES and small
