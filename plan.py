"""What a training run is to do, in steps and seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the step: two stretches, each with its own decay in stairs."""

    warmup_steps: int
    warmup_rate: float
    warmup_decay: int  # steps
    warmup_gamma: float
    rate: float
    decay: int  # steps
    gamma: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.warmup_rate * self.warmup_gamma ** (step // self.warmup_decay)
        return self.rate * self.gamma ** ((step - self.warmup_steps) // self.decay)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how often, where."""

    steps: int
    epoch_steps: int
    schedule: Schedule
    loader_workers: int
    print_every: int  # steps
    metric: str
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam
    ema: float = 0.0  # share that the average of the weights keeps of itself each step; 0: there is no average
    accumulate: int = 1  # parts in which a batch goes through the network
    max_seconds: float = math.inf
    save_seconds: float = math.inf  # between two states saved on the way
    save_from_epoch: int = 0
    keep: int = 0  # numbered checkpoints; 0: all
    collapse: float = 0.0  # a loss so many times its running median is one; 0: none is
    patience: int = 5  # how often an epoch may go wrong
