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
from model.moco import ContrastiveSR, MoCo


class Contrast(Objective[ContrastiveSR]):
    """L1(SR, HR of crop 1) in 0..255 + c_weight · cross entropy of crop 1 against crop 2 and the queue.

    Args:
        net: the network whose encoder the key encoder starts from.
        c_weight: weight of the cross entropy.
        warmup_steps: for so long the encoder learns alone, from the contrast.
        freeze_step: from here on the encoder learns nothing and there is no contrast. As in the released code it stays
            in training mode: it normalises with the statistics of the batch.
        queue: number of negatives.
    """

    views: ClassVar[int] = 2

    def __init__(
        self,
        net: ContrastiveSR,
        *,
        c_weight: float = 1.0,
        warmup_steps: int = 0,
        freeze_step: float = math.inf,
        queue: int = 8192,
    ) -> None:
        super().__init__()
        self.moco = MoCo(net.encoder, queue=queue)
        self.c_weight = c_weight
        self.warmup_steps = warmup_steps
        self.freeze_step = freeze_step

    def phases(self, net: ContrastiveSR, batch: Batch, step: int) -> Iterator[Phase]:
        query, key = batch.lr.chunk(2)
        target = batch.hr.chunk(2)[0]
        if step >= self.freeze_step:
            with torch.no_grad():
                code = net.embed(query).code
            l1 = self._l1(net.restore(query, code), target)
            yield Phase({"l1": l1}, l1)
        elif step < self.warmup_steps:
            contrast = self._contrast(net, net.embed(query).projection, key)
            yield Phase({"contrast": contrast}, self.c_weight * contrast)
        else:
            restored = net(query)
            l1 = self._l1(restored.image, target)
            contrast = self._contrast(net, restored.embedding.projection, key)
            yield Phase({"l1": l1, "contrast": contrast}, l1 + self.c_weight * contrast)

    @staticmethod
    def _l1(sr: Tensor, hr: Tensor) -> Tensor:
        return 255 * F.l1_loss(sr.float(), hr)  # the published weight of L1 against the contrast

    def _contrast(self, net: ContrastiveSR, projection: Tensor, key: Tensor) -> Tensor:
        logits = self.moco(net.encoder, projection, key)  # (B, 1 + queue), the positive first
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
