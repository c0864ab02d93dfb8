"""U-Net discriminator of Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCVW 2021).

https://arxiv.org/abs/2107.10833

Section 3.4; every convolution but the first and the last has a spectral norm. The published code uses PyTorch's former
`torch.nn.utils.spectral_norm`, this one its parametrization.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .autocast import in_float32


class UNetDiscriminator(nn.Module):
    """Judge for every pixel how real it looks: (B, 3, H, W) in [0, 1] to logits (B, 1, H, W).

    Three steps lead down and three up; maps of the same size are added. In training mode each forward pass takes one
    power iteration of every spectral norm, whose vectors are buffers.

    Args:
        n_feats: channels at full size, 64 in the published code.

    Examples:
        >>> UNetDiscriminator(n_feats=4)(torch.rand(2, 3, 16, 24)).shape
        torch.Size([2, 1, 16, 24])
    """

    multiple: ClassVar[int] = 8  # the sides must be multiples of this, in pixels

    def __init__(self, *, n_feats: int = 64) -> None:
        super().__init__()
        c = n_feats
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.down = nn.ModuleList(_normed(n, 2 * n, 4, stride=2) for n in (c, 2 * c, 4 * c))
        self.up = nn.ModuleList(_normed(2 * n, n, 3) for n in (4 * c, 2 * c, c))
        self.fuse = nn.ModuleList(_normed(c, c, 3) for _ in range(2))
        self.tail = nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to logits (B, 1, H, W).

        Raises:
            ValueError: the shape is another, or a side is no multiple of 8.
        """
        self.check(x)
        x = _act(self.head(x))  # (B, C, H, W)
        skips = []
        for conv in self.down:
            skips.append(x)
            x = _act(conv(x))  # down to (B, 8C, H/8, W/8)
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _act(conv(x)) + skips.pop()  # up to (B, C, H, W)
        for conv in self.fuse:
            x = _act(conv(x))
        return in_float32(self.tail, x)  # (B, 1, H, W)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless these are images whose sides can be halved three times."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(
                f"UNetDiscriminator takes (B, 3, H, W) whose sides are multiples of {self.multiple}, "
                f"got {tuple(x.shape)}"
            )


class _Conv(nn.Conv2d):
    """A convolution whose parametrised weight is computed without autocast."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            weight = self.weight
        return self._conv_forward(input, weight, self.bias)


def _normed(n_in: int, n_out: int, kernel_size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(_Conv(n_in, n_out, kernel_size, stride=stride, padding=1, bias=False))


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)
