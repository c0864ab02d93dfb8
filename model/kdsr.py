"""KDSR: Knowledge Distillation based Degradation Estimation for Blind Super-Resolution (ICLR 2023).

https://arxiv.org/abs/2211.16928

The teacher estimates the degradation from the LR and the HR image. The student sees the LR image alone and learns the
teacher's representation. Both have the same restoration network. The kernels of all its blocks depend on the code
alone and are made at once, before the blocks (`weights_of_all`).

Unlike the published code, mean shifts are buffers that no state dict holds, not fixed convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autocast import in_float32
from .convolution import rounds_weights_once
from .layer import (
    BlindSR,
    DynamicDepthwise,
    Embedding,
    Layers,
    MeanShift,
    Pool,
    Trunk,
    conv,
    global_mean,
    lrelu,
    weights_of_all,
)
from .naming import Foreign, Names, State, count, trunk_config, trunk_names
from .upsampler import Upsampler, upsample_to_image


class ResBlock(nn.Module):
    """x + conv(LReLU(conv x)), without normalisation."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n_feats, n_feats), lrelu(), conv(n_feats, n_feats))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        first, act, last = self.body  # read, not called: one pass for convolution and LeakyReLU
        return last(first(x, slope=act.negative_slope), add_to=x)  # (B, C, H, W)


class KDIDE(nn.Module):
    """Implicit degradation estimator (section 3.1): maps an image to D' (4C), which is distilled, and to D (C)."""

    def __init__(self, planes: int, n_feats: int, n_resblocks: int) -> None:
        super().__init__()
        c = n_feats
        self.features = Layers(
            *(conv(planes, c), lrelu()),
            *(ResBlock(c) for _ in range(n_resblocks)),
            *(conv(c, 2 * c), lrelu(), conv(2 * c, 2 * c), lrelu(), conv(2 * c, 4 * c), lrelu()),
        )
        self.mlp = nn.Sequential(nn.Linear(4 * c, 4 * c), lrelu(), nn.Linear(4 * c, 4 * c), lrelu())
        self.compress = nn.Sequential(nn.Linear(4 * c, c), lrelu())

    @rounds_weights_once
    def forward(self, x: Tensor, pool: Pool = global_mean) -> Embedding:
        """Map (B, planes, H, W) to the code D (B, C) and the projection D' (B, 4C)."""
        idr = in_float32(self.mlp, pool(self.features, x))  # (B, 4C)
        return Embedding(code=in_float32(self.compress, idr), projection=idr)


class IDRDCRB(nn.Module):
    """IDR based dynamic convolution residual block (section 3.2): x + conv(LReLU(IDR-DDC(x, D)))."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.ddc = DynamicDepthwise(n_feats)  # with its LReLU
        self.conv = conv(n_feats, n_feats)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Map x (B, C, H, W), with the IDR-DDC's weights (B, C, 3, 3) that follow from D, to (B, C, H, W)."""
        x, y = self.ddc(x, kernel)  # (B, C, H, W) each
        return self.conv(y, add_to=x)  # (B, C, H, W)


class Restoration(nn.Module):
    """The SR network, the same for teacher and student."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.head = conv(3, n_feats)
        self.blocks = Trunk(IDRDCRB(n_feats) for _ in range(n_blocks))
        self.fuse = conv(n_feats, n_feats)
        self.upsample = Upsampler(scale, n_feats)
        self.tail = conv(n_feats, 3)
        self.add_mean = MeanShift(+1)

    @rounds_weights_once
    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """Map lr (B, 3, H, W) in [0, 1] and the code D (B, C) to (B, 3, s·H, s·W)."""
        head = in_float32(self.head, self.sub_mean(lr))  # (B, C, H, W)
        kernels = weights_of_all([cast(IDRDCRB, block).ddc for block in self.blocks], code)  # (B, C, 3, 3) each
        x = self.blocks(head, [(kernel,) for kernel in kernels])  # (B, C, H, W)
        image = upsample_to_image(self.upsample, self.tail, self.fuse(x, add_to=head))
        return self.add_mean(image)  # (B, 3, s·H, s·W)


class KDSRStudent(BlindSR):
    """KDSR_S, the student.

    Published sizes (n_feats, n_blocks, n_resblocks): M 64, 53, 9 (the default); L 128, 28, 5; real world 128, 42, 6.

    Args:
        scale: 2, 3 or 4.
        n_feats: channels C.
        n_blocks: IDR-DCRBs of the SR network.
        n_resblocks: residual blocks of the estimator.

    Examples:
        >>> net = KDSRStudent(scale=4, n_feats=8, n_blocks=2, n_resblocks=1)
        >>> restored = net(torch.rand(1, 3, 6, 7))
        >>> restored.image.shape, restored.embedding.code.shape
        (torch.Size([1, 3, 24, 28]), torch.Size([1, 8]))
    """

    teacher: ClassVar[str] = "KDSR_T"
    foreign: ClassVar[tuple[Foreign, ...]]  # set below

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 53, n_resblocks: int = 9) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks, n_resblocks=n_resblocks)
        planes = 3 + 3 * scale**2 if self.sees_hr else 3
        self.estimator = KDIDE(planes, n_feats, n_resblocks)
        self.restoration = Restoration(scale, n_feats, n_blocks)

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        """Embed the degradation of (B, 3, H, W): code (B, C), projection (B, 4C)."""
        return self.estimator(lr, pool)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) with codes (B, C) to (B, 3, s·H, s·W)."""
        return self.restoration(lr, code)


class KDSRTeacher(KDSRStudent):
    """KDSR_T, the teacher: its estimator sees the LR planes, then those of the pixel-unshuffled HR image.

    Args:
        scale, n_feats, n_blocks, n_resblocks: as for the student.

    Examples:
        >>> net = KDSRTeacher(scale=2, n_feats=8, n_blocks=2, n_resblocks=1)
        >>> net(torch.rand(1, 3, 6, 7), torch.rand(1, 3, 12, 14)).image.shape
        torch.Size([1, 3, 12, 14])
    """

    sees_hr: ClassVar[bool] = True
    teacher: ClassVar[str] = ""

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        """Embed the degradation between lr (B, 3, H, W) and hr (B, 3, s·H, s·W)."""
        expected = (lr.shape[0], 3, self.scale * lr.shape[2], self.scale * lr.shape[3])
        if hr is None or hr.shape != expected:
            found = None if hr is None else tuple(hr.shape)
            raise ValueError(f"KDSR_T embeds an LR image together with its HR image {expected}, got {found}")
        both = torch.cat((lr, F.pixel_unshuffle(hr, self.scale)), 1)  # (B, 3 + 3s², H, W)
        return self.estimator(both, pool)


# ------------------------------------------------------------------------------------------- published weights


def _config(state: State) -> dict[str, int]:
    return {**trunk_config(state), "n_resblocks": count(state, r"E(_st)?\.E\.\d+\.body\.0\.weight")}


def _names(config: Mapping[str, int], estimator: str) -> Names:
    yield from trunk_names(config)
    for i in range(config["n_blocks"]):
        ours, theirs = f"restoration.blocks.{i}", f"G.body.0.body.{i}"
        yield f"{ours}.ddc.kernel.0", f"{theirs}.da_conv1.kernel.0"
        yield f"{ours}.ddc.kernel.2", f"{theirs}.da_conv1.kernel.2"
        yield f"{ours}.conv", f"{theirs}.conv1"
    yield "restoration.fuse", "G.body.1"
    n = config["n_resblocks"]
    for i in (0, n + 2, n + 4, n + 6):
        yield f"estimator.features.{i}", f"{estimator}.E.{i}"
    for i in range(2, n + 2):
        yield f"estimator.features.{i}.body.0", f"{estimator}.E.{i}.body.0"
        yield f"estimator.features.{i}.body.2", f"{estimator}.E.{i}.body.2"
    for name in ("mlp.0", "mlp.2", "compress.0"):
        yield f"estimator.{name}", f"{estimator}.{name}"


MEAN_SHIFTS = {"G.sub_mean": -1, "G.add_mean": 1}

KDSRStudent.foreign = (Foreign(_config, partial(_names, estimator="E_st"), MEAN_SHIFTS),)
KDSRTeacher.foreign = (Foreign(_config, partial(_names, estimator="E"), MEAN_SHIFTS),)
