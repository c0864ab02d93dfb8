"""PSNR and SSIM by named protocol: on luma, with which coefficients, or on RGB. All cut a border of `scale` pixels.

`matlab`  CDSR's tables, and what MATLAB's rgb2ycbcr gives: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.
`kdsr`    KDSR's and DASR's tables: 65.738, 129.057, 25.064, over 256 for PSNR and over 255 (+ 16) for SSIM.
          PSNR is the same to 1e-5, SSIM moves by 1e-4 to 5e-4: never mix the two in a table.
`rgb`     The three channels alike: PSNR of their common mean squared error, SSIM as their mean.

Everything is computed in float64, on the device of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def grey_levels(image: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1], rounded to 8 bits, in 0..255 and float64."""
    return image.double().clamp(0, 1).mul(255).round()


class Luma(NamedTuple):
    """(r, g, b) · RGB (0..255) / divisor + offset."""

    weights: tuple[float, float, float]
    divisor: float
    offset: float

    def __call__(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], rounded to 8 bits here, to (B, 1, H, W) in 0..255, not rounded."""
        levels = grey_levels(image)
        weights = levels.new_tensor(self.weights).view(3, 1, 1)
        return (levels * weights).sum(1, keepdim=True) / self.divisor + self.offset


class Protocol(NamedTuple):
    psnr: Callable[[Tensor], Tensor]  # images to the planes that are compared, (B, C, H, W) in 0..255
    ssim: Callable[[Tensor], Tensor]


_MATLAB = Luma((65.481, 128.553, 24.966), 255.0, 16.0)
_KDSR = (65.738, 129.057, 25.064)
PROTOCOLS = {
    "matlab": Protocol(psnr=_MATLAB, ssim=_MATLAB),
    "kdsr": Protocol(psnr=Luma(_KDSR, 256.0, 0.0), ssim=Luma(_KDSR, 255.0, 16.0)),
    "rgb": Protocol(psnr=grey_levels, ssim=grey_levels),
}


def smallest(border: int) -> int:
    """Pixels a side that an image needs, for the SSIM window to fit in when the border is cut."""
    return 2 * border + 11


def _checked(sr: Tensor, hr: Tensor, border: int) -> None:
    if sr.shape != hr.shape or sr.ndim != 4 or sr.shape[1] != 3:
        raise ValueError(f"SR and HR must both be (B, 3, H, W): got {tuple(sr.shape)} and {tuple(hr.shape)}")
    if min(sr.shape[2:]) < smallest(border):
        raise ValueError(f"an image of {tuple(sr.shape[2:])} is too small to be measured with a border of {border}")


def _cut(x: Tensor, border: int) -> Tensor:
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def psnr(sr: Tensor, hr: Tensor, *, border: int, protocol: str = "matlab") -> Tensor:
    """Peak signal-to-noise ratio in dB of (B, 3, H, W) images in [0, 1]: (B,) float64, infinite for equal images."""
    _checked(sr, hr, border)
    planes = PROTOCOLS[protocol].psnr
    mse = _cut(planes(sr) - planes(hr), border).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / mse)


def ssim(sr: Tensor, hr: Tensor, *, border: int, protocol: str = "matlab") -> Tensor:
    """Structural similarity of (B, 3, H, W) images in [0, 1]: (B,) float64.

    11×11 Gaussian window of σ 1.5, its valid region, constants (0.01·255)² and (0.03·255)² (Wang et al., 2004).
    """
    _checked(sr, hr, border)
    planes = PROTOCOLS[protocol].ssim
    x, y = (_cut(planes(image), border).flatten(0, 1)[:, None] for image in (sr, hr))  # (B·C, 1, H, W)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    offsets = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()

    def mean(z: Tensor) -> Tensor:  # the window is separable
        return F.conv2d(F.conv2d(z, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    similarity = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return similarity.unflatten(0, (len(sr), -1)).flatten(1).mean(1)
