"""Arithmetic under autocast: what is rounded, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

AT_ONCE = 2**18  # pixels whose float32 copy `convolve_in_float32` makes at a time


def spatial_mean(x: Tensor) -> Tensor:
    """Average (B, C, H, W) over all pixels; under autocast in float32 or better."""
    return cast(Tensor, _SpatialMean.apply(x, float32_at_least(x) if autocasts(x.device.type) else x.dtype))  # (B, C)


def in_float32(compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `compute(*inputs)`, in float32 where autocast would round its products.

    Use it for what costs little and matters much. An embedding steers every pixel, so all that is computed from it is
    exact; so is the last convolution. The first convolution is too: bfloat16 would round the images by up to half a
    grey level. Its output starts the trunk to which all residual blocks add, which thus stays float32: rounded at every
    block, errors would accumulate.
    """
    kind = inputs[0].device.type
    if not autocasts(kind):
        return compute(*inputs)
    with torch.autocast(kind, enabled=False):
        return compute(*(x.to(float32_at_least(x)) for x in inputs))


def convolve_in_float32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `in_float32(conv, x)` of a large map, some samples at a time where autocast has rounded x.

    A float32 copy of all of x, and then its gradient, would be the largest tensors of a training step.
    """
    kind = x.device.type
    dtype = float32_at_least(x)
    if not autocasts(kind) or x.dtype == dtype:
        return in_float32(conv, x)
    with torch.autocast(kind, enabled=False):
        return cast(Tensor, _ConvolveExactly.apply(x, conv.weight, conv.bias, conv, dtype))


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype to which autocast would round x; its own without autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if autocasts(kind) else x.dtype


def to_autocast(x: Tensor) -> Tensor:
    """Convert x to the dtype to which autocast would round it; return it unchanged without autocast."""
    dtype = autocast_dtype(x)
    return x if x.dtype == dtype else x.to(dtype)


def keep_and_round(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and x as `to_autocast` converts it, for a branch beside a float32 trunk.

    One pass over the map adds the gradients of both, instead of one that converts and one that adds.
    """
    dtype = autocast_dtype(x)
    return (x, x) if dtype == x.dtype else cast(tuple[Tensor, Tensor], _KeepAndRound.apply(x, dtype))


def add_scaled(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Return x + scale·y, (B, C, H, W) each, as x where y is rounded.

    One pass over the map scales and rounds the gradient of y, instead of one each.
    """
    return torch.add(x, y, alpha=scale) if x.dtype == y.dtype else cast(Tensor, _AddScaled.apply(x, y, scale))


def autocasts(kind: str) -> bool:
    """Return True if autocast is on for this kind of device."""
    return kind != "meta" and torch.is_autocast_enabled(kind)  # which raises an error for meta


def float32_at_least(x: Tensor) -> torch.dtype:
    """Return float32, or the dtype of x if that is wider."""
    return torch.promote_types(x.dtype, torch.float32)


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


class _KeepAndRound(torch.autograd.Function):
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
