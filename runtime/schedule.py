"""The length of a training run and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The length of a run, and its learning rate as a function of the step: a warm-up, then the rest of the run.

    The rate of the warm-up falls by stairs, that of the rest as `decay_type` says. Stairs come where the number of the
    epoch within its stretch is a multiple of `decay`, or is among `milestones` if there are any. The released trainers
    count epochs from 1 (`first`), so each stair comes one epoch earlier than by counting from 0.

    "cosine" falls to a thousandth of `rate` in `decay` epochs and starts again, as IKC's released trainer has it: steps
    count from 1, and the last one of the run ends a period instead of beginning one. "none" stays at `rate`.
    """

    epoch_steps: int
    total_steps: int
    warmup_epochs: int = 0
    warmup_rate: float = 0.0
    warmup_decay: int = 1  # epochs
    warmup_gamma: float = 1.0
    rate: float
    decay: int  # epochs
    milestones: Sequence[int] = ()  # epochs
    gamma: float
    first: int = 1
    decay_type: str = "step"  # "step" (stairs), "cosine" or "none"

    def __post_init__(self) -> None:
        if self.decay_type not in ("step", "cosine", "none"):
            raise ValueError(f"`decay_type` {self.decay_type}: expected step, cosine or none")

    def __call__(self, step: int) -> float:
        epoch = step // self.epoch_steps
        if epoch < self.warmup_epochs:
            return self.warmup_rate * self.warmup_gamma ** ((epoch + self.first) // self.warmup_decay)
        if self.decay_type == "none":
            return self.rate
        if self.decay_type == "cosine":
            period, number = self.decay * self.epoch_steps, step + 1 - self.warmup_epochs * self.epoch_steps
            t = number % period or (period if step + 1 == self.total_steps else 0)
            low = self.rate / 1000
            return low + (self.rate - low) * (1 + math.cos(math.pi * t / period)) / 2
        number = epoch - self.warmup_epochs + self.first
        stairs = sum(number >= one for one in self.milestones) if self.milestones else number // self.decay
        return self.rate * self.gamma**stairs
