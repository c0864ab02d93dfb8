"""Resampling as products with matrices: rows and columns are resampled apart."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from runtime.precision import full_precision


def bicubic_matrix(length: int, scale: float | Fraction, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """MATLAB's bicubic resampling of `length` samples, edges clamped, as a matrix.

    Keys' cubic (a = -0.5), widened by 1 / scale when shrinking (antialias), weights normalised. MATLAB itself mirrors
    at the edges; the published code clamps, and so does this.

    Args:
        length: samples before.
        scale: samples after per sample before; a float stands for the nearest simple fraction (1/3 is exactly a third).

    Returns:
        (ceil(length · scale), length). It is cached: do not write into it.
    """
    return _bicubic_matrix(length, Fraction(scale).limit_denominator(1000), device, dtype)


def bicubic_matrices(x: Tensor, scale: float | Fraction) -> tuple[Tensor, Tensor]:
    """The `bicubic_matrix` of the rows and that of the columns of (B, C, H, W)."""
    height, width = x.shape[-2:]
    return (
        bicubic_matrix(height, scale, device=x.device, dtype=x.dtype),
        bicubic_matrix(width, scale, device=x.device, dtype=x.dtype),
    )


@full_precision
def bicubic(x: Tensor, scale: float | Fraction) -> Tensor:
    """MATLAB bicubic resize of (B, C, H, W) to (B, C, ceil(H·scale), ceil(W·scale)); the result is not clamped."""
    rows, columns = bicubic_matrices(x, scale)
    return rows @ x @ columns.T


@lru_cache(maxsize=32)
def _bicubic_matrix(length: int, scale: Fraction, device: torch.device, dtype: torch.dtype) -> Tensor:
    size = ceil(length * scale)
    ratio, shrink = float(scale), float(min(scale, Fraction(1)))
    centre = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) / ratio - 0.5
    index = torch.floor(centre - 2 / shrink) + torch.arange(ceil(4 / shrink) + 2)  # (size, taps)
    weight = _cubic(shrink * (centre - index))
    weight /= weight.sum(1, keepdim=True)
    matrix = torch.zeros(size, length, dtype=torch.float64)
    matrix.scatter_add_(1, index.long().clamp(0, length - 1), weight)
    return matrix.to(device, dtype)


def _cubic(t: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5."""
    t = t.abs()
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
