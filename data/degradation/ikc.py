"""The `ikc` recipe: blur, 8-bit truncation, Pillow's bicubic, and the code of the kernel (IKC, CVPR 2019).

https://arxiv.org/abs/1904.03377
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.degradation.blur import blur
from data.degradation.kernel import gaussian_kernel
from data.degradation.params import check_hr, check_recipe, constant, given_range, move, uniform
from data.degradation.resize import pillow_bicubic

SIZE = 21  # side of the kernels, pixels
DIM = 10  # numbers of a code
_KERNELS = 30_000  # that the code was learned from
_TIE = 2.0**-20  # grey levels; in float32 less than a rounding, in float64 more than all roundings together


class IKCParams(NamedTuple):
    """An isotropic Gaussian kernel per sample, and its code, which supervised objectives learn from."""

    width: Tensor
    """(B, 2) standard deviations of the kernel along both axes, which are equal, HR pixels, float64."""
    code: Tensor
    """(B, 10) float32, see `kernel_code`."""


@dataclass(frozen=True, kw_only=True)
class IKC:
    """Blur with reflect padding → truncation to 8 bits → Pillow's bicubic ÷ scale. No noise.

    Truncation makes LR images darker by half a grey level on average; the released code does so. It hangs on the last
    bit of the blur: flat areas may lose a level in float32, and keep it in float64, in which protocols compute.

    Args:
        scale: HR pixels per LR pixel, along each side.
        sig_min, sig_max: range of the standard deviations, HR pixels. None: as published, up to the scale. The code
            belongs to the range: train and test with the same one.

    Examples:
        >>> recipe, generator = IKC(scale=4), torch.Generator().manual_seed(0)
        >>> params = recipe.sample(2, generator=generator)
        >>> params.code.shape, recipe.apply(torch.rand(2, 3, 48, 64), params, generator=generator).shape
        (torch.Size([2, 10]), torch.Size([2, 3, 12, 16]))
    """

    scale: int
    sig_min: float = 0.2
    sig_max: float | None = None

    def __post_init__(self) -> None:
        width = given_range(*self.width, names=("sig_min", "sig_max"), recipe="ikc")
        check_recipe(scale=self.scale, width=width, noise=0.0, quality=None)

    @property
    def width(self) -> tuple[float, float]:
        """The range of the standard deviations."""
        return self.sig_min, float(self.scale if self.sig_max is None else self.sig_max)

    @property
    def smallest(self) -> int:
        """The least HR side that `apply` takes, pixels: a reflected border is narrower than the image."""
        return SIZE // 2 + 1

    def sample(self, batch: int, *, generator: torch.Generator) -> IKCParams:
        """Draw a width for each image, uniform in the range, and compute its code, on the generator's device."""
        width = uniform(*self.width, (batch, 1), generator).expand(batch, 2)
        return IKCParams(width, kernel_code(width, self.scale, self.width))

    def apply(self, hr: Tensor, params: IKCParams, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. ValueError for other HR sides."""
        check_hr(hr, self.scale, len(params.width))
        kernel = gaussian_kernel(move(params.width, hr.device), None, SIZE)
        return pillow_bicubic(truncate(blur(hr, kernel, direct=True)), self.scale).float() / 255


def truncate(x: Tensor) -> Tensor:
    """Cut [0, 1] down to the 8-bit levels 0..255, as a cast to unsigned bytes does.

    Examples:
        >>> truncate(torch.tensor([0.999, 1.0])).tolist()
        [254.0, 255.0]
    """
    return (255 * x + _TIE).floor().clamp(0, 255)


def kernel_code(width: Tensor, scale: int, widths: tuple[float, float]) -> Tensor:
    """Return the codes k·M of kernels k: (B, 2) standard deviations, HR pixels, to (B, 10) float32.

    M is the `code_matrix` of the scale and its range of widths. No mean is subtracted, so codes are not centred.

    Examples:
        >>> code = kernel_code(torch.tensor([[0.2, 0.2]]), 4, (0.2, 4.0))
        >>> [round(number, 3) for number in code[0, :2].tolist()]
        [0.992, -0.056]
    """
    kernel = gaussian_kernel(width, None, SIZE)  # (B, k, k)
    return kernel.flatten(1).float() @ code_matrix(scale, widths).to(width.device)


@constant(most=8)
def code_matrix(scale: int, widths: tuple[float, float]) -> Tensor:
    """Return M, the first ten principal components of 30 000 random kernels: (441, 10) float32 on the CPU.

    The columns are orthonormal. It is always the same for a scale and a range of widths, as in the released file of ×4:
    the widths are every second number of NumPy's legacy stream of seed 0. It is cached: do not write into it.

    Examples:
        >>> code_matrix(4, (0.2, 4.0)).shape
        torch.Size([441, 10])
    """
    low, high = widths
    drawn = np.random.RandomState(0).random_sample(2 * _KERNELS)[1::2]
    width = torch.from_numpy(low + drawn * (high - low))[:, None].expand(-1, 2)
    # Mirrored and transposed pixels of an isotropic kernel are equal: one of each kind, scaled by the root of their
    # number, has the same components, and a seventh of the work.
    offset = (torch.arange(SIZE**2) // SIZE - SIZE // 2).abs(), (torch.arange(SIZE**2) % SIZE - SIZE // 2).abs()
    kinds = torch.maximum(*offset) * SIZE + torch.minimum(*offset)  # (441,)
    _, kind, number = kinds.unique(return_inverse=True, return_counts=True)
    first = torch.zeros_like(number).scatter_(0, kind.flip(0), torch.arange(SIZE**2).flip(0))  # a pixel of each kind
    root = number.double().sqrt()[:, None]
    kernels = torch.cat(
        [gaussian_kernel(part, None, SIZE).flatten(1)[:, first] for part in width.split(1000)]
    ).T  # (kinds, 30 000)
    left, _, _ = torch.linalg.svd(root * (kernels - kernels.mean(1, keepdim=True)), full_matrices=False)
    matrix = (left[:, :DIM] / root)[kind]  # (441, 10)
    # A component may point either way. The released ones have a positive centre, but for the second at x3 and x4.
    sign = matrix[SIZE**2 // 2].sign()
    if scale > 2:
        sign[1] *= -1
    return (matrix * sign).float()
