"""Additive noise."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from data.degradation.params import move, uniform
from data.degradation.photons import count_photons

NOISE_BLOCK = 20
"""Side of the blocks of CDSR's varying noise, LR pixels."""
CLEAN = 0.2
"""Share of images, or of blocks, that get no noise in CDSR's degradations."""


def add_noise(x: Tensor, sigma: Tensor, generator: torch.Generator, *, grey: Tensor | None = None) -> Tensor:
    """Add Gaussian noise that is drawn for every pixel and channel; the result is not clamped.

    Args:
        x: (B, C, H, W).
        sigma: (B,) standard deviations, in the units of x; or (B, H, W), one per pixel.
        generator: the noise is drawn on its device and then moved, so that a CPU generator gives the same noise
            wherever x lives.
        grey: (B,) bool, the images whose channels all get the same noise.

    Returns:
        (B, C, H, W).

    Examples:
        >>> x = torch.zeros(2, 3, 64, 64)
        >>> noisy = add_noise(x, torch.tensor([0.0, 0.1]), torch.Generator().manual_seed(0))
        >>> [round(image.std().item(), 2) for image in noisy]
        [0.0, 0.1]
    """
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=torch.float32)
    noise = move(noise, x.device)
    return _add(x, noise.to(x.dtype), sigma, grey)


def draw_block_sigma(strongest: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw CDSR's varying noise (its `noise_var`): another strength in every block of 20×20 pixels.

    A block has no noise with probability 0.2, else σ ~ U(0, strongest).

    Args:
        strongest: (B,) largest standard deviations.
        size: height and width of the images, pixels; the blocks at the right and at the bottom may be cut off.
        generator: draws on its own device, the result is moved to that of `strongest`.

    Returns:
        (B, H, W) standard deviations, one per pixel.

    Examples:
        >>> sigma = draw_block_sigma(torch.tensor([10.0]), (30, 50), torch.Generator().manual_seed(0))
        >>> sigma.shape, len(sigma.unique()) <= 6
        (torch.Size([1, 30, 50]), True)
    """
    height, width = size
    blocks = (len(strongest), ceil(height / NOISE_BLOCK), ceil(width / NOISE_BLOCK))
    share = uniform(0.0, 1.0, blocks, generator)
    share = share.where(uniform(0.0, 1.0, blocks, generator) >= CLEAN, 0.0)
    sigma = strongest[:, None, None] * move(share, strongest.device)
    sigma = sigma.repeat_interleave(NOISE_BLOCK, 1).repeat_interleave(NOISE_BLOCK, 2)
    return sigma[:, :height, :width]


def add_poisson(x: Tensor, strength: Tensor, generator: torch.Generator, *, grey: Tensor) -> Tensor:
    """Add the noise of counted photons, times `strength` (Real-ESRGAN); the result is not clamped.

    White stands for v photons, the number of different 8-bit values of the image, rounded up to a power of two.

    Args:
        x: (B, 3, H, W) RGB in [0, 1].
        strength: (B,) 1: Poisson noise as it is.
        generator: as in `add_noise`.
        grey: (B,) bool, the images whose channels all get the same noise: that of the grey image.

    Returns:
        (B, 3, H, W).

    Examples:
        >>> x = torch.zeros(1, 3, 8, 8)  # no light, no noise
        >>> noisy = add_poisson(x, torch.ones(1), torch.Generator(), grey=torch.tensor([False]))
        >>> torch.equal(noisy, x)
        True
    """
    red, green, blue = x.split(1, dim=1)
    luma = 0.2989 * red + 0.5870 * green + 0.1140 * blue  # ITU-R BT.601
    levels = _where(grey, luma, x).mul_(255).round_().clamp_(0, 255)  # (B, 3, H, W)
    white = _next_power_of_two(_distinct(levels.long()))
    counted = count_photons(levels, white, generator)
    return _add(x, counted.div_(_per_image(white, x)).sub_(levels, alpha=1 / 255), strength, grey)


def _distinct(levels: Tensor) -> Tensor:
    """Count how many of the values 0..255 each image of (B, C, H, W) has: (B,), int64."""
    return levels.new_zeros(len(levels), 256).scatter_(1, levels.flatten(1), 1).sum(1)


def _next_power_of_two(count: Tensor) -> Tensor:
    """Round counts of up to 256 up to 1, 2, 4, ..., 256, in integers: logarithms of powers of two would round too."""
    powers = 1 << torch.arange(9, device=count.device)
    return powers[torch.bucketize(count, powers)]


def _add(x: Tensor, noise: Tensor, sigma: Tensor, grey: Tensor | None) -> Tensor:
    """Return x + sigma · noise, computed in place of the noise. Where `grey`, all channels get that of the first."""
    if grey is not None:
        noise = _where(grey, noise[:, :1], noise)
    return noise.mul_(_per_image(sigma, x)).add_(x)


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    """Shape (B,) to (B, 1, 1, 1), or (B, H, W) to (B, 1, H, W), as a factor of x."""
    values = move(values, x.device).to(x.dtype)
    return values[:, None, None, None] if values.ndim == 1 else values[:, None]


def _where(chosen: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Take the images of x where `chosen`, (B,) bool, and those of `other` elsewhere.

    Interpolation with a weight of 0 or 1 is exact; a CPU takes it in vectors, `torch.where` pixel by pixel.
    """
    return torch.lerp(other, x, _per_image(chosen, other))
