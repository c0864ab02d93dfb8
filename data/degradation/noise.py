"""Additive noise."""

from __future__ import annotations

import torch
from torch import Tensor

from data.degradation.params import move


def add_noise(x: Tensor, sigma: Tensor, generator: torch.Generator, *, grey: Tensor | None = None) -> Tensor:
    """Add Gaussian noise, another value for every pixel and channel; the result is not clamped.

    Args:
        x: (B, C, H, W).
        sigma: (B,) standard deviations, in the units of x.
        generator: the noise is drawn on its device and then moved, so that a CPU generator gives the same noise
            wherever x lives.
        grey: (B,) bool, the images whose channels all get the same noise.
    """
    noise = move(torch.randn(x.shape, generator=generator, device=generator.device), x.device)
    return x + _per_image(sigma, x) * _grey_where(grey, noise.to(x.dtype))


def add_poisson(x: Tensor, strength: Tensor, generator: torch.Generator, *, grey: Tensor) -> Tensor:
    """Add what the counting of photons adds, times `strength` (Real-ESRGAN); the result is not clamped.

    White stands for v photons, the number of different 8-bit values of the image, rounded up to a power of two.

    Args:
        x: (B, 3, H, W) RGB in [0, 1].
        strength: (B,) 1: Poisson noise as it is.
        generator: as in `add_noise`.
        grey: (B,) bool, the images whose channels all get the same noise: that of the grey image.
    """
    red, green, blue = x.split(1, dim=1)
    luma = 0.2989 * red + 0.5870 * green + 0.1140 * blue  # ITU-R BT.601
    levels = _where(grey, luma, x).mul(255).round().clamp(0, 255)  # (B, 3, H, W)
    photons = _next_power_of_two(_distinct(levels.long())).to(x.dtype)[:, None, None, None]
    expected = levels / 255 * photons
    counted = move(torch.poisson(move(expected, generator.device), generator=generator), x.device)
    return x + _per_image(strength, x) * _grey_where(grey, (counted - expected) / photons)


def _distinct(levels: Tensor) -> Tensor:
    """How many of the values 0..255 each image of (B, C, H, W) has: (B,), int64."""
    return levels.new_zeros(len(levels), 256).scatter_(1, levels.flatten(1), 1).sum(1)


def _next_power_of_two(count: Tensor) -> Tensor:
    """1, 2, 4, ..., 256 for counts of up to 256; in integers, since logarithms of powers of two round anyhow."""
    powers = 1 << torch.arange(9, device=count.device)
    return powers[torch.bucketize(count, powers)]


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), as a factor of x."""
    return move(values, x.device).to(x.dtype)[:, None, None, None]


def _grey_where(grey: Tensor | None, noise: Tensor) -> Tensor:
    """(B, C, H, W) noise, that of the first channel in all of them where `grey`."""
    return noise if grey is None else _where(grey, noise[:, :1], noise)


def _where(chosen: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """The images of x where `chosen`, (B,) bool, and of `other` elsewhere."""
    return torch.where(move(chosen, x.device)[:, None, None, None], x, other)
