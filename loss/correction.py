"""The second stage of IKC (CVPR 2019, section 3.3): Predictor and Corrector learn the code, SFTMD stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F

from data.pairs import Batch
from loss.objective import Objective, Phase
from loss.sftmd import true_code
from model import IKC, BlindSR
from model.ikc import STEPS


class Correction(Objective[IKC]):
    """Mean squared error of codes: one step of the Predictor, then one of the Corrector for each SR image of the loop.

    Each SR image is restored with the previous code, from before the update. No gradient flows through the loop. No
    parameter learns in both kinds of phases, so one Adam does what the released code does with two.
    """

    trains: ClassVar[type[BlindSR]] = IKC
    refines: ClassVar[str] = "sftmd"
    compares_images: ClassVar[bool] = False
    needs_codes: ClassVar[bool] = True
    steps: ClassVar[int] = 1 + STEPS

    def phases(self, net: IKC, batch: Batch, step: int) -> Iterator[Phase]:
        lr, target = batch.lr, true_code(batch)
        code = net.predict(lr)
        loss = F.mse_loss(code.float(), target)
        yield Phase({"predictor": loss}, loss)
        for number in range(1, STEPS + 1):
            code = code.detach()
            with torch.no_grad():
                sr = net.restore(lr, code)
            code = net.corrector(sr, code)
            loss = F.mse_loss(code.float(), target)
            yield Phase({f"corrector_{number}": loss}, loss)
