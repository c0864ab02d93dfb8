"""JPEG compression on the images' device."""

from __future__ import annotations

from functools import lru_cache
from math import pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.params import move
from data.degradation.precision import full_precision

# ITU-T T.81, annex K.1 and K.2.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF: Y, Cb, Cr from R, G, B, without the offset of 128 that the level shift before the DCT takes away again.
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@full_precision
def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """What a baseline JPEG with 4:2:0 chroma does to images, without the bit stream.

    This is the variant that Real-ESRGAN trains with. It differs from a codec in that the luma table is transposed,
    scaled tables are not rounded to integers, chroma comes back by repetition, sides are filled with black up to
    multiples of 16, and the result is not rounded to 8 bits. As in a codec, no step of the tables is below 1 (which
    matters for quality above 95). Its distance to libjpeg's images (Pillow's and OpenCV's defaults, which agree), on a
    96×120 photograph: 34.8 dB at quality 30, 36.2 dB at 60, 41.3 dB at 95; libjpeg's own loss there: 30.7, 32.7, 38.7.

    Args:
        x: (B, 3, H, W) RGB in [0, 1].
        quality: (B,) 1..100.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    if len(quality) != len(x):
        raise ValueError(f"quality: expected one value for each of {len(x)} images, got {tuple(quality.shape)}")
    height, width = x.shape[-2:]
    constants = _constants(x.device, x.dtype)
    quality = move(quality, x.device).to(x.dtype)[:, None]
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100  # (B, 1)

    x = 255 * F.pad(x, (0, -width % 16, 0, -height % 16))
    y, chroma = _mix(x, constants.ycbcr).split((1, 2), dim=1)
    y = _lossy(y - 128, constants.luma * factor, constants.dct) + 128
    chroma = _lossy(F.avg_pool2d(chroma, 2), constants.chroma * factor, constants.dct)
    chroma = F.interpolate(chroma, scale_factor=2, mode="nearest")
    x = _mix(torch.cat([y, chroma], dim=1), constants.rgb) / 255
    return x[..., :height, :width].clamp(0, 1)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Colours (B, 3, H, W) by a (3, 3) matrix."""
    return (matrix @ x.flatten(2)).view(x.shape)


def _lossy(plane: Tensor, table: Tensor, dct: Tensor) -> Tensor:
    """Quantise the 8×8 DCT of (B, C, H, W) planes in steps of (B, 64) tables."""
    batch, channels, height, width = plane.shape
    blocks = plane.view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    step = table.clamp(min=1)[:, None, None, None]
    coefficients = (blocks.flatten(4) @ dct.T / step).round() * step  # (B, C, H/8, W/8, 64)
    return (coefficients @ dct).unflatten(4, (8, 8)).transpose(3, 4).reshape(plane.shape)


class _Constants(NamedTuple):
    ycbcr: Tensor
    rgb: Tensor
    luma: Tensor
    """(64,), transposed"""
    chroma: Tensor
    """(64,)"""
    dct: Tensor
    """(64, 64), orthonormal: coefficients of a flattened block by its pixels"""


@lru_cache(maxsize=8)
def _constants(device: torch.device, dtype: torch.dtype) -> _Constants:
    n = torch.arange(8, dtype=torch.float64)
    dct = torch.cos(n[:, None] * (2 * n + 1) * pi / 16) / 2
    dct[0] /= 2**0.5
    tables = (
        torch.tensor(_YCBCR),
        torch.tensor(_RGB),
        torch.tensor(_LUMA).T.flatten(),
        torch.tensor(_CHROMA).flatten(),
    )
    return _Constants(*(table.to(device, dtype) for table in (*tables, torch.kron(dct, dct))))
