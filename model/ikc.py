"""IKC: Blind Super-Resolution With Iterative Kernel Correction (CVPR 2019).

https://arxiv.org/abs/1904.03377

Three networks: SFTMD restores an image with a kernel code h, the Predictor estimates h from the LR image, and the
Corrector improves h by looking at the SR image. The loop takes seven steps. The code is that of an isotropic Gaussian
kernel, ten numbers (`data.degradation.IKC`).

Unlike the published network, ours lacks a second set of 16 blocks, which is never used. The published
loop also corrects the seventh code, which changes no image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autocast import in_float32, keep_and_round, spatial_mean, to_autocast
from .convolution import rounds_weights_once
from .layer import BlindSR, Embedding, Layers, Pool, Restored, SideBranch, Trunk, conv, global_mean, lrelu
from .naming import Foreign, Names, State, count, shuffle_scale, width
from .op.dispatch import is_channels_last
from .upsampler import FACTORS

DIM = 10  # of the kernel code
SLOPE = 0.2  # of LeakyReLU
STEPS = 7  # SR images of the loop; the last one is the result


class SFT(nn.Module):
    """Spatial feature transform: x · scale + shift, both computed from x and the code."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        inner = n_feats // 2
        self.scale = Layers(conv(n_feats + DIM, inner), lrelu(SLOPE), conv(inner, n_feats), nn.Sigmoid())
        self.shift = SideBranch(conv(n_feats + DIM, inner), lrelu(SLOPE), conv(inner, n_feats))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map x (B, C, H, W) and the code (B, 10) to (B, C, H, W)."""
        x, seen = keep_and_round(x)
        both = torch.cat((seen, _planes(code, seen)), 1)  # (B, C + 10, H, W)
        return x * self.scale(both) + self.shift(both)  # (B, C, H, W)


class Block(nn.Module):
    """x + two rounds of [SFT, ReLU, conv]."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.sft1, self.conv1 = SFT(n_feats), conv(n_feats, n_feats)
        self.sft2, self.conv2 = SFT(n_feats), conv(n_feats, n_feats)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map x (B, C, H, W) and the code (B, 10) to (B, C, H, W)."""
        y = self.conv1(F.relu(self.sft1(x, code)))  # (B, C, H, W)
        return self.conv2(F.relu(self.sft2(y, code)), add_to=x)  # (B, C, H, W)


class SFTMD(nn.Module):
    """The SR network, whose blocks see the code. Its result is clamped, in training too."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        c = n_feats
        self.head = Layers(conv(3, c), lrelu(SLOPE), conv(c, c), lrelu(SLOPE), conv(c, c))
        self.blocks = Trunk((Block(c) for _ in range(n_blocks)), group=1)
        self.sft = SFT(c)
        self.fuse = conv(c, c)
        self.upsample = nn.Sequential(
            *(layer for r in FACTORS[scale] for layer in (conv(c, r * r * c), nn.PixelShuffle(r), lrelu(SLOPE)))
        )
        self.tail = conv(c, 3, 9)

    @rounds_weights_once
    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """Map lr (B, 3, H, W) in [0, 1] and the code (B, 10) to (B, 3, s·H, s·W) in [0, 1]."""
        head, code = in_float32(self.head, lr), to_autocast(code)  # (B, C, H, W), (B, 10)
        x = self.blocks(head, [(code,)] * len(self.blocks))  # (B, C, H, W)
        x = self.upsample(self.fuse(self.sft(head + x, code)))  # (B, C, s·H, s·W)
        return in_float32(self.tail, x).clamp(0, 1)  # (B, 3, s·H, s·W)


class Corrector(nn.Module):
    """The network that looks at an SR image and the code it was made with, and returns a better code."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        c = n_feats
        strides = (1, 2, 1, 2, 1, 1, 1)
        self.image = Layers(
            *(layer for i, s in enumerate(strides) for layer in (conv(c if i else 3, c, 5, stride=s), lrelu(SLOPE)))
        )
        self.code = nn.Sequential(nn.Linear(DIM, c), lrelu(SLOPE), nn.Linear(c, c), lrelu(SLOPE))
        self.both = Layers(conv(2 * c, 2 * c, 1), lrelu(SLOPE), conv(2 * c, c, 1), lrelu(SLOPE), conv(c, DIM, 1))

    @rounds_weights_once
    def changes(self, sr: Tensor, code: Tensor) -> Tensor:
        """Map sr (B, 3, s·H, s·W) and its code (B, 10) to the change that each place asks for, (B, 10, h, w)."""
        image = self.image(sr)  # (B, C, h, w)
        planes = _planes(in_float32(self.code, code), image)  # (B, C, h, w)
        return self.both(torch.cat((image, planes), 1))  # (B, 10, h, w)

    def forward(self, sr: Tensor, code: Tensor) -> Tensor:
        """Map sr (B, 3, s·H, s·W) and its code (B, 10) to the corrected code (B, 10)."""
        return code + spatial_mean(self.changes(sr, code))


class Step(nn.Module):
    """A step of the loop, as features of the LR image: the changes of the code, of which a `Pool` takes the mean.

    Its code is set before each call.
    """

    code: Tensor  # (B, 10)

    def __init__(self, restoration: SFTMD, corrector: Corrector) -> None:
        super().__init__()
        self.restoration = restoration
        self.corrector = corrector

    def forward(self, lr: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 10, h, w)."""
        return self.corrector.changes(self.restoration(lr, self.code), self.code)


class IKC(BlindSR):
    """The network of the paper: `restore` is SFTMD, `embed` runs the loop up to the code of the seventh SR image.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels C of all three networks, 64 in the paper.
        n_blocks: blocks of SFTMD, 16 in the paper.

    Examples:
        >>> net = IKC(scale=2, n_feats=8, n_blocks=1)
        >>> restored = net(torch.rand(2, 3, 6, 7))
        >>> restored.image.shape, restored.embedding.code.shape
        (torch.Size([2, 3, 12, 14]), torch.Size([2, 10]))
    """

    foreign: ClassVar[tuple[Foreign, ...]]  # set below

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 16) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        c = n_feats
        outputs = (c, c, c, c, c, DIM)
        self.predictor = Layers(
            *(
                layer
                for i, n in enumerate(outputs)
                for layer in (conv(c if i else 3, n, 5, stride=2 if i == 3 else 1), lrelu(SLOPE))
            )
        )
        self.restoration = SFTMD(scale, c, n_blocks)
        self.corrector = Corrector(c)

    def predict(self, lr: Tensor, pool: Pool = global_mean) -> Tensor:
        """Return the code that the Predictor sees in (B, 3, H, W): (B, 10), the first of the loop."""
        return pool(self.predictor, lr)

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        """Embed the kernel of (B, 3, H, W): the code (B, 10) of the Predictor after six corrections."""
        code = self.predict(lr, pool)
        step = Step(self.restoration, self.corrector)
        for _ in range(STEPS - 1):
            step.code = code
            code = code + pool(step, lr)  # (B, 10)
        return Embedding(code=code, projection=code)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) with codes (B, 10) to (B, 3, s·H, s·W) in [0, 1]."""
        return self.restoration(lr, code)

    def steps(self, lr: Tensor) -> Iterator[Restored]:
        """Yield what each of the seven steps makes of (B, 3, H, W); the last is the result of the network.

        Examples:
            >>> net = IKC(scale=2, n_feats=8, n_blocks=1)
            >>> [step.image.shape[2] for step in net.steps(torch.rand(1, 3, 6, 7))]
            [12, 12, 12, 12, 12, 12, 12]
        """
        self.check(lr)
        code = self.predict(lr)
        for number in range(1, STEPS + 1):
            image = self.restore(lr, code)
            yield Restored(image, Embedding(code=code, projection=code))
            if number < STEPS:
                code = self.corrector(image, code)


def _planes(code: Tensor, x: Tensor) -> Tensor:
    """Stretch (B, D) to planes of the size, dtype and layout of x: (B, D, H, W)."""
    planes = code.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return planes.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else planes


# ------------------------------------------------------------------------------------------- published weights

PARTS = ("SFTMD", "Predictor", "Corrector")  # the three published files


def _config(state: State) -> dict[str, int]:
    n_feats = width(state, "SFTMD.conv1.weight", 64)
    return {
        "scale": shuffle_scale(state, "SFTMD.upscale.0.weight", "SFTMD.upscale.3.weight", n_feats),
        "n_feats": n_feats,
        "n_blocks": count(state, r"SFTMD\.SFT-residual\d+\.conv1\.weight"),
    }


def _sft_names(ours: str, theirs: str) -> Names:
    for branch, word in (("scale", "mul"), ("shift", "add")):
        yield f"{ours}.{branch}.0", f"{theirs}.{word}_conv1"
        yield f"{ours}.{branch}.2", f"{theirs}.{word}_conv2"


def _block_names(ours: str, theirs: str) -> Names:
    for i in (1, 2):
        yield from _sft_names(f"{ours}.sft{i}", f"{theirs}.sft{i}")
        yield f"{ours}.conv{i}", f"{theirs}.conv{i}"


def _names(config: Mapping[str, int]) -> Names:
    for i in range(3):
        yield f"restoration.head.{2 * i}", f"SFTMD.conv{i + 1}"
    for i in range(config["n_blocks"]):
        yield from _block_names(f"restoration.blocks.{i}", f"SFTMD.SFT-residual{i + 1}")
    yield from _sft_names("restoration.sft", "SFTMD.sft")
    yield "restoration.fuse", "SFTMD.conv_mid"
    for i in (0, 3) if config["scale"] == 4 else (0,):
        yield f"restoration.upsample.{i}", f"SFTMD.upscale.{i}"
    yield "restoration.tail", "SFTMD.conv_output"
    for i in range(0, 12, 2):
        yield f"predictor.{i}", f"Predictor.ConvNet.{i}"
    for i in range(0, 14, 2):
        yield f"corrector.image.{i}", f"Corrector.ConvNet.{i}"
    for i in (0, 2):
        yield f"corrector.code.{i}", f"Corrector.code_dense.{i}"
    for i in (0, 2, 4):
        yield f"corrector.both.{i}", f"Corrector.global_dense.{i}"


def _unused(config: Mapping[str, int]) -> Names:
    for i in range(config["n_blocks"]):
        yield from _block_names(f"restoration.blocks.{i}", f"SFTMD.sft_branch.{i}")


IKC.foreign = (Foreign(_config, _names, parts=PARTS, unused=_unused),)
