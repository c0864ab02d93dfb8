"""CDSR: Joint Learning Content and Degradation Aware Embedding for Blind Super-Resolution (ACM MM 2022).

LPE embeds content and degradation of the LR image, CSC snaps that embedding to a codebook, which drops what does not
help the restoration, and DQA lets each block of the SR network ask the code for what it needs.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from model.layer import RDB, ConvBlock, DAConv, Embedding, Pool, conv, global_mean, in_float32, lrelu, spatial_mean
from model.moco import ContrastiveSR

DIM = 256  # of the embedding, the codebook's rows and the projection
N_FEATS = 64


class CSC(nn.Module):
    """Codebook-based space compression (paper, section 3.3): e = softmax(q(f)·k(B)ᵀ)·B, no scale in the softmax."""

    def __init__(self, rows: int = 1024) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(rows, DIM))
        self.query = nn.Linear(DIM, DIM)
        self.key = nn.Linear(DIM, DIM)

    def forward(self, f: Tensor) -> Tensor:
        attention = self.query(f) @ self.key(self.codebook).T  # (B, rows)
        return attention.softmax(1) @ self.codebook  # (B, 256)


class LPE(nn.Module):
    """Lightweight patch-based encoder (paper, section 3.2) with the codebook and the head for the contrast loss."""

    def __init__(self) -> None:
        super().__init__()
        self.pixel = nn.Sequential(
            ConvBlock(conv(3, 64, 7)),
            ConvBlock(conv(64, 64, 1)),
            ConvBlock(conv(64, 128, 3, stride=2)),
            ConvBlock(conv(128, 128, 1)),
            ConvBlock(conv(128, 256, 7)),
            ConvBlock(conv(256, 256, 1)),
        )
        self.patch = nn.Sequential(
            ConvBlock(nn.Conv2d(3, 64, 12, stride=12)),
            ConvBlock(conv(64, 64)),
            ConvBlock(conv(64, 128)),
            ConvBlock(conv(128, 256)),
        )
        self.merge = nn.Sequential(nn.Linear(512, DIM), lrelu(), nn.Linear(DIM, DIM))
        self.csc = CSC()
        self.project = nn.Sequential(nn.Linear(DIM, DIM), lrelu(), nn.Linear(DIM, DIM))

    def forward(self, lr: Tensor, pool: Pool = global_mean) -> Embedding:
        """(B, 3, H, W) in [0, 1], at least 12 pixels a side -> e (B, 256) and its projection (B, 256)."""
        pooled = torch.cat((pool(self.pixel, lr), pool(self.patch, lr)), 1)  # (B, 512)
        code = in_float32(self.csc, in_float32(self.merge, pooled))
        return Embedding(code=code, projection=in_float32(self.project, code))


class ContentQuery(nn.Module):
    """c + γ·a: what the features' content asks of the code, by attention between their channels (γ starts at 0)."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = nn.Linear(n_feats, n_feats)
        self.key = nn.Linear(n_feats, n_feats)
        self.value = nn.Linear(n_feats, n_feats)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, C) -> (B, C)."""
        return in_float32(self.attend, spatial_mean(x), code)

    def attend(self, content: Tensor, code: Tensor) -> Tensor:
        """content (B, C), code (B, C) -> (B, C)."""
        q, k, v = self.query(content), self.key(code), self.value(code)  # (B, C) each
        weights = (q[:, :, None] * k[:, None, :]).softmax(2)  # (B, C, C): a_i = Σ_j softmax_j(q_i k_j) v_j
        return code + self.gamma * (weights @ v[:, :, None])[:, :, 0]


class DQA(DAConv):
    """Degradation query attention (paper, section 3.4): DASR's layer whose convolution follows what the content asks.

    Its channel attention follows the code itself.
    """

    def __init__(self, n_feats: int) -> None:
        super().__init__(n_feats, reduction=2)
        self.content = ContentQuery(n_feats)

    def convolve(self, x: Tensor, code: Tensor) -> Tensor:
        return super().convolve(x, self.content(x, code))


class Fuse(nn.Module):
    """Brings the code into the features: x + two rounds of [DQA, LReLU, conv]."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.compress = nn.Sequential(nn.Linear(DIM, DIM), nn.PReLU(), nn.Linear(DIM, n_feats), nn.Sigmoid())
        self.dqa1, self.conv1 = DQA(n_feats), conv(n_feats, n_feats)
        self.dqa2, self.conv2 = DQA(n_feats), conv(n_feats, n_feats)
        self.act = lrelu()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, 256) -> (B, C, H, W)."""
        c = in_float32(self.compress, code)
        y = self.act(self.conv1(self.act(self.dqa1(x, c))))
        return x + self.conv2(self.act(self.dqa2(y, c)))


class Block(nn.Module):
    """x + 0.2·RDB³(Fuse(x, code))."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.fuse = Fuse(n_feats)
        self.rdbs = nn.Sequential(RDB(n_feats), RDB(n_feats), RDB(n_feats))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, 256) -> (B, C, H, W)."""
        return x + 0.2 * self.rdbs(self.fuse(x, code))


class Restoration(nn.Module):
    """The SR network, whose blocks ask the code."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.compress = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(DIM, DIM), nn.PReLU())))
        self.head = conv(3, n_feats)
        self.blocks = nn.ModuleList(Block(n_feats) for _ in range(n_blocks))
        self.fuse = conv(n_feats, n_feats)
        self.tail = nn.Sequential(conv(n_feats, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """lr (B, 3, H, W) in [0, 1], code (B, 256) -> (B, 3, s·H, s·W)."""
        code = in_float32(self.compress, code)
        head = in_float32(self.head, lr)
        x = head
        for block in self.blocks:
            x = block(x, code)
        return in_float32(self.tail, head + self.fuse(x))


class CDSR(ContrastiveSR):
    """The network of the paper, with images in [0, 1] at both ends (published code: 0..255, divided at once).

    scale: 2, 3 or 4. n_blocks: blocks of the SR network, 10 as published.
    """

    min_size: ClassVar[int] = 12  # one patch of the encoder's patch branch

    def __init__(self, *, scale: int, n_blocks: int = 10) -> None:
        super().__init__(scale=scale, n_blocks=n_blocks)
        self.encoder = LPE()
        self.restoration = Restoration(scale, N_FEATS, n_blocks)

    @property
    def halo(self) -> int:
        """Less than the network's reach: DQA sees but the tile, which matters more than what a wider halo would add."""
        return 48

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        return self.restoration(lr, code)
