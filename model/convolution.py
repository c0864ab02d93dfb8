"""The convolution of all networks, and the rounding of its weights under autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .autocast import autocast_dtype, autocasts
from .op import convolution

T = TypeVar("T")


def rounds_weights_once(forward: Callable[..., T]) -> Callable[..., T]:
    """Decorate a module's `forward` to round the weights of all `Conv2d` in the module together.

    Autocast rounds each weight where it is used, and its gradient where it arises: two small kernels for each layer,
    and for small images those are most of a step.
    """

    layers_of: WeakKeyDictionary[nn.Module, list[Conv2d]] = WeakKeyDictionary()  # to look for them takes a while

    @functools.wraps(forward)
    def forward_with_rounded_weights(module: nn.Module, *args: Any, **kwargs: Any) -> T:
        if torch.compiler.is_compiling():  # a compiler fuses them
            return forward(module, *args, **kwargs)
        if module not in layers_of:
            layers_of[module] = [layer for layer in module.modules() if isinstance(layer, Conv2d)]
        layers = layers_of[module]
        if not layers or not autocasts(layers[0].weight.device.type):
            return forward(module, *args, **kwargs)
        dtype = autocast_dtype(layers[0].weight)
        weights = [layer.weight for layer in layers]
        if not torch.is_grad_enabled():  # with gradients, a kernel that adds biases has theirs as float32
            weights += [layer.bias for layer in layers if layer.bias is not None]
        rounded = dict(zip(weights, cast(tuple[Tensor, ...], _Round.apply(dtype, *weights)), strict=True))
        try:
            for layer in layers:  # not by nn.Module's own way, which first looks for parameters to register
                bias = None if layer.bias is None else rounded.get(layer.bias, layer.bias)
                vars(layer)["rounded"] = rounded[layer.weight], bias
            return forward(module, *args, **kwargs)
        finally:
            for layer in layers:
                vars(layer)["rounded"] = None

    return forward_with_rounded_weights


class Conv2d(nn.Conv2d):
    """A convolution with zero padding, with the weights of `rounds_weights_once` where autocast would round its own."""

    rounded: tuple[Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor, *, slope: float = 1.0, add_to: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W'), with what follows; see `op.convolution`.

        Args:
            slope: of the LeakyReLU that follows; 1: none.
            add_to: the map to which the result is added, (B, C', H', W').
            scale: of the result in this sum.
        """
        how = {"stride": self.stride, "padding": cast(tuple[int, ...], self.padding)}
        return convolution(input, self.parameters_for(input), **how, slope=slope, add_to=add_to, scale=scale)

    def parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weight and the bias with which to convolve x."""
        rounded = self.rounded if autocasts(x.device.type) else None
        return rounded or (self.weight, self.bias)


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
