"""RRDBNet, the generator of ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (ECCV Workshops 2018).

https://arxiv.org/abs/1809.00219

A reference that does not estimate the degradation. The paper's network is ×4; ×2 and ×3 have one upsampling step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from .autocast import in_float32
from .convolution import rounds_weights_once
from .layer import RDB, BlindSR, Layers, Trunk, conv, lrelu
from .naming import Foreign, Names, State, count, width
from .op import last_convolution
from .upsampler import FACTORS

SLOPE = 0.2  # of LeakyReLU


class RRDB(nn.Module):
    """Residual in residual dense block: x + 0.2·RDB³(x)."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.rdbs = nn.Sequential(RDB(n_feats), RDB(n_feats), RDB(n_feats))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return torch.add(x, self.rdbs(x), alpha=0.2)  # (B, C, H, W)


class NearestUpsampler(Layers):
    """ESRGAN's upsampler: [nearest, conv, LReLU], twice for ×4."""

    def __init__(self, scale: int, n_feats: int) -> None:
        steps = ((nn.Upsample(scale_factor=r), conv(n_feats, n_feats), lrelu(SLOPE)) for r in FACTORS[scale])
        super().__init__(*(layer for step in steps for layer in step))


class RRDBNet(BlindSR):
    """The network of the paper, whose dense blocks grow by 32 channels.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels, 64 in the paper.
        n_blocks: RRDBs, 23 in the paper.

    Examples:
        >>> import torch
        >>> net = RRDBNet(scale=2, n_feats=8, n_blocks=1)
        >>> net(torch.rand(1, 3, 6, 7)).image.shape
        torch.Size([1, 3, 12, 14])
    """

    foreign: ClassVar[tuple[Foreign, ...]]  # set below

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 23) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.head = conv(3, n_feats)
        self.blocks = Trunk((RRDB(n_feats) for _ in range(n_blocks)), group=1)
        self.fuse = conv(n_feats, n_feats)
        self.upsample = NearestUpsampler(scale, n_feats)
        self.tail = Layers(conv(n_feats, n_feats), lrelu(SLOPE), conv(n_feats, 3))

    @rounds_weights_once
    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) to (B, 3, s·H, s·W); the code is not used."""
        head = in_float32(self.head, lr)  # (B, C, H, W)
        x = self.upsample(self.fuse(self.blocks(head), add_to=head))  # (B, C, s·H, s·W)
        return last_convolution(cast(nn.Conv2d, self.tail[-1]), self.tail[:-1](x))  # (B, 3, s·H, s·W)


# ------------------------------------------------------------------------------------------- published weights


class _Words(NamedTuple):
    blocks: str
    rdb: str
    fuse: str
    upsample: str
    hr: str


ESRGAN = _Words("RRDB_trunk", "RDB", "trunk_conv", "upconv", "HRconv")
BASICSR = _Words("body", "rdb", "conv_body", "conv_up", "conv_hr")  # Real-ESRGAN is published by these names


def _config(state: State, words: _Words) -> dict[str, int]:
    return {
        "scale": 4 if f"{words.upsample}2.weight" in state else 2,
        "n_feats": width(state, "conv_first.weight", 64),
        "n_blocks": count(state, rf"{words.blocks}\.\d+\.{words.rdb}1\.conv1\.weight"),
    }


def _names(config: Mapping[str, int], words: _Words) -> Names:
    yield "head", "conv_first"
    for i in range(config["n_blocks"]):
        for j in range(3):
            for k in range(5):
                yield f"blocks.{i}.rdbs.{j}.convs.{k}", f"{words.blocks}.{i}.{words.rdb}{j + 1}.conv{k + 1}"
    yield "fuse", words.fuse
    for i in range(config["scale"] // 2):
        yield f"upsample.{3 * i + 1}", f"{words.upsample}{i + 1}"
    yield "tail.0", words.hr
    yield "tail.2", "conv_last"


RRDBNet.foreign = tuple(
    Foreign(partial(_config, words=words), partial(_names, words=words)) for words in (ESRGAN, BASICSR)
)
