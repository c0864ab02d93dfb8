"""Blur by correlation, with one kernel per sample."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.params import in_parts
from runtime.precision import full_precision

Padding = Literal["reflect", "replicate"]
AT_ONCE = 5
"""Images, or strips of one, that a CPU convolves at a time: their planes fill vectors of sixteen, and stay small."""


@full_precision
def blur(x: Tensor, kernel: Tensor, *, padding: Padding = "reflect", stride: int = 1, direct: bool = False) -> Tensor:
    """Correlate each image with its own kernel.

    Float32 images are convolved on the CPU, and wherever only sampled pixels are wanted: that is the quickest there.
    Every pixel on a GPU, and float64, which libraries convolve slowly, go through the Fourier domain.

    Args:
        x: (B, C, H, W).
        kernel: (B, k, k), odd k.
        padding: how the image is extended beyond its border.
        stride: take every stride-th pixel, from (0, 0).
        direct: convolve float32 images on a GPU, too: then no rounding errors come from pixels far away.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: the kernels do not fit the images, or the images are too small to be reflected.

    Examples:
        >>> kernel = torch.full((1, 3, 3), 1 / 9)
        >>> blur(torch.ones(1, 3, 8, 8), kernel, stride=2).shape
        torch.Size([1, 3, 4, 4])
    """
    check_kernels(x, kernel)
    size = kernel.shape[-1]
    fourier = x.dtype == torch.float64 or (x.is_cuda and stride == 1 and not direct)

    def correlate(x: Tensor, kernel: Tensor) -> Tensor:
        padded = pad(x, size, padding)
        return _fourier(padded, kernel)[..., ::stride, ::stride] if fourier else _direct(padded, kernel, stride)

    if x.device.type == "cpu" and not fourier and stride == 1:
        pairs = zip(x, kernel.to(x), strict=True)
        return torch.stack([_in_strips(pad(image, size, padding), own) for image, own in pairs])
    return in_parts(correlate, x, kernel.to(x), most=AT_ONCE)


@full_precision
def blur_separable(
    x: Tensor, profile: Tensor, rows: Tensor, columns: Tensor, *, padding: Padding = "reflect"
) -> Tensor:
    """Blur with unrotated kernels and resample, in one pair of products: (R·T_y)·X·(C·T_x)ᵀ.

    R and C resample rows and columns; T_y and T_x are the banded matrices of the two one-dimensional blurs of a sample.

    Args:
        x: (B, C, H, W).
        profile: (B, 2, k), odd k: the kernel is the outer product of profile[:, 1] (down) and profile[:, 0] (across).
        rows: (h, H) resampling of the rows, as `bicubic_matrix` gives it.
        columns: (w, W) resampling of the columns.
        padding: how the image is extended beyond its border.

    Returns:
        (B, C, h, w).

    Raises:
        ValueError: the profiles do not fit the images, or the images are too small to be reflected.

    Examples:
        >>> half = torch.eye(8)[::2]  # takes every second sample
        >>> blur_separable(torch.ones(1, 3, 8, 8), torch.full((1, 2, 3), 1 / 3), half, half).shape
        torch.Size([1, 3, 4, 4])
    """
    if profile.ndim != 3 or profile.shape[:2] != (len(x), 2) or profile.shape[2] % 2 == 0:
        raise ValueError(f"`profile`: expected (B, 2, k) = ({len(x)}, 2, k) with odd k, got {tuple(profile.shape)}")
    profile = profile.to(x)
    padded = pad(x, profile.shape[-1], padding)
    across = _after_blur(columns, profile[:, 0])
    down = _after_blur(rows, profile[:, 1])
    batch, channels, height, width = padded.shape
    x = padded.reshape(batch, channels * height, width) @ across.mT  # (B, C·H, w)
    return down[:, None] @ x.view(batch, channels, height, -1)


def check_kernels(x: Tensor, kernel: Tensor) -> None:
    """Raise ValueError unless there is one square kernel of odd size for each of (B, C, H, W).

    Examples:
        >>> check_kernels(torch.ones(2, 3, 8, 8), torch.ones(2, 5, 5))
    """
    if kernel.ndim != 3 or len(kernel) != len(x) or kernel.shape[1] != kernel.shape[2] or kernel.shape[1] % 2 == 0:
        raise ValueError(f"`kernel`: expected (B, k, k) = ({len(x)}, k, k) with odd k, got {tuple(kernel.shape)}")


def pad(x: Tensor, size: int, padding: Padding) -> Tensor:
    """Extend (B, C, H, W) by size // 2 pixels on every side, so that kernels of odd size keep H and W.

    Examples:
        >>> pad(torch.ones(1, 3, 8, 8), 5, "replicate").shape
        torch.Size([1, 3, 12, 12])
    """
    margin = size // 2
    if padding == "reflect" and min(x.shape[-2:]) <= margin:
        raise ValueError(f"`x`: expected sides above {margin} for a blur of size {size}, got {tuple(x.shape)}")
    return F.pad(x, (margin,) * 4, mode=padding)


def _after_blur(matrix: Tensor, profile: Tensor) -> Tensor:
    """Multiply (h, L) by T with T[i, i + t] = profile[t], for (B, k) profiles: (B, h, L + k - 1)."""
    taps = profile.shape[-1]
    spread = F.pad(matrix, (taps - 1, taps - 1))[:, None]  # (h, 1, L + 2k - 2)
    return F.conv1d(spread, profile.flip(-1)[:, None]).transpose(0, 1)


def _fourier(padded: Tensor, kernel: Tensor) -> Tensor:
    height, width = padded.shape[-2:]
    size = _fast_length(height), _fast_length(width)
    # Correlation is the product with the conjugate; what wraps around lands beyond the part that is kept.
    spectrum = torch.fft.rfft2(padded, s=size)
    spectrum.mul_(torch.fft.rfft2(kernel, s=size).conj()[:, None])  # in place: saves a complex copy of the batch
    margin = kernel.shape[-1] - 1
    return torch.fft.irfft2(spectrum, s=size)[..., : height - margin, : width - margin]


@lru_cache(maxsize=256)
def _fast_length(length: int) -> int:
    """Return the next length without a prime factor above 5: with one, a Fourier transform takes much longer."""
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else _fast_length(length + 1)


def _in_strips(padded: Tensor, kernel: Tensor) -> Tensor:
    """Correlate one image (C, H, W) with its kernel (k, k), side by side in strips of rows.

    Zeros around a kernel, as where a batch has kernels of several sizes in windows of one, are left out.
    """
    margin = _zeros_around(kernel)
    inside = slice(margin, len(kernel) - margin)
    kernel, size = kernel[inside, inside], len(kernel) - 2 * margin
    padded = padded[:, margin : padded.shape[1] - margin, margin : padded.shape[2] - margin]
    height = padded.shape[1] - size + 1  # of the result
    rows = ceil(height / AT_ONCE)  # of a strip
    padded = F.pad(padded, (0, 0, 0, AT_ONCE * rows - height))
    strips = padded.unfold(1, rows + size - 1, rows).mT.flatten(0, 1)[None]  # (1, C · strips, rows + k - 1, W + k - 1)
    planes = strips.shape[1]
    x = F.conv2d(strips.contiguous(), kernel.expand(planes, 1, size, size), groups=planes)
    return x.view(len(padded), AT_ONCE * rows, -1)[:, :height]


def _zeros_around(kernel: Tensor) -> int:
    """Return how many rings of (k, k) are 0 all around, at most k // 2."""
    used = kernel.any(0) | kernel.any(1)
    used |= used.flip(0)
    return min(int(used.to(torch.uint8).argmax()), len(kernel) // 2)


def _direct(padded: Tensor, kernel: Tensor, stride: int) -> Tensor:
    batch, channels, height, width = padded.shape
    weight = kernel.repeat_interleave(channels, 0)[:, None]  # (B·C, 1, k, k)
    x = padded.contiguous().view(1, batch * channels, height, width)  # of a part of an image it is several times slower
    x = F.conv2d(x, weight, stride=stride, groups=batch * channels)
    return x.view(batch, channels, *x.shape[-2:])
