"""Arithmetic under autocast: what is rounded, and what is not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

T = TypeVar("T")
AT_ONCE = 2**18  # pixels whose float32 copy `convolve_in_float32` makes at a time


def spatial_mean(x: Tensor) -> Tensor:
    """Average (B, C, H, W) over all pixels; under autocast in float32 or better."""
    return cast(Tensor, _SpatialMean.apply(x, _float32_at_least(x) if _autocasts(x.device.type) else x.dtype))  # (B, C)


def in_float32(compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `compute(*inputs)`, in float32 where autocast would round its products.

    Use it for what costs little and matters much. An embedding steers every pixel, so all that is computed from it is
    exact; so is the last convolution. The first convolution is too: bfloat16 would round the images by up to half a
    grey level. Its output starts the trunk to which all residual blocks add, which thus stays float32: rounded at every
    block, errors would accumulate.
    """
    kind = inputs[0].device.type
    if not _autocasts(kind):
        return compute(*inputs)
    with torch.autocast(kind, enabled=False):
        return compute(*(x.to(_float32_at_least(x)) for x in inputs))


def convolve_in_float32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `in_float32(conv, x)` of a large map, some samples at a time where autocast has rounded x.

    A float32 copy of all of x, and then its gradient, would be the largest tensors of a training step.
    """
    kind = x.device.type
    dtype = _float32_at_least(x)
    if not _autocasts(kind) or x.dtype == dtype:
        return in_float32(conv, x)
    with torch.autocast(kind, enabled=False):
        return cast(Tensor, _ConvolveExactly.apply(x, conv.weight, conv.bias, conv, dtype))


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype to which autocast would round x; its own without autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if _autocasts(kind) else x.dtype


def to_autocast(x: Tensor) -> Tensor:
    """Convert x to the dtype to which autocast would round it; return it unchanged without autocast."""
    return x.to(autocast_dtype(x))


def rounded_beside(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and x as `to_autocast` converts it, for a branch beside a float32 trunk.

    One pass over the map adds the gradients of both, instead of one that converts and one that adds.
    """
    dtype = autocast_dtype(x)
    return (x, x) if dtype == x.dtype else cast(tuple[Tensor, Tensor], _RoundedBeside.apply(x, dtype))


def add_scaled(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Return x + scale·y, (B, C, H, W) each, as x where y is rounded.

    One pass over the map scales and rounds the gradient of y, instead of one each.
    """
    return torch.add(x, y, alpha=scale) if x.dtype == y.dtype else cast(Tensor, _AddScaled.apply(x, y, scale))


def _autocasts(kind: str) -> bool:
    return kind != "meta" and torch.is_autocast_enabled(kind)  # which raises an error for meta


def _float32_at_least(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def rounds_weights_once(forward: Callable[..., T]) -> Callable[..., T]:
    """Decorate a module's `forward` to round the weights of all `Conv2d` in the module together.

    Autocast rounds each weight and bias where it is used, and their gradients where they arise: four small kernels for
    each layer, and for small images those are most of a step.
    """

    layers_of: WeakKeyDictionary[nn.Module, list[Conv2d]] = WeakKeyDictionary()  # to look for them takes a while

    @functools.wraps(forward)
    def forward_with_rounded_weights(module: nn.Module, *args: Any, **kwargs: Any) -> T:
        if torch.compiler.is_compiling():  # a compiler fuses them
            return forward(module, *args, **kwargs)
        if module not in layers_of:
            layers_of[module] = [layer for layer in module.modules() if isinstance(layer, Conv2d)]
        layers = layers_of[module]
        if not layers or not _autocasts(layers[0].weight.device.type):
            return forward(module, *args, **kwargs)
        dtype = autocast_dtype(layers[0].weight)
        weights = [weight for layer in layers for weight in (layer.weight, layer.bias) if weight is not None]
        rounded = dict(zip(weights, cast(tuple[Tensor, ...], _Round.apply(dtype, *weights)), strict=True))
        try:
            for layer in layers:  # not by nn.Module's own way, which first looks for parameters to register
                bias = None if layer.bias is None else rounded[layer.bias]
                vars(layer)["rounded"] = rounded[layer.weight], bias
            return forward(module, *args, **kwargs)
        finally:
            for layer in layers:
                vars(layer)["rounded"] = None

    return forward_with_rounded_weights


class Conv2d(nn.Conv2d):
    """A convolution that uses the weights of `rounds_weights_once` where autocast would round its own."""

    rounded: tuple[Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, *self.parameters_for(input))

    def parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weight and the bias with which to convolve x."""
        rounded = self.rounded if _autocasts(x.device.type) else None
        return rounded or (self.weight, self.bias)


class _SpatialMean(torch.autograd.Function):
    """Mean over pixels, whose gradient is not written out for each pixel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return x.mean((2, 3), dtype=dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        b, c, h, w = ctx.shape
        dx = torch.div(gradient, h * w, out=gradient.new_empty((b, c), dtype=ctx.dtype))
        return dx[:, :, None, None].expand(b, c, h, w), None


class _RoundedBeside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return x.view_as(x), x.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        exact, rounded = gradients
        return exact + rounded, None


class _AddScaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: float) -> Tensor:
        ctx.scale, ctx.dtype = scale, y.dtype
        return torch.add(x, y, alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        if torch.compiler.is_compiling():  # PyTorch 2.11 cannot trace `out` in channels last
            return gradient, (gradient * ctx.scale).to(ctx.dtype), None
        rounded = torch.empty_like(gradient, dtype=ctx.dtype)
        return gradient, torch.mul(gradient, ctx.scale, out=rounded), None


class _ConvolveExactly(torch.autograd.Function):
    """Convolution in a wider `dtype`, to which samples are converted where they are used, in the backward anew."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dtype, ctx.bias = conv.padding, dtype, None if bias is None else list(bias.shape)
        images = [conv(part.to(dtype)) for part in parts(x)]
        return images[0] if len(images) == 1 else torch.cat(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        dx = torch.empty_like(x) if wanted[0] else None
        sums: list[Tensor | None] = [None, None]  # of weight and bias
        for i, (part, dy) in enumerate(zip(parts(x), parts(gradients[0], like=x), strict=True)):
            wide, *found = torch.ops.aten.convolution_backward(
                *(dy, part.to(ctx.dtype), weight, ctx.bias, [1, 1], ctx.padding, [1, 1], False, [0, 0], 1, wanted)
            )
            if dx is not None:
                parts(dx)[i].copy_(wide)
            del wide  # before the next part needs the room
            sums = [new if old is None else old + new for old, new in zip(sums, found, strict=True)]
        return dx, *sums, None, None


def parts(x: Tensor, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """Split (B, C, H, W) into samples that have `AT_ONCE` pixels together, as many as `like` has."""
    height, width = (x if like is None else like).shape[2:]
    return x.split(max(1, AT_ONCE // (height * width)))


class _Round(torch.autograd.Function):
    """Convert tensors to `dtype`, and their gradients back, by one call for all."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [t.dtype for t in tensors]
        ctx.set_materialize_grads(False)
        return tuple(_converted(tensors, [dtype] * len(tensors)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        result: list[Tensor | None] = [None] * len(gradients)
        converted = _converted([cast(Tensor, gradients[i]) for i in there], [ctx.dtypes[i] for i in there])
        for i, gradient in zip(there, converted, strict=True):
            result[i] = gradient
        return None, *result


def _converted(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    copies = [torch.empty_like(t, dtype=dtype) for t, dtype in zip(tensors, dtypes, strict=True)]
    if copies:
        torch._foreach_copy_(copies, list(tensors))  # pyright: ignore[reportPrivateImportUsage]
    return copies
