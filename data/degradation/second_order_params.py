"""The draws of `second_order`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

Mode = Literal["area", "bilinear", "bicubic"]
FAMILIES = (
    "iso",
    "aniso",
    "generalised iso",
    "generalised aniso",
    "plateau iso",
    "plateau aniso",
    "sinc",
)
WINDOW = 21
"""Side of the window that holds a kernel, pixels."""


class KernelParams(NamedTuple):
    """One kernel per sample. Fields that a family does not use hold a value without effect."""

    family: Tensor
    """(B,) index into `FAMILIES`, int64."""
    width: Tensor
    """(B, 2) standard deviations along the two axes, pixels. An iso kernel with 0 leaves the image as it is."""
    theta: Tensor
    """(B,) rotation in radians, from x (to the right) towards y (down)."""
    beta: Tensor
    """(B,) exponent of the generalised and plateau families."""
    cutoff: Tensor
    """(B,) cutoff of the sinc, radians per pixel."""
    size: Tensor
    """(B,) odd side of the kernel, int64."""


class PassParams(NamedTuple):
    """The draws of one of the two passes: tensors hold one entry per sample, everything else is one for the batch."""

    applied: bool
    """False where the batch skips this pass: nothing else acts then."""
    blurred: bool
    """True where the batch is blurred."""
    kernel: KernelParams
    """The blur."""
    factor: float
    """Side of the image after the resize, over its side before (first pass) or over that of the LR image (second)."""
    mode: Mode
    """Interpolation of the resize."""
    poisson: bool
    """Poisson noise, or Gaussian."""
    noisy: bool
    """True where the batch gets noise."""
    noise: Tensor
    """(B,) strength of the Poisson noise (1: as it is), or standard deviation of the Gaussian, image range [0, 1]."""
    grey: Tensor
    """(B,) bool: the same noise in all channels."""
    compressed: bool
    """True where the batch goes through JPEG."""
    quality: Tensor
    """(B,) JPEG quality, 1..100."""


class SecondOrderParams(NamedTuple):
    """The draws of a batch. Choices for the whole batch are plain values: tensors would be read back to the host."""

    first: PassParams
    second: PassParams
    last_filter: KernelParams
    """The sinc before or after the last JPEG."""
    last_mode: Mode
    """Interpolation of the last resize, to the size of the LR image."""
    jpeg_last: bool
    """Resize, filter, JPEG; or JPEG, resize, filter."""
