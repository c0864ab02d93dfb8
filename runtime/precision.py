"""The arithmetic of a run: float32, TF32 or autocast, and, if asked for, the same bits each time.

Autocast rounds the maps inside a network and nothing else. Whatever the precision, these stay float32: the weights,
their moving average and Adam; degradations, losses and metrics; and in a network the first and the last convolution,
the mean colour, the sum of the residual blocks, means over pixels, everything computed from an embedding (both
softmaxes of CDSR, the weights of dynamic convolutions), the logits of the contrast, the statistics of BatchNorm and
spectral norms. The convolutions among them multiply in TF32 on a GPU, which rounds less than autocast does.

With `deterministic`, every operation of this project has a CUDA kernel that gives the same bits each time. PyTorch
then picks slower convolutions and, in the GAN's discriminator, a slower bilinear upsampling, because the backward of
the usual one adds up in any order. PyTorch refuses the backward of reflection padding, bicubic upsampling, adaptive
pooling, a cross entropy of maps and grid sampling. The degradations use the first two and are never differentiated.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPUINFO = Path("/proc/cpuinfo")
CPU_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one is Arm's
_CUDA_SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
)
_ALL_SWITCHES = (
    *_CUDA_SWITCHES,
    torch.backends.mkldnn.matmul,  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.mkldnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
)


@dataclass(frozen=True)
class Precision:
    """The precision of a network's products; weights, optimiser, losses and degradations are float32 in any case.

    Attributes:
        precision: fp32; tf32, products with 10 bits of mantissa on a GPU; bf16 or fp16, by autocast.
        deterministic: use only kernels that give the same bits each time; PyTorch raises where there is none.
    """

    precision: str = "fp32"
    deterministic: bool = False

    def prepare(self, *, one_size: bool = False) -> None:
        """Set the switches of this process. Call it before the GPU is first used.

        one_size: most images have the same size, so that searching for the fastest convolution pays. The search may
        end differently each time, so `deterministic` skips it.
        """
        rounded = self.precision == "tf32", self.precision != "fp32"
        for switch, tf32 in zip(_CUDA_SWITCHES, rounded, strict=True):
            switch.fp32_precision = "tf32" if tf32 else "ieee"
        torch.backends.cudnn.benchmark = one_size and not self.deterministic
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(self.deterministic)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context to call a network in. Its TF32 also holds inside `ieee_products`."""
        if self.precision == "tf32":
            return _tf32_products()
        dtype = _REDUCED.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the maps within a network."""
        return _REDUCED.get(self.precision, torch.float32)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of a network's weights, which its maps follow: tensor cores want channels last."""
        return torch.contiguous_format if self.precision == "fp32" else torch.channels_last

    def inference_format(self, device: torch.device) -> torch.memory_format:
        """The layout of a network's weights for inference: on a CPU channels last, which is faster in float32 too.

        Training in float32 keeps PyTorch's own layout, and so its bits.
        """
        return torch.channels_last if device.type == "cpu" else self.memory_format

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Return the loss scaler, enabled for fp16 alone: its exponents are too few for small gradients."""
        return torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")


def has_bf16(device: torch.device) -> bool:
    """Return True if a device has units for bfloat16, which are faster than those for float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = re.search(r"^(flags|Features)\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else None
    return flags is not None and not CPU_UNITS.isdisjoint(flags[2].split())


@contextmanager
def _tf32_products() -> Iterator[None]:
    before = [switch.fp32_precision for switch in _CUDA_SWITCHES]
    try:
        for switch in _CUDA_SWITCHES:
            switch.fp32_precision = "tf32"
        yield
    finally:
        for switch, precision in zip(_CUDA_SWITCHES, before, strict=True):
            switch.fp32_precision = precision


def full_precision(
    operation: Callable[Concatenate[Tensor, P], Tensor],
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Decorate an operation on a tensor, its first argument, to run without autocast, TF32 and bf16 products.

    An 8-bit level is 4e-3 wide, and TF32 rounds its factors to 5e-4: that moves pixels to the neighbouring level.
    """

    @functools.wraps(operation)
    def exact(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        kind = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"  # meta has none
        with torch.autocast(kind, enabled=False), ieee_products():
            return operation(x, *args, **kwargs)

    return exact


@contextmanager
def ieee_products() -> Iterator[None]:
    """Keep float32 products in this block from being rounded to TF32 or bf16."""
    # Touch only what is reduced: reading a switch resolves what it inherits, so writing it back would pin it.
    reduced = [(switch, switch.fp32_precision) for switch in _ALL_SWITCHES]
    reduced = [(switch, precision) for switch, precision in reduced if precision not in ("none", "ieee")]
    try:
        for switch, _ in reduced:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in reduced:
            switch.fp32_precision = precision
