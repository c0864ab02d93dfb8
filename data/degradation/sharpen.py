"""Unsharp masking of training targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.kernel import gaussian_profile
from data.degradation.params import constant
from runtime.precision import full_precision

_TAPS = 51
_SIGMA = 8.0
_WEIGHT = 0.5
_THRESHOLD = 10 / 255
SMALLEST = _TAPS // 2 + 1
"""The least side that can be reflected, pixels."""


@full_precision
def sharpen(x: Tensor) -> Tensor:
    """Sharpen as Real-ESRGAN does its targets, by unsharp masking: add half of what a wide Gaussian takes away.

    This happens only where the difference exceeds 10 grey levels, with a transition as wide as the Gaussian (51 taps,
    σ 8, reflected borders).

    Args:
        x: (B, C, H, W) in [0, 1].

    Returns:
        (B, C, H, W) in [0, 1].

    Raises:
        ValueError: a side has 25 pixels or less, which cannot be reflected.

    Examples:
        >>> edge = torch.full((1, 3, 32, 32), 0.25)
        >>> edge[..., 16:] = 0.75
        >>> sharp = sharpen(edge)
        >>> bool(sharp[0, 0, 16, 15] < 0.25), bool(sharp[0, 0, 16, 16] > 0.75)
        (True, True)
    """
    if min(x.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"`x`: expected sides of {SMALLEST} at least to sharpen, got {tuple(x.shape)}; use larger crops"
        )
    rows, columns = (_smoothing(side, x.device, x.dtype) for side in x.shape[-2:])
    residual = x - rows @ x @ columns.T
    mask = (residual.abs() > _THRESHOLD).to(x.dtype)
    mask = rows @ mask @ columns.T
    return x + mask * ((x + _WEIGHT * residual).clamp(0, 1) - x)


@constant(most=16)
def _smoothing(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the Gaussian with its reflected borders as a (length, length) matrix: faster than 51 taps convolved."""
    profile = gaussian_profile(torch.tensor(_SIGMA), _TAPS)
    impulses = torch.eye(length, dtype=torch.float64)[:, None]  # (length, 1, length)
    padded = F.pad(impulses, (_TAPS // 2,) * 2, mode="reflect")
    return F.conv1d(padded, profile[None, None])[:, 0].T.to(device, dtype).contiguous()
