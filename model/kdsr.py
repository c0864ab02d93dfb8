"""KDSR: Knowledge Distillation based Degradation Estimation for Blind Super-Resolution (ICLR 2023).

The teacher's estimator sees LR and HR together and so learns what tells the degradation; the student's sees the LR
image alone and is taught the teacher's representation. Both steer the same restoration network.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layer import (
    BlindSR,
    DynamicDepthwise,
    Embedding,
    MeanShift,
    Pool,
    Upsampler,
    conv,
    global_mean,
    in_float32,
    lrelu,
)


class ResBlock(nn.Module):
    """x + conv(LReLU(conv x)), without normalisation."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n_feats, n_feats), lrelu(), conv(n_feats, n_feats))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class KDIDE(nn.Module):
    """The implicit degradation estimator (paper, section 3.1): an image to D' (4C), which is distilled, and D (C)."""

    def __init__(self, planes: int, n_feats: int, n_resblocks: int) -> None:
        super().__init__()
        c = n_feats
        self.features = nn.Sequential(
            *(conv(planes, c), lrelu()),
            *(ResBlock(c) for _ in range(n_resblocks)),
            *(conv(c, 2 * c), lrelu(), conv(2 * c, 2 * c), lrelu(), conv(2 * c, 4 * c), lrelu()),
        )
        self.mlp = nn.Sequential(nn.Linear(4 * c, 4 * c), lrelu(), nn.Linear(4 * c, 4 * c), lrelu())
        self.compress = nn.Sequential(nn.Linear(4 * c, c), lrelu())

    def forward(self, x: Tensor, pool: Pool = global_mean) -> Embedding:
        """(B, planes, H, W) -> D (B, C) and D' (B, 4C)."""
        idr = in_float32(self.mlp, pool(self.features, x))
        return Embedding(code=in_float32(self.compress, idr), projection=idr)


class IDRDCRB(nn.Module):
    """IDR based dynamic convolution residual block (paper, section 3.2): x + conv(LReLU(IDR-DDC(x, D)))."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.ddc = DynamicDepthwise(n_feats)
        self.act = lrelu()
        self.conv = conv(n_feats, n_feats)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code D (B, C) -> (B, C, H, W)."""
        return x + self.conv(self.act(self.ddc(x, code)))


class Restoration(nn.Module):
    """The SR network that teacher and student share."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.head = conv(3, n_feats)
        self.blocks = nn.ModuleList(IDRDCRB(n_feats) for _ in range(n_blocks))
        self.fuse = conv(n_feats, n_feats)
        self.upsample = Upsampler(scale, n_feats)
        self.tail = conv(n_feats, 3)
        self.add_mean = MeanShift(+1)

    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """lr (B, 3, H, W) in [0, 1], code D (B, C) -> (B, 3, s·H, s·W)."""
        head = in_float32(self.head, self.sub_mean(lr))
        x = head
        for block in self.blocks:
            x = block(x, code)
        x = head + self.fuse(x)
        return self.add_mean(in_float32(self.tail, self.upsample(x)))


class KDSRStudent(BlindSR):
    """KDSR_S. The published sizes: M is 64, 53, 9 (the default), L is 128, 28, 5, the real-world one 128, 42, 6.

    scale: 2, 3 or 4. n_feats: channels C. n_blocks: IDR-DCRBs. n_resblocks: residual blocks of the estimator.
    """

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 53, n_resblocks: int = 9) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks, n_resblocks=n_resblocks)
        planes = 3 + 3 * scale**2 if self.sees_hr else 3
        self.estimator = KDIDE(planes, n_feats, n_resblocks)
        self.restoration = Restoration(scale, n_feats, n_blocks)

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        return self.estimator(lr, pool)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        return self.restoration(lr, code)


class KDSRTeacher(KDSRStudent):
    """KDSR_T: the student's network whose estimator sees the pixel-unshuffled HR image beside the LR image."""

    sees_hr: ClassVar[bool] = True

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        expected = (lr.shape[0], 3, self.scale * lr.shape[2], self.scale * lr.shape[3])
        if hr is None or hr.shape != expected:
            found = None if hr is None else tuple(hr.shape)
            raise ValueError(f"KDSR_T embeds an LR image together with its HR image {expected}, got {found}")
        both = torch.cat((lr, F.pixel_unshuffle(hr, self.scale)), 1)  # (B, 3 + 3s², H, W)
        return self.estimator(both, pool)
