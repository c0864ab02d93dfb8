"""Stage S of KDSR (paper, section 3.3): the student learns the image and the teacher's idea of the degradation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from loss.objective import Objective
from model import BlindSR


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / τ) ‖ softmax(student / τ)) of (B, D) representations, mean over the batch, in float32."""
    log_p = F.log_softmax(student.float() / temperature, dim=1)
    return F.kl_div(log_p, F.softmax(teacher.float() / temperature, dim=1), reduction="batchmean")


class Distillation(Objective[BlindSR]):
    """L1 + kd_weight · KL(softmax(D'_T / τ) ‖ softmax(D'_S / τ)).

    teacher: its embedding only is asked for; frozen. temperature: τ. kd_weight: of the KL term.
    warmup_steps: for so long the student's estimator learns alone, from the KL term.
    """

    def __init__(
        self, teacher: BlindSR, *, temperature: float = 0.15, kd_weight: float = 1.0, warmup_steps: int = 0
    ) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature = temperature
        self.kd_weight = kd_weight
        self.warmup_steps = warmup_steps
        self.partial = warmup_steps > 0

    def forward(self, net: BlindSR, lr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            target = self.teacher.embed(lr, hr).projection
        if step < self.warmup_steps:
            kl = divergence(net.embed(lr).projection, target, self.temperature)
            return {"kl": kl, "total": self.kd_weight * kl}
        restored = net(lr)
        l1 = F.l1_loss(restored.image.float(), hr)
        kl = divergence(restored.embedding.projection, target, self.temperature)
        return {"l1": l1, "kl": kl, "total": l1 + self.kd_weight * kl}
