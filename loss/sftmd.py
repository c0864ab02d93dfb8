"""The first stage of IKC (CVPR 2019, section 3.3): SFTMD learns to restore with the true code of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from data.pairs import Batch
from loss.objective import Objective, Phase
from loss.pixel import PixelLoss
from model import IKC, BlindSR


def true_code(batch: Batch) -> Tensor:
    """Return the codes (B, D) of the kernels that a batch was blurred with, on the device of its images.

    Raises ValueError where the recipe has no codes, or a pool has mixed its pairs.
    """
    code = getattr(batch.params, "code", None)
    if code is None:
        raise ValueError("`degradation`: the true codes of kernels come with the recipe ikc, and without `pool_size`")
    return code.to(batch.lr.device, non_blocking=True)


class SFTMD(Objective[IKC]):
    """The pixel loss between HR and what SFTMD makes of LR and the true code. Predictor and Corrector learn nothing.

    Args:
        loss: see `PixelLoss`.
    """

    trains: ClassVar[type[BlindSR]] = IKC
    needs_codes: ClassVar[bool] = True
    turns = ()
    validates: ClassVar[bool] = False  # in a test the Predictor, which is untrained, would give the code

    def __init__(self, *, loss: str = "1*L1") -> None:
        super().__init__()
        self.pixel = PixelLoss(loss)

    def phases(self, net: IKC, batch: Batch, step: int) -> Iterator[Phase]:
        difference = self.pixel(net.restore(batch.lr, true_code(batch)), batch.hr)
        yield Phase(difference.parts, difference.total)
