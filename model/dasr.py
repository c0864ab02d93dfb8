"""DASR: Unsupervised Degradation Representation Learning for Blind Super-Resolution (CVPR 2021).

https://arxiv.org/abs/2104.00416

An encoder learns by contrast to tell degradations apart. Its embedding steers the kernels and the channels of the SR
network.

Images are in [0, 1] at both ends; the published code's are in 0..255. Mean shifts are buffers that no state dict holds,
not fixed convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from .autocast import in_float32
from .convolution import rounds_weights_once
from .layer import (
    SLOPE,
    ConvBlock,
    DAConv,
    Embedding,
    MeanShift,
    Pool,
    Trunk,
    attentions_of_all,
    conv,
    global_mean,
    lrelu,
    weights_of_all,
)
from .moco import ContrastiveSR
from .naming import Foreign, Names, da_names, trunk_config, trunk_names
from .upsampler import Upsampler, upsample_to_image

DIM = 256  # of the embedding and its projection
N_GROUPS = 5
PEAK = 255  # the published weights expect images in 0..255
Steering = tuple[Tensor, Tensor]  # of one DA convolution: its kernels (B, C, 3, 3), its attention (B, C, 1, 1)


class Encoder(nn.Module):
    """Degradation encoder (section 3.1) with the projection head of the contrast loss."""

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

    @rounds_weights_once
    def forward(self, lr: Tensor, pool: Pool = global_mean) -> Embedding:
        """Map (B, 3, H, W) in [0, 1] to the mean features (B, 256) and their projection (B, 256)."""
        code = pool(self.features, PEAK * lr)  # (B, 256)
        return Embedding(code=code, projection=in_float32(self.project, code))


class DAB(nn.Module):
    """Degradation-aware block: x + two rounds of [DA convolution with its LReLU, conv], LReLU between them."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.da1, self.conv1 = DAConv(n_feats, reduction=8), conv(n_feats, n_feats)
        self.da2, self.conv2 = DAConv(n_feats, reduction=8), conv(n_feats, n_feats)

    def forward(self, x: Tensor, steering1: Steering, steering2: Steering) -> Tensor:
        """Map x (B, C, H, W), with what steers its DA convolutions, to (B, C, H, W)."""
        y = self.conv1(self.da1(x, *steering1), slope=SLOPE)  # (B, C, H, W)
        return self.conv2(self.da2(y, *steering2), add_to=x)  # (B, C, H, W)


class Group(nn.Module):
    """x + conv(DABs(x, code))."""

    def __init__(self, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.blocks = Trunk((DAB(n_feats) for _ in range(n_blocks)), group=1)
        self.conv = conv(n_feats, n_feats)

    def forward(self, x: Tensor, steerings: Sequence[tuple[Steering, Steering]]) -> Tensor:
        """Map x (B, C, H, W), with what steers each of its blocks, to (B, C, H, W)."""
        return self.conv(self.blocks(x, steerings), add_to=x)  # (B, C, H, W)


class Restoration(nn.Module):
    """The SR network, whose blocks are steered by the code."""

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

    @rounds_weights_once
    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """Map lr (B, 3, H, W) in [0, 1] and the code (B, 256) to (B, 3, s·H, s·W)."""
        compressed = in_float32(self.compress, code)  # (B, C)
        head = in_float32(self.head, PEAK * self.sub_mean(lr))  # (B, C, H, W)
        blocks = [cast(DAB, block) for group in self.groups for block in cast(Group, group).blocks]
        layers = [layer for block in blocks for layer in (block.da1, block.da2)]
        kernels = weights_of_all([layer.depthwise for layer in layers], compressed)
        of_all = list(zip(kernels, attentions_of_all(layers, compressed), strict=True))
        steerings = list(zip(of_all[0::2], of_all[1::2], strict=True))  # of each DAB
        x, n = head, len(steerings) // len(self.groups)
        for i, group in enumerate(self.groups):
            x = group(x, steerings[i * n : (i + 1) * n])  # (B, C, H, W)
        image = upsample_to_image(self.upsample, self.tail, head + self.fuse(x))
        return self.add_mean(image / PEAK)  # (B, 3, s·H, s·W)


class DASR(ContrastiveSR):
    """The network of the paper.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels C, 64 in the paper.
        n_blocks: DABs in each of the five groups, 5 in the paper.

    Examples:
        >>> import torch
        >>> net = DASR(scale=2, n_feats=8, n_blocks=1)
        >>> net(torch.rand(2, 3, 6, 7)).image.shape
        torch.Size([2, 3, 12, 14])
    """

    foreign: ClassVar[tuple[Foreign, ...]]  # set below

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 5) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.encoder = Encoder()
        self.restoration = Restoration(scale, n_feats, n_blocks)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) with codes (B, 256) to (B, 3, s·H, s·W)."""
        return self.restoration(lr, code)


# ------------------------------------------------------------------------------------------- published weights


def _encoder_names() -> Names:
    ours, theirs = "encoder", "E.encoder_q"
    for i in range(6):
        yield f"{ours}.features.{i}.conv", f"{theirs}.E.{3 * i}"
        yield f"{ours}.features.{i}.norm", f"{theirs}.E.{3 * i + 1}"
    for i in (0, 2):
        yield f"{ours}.project.{i}", f"{theirs}.mlp.{i}"


def _names(config: Mapping[str, int]) -> Names:
    yield from _encoder_names()
    yield "restoration.compress.0", "G.compress.0"
    yield from trunk_names(config)
    for g in range(N_GROUPS):
        group, their_group = f"restoration.groups.{g}", f"G.body.{g}.body"
        for i in range(config["n_blocks"]):
            ours, theirs = f"{group}.blocks.{i}", f"{their_group}.{i}"
            for j in (1, 2):
                yield from da_names(f"{ours}.da{j}", f"{theirs}.da_conv{j}")
                yield f"{ours}.conv{j}", f"{theirs}.conv{j}"
        yield f"{group}.conv", f"{their_group}.{config['n_blocks']}"
    yield "restoration.fuse", f"G.body.{N_GROUPS}"


DASR.foreign = (Foreign(trunk_config, _names, {"G.sub_mean": -PEAK, "G.add_mean": PEAK}),)
