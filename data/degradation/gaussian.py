"""The `gaussian` recipe: blur, MATLAB bicubic, noise (DASR, CVPR 2021; KDSR, ICLR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import pi
from typing import Literal

import torch
from torch import Tensor

from data.degradation.blur import blur, blur_separable
from data.degradation.finish import finish
from data.degradation.kernel import gaussian_kernel, gaussian_profile
from data.degradation.params import Params, Ranges, check_hr, uniform
from data.degradation.resize import bicubic, bicubic_matrices


@dataclass(frozen=True, kw_only=True)
class Gaussian(Ranges):
    """Blur with reflect padding → ÷ scale → noise → clamp → JPEG where asked → rounding to 8 bits.

    The fields are the ranges of `sample`; `apply` honours whatever parameters it is given.
    """

    sampling: Literal["bicubic", "s-fold"] = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in ("bicubic", "s-fold"):
            raise ValueError(f"sampling: expected 'bicubic' or 's-fold', got {self.sampling!r}")

    def sample(self, batch: int, *, generator: torch.Generator) -> Params:
        """Widths, rotation, noise and quality, each uniform in its range, on the generator's device."""
        draws = 1 if self.per_batch else batch
        width = uniform(*self.width, (draws, 1 if self.iso else 2), generator).expand(draws, 2)
        params = Params(
            width,
            None if self.iso else uniform(0.0, pi, (draws,), generator),
            uniform(0.0, self.noise, (draws,), generator) if self.noise else None,
            uniform(self.quality, 100.0, (draws,), generator) if self.quality is not None else None,
        )
        return params.repeat(batch) if self.per_batch else params

    def apply(self, hr: Tensor, params: Params, *, generator: torch.Generator) -> Tensor:
        """(B, 3, s·H, s·W) in [0, 1] -> (B, 3, H, W), multiples of 1/255. ValueError for other HR sides."""
        check_hr(hr, self.scale, len(params.width))
        params = params.to(hr.device)
        if self.sampling == "s-fold":
            lr = blur(hr, gaussian_kernel(params.width, params.theta, self.size), stride=self.scale)
        elif params.theta is None:
            profile = gaussian_profile(params.width, self.size)
            lr = blur_separable(hr, profile, *bicubic_matrices(hr, Fraction(1, self.scale)))
        else:
            kernel = gaussian_kernel(params.width, params.theta, self.size)
            lr = bicubic(blur(hr, kernel), Fraction(1, self.scale))
        return finish(255 * lr, params, generator)
