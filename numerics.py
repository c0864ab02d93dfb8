"""In which arithmetic a run computes, and whether it is to give the same bits each time."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Numerics:
    """The arithmetic of a network's products; weights, optimiser, losses and degradations are float32 whatever it is.

    precision: fp32; tf32: products of a GPU with 10 bits of mantissa; bf16 and fp16: autocast. deterministic: only
    kernels that give the same bits each time; PyTorch raises where an operation has none.
    """

    precision: str = "fp32"
    deterministic: bool = False

    def prepare(self) -> None:
        """Set the switches of this process; call it before the GPU is first used."""
        products = "tf32" if self.precision == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = products
        torch.backends.cudnn.conv.fp32_precision = products  # pyright: ignore[reportAttributeAccessIssue]
        torch.backends.cudnn.benchmark = (
            not self.deterministic
        )  # patches of one size: the quickest kernel is worth a try
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(self.deterministic)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which a network is called."""
        dtype = _REDUCED.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Of the loss: float16 has too few exponents for small gradients."""
        return torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
