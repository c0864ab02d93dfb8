"""In which arithmetic a run computes, and whether it is to give the same bits each time.

Autocast rounds what a network computes on maps, and nothing else. In float32 stay, whatever the precision: weights,
their moving average and Adam; degradations, losses and metrics; and of a network the first and the last convolution,
the mean colour, the sum of the residual blocks, means over pixels, all that is computed of an embedding (both softmaxes
of CDSR, the weights of dynamic convolutions), the logits of the contrast, the statistics of BatchNorm and spectral
norms (`model.layer.in_float32`).

With `deterministic`, all that is done here has CUDA kernels that give the same bits each time. PyTorch then takes
slower convolutions, and in the GAN's discriminator a slower bilinear enlargement, whose own backward adds up in any
order. What it would refuse is backward through reflected borders or bicubic enlargement, adaptive pooling, a cross
entropy of maps, grid sampling: the degradations need the first two, and are never differentiated.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
)


@dataclass(frozen=True)
class Precision:
    """The arithmetic of a network's products; weights, optimiser, losses and degradations are float32 whatever it is.

    precision: fp32; tf32: products of a GPU with 10 bits of mantissa; bf16 and fp16: autocast. deterministic: only
    kernels that give the same bits each time; PyTorch raises where an operation has none.
    """

    precision: str = "fp32"
    deterministic: bool = False

    def prepare(self, *, one_size: bool = False) -> None:
        """Set the switches of this process; call it before the GPU is first used.

        one_size: whether most images have the same one, so that it is worth looking for its quickest convolution. That
        may be another one each time, and is not looked for with `deterministic`.
        """
        for switch in _SWITCHES:
            switch.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
        torch.backends.cudnn.benchmark = one_size and not self.deterministic
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(self.deterministic)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which a network is called; tf32 there holds inside `ieee_products` too."""
        if self.precision == "tf32":
            return _tf32_products()
        dtype = _REDUCED.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    @property
    def memory_format(self) -> torch.memory_format:
        """Of a network's weights, which its maps follow: units for reduced products want channels last."""
        return torch.channels_last if self.precision in _REDUCED else torch.contiguous_format

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Of the loss: float16 has too few exponents for small gradients."""
        return torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")


@contextmanager
def _tf32_products() -> Iterator[None]:
    before = [switch.fp32_precision for switch in _SWITCHES]
    try:
        for switch in _SWITCHES:
            switch.fp32_precision = "tf32"
        yield
    finally:
        for switch, precision in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = precision


P = ParamSpec("P")

_ALL_SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.mkldnn.matmul,  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.mkldnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
)


def full_precision(
    operation: Callable[Concatenate[Tensor, P], Tensor],
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Decorator of an operation on a tensor, its first argument: no autocast, and products without TF32 or bf16.

    An 8-bit level is 4e-3 wide; TF32 rounds its factors to 5e-4, which moves pixels to the neighbouring level.
    """

    @functools.wraps(operation)
    def exact(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        kind = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"  # meta has none
        with torch.autocast(kind, enabled=False), ieee_products():
            return operation(x, *args, **kwargs)

    return exact


@contextmanager
def ieee_products() -> Iterator[None]:
    """In this context float32 products are not rounded to TF32 or bf16."""
    # Only what is reduced gets touched: reading a switch resolves what it inherits, so writing it back would pin it.
    reduced = [(switch, switch.fp32_precision) for switch in _ALL_SWITCHES]
    reduced = [(switch, precision) for switch, precision in reduced if precision not in ("none", "ieee")]
    try:
        for switch, _ in reduced:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in reduced:
            switch.fp32_precision = precision
