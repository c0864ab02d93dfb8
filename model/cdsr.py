"""CDSR: Joint Learning Content and Degradation Aware Feature for Blind Super-Resolution (ACM MM 2022).

https://arxiv.org/abs/2208.13436

LPE embeds content and degradation of the LR image. CSC replaces the embedding by a weighted sum of the rows of a
codebook, and so discards what does not help restoration. In DQA, the features of each block of the SR network attend to
the code.

Images are in [0, 1] at both ends. The published code takes 0..255 and divides at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from .autocast import in_float32, spatial_mean
from .convolution import Conv2d, rounds_weights_once
from .layer import (
    RDB,
    SLOPE,
    ConvBlock,
    DAConv,
    Embedding,
    Pool,
    Trunk,
    apply_all,
    attentions_of_all,
    conv,
    global_mean,
    lrelu,
)
from .moco import ContrastiveSR
from .naming import Foreign, Names, State, count, da_names, width
from .op import outer_attention

WIDENING = 4  # embedding, codebook rows and projection are this many times as wide as the channels: D = 4·C


class CSC(nn.Module):
    """Codebook-based space compression (section 3.3): e = softmax(q(f)·k(B)ᵀ)·B, without a scale in the softmax."""

    def __init__(self, dim: int, rows: int = 1024) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(rows, dim))
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)

    def forward(self, f: Tensor) -> Tensor:
        """Map f (B, D) to e (B, D)."""
        attention = self.query(f) @ self.key(self.codebook).T  # (B, rows)
        return attention.softmax(1) @ self.codebook  # (B, D)


class LPE(nn.Module):
    """Lightweight patch-based encoder (section 3.2) with the codebook and the projection head of the contrast loss."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        c, dim = n_feats, WIDENING * n_feats
        self.pixel = nn.Sequential(
            ConvBlock(conv(3, c, 7)),
            ConvBlock(conv(c, c, 1)),
            ConvBlock(conv(c, 2 * c, 3, stride=2)),
            ConvBlock(conv(2 * c, 2 * c, 1)),
            ConvBlock(conv(2 * c, dim, 7)),
            ConvBlock(conv(dim, dim, 1)),
        )
        self.patch = nn.Sequential(
            ConvBlock(Conv2d(3, c, 12, stride=12)),
            ConvBlock(conv(c, c)),
            ConvBlock(conv(c, 2 * c)),
            ConvBlock(conv(2 * c, dim)),
        )
        self.merge = nn.Sequential(nn.Linear(2 * dim, dim), lrelu(), nn.Linear(dim, dim))
        self.csc = CSC(dim)
        self.project = nn.Sequential(nn.Linear(dim, dim), lrelu(), nn.Linear(dim, dim))

    @rounds_weights_once
    def forward(self, lr: Tensor, pool: Pool = global_mean) -> Embedding:
        """Map (B, 3, H, W) in [0, 1], at least 12 pixels a side, to e (B, D) and its projection (B, D)."""
        pooled = torch.cat((pool(self.pixel, lr), pool(self.patch, lr)), 1)  # (B, 2·D)
        code = in_float32(self.csc, in_float32(self.merge, pooled))  # (B, D)
        return Embedding(code=code, projection=in_float32(self.project, code))


class Steering(NamedTuple):
    """All that one DQA takes from the code, whatever its features are."""

    code: Tensor  # (B, C)
    key: Tensor  # (B, C), of the code, for its content query
    value: Tensor  # (B, C), likewise
    attention: Tensor  # (B, C, 1, 1), of the DQA's channels


class ContentQuery(nn.Module):
    """c + γ·a: the code plus attention between its channels and those of the features; γ starts at 0."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = nn.Linear(n_feats, n_feats)
        self.key = nn.Linear(n_feats, n_feats)
        self.value = nn.Linear(n_feats, n_feats)

    def forward(self, x: Tensor, code: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map x (B, C, H, W) and the code, its key and its value, (B, C) each, to (B, C)."""
        query = self.query.weight, self.query.bias
        return outer_attention(spatial_mean(x), query, key, value, code, self.gamma)  # (B, C)


class DQA(DAConv):
    """Domain query attention (section 3.4): DASR's degradation-aware convolution and its LReLU, with two codes.

    Features query the code c; the code c' that they get steers the convolution, c itself the channel attention.
    """

    def __init__(self, n_feats: int) -> None:
        super().__init__(n_feats, reduction=2)
        self.content = ContentQuery(n_feats)

    def forward(self, x: Tensor, steering: Steering) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map x (B, C, H, W), steered by the code, to (B, C, H, W)."""
        queried = self.content(x, steering.code, steering.key, steering.value)  # (B, C)
        return super().forward(x, self.depthwise.weights(queried), steering.attention)  # (B, C, H, W)


class Fuse(nn.Module):
    """The layer that brings the code into the features: x + two rounds of [DQA with its LReLU, conv]."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        dim = WIDENING * n_feats
        self.compress = nn.Sequential(nn.Linear(dim, dim), nn.PReLU(), nn.Linear(dim, n_feats), nn.Sigmoid())
        self.dqa1, self.conv1 = DQA(n_feats), conv(n_feats, n_feats)
        self.dqa2, self.conv2 = DQA(n_feats), conv(n_feats, n_feats)

    def forward(self, x: Tensor, steering1: Steering, steering2: Steering) -> Tensor:
        """Map x (B, C, H, W), with what its DQAs take from the code, to (B, C, H, W)."""
        y = self.conv1(self.dqa1(x, steering1), slope=SLOPE)  # (B, C, H, W)
        return self.conv2(self.dqa2(y, steering2), add_to=x)  # (B, C, H, W)


def steer_all(fuses: Sequence[Fuse], code: Tensor) -> list[tuple[Steering, Steering]]:
    """Map the code (B, D) to what the two DQAs of each layer take from it: all that needs no features, at once."""
    dqas = [*(fuse.dqa1 for fuse in fuses), *(fuse.dqa2 for fuse in fuses)]
    codes = apply_all([fuse.compress for fuse in fuses], code)  # (N, B, C)
    codes = torch.cat((codes, codes))  # (2·N, B, C)
    keys = apply_all([[dqa.content.key] for dqa in dqas], codes).unbind()
    values = apply_all([[dqa.content.value] for dqa in dqas], codes).unbind()
    of_all = list(map(Steering, codes.unbind(), keys, values, attentions_of_all(dqas, codes)))
    return list(zip(of_all[: len(fuses)], of_all[len(fuses) :], strict=True))


class Block(nn.Module):
    """x + 0.2·RDB³(Fuse(x, code))."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.fuse = Fuse(n_feats)
        self.rdbs = nn.Sequential(RDB(n_feats), RDB(n_feats), RDB(n_feats))

    def forward(self, x: Tensor, steering1: Steering, steering2: Steering) -> Tensor:
        """Map x (B, C, H, W), with what `fuse` takes from the code, to (B, C, H, W)."""
        return torch.add(x, self.rdbs(self.fuse(x, steering1, steering2)), alpha=0.2)  # (B, C, H, W)


class Restoration(nn.Module):
    """The SR network, whose blocks query the code."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        dim = WIDENING * n_feats
        self.compress = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(dim, dim), nn.PReLU())))
        self.head = conv(3, n_feats)
        self.blocks = Trunk((Block(n_feats) for _ in range(n_blocks)), group=1)
        self.fuse = conv(n_feats, n_feats)
        self.tail = nn.Sequential(conv(n_feats, 3 * scale**2), nn.PixelShuffle(scale))

    @rounds_weights_once
    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """Map lr (B, 3, H, W) in [0, 1] and the code (B, D) to (B, 3, s·H, s·W)."""
        compressed = in_float32(self.compress, code)  # (B, D)
        head = in_float32(self.head, lr)  # (B, C, H, W)
        steerings = steer_all([cast(Block, block).fuse for block in self.blocks], compressed)
        x = self.blocks(head, steerings)  # (B, C, H, W)
        return in_float32(self.tail, self.fuse(x, add_to=head))  # (B, 3, s·H, s·W)


class CDSR(ContrastiveSR):
    """The network of the paper.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels C, 64 in the paper; those of the encoder follow, and so does the embedding, D = 4·C wide.
        n_blocks: blocks of the SR network, 10 in the paper.

    Examples:
        >>> net = CDSR(scale=2, n_feats=8, n_blocks=1)
        >>> net(torch.rand(2, 3, 12, 13)).image.shape
        torch.Size([2, 3, 24, 26])
    """

    foreign: ClassVar[tuple[Foreign, ...]]  # set below
    min_size: ClassVar[int] = 12  # one patch of the encoder's patch branch

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 10) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.dim = WIDENING * n_feats
        self.encoder = LPE(n_feats)
        self.restoration = Restoration(scale, n_feats, n_blocks)

    @property
    def halo(self) -> int:
        """Return the LR pixels that a tile gets on each side.

        They are fewer than the receptive field: DQA pools over the tile alone, which changes the result more than a
        wider halo could mend.
        """
        return 48

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) with codes (B, D) to (B, 3, s·H, s·W)."""
        return self.restoration(lr, code)


# ------------------------------------------------------------------------------------------- published weights


def _config(state: State) -> dict[str, int]:
    return {
        "scale": min(4, max(2, round((width(state, "G.upsampler.0.weight", 48) / 3) ** 0.5))),
        "n_feats": width(state, "G.conv_first.weight", 64),
        "n_blocks": count(state, r"G\.RRDB_trunk\.\d+\.RDB1\.conv1\.weight"),
    }


def _encoder_names() -> Names:
    ours, theirs = "encoder", "E.encoder_q"
    for i in range(6):
        yield f"{ours}.pixel.{i}.conv", f"{theirs}.conv{i + 1}.conv1"
        yield f"{ours}.pixel.{i}.norm", f"{theirs}.conv{i + 1}.bn1"
    for i in range(4):
        yield f"{ours}.patch.{i}.conv", f"{theirs}.pconv{i + 1}.conv1"
        yield f"{ours}.patch.{i}.norm", f"{theirs}.pconv{i + 1}.bn1"
    for i in (0, 2):
        yield f"{ours}.merge.{i}", f"{theirs}.mlp1.{i}"
        yield f"{ours}.project.{i}", f"{theirs}.mlp.{i}"
    yield f"{ours}.csc.query", f"{theirs}.fc_q"
    yield f"{ours}.csc.key", f"{theirs}.fc_k"
    yield f"{ours}.csc.codebook", f"{theirs}.feature_bank.weight"


def _dqa_names(ours: str, theirs: str) -> Names:
    yield f"{ours}.content.gamma", f"{theirs}.sf_attn.gamma"
    for name in ("query", "key", "value"):
        yield f"{ours}.content.{name}", f"{theirs}.sf_attn.{name}_conv"
    yield from da_names(ours, theirs)


def _names(config: Mapping[str, int]) -> Names:
    yield from _encoder_names()
    for i in range(8):
        yield f"restoration.compress.{i}", f"G.compress.{i}"
    yield "restoration.head", "G.conv_first"
    for i in range(config["n_blocks"]):
        ours, theirs = f"restoration.blocks.{i}", f"G.RRDB_trunk.{i}"
        for j in range(3):
            yield f"{ours}.fuse.compress.{j}", f"{theirs}.SFT.fc.{j}"
        for j in (1, 2):
            yield from _dqa_names(f"{ours}.fuse.dqa{j}", f"{theirs}.SFT.dab.da_conv{j}")
            yield f"{ours}.fuse.conv{j}", f"{theirs}.SFT.dab.conv{j}"
        for j in range(3):
            for k in range(5):
                yield f"{ours}.rdbs.{j}.convs.{k}", f"{theirs}.RDB{j + 1}.conv{k + 1}"
    yield "restoration.fuse", "G.trunk_conv"
    yield "restoration.tail.0", "G.upsampler.0"


CDSR.foreign = (Foreign(_config, _names),)
