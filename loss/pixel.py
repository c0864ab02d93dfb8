"""L1 between SR and HR: stage T of KDSR, and any network without further guidance."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from loss.objective import Objective
from model import BlindSR


class Pixel(Objective[BlindSR]):
    """Mean absolute difference of (B, 3, s·H, s·W) images in [0, 1]."""

    def forward(self, net: BlindSR, lr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        l1 = F.l1_loss(net(lr, hr).image.float(), hr)
        return {"l1": l1, "total": l1}
