"""DASR: Unsupervised Degradation Representation Learning for Blind Super-Resolution (CVPR 2021).

An encoder learns by contrast to tell degradations apart; its embedding steers the kernels and the channels of the SR
network.
"""

from __future__ import annotations

from torch import Tensor, nn

from model.layer import (
    ConvBlock,
    DAConv,
    Embedding,
    MeanShift,
    Pool,
    Upsampler,
    conv,
    global_mean,
    in_float32,
    lrelu,
)
from model.moco import ContrastiveSR

DIM = 256  # of the embedding and its projection
N_GROUPS = 5
PEAK = 255  # the published weights want images in 0..255


class Encoder(nn.Module):
    """The degradation encoder (paper, section 3.1) with the head for the contrast loss."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(conv(3, 64)),
            ConvBlock(conv(64, 64)),
            ConvBlock(conv(64, 128, stride=2)),
            ConvBlock(conv(128, 128)),
            ConvBlock(conv(128, DIM, stride=2)),
            ConvBlock(conv(DIM, DIM)),
        )
        self.project = nn.Sequential(nn.Linear(DIM, DIM), lrelu(), nn.Linear(DIM, DIM))

    def forward(self, lr: Tensor, pool: Pool = global_mean) -> Embedding:
        """(B, 3, H, W) in [0, 1] -> the average features (B, 256) and their projection (B, 256)."""
        code = pool(self.features, PEAK * lr)
        return Embedding(code=code, projection=in_float32(self.project, code))


class DAB(nn.Module):
    """Degradation-aware block: x + two rounds of [DA convolution, LReLU, conv], LReLU between them."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.da1, self.conv1 = DAConv(n_feats, reduction=8), conv(n_feats, n_feats)
        self.da2, self.conv2 = DAConv(n_feats, reduction=8), conv(n_feats, n_feats)
        self.act = lrelu()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, C) -> (B, C, H, W)."""
        y = self.act(self.conv1(self.act(self.da1(x, code))))
        return x + self.conv2(self.act(self.da2(y, code)))


class Group(nn.Module):
    """x + conv(DABs(x, code))."""

    def __init__(self, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DAB(n_feats) for _ in range(n_blocks))
        self.conv = conv(n_feats, n_feats)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, C) -> (B, C, H, W)."""
        y = x
        for block in self.blocks:
            y = block(y, code)
        return x + self.conv(y)


class Restoration(nn.Module):
    """The SR network, whose blocks follow the code."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.compress = nn.Sequential(nn.Linear(DIM, n_feats, bias=False), lrelu())
        self.sub_mean = MeanShift(-1)
        self.head = conv(3, n_feats)
        self.groups = nn.ModuleList(Group(n_feats, n_blocks) for _ in range(N_GROUPS))
        self.fuse = conv(n_feats, n_feats)
        self.upsample = Upsampler(scale, n_feats)
        self.tail = conv(n_feats, 3)
        self.add_mean = MeanShift(+1)

    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """lr (B, 3, H, W) in [0, 1], code (B, 256) -> (B, 3, s·H, s·W)."""
        code = in_float32(self.compress, code)
        head = in_float32(self.head, PEAK * self.sub_mean(lr))
        x = head
        for group in self.groups:
            x = group(x, code)
        x = head + self.fuse(x)
        return self.add_mean(in_float32(self.tail, self.upsample(x)) / PEAK)


class DASR(ContrastiveSR):
    """The network of the paper, with images in [0, 1] at both ends (published code: 0..255).

    scale: 2, 3 or 4. n_feats: channels C, 64 as published. n_blocks: DABs in each of the five groups, 5 as published.
    """

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 5) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.encoder = Encoder()
        self.restoration = Restoration(scale, n_feats, n_blocks)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        return self.restoration(lr, code)
