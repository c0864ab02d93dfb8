"""Bicubic interpolation: R. Keys, "Cubic convolution interpolation for digital image processing" (IEEE TASSP 1981).

https://doi.org/10.1109/TASSP.1981.1163711

A network without parameters, the `bicubic` row of the papers' tables. It follows MATLAB's `imresize` but at the border,
where MATLAB mirrors the image; here edge pixels are repeated, as in the papers' code.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .layer import BlindSR

REACH = 2  # LR pixels on each side that the cubic's four taps read


class Bicubic(BlindSR):
    """Bicubic upscaling with a = -0.5.

    Args:
        scale: 2, 3 or 4.

    Examples:
        >>> net = Bicubic(scale=2)
        >>> import torch
        >>> net(torch.full((1, 3, 4, 5), 0.5)).image.shape
        torch.Size([1, 3, 8, 10])
    """

    learns: ClassVar[bool] = False

    def __init__(self, *, scale: int) -> None:
        super().__init__(scale=scale)

    @property
    def halo(self) -> int:
        """Return the LR pixels that a tile needs on each side."""
        return REACH

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Upscale (B, 3, H, W) to (B, 3, s·H, s·W); the code is not used."""
        # In float64, since in float32 PyTorch's positions, and so its weights, are the less exact the larger the image.
        s = self.scale
        padded = F.pad(lr.double(), (REACH,) * 4, mode="replicate")  # (B, 3, H + 4, W + 4)
        # With antialias PyTorch uses a = -0.5, without it -0.75. When enlarging, nothing is smoothed.
        sr = F.interpolate(padded, scale_factor=s, mode="bicubic", antialias=True, align_corners=False)
        border = REACH * s
        return sr[..., border:-border, border:-border].to(lr.dtype)  # (B, 3, s·H, s·W)
