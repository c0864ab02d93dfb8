"""The growing maps of a dense block: convolutions that each see the input and all maps before their own.

Written layer by layer, every map is kept for the backward pass up to five times: as the output of its activation, and
in the input of each convolution that sees it. Here it is kept once, and the backward cuts each input from the last. On
a GPU one kernel adds the bias, activates, and appends the map to all before it. Where channels lie side by side, one
more kernel undoes that in the backward, and one convolution makes the gradients of all weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import float32_at_least, to_autocast
from . import dispatch

DTYPES = dispatch.DTYPES
ROWS = 64  # pixels whose gradients of biases a program of the kernels sums up


def dense_maps(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]], slope: float) -> Tensor:
    """Return x and the maps of all layers, (B, C + Σ growth, H, W).

    Each layer is a convolution with zero padding that keeps the size, and LeakyReLU. It sees x and the maps of all
    layers before it. Under autocast maps and weights are rounded.

    Args:
        x: (B, C, H, W).
        layers: weights (growth, C + growths before, k, k), k odd and the same for all, and biases (growth,).
        slope: of LeakyReLU below 0, positive.

    Examples:
        >>> layers = [(torch.randn(2, 4, 3, 3), torch.zeros(2)), (torch.randn(2, 6, 3, 3), torch.zeros(2))]
        >>> dense_maps(torch.rand(1, 4, 5, 6), layers, 0.2).shape
        torch.Size([1, 8, 5, 6])
    """
    weights, biases = zip(*layers, strict=True)
    x = to_autocast(x)
    by_kernels = dispatch.layout(x) == torch.channels_last and _has_kernel(x, *weights)
    function = _DenseMapsByKernels if by_kernels else _DenseMaps
    return cast(Tensor, function.apply(x, slope, *map(to_autocast, weights), *biases))


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


class _DenseMapsByKernels(_DenseMaps):
    """The same of maps in channels_last, with a backward that copies no maps."""

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        seen, *weights = ctx.saved_tensors
        of_x, _, *of_parameters = ctx.needs_input_grad
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)  # of all that the layers above have seen
        b, c, h, w = seen.shape
        k, widths = weights[0].shape[-1], [len(weight) for weight in weights]
        stops = list(itertools.accumulate(widths))
        convolution = [1, 1], [k // 2] * 2, [1, 1], False, [0, 0], 1
        dys = dispatch.empty(seen, (b, sum(widths), h, w))
        sums = seen.new_empty((-(-b * h * w // ROWS), sum(widths)), dtype=float32_at_least(seen))
        more: Tensor | None = None
        for i, (weight, stop) in reversed(list(enumerate(zip(weights, stops, strict=True)))):
            growth, n = weight.shape[:2]
            own = slice(stop - growth, stop)
            rest, dy = peel(gradient, more, seen[:, n : n + growth], dys[:, own], sums[:, own], ctx.slope)
            gradient = gradient[:, :n] if more is None else rest
            if i > 0 or of_x:  # by the shape of what the layer has seen: cuDNN copies no slice whose values it ignores
                more, _, _ = torch.ops.aten.convolution_backward(
                    *(dy, seen[:, :n], weight, None, *convolution, [True, False, False])
                )
        dx = gradient + cast(Tensor, more) if of_x else None
        found: list[Tensor | None] = [None] * len(of_parameters)
        if any(of_parameters[: len(weights)]):
            # For all pairs of maps and layers, also where the layer has not seen the map: 1.7 times the arithmetic for
            # CDSR. In return one kernel does it, and what each layer has seen is not copied.
            like = dispatch.empty(seen, (sum(widths), c, k, k))
            _, dweight, _ = torch.ops.aten.convolution_backward(
                *(dys, seen, like, None, *convolution, [False, True, False])
            )
            for i, (weight, stop) in enumerate(zip(weights, stops, strict=True)):
                block = dweight[stop - len(weight) : stop, : weight.shape[1]]
                # Without gaps: one gradient with gaps, and autocast would convert those of all weights one by one.
                found[i] = block.contiguous(memory_format=torch.channels_last)
        if any(of_parameters[len(weights) :]):
            dbias = sums.sum(0)
            found[len(weights) :] = [dbias[stop - n : stop] for n, stop in zip(widths, stops, strict=True)]
        return dx, None, *found


def _grown(seen: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return `seen` (B, C, H, W) and the map of one layer, (B, C + growth, H, W)."""
    padding = weight.shape[-1] // 2
    if _has_kernel(seen, weight):
        return append(seen, F.conv2d(seen, weight, padding=padding), bias, slope)
    return torch.cat((seen, F.leaky_relu_(F.conv2d(seen, weight, bias.to(seen.dtype), padding=padding), slope)), 1)


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare the Triton kernels with float64 on the CPU; return what differs, or ""."""
    return _wrongly_appended(kernels, device, dtype) or _wrongly_peeled(kernels, device, dtype)


def _wrongly_appended(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(size, generator=generator) for size in ((2, 33, 19, 37), (2, 7, 19, 37), (7,))]
    for layout in (torch.contiguous_format, torch.channels_last):
        seen, y = (t.to(device, dtype).contiguous(memory_format=layout) for t in exact[:2])
        bias = exact[2].to(device)
        found = kernels.append(seen, y, bias, 0.1)
        seen, y, bias = (t.cpu().double() for t in (seen, y, bias))
        expected = plain(seen, y, bias, 0.1)
        error = (found.cpu().double() - expected).abs()
        if not (error <= 2 * torch.finfo(dtype).eps * expected.abs()).all():
            return f"what they append in {dtype} is not what PyTorch appends"
    return ""


def _wrongly_peeled(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    generator = torch.Generator().manual_seed(0)
    b, h, w = 2, 19, 37
    for n, growth in ((64, 32), (33, 7)):
        own = slice(8, 8 + growth)  # of the channels of more layers
        exact = [torch.randn((b, c, h, w), generator=generator) for c in (n + growth + 5, n + growth, n + growth)]
        maps = [t.to(device, dtype).contiguous(memory_format=torch.channels_last) for t in exact]
        for adds in (False, True):
            results = []
            for compute, there, kind in ((kernels.peel, device, dtype), (plain_peel, "cpu", torch.float64)):
                gradient, more, seen = (t.to(there, kind) for t in maps)
                dys = dispatch.empty(seen, (b, growth + 16, h, w)).zero_()
                sums = dys.new_zeros((-(-b * h * w // ROWS), growth + 16), dtype=float32_at_least(seen))
                given = gradient[:, : n + growth], more if adds else None, seen[:, n:]
                found = compute(*given, dys[:, own], sums[:, own], 0.1)
                results.append((*found, dys, sums.sum(0)))
            for name, ours, theirs in zip(("rest", "dy", "copy of dy", "db"), *results, strict=True):
                error, limits = (ours.cpu().double() - theirs).abs(), torch.finfo(ours.dtype)
                size = b * h * w if name == "db" else limits.tiny + theirs.abs()
                if not (error <= 2 * limits.eps * size).all():
                    return f"the {name} that they peel off in {dtype} is not that of PyTorch"
    return ""


def plain(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return what `append` returns, by PyTorch's own operators."""
    return torch.cat((seen, F.leaky_relu(y + bias[:, None, None], slope).to(seen.dtype)), 1)


def plain_peel(
    gradient: Tensor, more: Tensor | None, seen: Tensor, dys: Tensor, sums: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Return and write what `peel` does, by PyTorch's own operators."""
    n = gradient.shape[1] - seen.shape[1]
    total = gradient.to(float32_at_least(seen))
    total = total if more is None else total + more
    dy = torch.ops.aten.leaky_relu_backward(total[:, n:], seen, slope, True)
    dys.copy_(dy)
    sums.zero_()
    sums[:1] = dy.sum((0, 2, 3))
    return seen.new_empty(0) if more is None else total[:, :n].to(seen.dtype), dy.to(seen.dtype)


# ----------------------------------------------------------------------------------------------- the operators


def _fake(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    b, c, h, w = seen.shape
    size = (b, c + y.shape[1], h, w)
    return torch.empty(size, dtype=seen.dtype, device=seen.device, memory_format=dispatch.layout(seen))


@dispatch.operator(_fake)
def append(seen: Tensor, y: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Return `seen` (B, C, H, W) and LeakyReLU(y + bias), (B, growth, H, W), as one map in the `layout` of `seen`."""
    if dispatch.runs_kernels("dense", seen, seen.dtype):
        from . import dense_triton as kernels

        return kernels.append(seen, y, bias, slope)
    return plain(seen, y, bias, slope).contiguous(memory_format=dispatch.layout(seen))


def _fake_peel(
    gradient: Tensor, more: Tensor | None, seen: Tensor, dys: Tensor, sums: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    b, growth, h, w = seen.shape
    n = gradient.shape[1] - growth
    rest = seen.new_empty(0) if more is None else dispatch.empty(seen, (b, n, h, w))
    return rest, dispatch.empty(seen, (b, growth, h, w))


@dispatch.operator(_fake_peel, mutates=("dys", "sums"))
def peel(
    gradient: Tensor, more: Tensor | None, seen: Tensor, dys: Tensor, sums: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Add to the gradient of n + growth maps, and split off that of the last layer before its LeakyReLU.

    All maps are in channels_last, or slices of channels of such.

    The gradient of the layer is written twice. That of its input takes it without gaps; that of the weights of all
    layers takes all of theirs side by side. Copies would cost more: of 32 channels at a time, one kernel for each.

    Args:
        gradient: (B, n + growth, H, W), as far as it is known.
        more: likewise, to be added; None if there is nothing to add.
        seen: (B, growth, H, W), the output of the layer.
        dys: (B, growth, H, W), where the gradient of the layer is written, too.
        sums: (rows, growth), where sums of it are written, of `ROWS` pixels each; all together are that of the bias.
        slope: as for `append`.

    Returns:
        Sums of the first n channels, (B, n, H, W), if there is something to add, else an empty tensor; and the gradient
        of the layer, (B, growth, H, W).
    """
    if dispatch.runs_kernels("dense", seen, seen.dtype):
        from . import dense_triton as kernels

        return kernels.peel(gradient, more, seen, dys, sums, slope)
    rest, dy = plain_peel(gradient, more, seen, dys, sums, slope)
    rest = rest if more is None else rest.contiguous(memory_format=torch.channels_last)
    return rest, dy.contiguous(memory_format=torch.channels_last)


def _has_kernel(x: Tensor, *weights: Tensor) -> bool:
    """Return True if kernels append the maps of these layers to x."""
    b, c, h, w = x.shape
    small = b * (c + sum(map(len, weights))) * h * w < dispatch.INDEX
    return dispatch.has_kernels("dense", x) and x.dtype in dispatch.DTYPES and small
