"""The end of every degradation: what happens to the LR image after it was sampled."""

from __future__ import annotations

import torch
from torch import Tensor

from data.degradation.jpeg import jpeg
from data.degradation.noise import add_noise
from data.degradation.params import Params


def finish(levels: Tensor, params: Params, generator: torch.Generator) -> Tensor:
    """Noise, clamp, JPEG, rounding to 8 bits: (B, 3, H, W) in grey levels, 0..255, to multiples of 1/255 in [0, 1].

    Levels come in, since a division by 255 on the way would turn ties of rounding. Float32 goes out, whatever came.
    """
    if params.noise is not None:
        levels = add_noise(levels, 255 * params.noise, generator)
    if params.quality is not None:
        levels = 255 * jpeg(levels.clamp(0, 255) / 255, params.quality, codec="libjpeg")
    return levels.float().clamp(0, 255).round() / 255


def quantize(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the nearest of the 256 levels of an 8-bit image, any shape."""
    return x.clamp(0, 1).mul(255).round() / 255
