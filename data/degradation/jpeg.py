"""JPEG compression on the images' device."""

from __future__ import annotations

from math import pi
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.params import constant, in_parts, move
from runtime.precision import full_precision

Codec = Literal["realesrgan", "libjpeg"]

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
_CACHED = 2**21
"""Bytes of images that a core works on at a time: a few planes of them are in its cache then."""


@full_precision
def jpeg(x: Tensor, quality: Tensor, *, codec: Codec = "realesrgan") -> Tensor:
    """Do to images what a baseline JPEG with 4:2:0 chroma does, without the bit stream.

    "realesrgan" is the variant that Real-ESRGAN trains with. It differs from a real codec in five points: the luma
    table is transposed, scaled tables are not rounded to integers, sides are filled with black up to multiples of 16,
    chroma is enlarged by repetition, and nothing is rounded to 8 bits. "libjpeg" differs in the last one alone: it has
    a codec's tables, fills sides with the pixels of the edge, and enlarges chroma by triangular interpolation. In both,
    as in a codec, no step of the tables is below 1 (which matters for quality above 95).

    Distance to the images of libjpeg-turbo (Pillow's and OpenCV's defaults, which agree), dB on a 96×120 photograph:

        quality                          30     60     95
        libjpeg-turbo to the photograph  30.7   32.7   38.7
        "realesrgan"                     34.8   36.2   41.3
          luma table not transposed      38.7   39.9   43.0
          and chroma interpolated        39.0   40.3   44.1
          and tables of integers         41.8   42.2   44.5
          and edges repeated: "libjpeg"  44.5   44.4   45.4
          and planes rounded to 8 bits   46.0   46.2   47.1

    The rest comes from libjpeg's integer arithmetic and its ties of rounding.

    Args:
        x: (B, 3, H, W) RGB in [0, 1].
        quality: (B,) 1..100.
        codec: "realesrgan" or "libjpeg".

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: there is not one quality for each image.

    Examples:
        >>> x = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
        >>> worse, better = (jpeg(x, torch.full((2,), quality)) for quality in (30.0, 95.0))
        >>> bool((worse - x).abs().mean() > (better - x).abs().mean())
        True
    """
    if len(quality) != len(x):
        raise ValueError(f"`quality`: expected one value for each of {len(x)} images, got {tuple(quality.shape)}")
    constants = _constants(x.device, x.dtype, codec)
    luma, chroma = _steps(move(quality, x.device).to(x.dtype), constants.tables, codec)
    cached = max(1, _CACHED // max(1, x[:1].nbytes))

    def compress(x: Tensor, luma: Tensor, chroma: Tensor) -> Tensor:
        return _compress(x, luma, chroma, constants, codec)

    return in_parts(compress, x, luma, chroma, most=cached)


def _compress(x: Tensor, luma: Tensor, chroma: Tensor, constants: _Constants, codec: Codec) -> Tensor:
    """Compress and decompress, as `jpeg` says, with the (B, 64) steps of luma and chroma."""
    real = codec == "libjpeg"
    height, width = x.shape[-2:]
    if height % 16 or width % 16:
        x = F.pad(x, (0, -width % 16, 0, -height % 16), mode="replicate" if real else "constant")
    planes = (constants.ycbcr @ x.flatten(2)).view(x.shape)
    y = _lossy(planes[:, :1].sub_(128), luma, constants.dct, constants.inverse).add_(128 / 255)
    mixed = planes[:, 1:, ::2] + planes[:, 1:, 1::2]  # rows, two by two; the transform does so with the columns
    blue, red = _lossy(mixed, chroma, constants.mix, constants.inverse if real else constants.wide).split(1, 1)
    # Enlarge what chroma adds to R, G and B instead of chroma itself: then no colours are mixed at full size.
    added = (1.402, red), (1.0, (-0.344136 * blue).sub_(red, alpha=0.714136)), (1.772, blue)
    if real:
        x = F.interpolate(torch.cat([weight * part for weight, part in added], 1), scale_factor=2, mode="bilinear")
        x = x.add_(y)
    else:  # parts are (B, 1, H/2, W)
        x, pairs = torch.empty_like(x), y.unflatten(2, (-1, 2))
        for channel, (weight, part) in zip(x.unflatten(2, (-1, 2)).split(1, 1), added, strict=True):
            torch.add(pairs, part[:, :, :, None], alpha=weight, out=channel)
    return x.clamp_(0, 1)[..., :height, :width]


def _steps(quality: Tensor, tables: Tensor, codec: Codec) -> tuple[Tensor, ...]:
    """Scale the (2, 64) tables by (B,) qualities: luma and chroma, (B, 64) each."""
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    steps = factor[:, None, None] * tables
    if codec == "libjpeg":
        steps = (steps + 0.5).floor().clamp(max=255)
    return steps.clamp(min=1).unbind(1)


def _lossy(plane: Tensor, step: Tensor, forward: Tensor, inverse: Tensor) -> Tensor:
    """Quantise the DCT of blocks of (B, C, H, W) planes in (B, 64) steps; `forward` tells how wide blocks are."""
    batch, channels, height, _ = plane.shape
    blocks = plane.unflatten(3, (-1, len(forward) // 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    step = step[:, None, None, None]
    coefficients = (blocks.flatten(4) @ forward).div_(step).round_().mul_(step)  # (B, C, H/8, W/8, 64)
    blocks = (coefficients @ inverse).unflatten(4, (8, -1))  # (B, C, H/8, W/8, 8, 8 or 16)
    return blocks.transpose(3, 4).reshape(batch, channels, height, -1)


class _Constants(NamedTuple):
    tables: Tensor
    """(2, 64): luma, chroma"""
    ycbcr: Tensor
    """(3, 3): Y, Cb, Cr in grey levels, by R, G, B in [0, 1]"""
    dct: Tensor
    """(64, 64): a flattened block in grey levels to its coefficients, orthonormal"""
    mix: Tensor
    """(128, 64): blocks twice as wide, sums of two rows, to the coefficients of their means over 2×2 pixels"""
    inverse: Tensor
    """(64, 64): coefficients to a block in [0, 1]"""
    wide: Tensor
    """(64, 128): the same, with each pixel twice across"""


@constant(most=8)
def _constants(device: torch.device, dtype: torch.dtype, codec: Codec) -> _Constants:
    n = torch.arange(8, dtype=torch.float64)
    dct = torch.cos(n[:, None] * (2 * n + 1) * pi / 16) / 2
    dct[0] /= 2**0.5
    luma, chroma = torch.tensor(_LUMA), torch.tensor(_CHROMA)
    tables = torch.stack([luma.T if codec == "realesrgan" else luma, chroma]).flatten(1)
    ycbcr = 255 * torch.tensor(_YCBCR, dtype=torch.float64)
    blocks = torch.kron(dct, dct)  # coefficients by pixels
    wide = blocks.repeat_interleave(2, 1)
    constants = (tables, ycbcr, blocks.T, wide.T / 4, blocks / 255, wide / 255)
    return _Constants(*(constant.to(device, dtype).contiguous() for constant in constants))
