"""EDSR: Enhanced Deep Residual Networks for Single Image Super-Resolution (CVPR Workshops 2017).

https://arxiv.org/abs/1707.02921

A reference that does not estimate the degradation. Images are in [0, 1] at both ends; the paper's are in 0..255.
"""

from __future__ import annotations

from torch import Tensor, nn

from .autocast import in_float32
from .convolution import rounds_weights_once
from .layer import BlindSR, MeanShift, Trunk, conv
from .upsampler import Upsampler, upsample_to_image

PEAK = 255  # the published network works in 0..255


class ResBlock(nn.Module):
    """x + conv(ReLU(conv x)), without normalisation."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n_feats, n_feats), nn.ReLU(inplace=True), conv(n_feats, n_feats))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return x + self.body(x)  # (B, C, H, W)


class EDSR(BlindSR):
    """EDSR-baseline.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels, 64 in the paper.
        n_blocks: residual blocks, 16 in the paper.

    Examples:
        >>> import torch
        >>> net = EDSR(scale=2, n_feats=8, n_blocks=2)
        >>> net(torch.rand(1, 3, 6, 7)).image.shape
        torch.Size([1, 3, 12, 14])
    """

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 16) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.sub_mean = MeanShift(-1)
        self.head = conv(3, n_feats)
        self.blocks = Trunk(ResBlock(n_feats) for _ in range(n_blocks))
        self.fuse = conv(n_feats, n_feats)
        self.upsample = Upsampler(scale, n_feats)
        self.tail = conv(n_feats, 3)
        self.add_mean = MeanShift(+1)

    @rounds_weights_once
    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) to (B, 3, s·H, s·W); the code is not used."""
        head = in_float32(self.head, PEAK * self.sub_mean(lr))  # (B, C, H, W)
        image = upsample_to_image(self.upsample, self.tail, self.fuse(self.blocks(head), add_to=head))
        return self.add_mean(image / PEAK)  # (B, 3, s·H, s·W)
