"""The `manet` recipe: off-centre blur and s-fold sampling (MANet, ICCV 2021; CDSR, ACM MM 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from data.degradation.blur import AT_ONCE, blur
from data.degradation.finish import finish
from data.degradation.kernel import manet_kernel
from data.degradation.noise import CLEAN
from data.degradation.params import (
    BLURS,
    DRAWS,
    Params,
    Ranges,
    check_hr,
    given_quality,
    given_range,
    in_parts,
    move_all,
    one_of,
    repeat,
    uniform,
)


@dataclass(frozen=True, kw_only=True)
class MANet(Ranges):
    """Blur with replicate padding → every scale-th pixel → noise → clamp → JPEG where asked → rounding to 8 bits.

    The fields are the ranges of `sample`; `apply` takes whatever parameters it is given.

    Examples:
        >>> recipe = MANet(scale=2, iso=False, width=(0.6, 2.2), noise=0.06)
        >>> generator = torch.Generator().manual_seed(0)
        >>> params = recipe.sample(2, generator=generator)
        >>> recipe.apply(torch.rand(2, 3, 48, 64), params, generator=generator).shape
        torch.Size([2, 3, 24, 32])
    """

    noise_var: bool = False
    """Another noise level in every block of 20×20 LR pixels, drawn by `apply`, instead of one for an image."""

    @classmethod
    def from_flags(
        cls,
        *,
        scale: int,
        blur_type: str = "iso_gaussian",
        sample_mode: str = "bicubic",
        noise: float = 0.0,
        noise_var: bool = False,
        sig_min: float | None = None,
        sig_max: float | None = None,
        jpeg_low: float = 0.0,
        draw_per: str = "image",
    ) -> MANet:
        """Build the recipe from flags in published units. Raises ValueError where one is missing or wrong.

        Args:
            scale: HR pixels per LR pixel, along each side.
            blur_type: iso_gaussian or aniso_gaussian.
            sample_mode: bicubic, by which CDSR's released code means every s-th pixel.
            noise: strongest noise, σ in grey levels of 255.
            noise_var: another noise level in every block of 20×20 LR pixels.
            sig_min, sig_max: range of the kernels, HR pixels: **standard deviations** of an iso kernel, **variances**
                of an aniso one.
            jpeg_low: lowest JPEG quality, drawn up to 100; 0: no JPEG.
            draw_per: image, or batch for one degradation for all of its images.

        Examples:
            >>> MANet.from_flags(scale=2, blur_type="aniso_gaussian", sig_min=0.25, sig_max=4).width
            (0.5, 2.0)
            >>> MANet.from_flags(scale=2, blur_type="iso_gaussian", sig_min=0.25, sig_max=4).width
            (0.25, 4.0)
        """
        if sample_mode != "bicubic":
            raise ValueError(
                f"`sample_mode` {sample_mode}: CDSR's released code has the names of its samplers swapped. Its "
                "`bicubic`, the default here, takes every s-th pixel; leave `sample_mode` out with manet"
            )
        iso = one_of(BLURS, blur_type=blur_type) == "iso_gaussian"
        low, high = given_range(sig_min, sig_max, names=("sig_min", "sig_max"), recipe="manet")
        return cls(
            scale=scale,
            iso=iso,
            width=(low, high) if iso else (low**0.5, high**0.5),
            noise=noise / 255,
            quality=given_quality(jpeg_low, "jpeg_low"),
            per_batch=one_of(DRAWS, draw_per=draw_per) == "batch",
            noise_var=noise_var,
        )

    def sample(self, batch: int, *, generator: torch.Generator) -> Params:
        """Draw kernels, noise and quality on the generator's device.

        An aniso kernel has the variances v₁ ~ U(min, max) and v₂ ~ U(min, v₁) and a rotation U(0, π), an iso one the
        standard deviation U(min, max). One image in five has no noise, the others U(0, noise).
        """
        draws = 1 if self.per_batch else batch
        params = Params(
            self._sample_width(draws, generator),
            None if self.iso else uniform(0.0, pi, (draws,), generator),
            self._sample_noise(draws, generator) if self.noise else None,
            uniform(self.quality, 100.0, (draws,), generator) if self.quality is not None else None,
        )
        return repeat(params, batch) if self.per_batch else params

    def apply(self, hr: Tensor, params: Params, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. ValueError for other HR sides."""
        check_hr(hr, self.scale, len(params.width))
        params = move_all(params, hr.device)
        kernel = manet_kernel(params.width, params.theta, self.size, self.scale)

        def sampled(hr: Tensor, kernel: Tensor) -> Tensor:
            levels = 255 * hr  # whole numbers, as in the published code, for the same ties of rounding
            return blur(levels, kernel, padding="replicate", stride=self.scale)

        return finish(in_parts(sampled, hr, kernel, most=AT_ONCE), params, generator, noise_var=self.noise_var)

    def _sample_width(self, draws: int, generator: torch.Generator) -> Tensor:
        """Draw (B, 2) standard deviations."""
        if self.iso:
            return uniform(*self.width, (draws, 1), generator).expand(draws, 2)
        low, high = (width**2 for width in self.width)
        first = uniform(low, high, (draws,), generator)
        return torch.stack([first, uniform(low, first, (draws,), generator)], dim=1).sqrt()

    def _sample_noise(self, draws: int, generator: torch.Generator) -> Tensor:
        if self.noise_var:  # the blocks draw theirs in `apply`
            return torch.full((draws,), self.noise, dtype=torch.float64, device=generator.device)
        sigma = uniform(0.0, self.noise, (draws,), generator)
        return sigma.where(uniform(0.0, 1.0, (draws,), generator) >= CLEAN, 0.0)
