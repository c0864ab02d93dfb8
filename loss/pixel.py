"""L1 between SR and HR: stage T of KDSR, and any network without further guidance."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F

from data.pairs import Batch
from loss.objective import Objective, Phase
from model import BlindSR


class Pixel(Objective[BlindSR]):
    """Mean absolute difference of (B, 3, s·H, s·W) images in [0, 1]."""

    def phases(self, net: BlindSR, batch: Batch, step: int) -> Iterator[Phase]:
        l1 = F.l1_loss(net(batch.lr, batch.hr).image.float(), batch.hr)
        yield Phase({"l1": l1}, l1)
