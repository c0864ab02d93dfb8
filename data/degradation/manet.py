"""The `manet` recipe: off-centre blur and s-fold sampling (MANet, ICCV 2021; CDSR, ACM MM 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from data.degradation.blur import blur
from data.degradation.finish import finish
from data.degradation.kernel import manet_kernel
from data.degradation.params import Params, Ranges, check_hr, uniform

_CLEAN = 0.2
"""Share of the training images that get no noise."""


@dataclass(frozen=True, kw_only=True)
class MANet(Ranges):
    """Blur with replicate padding → every scale-th pixel → noise → clamp → JPEG where asked → rounding to 8 bits.

    The fields are the ranges of `sample`; `apply` honours whatever parameters it is given.
    """

    def sample(self, batch: int, *, generator: torch.Generator) -> Params:
        """Variances v₁ ~ U(min, max) and v₂ ~ U(min, v₁), rotation U(0, π), noise 0 (one in five) or U(0, noise)."""
        draws = 1 if self.per_batch else batch
        low, high = (width**2 for width in self.width)
        first = uniform(low, high, (draws,), generator)
        second = first if self.iso else uniform(low, first, (draws,), generator)
        params = Params(
            torch.stack([first, second], dim=1).sqrt(),
            None if self.iso else uniform(0.0, pi, (draws,), generator),
            self._sample_noise(draws, generator) if self.noise else None,
            uniform(self.quality, 100.0, (draws,), generator) if self.quality is not None else None,
        )
        return params.repeat(batch) if self.per_batch else params

    def apply(self, hr: Tensor, params: Params, *, generator: torch.Generator) -> Tensor:
        """(B, 3, s·H, s·W) in [0, 1] -> (B, 3, H, W), multiples of 1/255. ValueError for other HR sides."""
        check_hr(hr, self.scale, len(params.width))
        params = params.to(hr.device)
        kernel = manet_kernel(params.width, params.theta, self.size, self.scale)
        levels = 255 * hr  # whole numbers, as in the published code, for the same ties of rounding
        return finish(blur(levels, kernel, padding="replicate", stride=self.scale), params, generator)

    def _sample_noise(self, draws: int, generator: torch.Generator) -> Tensor:
        sigma = uniform(0.0, self.noise, (draws,), generator)
        return sigma.where(uniform(0.0, 1.0, (draws,), generator) >= _CLEAN, 0.0)
