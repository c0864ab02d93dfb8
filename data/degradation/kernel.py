"""Blur kernels in batched closed form. They sum to 1 and are meant for correlation (no flip)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Replaces a width of 0: a neighbour one pixel away already gets exp(-5e5), which is 0.
_NO_WIDTH = 1e-3


def gaussian_kernel(width: Tensor, theta: Tensor | None, size: int) -> Tensor:
    """Compute Gaussian kernels exp(-pᵀΣ⁻¹p / 2), Σ = R(θ)·diag(w₁², w₂²)·R(θ)ᵀ, p = (x, y) from the centre.

    Args:
        width: (..., 2) standard deviations in pixels; 0 and an odd size give an exact delta.
        theta: (...) rotation in radians, from x (to the right) towards y (down). None: not rotated.
        size: side of the kernel, whose centre is at (size - 1) / 2.

    Returns:
        (..., size, size) in float64. Values below float64 eps times the largest are 0, which also keeps denormal
        numbers, very slow on a CPU, out of the blur.

    Examples:
        >>> kernel = gaussian_kernel(torch.tensor([[2.0, 0.5]]), None, 21)
        >>> bool(kernel[0, 10, 12] > kernel[0, 12, 10])  # wide along x
        True
    """
    q = quadratic_form(width, theta, size)
    return _normalised(q.flatten(-2)).unflatten(-1, (size, size))


def gaussian_profile(width: Tensor, size: int) -> Tensor:
    """Compute the factors of unrotated Gaussian kernels: `gaussian_kernel` is the outer product of two of them.

    Args:
        width: (...) standard deviations in pixels.
        size: number of taps.

    Returns:
        (..., size) in float64, sum 1.

    Examples:
        >>> gaussian_profile(torch.tensor([0.0, 1.0]), 3).round(decimals=3).tolist()
        [[0.0, 1.0, 0.0], [0.274, 0.452, 0.274]]
    """
    return _normalised((offsets(size, width.device) / width.double().clamp(min=_NO_WIDTH)[..., None]).square())


def manet_kernel(width: Tensor, theta: Tensor | None, size: int, scale: int) -> Tensor:
    """Compute MANet's kernels: Gaussians of side `size - scale + 1` in the top-left corner of a (size, size) window.

    This puts their centre (scale - 1) / 2 before the middle of the window. Arguments and result are those of
    `gaussian_kernel`; widths are standard deviations (the published ranges of anisotropic kernels are variances).

    Examples:
        >>> kernel = manet_kernel(torch.tensor([[1.0, 1.0]]), None, 21, scale=3)
        >>> divmod(int(kernel.argmax()), 21)  # row and column of the peak, 10 is the middle
        (9, 9)
    """
    return F.pad(gaussian_kernel(width, theta, size - scale + 1), (0, scale - 1, 0, scale - 1))


def quadratic_form(width: Tensor, theta: Tensor | None, size: int) -> Tensor:
    """Compute pᵀΣ⁻¹p of every pixel of a kernel, (..., size, size) in float64; arguments as in `gaussian_kernel`.

    Examples:
        >>> quadratic_form(torch.tensor([1.0, 2.0]), None, 3).tolist()
        [[1.25, 0.25, 1.25], [1.0, 0.0, 1.0], [1.25, 0.25, 1.25]]
    """
    x = offsets(size, width.device)
    y = x[:, None]
    if theta is None:
        along, across = x, y
    else:
        cos, sin = theta.double().cos()[..., None, None], theta.double().sin()[..., None, None]
        along, across = cos * x + sin * y, cos * y - sin * x
    width = width.double().clamp(min=_NO_WIDTH)[..., None, None]
    return (along / width[..., 0, :, :]).square() + (across / width[..., 1, :, :]).square()


def offsets(size: int, device: torch.device) -> Tensor:
    """Return (size,) positions from the centre (size - 1) / 2, pixels, float64.

    Examples:
        >>> offsets(4, torch.device("cpu")).tolist()
        [-1.5, -0.5, 0.5, 1.5]
    """
    return torch.arange(size, device=device, dtype=torch.float64) - (size - 1) / 2


def _normalised(q: Tensor) -> Tensor:
    # A softmax, so that a narrow kernel between pixels does not vanish as a whole.
    kernel = torch.softmax(-q / 2, dim=-1)
    return kernel.where(kernel >= torch.finfo(kernel.dtype).eps * kernel.amax(-1, keepdim=True), 0.0)
