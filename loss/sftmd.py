"""The first stage of IKC (CVPR 2019, section 3.3): SFTMD learns to restore with the true code of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from data.pairs import Batch
from loss.objective import Objective, Phase
from model import IKC


def true_code(batch: Batch) -> Tensor:
    """Return the codes (B, D) of the kernels that a batch was blurred with, on the device of its images.

    Raises ValueError where the recipe has no codes, or a pool has mixed its pairs.
    """
    code = getattr(batch.params, "code", None)
    if code is None:
        raise ValueError("`degradation`: the true codes of kernels come with the recipe ikc, and without `pool_size`")
    return code.to(batch.lr.device, non_blocking=True)


class SFTMD(Objective[IKC]):
    """L1 between HR and what SFTMD makes of LR and the true code. Predictor and Corrector learn nothing."""

    validates: ClassVar[bool] = False  # in a test the Predictor, which is untrained, would give the code

    def phases(self, net: IKC, batch: Batch, step: int) -> Iterator[Phase]:
        l1 = F.l1_loss(net.restore(batch.lr, true_code(batch)).float(), batch.hr)
        yield Phase({"l1": l1}, l1)
