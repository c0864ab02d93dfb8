"""Additive noise."""

from __future__ import annotations

import torch
from torch import Tensor

from data.degradation.params import move


def add_noise(x: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise, another value for every pixel and channel; the result is not clamped.

    Args:
        x: (B, C, H, W).
        sigma: (B,) standard deviations, in the units of x.
        generator: the noise is drawn on its device and then moved, so that a CPU generator gives the same noise
            wherever x lives.
    """
    noise = torch.randn(x.shape, generator=generator, device=generator.device)
    return x + move(sigma, x.device).to(x.dtype)[:, None, None, None] * move(noise, x.device).to(x.dtype)
