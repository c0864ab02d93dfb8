"""Stage S of KDSR (ICLR 2023, section 3.3): the student learns from HR images and the teacher's representation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from data.pairs import Batch
from loss.objective import Objective, Phase
from loss.pixel import PixelLoss
from model import BlindSR


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher / τ) ‖ softmax(student / τ)) of (B, D) representations: the batch mean, in float32."""
    log_p = F.log_softmax(student.float() / temperature, dim=1)
    return F.kl_div(log_p, F.softmax(teacher.float() / temperature, dim=1), reduction="batchmean")


class Distillation(Objective[BlindSR]):
    """The pixel loss + kd_weight · KL(softmax(D'_T / τ) ‖ softmax(D'_S / τ)).

    Args:
        teacher: frozen; only its embedding is asked for.
        temperature: τ.
        kd_weight: weight of the KL term.
        warmup_steps: steps in which the student's estimator learns alone, from the KL term.
        loss: see `PixelLoss`.
    """

    takes_teacher: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True
    warms_up: ClassVar[bool] = True
    epochs_include_warmup: ClassVar[bool] = True
    constant: ClassVar[tuple[str, ...]] = ("teacher",)
    turns = ()

    def __init__(
        self,
        teacher: BlindSR,
        *,
        temperature: float = 0.15,
        kd_weight: float = 1.0,
        warmup_steps: int = 0,
        loss: str = "1*L1",
    ) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature = temperature
        self.kd_weight = kd_weight
        self.warmup_steps = warmup_steps
        self.turns = (warmup_steps,)
        self.pixel = PixelLoss(loss)

    def phases(self, net: BlindSR, batch: Batch, step: int) -> Iterator[Phase]:
        with torch.no_grad():
            target = self.teacher.embed(batch.lr, batch.hr).projection
        if step < self.warmup_steps:
            kl = divergence(net.embed(batch.lr).projection, target, self.temperature)
            yield Phase({"kl": kl}, self.kd_weight * kl)
            return
        restored = net(batch.lr)
        difference = self.pixel(restored.image, batch.hr)
        kl = divergence(restored.embedding.projection, target, self.temperature)
        yield Phase({**difference.parts, "kl": kl}, difference.total + self.kd_weight * kl)
