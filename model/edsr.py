"""EDSR: Enhanced Deep Residual Networks for Single Image Super-Resolution (CVPR Workshops 2017).

A reference that does not look for the degradation.
"""

from __future__ import annotations

from torch import Tensor, nn

from model.layer import BlindSR, MeanShift, Upsampler, conv, in_float32

PEAK = 255  # the published network works in 0..255


class ResBlock(nn.Module):
    """x + conv(ReLU(conv x)), without normalisation."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n_feats, n_feats), nn.ReLU(inplace=True), conv(n_feats, n_feats))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class EDSR(BlindSR):
    """EDSR-baseline, with images in [0, 1] at both ends.

    scale: 2, 3 or 4. n_feats: channels, 64 as published. n_blocks: residual blocks, 16 as published.
    """

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 16) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.sub_mean = MeanShift(-1)
        self.head = conv(3, n_feats)
        self.blocks = nn.Sequential(*(ResBlock(n_feats) for _ in range(n_blocks)))
        self.fuse = conv(n_feats, n_feats)
        self.upsample = Upsampler(scale, n_feats)
        self.tail = conv(n_feats, 3)
        self.add_mean = MeanShift(+1)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        head = in_float32(self.head, PEAK * self.sub_mean(lr))
        x = head + self.fuse(self.blocks(head))
        return self.add_mean(in_float32(self.tail, self.upsample(x)) / PEAK)
