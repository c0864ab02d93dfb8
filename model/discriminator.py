"""The U-Net discriminator with spectral normalisation of Real-ESRGAN (ICCV Workshops 2021, section 3.4)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from model.layer import in_float32


class UNetDiscriminator(nn.Module):
    """Says of every pixel how real it looks: (B, 3, H, W) in [0, 1] to logits (B, 1, H, W).

    Three steps down and three up; what comes up is added to what went down at the same size. In training mode each
    forward pass takes one power iteration of every spectral norm, whose vectors are buffers.

    n_feats: channels at full size, 64 as published.
    """

    multiple: ClassVar[int] = 8  # of which the sides must be multiples, pixels

    def __init__(self, *, n_feats: int = 64) -> None:
        super().__init__()
        c = n_feats
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.down = nn.ModuleList(_normed(n, 2 * n, 4, stride=2) for n in (c, 2 * c, 4 * c))
        self.up = nn.ModuleList(_normed(2 * n, n, 3) for n in (4 * c, 2 * c, c))
        self.fuse = nn.ModuleList(_normed(c, c, 3) for _ in range(2))
        self.tail = nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        x = _act(self.head(x))
        skips = []
        for conv in self.down:
            skips.append(x)
            x = _act(conv(x))
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _act(conv(x)) + skips.pop()
        for conv in self.fuse:
            x = _act(conv(x))
        return in_float32(self.tail, x)

    def check(self, x: Tensor) -> None:
        """ValueError unless these are images that come back up from three halvings at their own size."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(
                f"UNetDiscriminator takes (B, 3, H, W) whose sides are multiples of {self.multiple}, "
                f"got {tuple(x.shape)}"
            )


class _Conv(nn.Conv2d):
    """A convolution whose weight may be parametrised; autocast does not round what makes it."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            weight = self.weight
        return self._conv_forward(input, weight, self.bias)


def _normed(n_in: int, n_out: int, kernel_size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(_Conv(n_in, n_out, kernel_size, stride=stride, padding=1, bias=False))


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)
