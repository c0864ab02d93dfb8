"""Resampling as products with matrices, one for the rows and one for the columns."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import torch
from torch import Tensor

from data.degradation.params import constant
from runtime.precision import full_precision

_PILLOW_ONE = 2**22  # the weight 1 of Pillow's whole-number arithmetic


def bicubic_matrix(length: int, scale: float | Fraction, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix of MATLAB's bicubic resampling of `length` samples, edges clamped.

    The kernel is Keys' cubic (a = -0.5), widened by 1 / scale when shrinking (antialias), its weights normalised.
    MATLAB itself mirrors at the edges; the published code clamps, and so does this.

    Args:
        length: samples before.
        scale: samples after per sample before; a float stands for the nearest simple fraction (1/3 is exactly a third).
        device: of the matrix.
        dtype: of the matrix; it is computed in float64.

    Returns:
        (ceil(length · scale), length). It is cached: do not write into it.

    Examples:
        >>> matrix = bicubic_matrix(12, 1 / 3, device=torch.device("cpu"), dtype=torch.float64)
        >>> matrix.shape, matrix.sum(1).round(decimals=6).tolist()
        (torch.Size([4, 12]), [1.0, 1.0, 1.0, 1.0])
    """
    return _bicubic_matrix(length, Fraction(scale).limit_denominator(1000), device, dtype)


def bicubic_matrices(x: Tensor, scale: float | Fraction) -> tuple[Tensor, Tensor]:
    """Return the `bicubic_matrix` of the rows and that of the columns of (B, C, H, W).

    Examples:
        >>> rows, columns = bicubic_matrices(torch.zeros(1, 3, 8, 12), 1 / 4)
        >>> rows.shape, columns.shape
        (torch.Size([2, 8]), torch.Size([3, 12]))
    """
    height, width = x.shape[-2:]
    return (
        bicubic_matrix(height, scale, device=x.device, dtype=x.dtype),
        bicubic_matrix(width, scale, device=x.device, dtype=x.dtype),
    )


@full_precision
def bicubic(x: Tensor, scale: float | Fraction) -> Tensor:
    """Resize (B, C, H, W) as MATLAB's bicubic to (B, C, ceil(H·scale), ceil(W·scale)); the result is not clamped.

    Examples:
        >>> bicubic(torch.ones(1, 3, 8, 12), 1 / 4).shape
        torch.Size([1, 3, 2, 3])
    """
    rows, columns = bicubic_matrices(x, scale)
    return rows @ x @ columns.T


def pillow_bicubic(levels: Tensor, scale: int) -> Tensor:
    """Shrink 8-bit images by a whole factor, bit for bit as Pillow's BICUBIC does.

    The kernel is that of `bicubic`, but taps beyond the edge are dropped, weights are whole multiples of 2⁻²², and
    the result is rounded to 8 bits after the resampling along x, and again after that along y. In float64 all is exact.

    Args:
        levels: (B, C, s·H, s·W), whole numbers in 0..255.
        scale: s.

    Returns:
        (B, C, H, W) float64, likewise.

    Examples:
        >>> pillow_bicubic(torch.full((1, 1, 8, 12), 7.0), 4).tolist()
        [[[[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]]]]
    """
    height, width = levels.shape[-2:]
    x = _pillow_round(levels.double() @ _pillow_matrix(width, scale, levels.device).T)  # (B, C, s·H, W)
    return _pillow_round(_pillow_matrix(height, scale, levels.device) @ x)  # (B, C, H, W)


def _pillow_round(sums: Tensor) -> Tensor:
    return (sums / _PILLOW_ONE + 0.5).floor().clamp(0, 255)


@constant(most=32)
def _pillow_matrix(length: int, scale: int, device: torch.device) -> Tensor:
    """Return the weights of Pillow's BICUBIC in multiples of 2⁻²²: (length // scale, length), whole float64 numbers."""
    centre = (torch.arange(length // scale, dtype=torch.float64)[:, None] + 0.5) * scale
    tap = torch.arange(length, dtype=torch.float64)
    low, high = (centre - 2 * scale + 0.5).floor(), (centre + 2 * scale + 0.5).floor()
    weight = _cubic((tap - centre + 0.5) / scale).where((tap >= low) & (tap < high), 0.0)
    weight = weight / weight.sum(1, keepdim=True) * _PILLOW_ONE
    return (weight.sign() * (weight.abs() + 0.5).floor()).to(device)  # halves away from zero


@constant(most=32)
def _bicubic_matrix(length: int, scale: Fraction, device: torch.device, dtype: torch.dtype) -> Tensor:
    size = ceil(length * scale)
    index, weight = bicubic_taps(length, size, float(scale))
    matrix = torch.zeros(size, length, dtype=torch.float64)
    matrix.scatter_add_(1, index, weight)
    return matrix.to(device, dtype)


def bicubic_taps(length: int, size: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Return which samples make up each sample of a resampled line, and with which weights.

    Args:
        length: samples before.
        size: samples after.
        ratio: samples after per sample before.

    Returns:
        (size, taps) indices, int64, ascending along each row, and (size, taps) weights, float64, whose rows sum to 1.

    Examples:
        >>> index, weight = bicubic_taps(4, 2, 0.5)
        >>> index.shape == weight.shape, weight.sum(1).tolist()
        (True, [1.0, 1.0])
    """
    shrink = min(ratio, 1.0)
    centre = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) / ratio - 0.5
    index = torch.floor(centre - 2 / shrink) + torch.arange(ceil(4 / shrink) + 2)  # (size, taps)
    weight = _cubic(shrink * (centre - index))
    weight /= weight.sum(1, keepdim=True)
    return index.long().clamp(0, length - 1), weight


def _cubic(t: Tensor) -> Tensor:
    """Evaluate Keys' cubic convolution kernel with a = -0.5."""
    t = t.abs()
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
