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
from data.degradation.params import (
    BLURS,
    DRAWS,
    Params,
    Ranges,
    check_hr,
    given_quality,
    given_range,
    move_all,
    one_of,
    repeat,
    uniform,
)
from data.degradation.resize import bicubic_matrices
from data.degradation.shrink import blur_and_shrink

SAMPLERS = ("bicubic", "s-fold")


@dataclass(frozen=True, kw_only=True)
class Gaussian(Ranges):
    """Blur with reflect padding → ÷ scale → noise → clamp → JPEG where asked → rounding to 8 bits.

    The fields are the ranges of `sample`; `apply` takes whatever parameters it is given.

    Examples:
        >>> recipe, generator = Gaussian(scale=4, iso=True, width=(0.2, 4.0)), torch.Generator().manual_seed(0)
        >>> params = recipe.sample(2, generator=generator)
        >>> recipe.apply(torch.rand(2, 3, 48, 64), params, generator=generator).shape
        torch.Size([2, 3, 12, 16])
    """

    sampling: Literal["bicubic", "s-fold"] = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(SAMPLERS, sampling=self.sampling)

    @classmethod
    def from_flags(
        cls,
        *,
        scale: int,
        blur_type: str = "iso_gaussian",
        sample_mode: str = "bicubic",
        noise: float = 0.0,
        sig_min: float | None = None,
        sig_max: float | None = None,
        lambda_min: float | None = None,
        lambda_max: float | None = None,
        jpeg_low: float = 0.0,
        draw_per: str = "image",
    ) -> Gaussian:
        """Build the recipe from flags in published units. Raises ValueError where one is missing or wrong.

        Args:
            scale: HR pixels per LR pixel, along each side.
            blur_type: iso_gaussian or aniso_gaussian.
            sample_mode: bicubic or s-fold.
            noise: strongest noise, σ in grey levels of 255.
            sig_min, sig_max: range of an iso kernel, standard deviations in HR pixels.
            lambda_min, lambda_max: range of the axes of an aniso kernel, likewise.
            jpeg_low: lowest JPEG quality, drawn up to 100; 0: no JPEG.
            draw_per: image, or batch for one degradation for all of its images.

        Examples:
            >>> Gaussian.from_flags(scale=4, sig_min=0.2, sig_max=4.0, noise=25.5).noise
            0.1
        """
        iso = one_of(BLURS, blur_type=blur_type) == "iso_gaussian"
        low, high, names = (sig_min, sig_max, ("sig_min", "sig_max"))
        if not iso:
            low, high, names = (lambda_min, lambda_max, ("lambda_min", "lambda_max"))
        return cls(
            scale=scale,
            iso=iso,
            width=given_range(low, high, names=names, recipe="gaussian"),
            noise=noise / 255,
            quality=given_quality(jpeg_low, "jpeg_low"),
            per_batch=one_of(DRAWS, draw_per=draw_per) == "batch",
            sampling="s-fold" if one_of(SAMPLERS, sample_mode=sample_mode) == "s-fold" else "bicubic",
        )

    def sample(self, batch: int, *, generator: torch.Generator) -> Params:
        """Draw widths, rotation, noise and quality, each uniform in its range, on the generator's device."""
        draws = 1 if self.per_batch else batch
        width = uniform(*self.width, (draws, 1 if self.iso else 2), generator).expand(draws, 2)
        params = Params(
            width,
            None if self.iso else uniform(0.0, pi, (draws,), generator),
            uniform(0.0, self.noise, (draws,), generator) if self.noise else None,
            uniform(self.quality, 100.0, (draws,), generator) if self.quality is not None else None,
        )
        return repeat(params, batch) if self.per_batch else params

    def apply(self, hr: Tensor, params: Params, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. ValueError for other HR sides."""
        check_hr(hr, self.scale, len(params.width))
        params = move_all(params, hr.device)
        if self.sampling == "s-fold":
            lr = blur(hr, gaussian_kernel(params.width, params.theta, self.size), stride=self.scale)
        elif params.theta is None:
            profile = gaussian_profile(params.width, self.size)
            lr = blur_separable(hr, profile, *bicubic_matrices(hr, Fraction(1, self.scale)))
        else:
            kernel = gaussian_kernel(params.width, params.theta, self.size)
            lr = blur_and_shrink(hr, kernel, *bicubic_matrices(hr, Fraction(1, self.scale)))
        return finish(255 * lr, params, generator)
