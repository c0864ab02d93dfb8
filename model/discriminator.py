"""U-Net discriminator of Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCVW 2021).

https://arxiv.org/abs/2107.10833

Section 3.4; every convolution but the first and the last has a spectral norm (https://arxiv.org/abs/1802.05957), as
PyTorch's former `torch.nn.utils.spectral_norm` computes it, which the published code uses.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autocast import in_float32


class UNetDiscriminator(nn.Module):
    """A network that judges how real every pixel looks: (B, 3, H, W) in [0, 1] to logits (B, 1, H, W).

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
        self.down = nn.ModuleList(SpectralConv2d(n, 2 * n, 4, stride=2) for n in (c, 2 * c, 4 * c))
        self.up = nn.ModuleList(SpectralConv2d(2 * n, n, 3) for n in (4 * c, 2 * c, c))
        self.fuse = nn.ModuleList(SpectralConv2d(c, c, 3) for _ in range(2))
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


class SpectralConv2d(nn.Conv2d):
    """A convolution without bias whose weight is divided by an estimate σ = uᵀWv of its largest singular value.

    u and v start at random. In training mode each pass takes one step of the power iteration first: v = Wᵀu, then
    u = Wv, both normalised. (PyTorch's parametrization takes fifteen steps at the start, and u before v.) Autocast
    does not round what makes the weight.
    """

    u: Tensor
    v: Tensor

    def __init__(self, n_in: int, n_out: int, kernel_size: int, *, stride: int = 1) -> None:
        super().__init__(n_in, n_out, kernel_size, stride=stride, padding=1, bias=False)
        self.register_buffer("u", F.normalize(torch.randn(n_out), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(n_in * kernel_size**2), dim=0))

    def normalised_weight(self) -> Tensor:
        """Return the weight over σ, (n_out, n_in, k, k); in training mode after a step of the power iteration."""
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)  # (n_out, n_in·k·k)
            if self.training:
                with torch.no_grad():
                    self.v.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=1e-12))
                    self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=1e-12))
            # Copies, for the next pass overwrites the vectors before this one's backward.
            return self.weight / (self.u.clone() @ (matrix @ self.v.clone()))

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.normalised_weight(), None)


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)
