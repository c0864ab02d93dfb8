"""The last steps of degradations, after the LR image was sampled."""

from __future__ import annotations

import torch
from torch import Tensor

from data.degradation.jpeg import jpeg
from data.degradation.noise import add_noise, draw_block_sigma
from data.degradation.params import Params


def finish(levels: Tensor, params: Params, generator: torch.Generator, *, noise_var: bool = False) -> Tensor:
    """Add noise, clamp, compress as JPEG where asked, and round to 8 bits.

    Args:
        levels: (B, 3, H, W) in grey levels, 0..255. A division by 255 on the way would turn ties of rounding.
        params: their fields `noise` and `quality` may be None, which leaves that part out.
        generator: draws the noise.
        noise_var: let the noise differ from block to block, see `draw_block_sigma`; `params.noise` is then the
            strongest.

    Returns:
        (B, 3, H, W) float32, multiples of 1/255 in [0, 1].

    Examples:
        >>> params = Params(width=torch.zeros(1, 2))
        >>> image = finish(torch.full((1, 3, 8, 8), 99.6), params, torch.Generator())
        >>> bool((255 * image == 100).all())
        True
    """
    if params.noise is not None:
        sigma = 255 * params.noise
        if noise_var:
            sigma = draw_block_sigma(sigma, (levels.shape[-2], levels.shape[-1]), generator)
        levels = add_noise(levels, sigma, generator)
    if params.quality is not None:
        levels = 255 * jpeg(levels.clamp(0, 255) / 255, params.quality, codec="libjpeg")
    return levels.float().clamp(0, 255).round() / 255


def quantize(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the nearest of the 256 levels of an 8-bit image, any shape.

    Examples:
        >>> (255 * quantize(torch.tensor([-0.1, 0.5, 1.2]))).tolist()
        [0.0, 128.0, 255.0]
    """
    return x.clamp(0, 1).mul(255).round() / 255
