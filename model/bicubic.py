"""Bicubic interpolation as the baseline of baselines: a network without parameters."""

from __future__ import annotations

from torch import Tensor

from data.degradation.resize import bicubic
from model.layer import BlindSR


class Bicubic(BlindSR):
    """MATLAB's bicubic upscaling, the `bicubic` row of the papers' tables."""

    def __init__(self, *, scale: int) -> None:
        super().__init__(scale=scale)

    @property
    def halo(self) -> int:
        return 2  # the cubic's four taps

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        return bicubic(lr, self.scale)
