"""EDSR: Enhanced Deep Residual Networks for Single Image Super-Resolution (CVPR Workshops 2017).

https://arxiv.org/abs/1707.02921

A reference that does not estimate the degradation. Images are in [0, 1] at both ends; the paper's are in 0..255.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from .autocast import in_float32
from .convolution import rounds_weights_once
from .layer import BlindSR, MeanShift, Trunk, conv
from .naming import Foreign, Names, State, count, shuffle_scale, width
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
    """EDSR: the baseline by default, the large network with 256 channels and 32 blocks.

    Residuals are not scaled; published weights of the large network are multiplied by its 0.1 as they are read.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels.
        n_blocks: residual blocks.

    Examples:
        >>> import torch
        >>> net = EDSR(scale=2, n_feats=8, n_blocks=2)
        >>> net(torch.rand(1, 3, 6, 7)).image.shape
        torch.Size([1, 3, 12, 14])
    """

    foreign: ClassVar[tuple[Foreign, ...]]  # set below

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


# ------------------------------------------------------------------------------------------- published weights

# The large network of the paper scales its residuals, which no file says. Here the convolutions before that sum do it.
LARGE = {"n_feats": 256, "n_blocks": 32}
RES_SCALE = 0.1


class _Words(NamedTuple):
    head: str
    first: str  # of a block
    second: str
    fuse: str  # {} is the number of blocks
    upsample: str
    tail: str


EDSR_PYTORCH = _Words("head.0", "body.0", "body.2", "body.{}", "tail.0", "tail.1")
BASICSR = _Words("conv_first", "conv1", "conv2", "conv_after_body", "upsample", "conv_last")


def _config(state: State, words: _Words) -> dict[str, int]:
    n_feats = width(state, f"{words.head}.weight", 64)
    return {
        "scale": shuffle_scale(state, f"{words.upsample}.0.weight", f"{words.upsample}.2.weight", n_feats),
        "n_feats": n_feats,
        "n_blocks": count(state, rf"body\.\d+\.{words.first}\.weight"),
    }


def _names(config: Mapping[str, int], words: _Words) -> Names:
    yield "head", words.head
    for i in range(config["n_blocks"]):
        yield f"blocks.{i}.body.0", f"body.{i}.{words.first}"
        yield f"blocks.{i}.body.2", f"body.{i}.{words.second}"
    yield "fuse", words.fuse.format(config["n_blocks"])
    for i in (0, 2) if config["scale"] == 4 else (0,):
        yield f"upsample.{i}", f"{words.upsample}.{i}"
    yield "tail", words.tail


def _factors(config: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    if config.items() >= LARGE.items():
        for i in range(config["n_blocks"]):
            yield f"blocks.{i}.body.2", RES_SCALE


EDSR.foreign = (
    Foreign(
        partial(_config, words=EDSR_PYTORCH),
        partial(_names, words=EDSR_PYTORCH),
        {"sub_mean": -PEAK, "add_mean": PEAK},
        factors=_factors,
    ),
    Foreign(partial(_config, words=BASICSR), partial(_names, words=BASICSR), factors=_factors),
)
