"""CDSR's and DASR's objective: reconstruct one crop, and tell its degradation from that of other images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from data.pairs import Batch
from loss.objective import Objective, Phase
from loss.pixel import PixelLoss
from model import BlindSR
from model.moco import ContrastiveSR, MoCo


class Contrast(Objective[ContrastiveSR]):
    """255 · pixel loss of SR and HR of crop 1 + c_weight · cross entropy of crop 1 against crop 2 and the queue.

    Args:
        net: the network whose encoder the key encoder starts from.
        c_weight: weight of the cross entropy.
        warmup_steps: steps in which the encoder learns alone, from the contrast.
        freeze_step: from here on the encoder learns nothing and there is no contrast. As in the released code it stays
            in training mode: it normalises with the statistics of the batch.
        queue: number of negatives.
        loss: see `PixelLoss`.
    """

    trains: ClassVar[type[BlindSR]] = ContrastiveSR
    warms_up: ClassVar[bool] = True
    views: ClassVar[int] = 2
    turns = ()

    def __init__(
        self,
        net: ContrastiveSR,
        *,
        c_weight: float = 1.0,
        warmup_steps: int = 0,
        freeze_step: float = math.inf,
        queue: int = 8192,
        loss: str = "1*L1",
    ) -> None:
        super().__init__()
        if not hasattr(net, "encoder"):
            raise ValueError(f"`net`: {type(net).__name__} has no encoder to contrast")
        self.moco = MoCo(net.encoder, dim=net.dim, queue=queue)
        self.c_weight = c_weight
        self.warmup_steps = warmup_steps
        self.freeze_step = freeze_step
        self.turns = (warmup_steps, freeze_step)
        self.pixel = PixelLoss(loss, factor=255)  # grey levels: the published weight against the contrast

    def phases(self, net: ContrastiveSR, batch: Batch, step: int) -> Iterator[Phase]:
        if len(batch.lr) % 2:
            raise ValueError(f"`batch`: expected two crops of each image, got {len(batch.lr)} crops")
        query, key = batch.lr.chunk(2)
        target = batch.hr.chunk(2)[0]
        if step >= self.freeze_step:
            with torch.no_grad():
                code = net.embed(query).code
            difference = self.pixel(net.restore(query, code), target)
            yield Phase(difference.parts, difference.total)
        elif step < self.warmup_steps:
            contrast = self._contrast(net, net.embed(query).projection, key)
            yield Phase({"contrast": contrast}, self.c_weight * contrast)
        else:
            restored = net(query)
            difference = self.pixel(restored.image, target)
            contrast = self._contrast(net, restored.embedding.projection, key)
            yield Phase({**difference.parts, "contrast": contrast}, difference.total + self.c_weight * contrast)

    def _contrast(self, net: ContrastiveSR, projection: Tensor, key: Tensor) -> Tensor:
        logits = self.moco(net.encoder, projection, key)  # (B, 1 + queue), the positive first
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
