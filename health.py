"""What tells that a training went wrong: a loss or gradient that is no number, or a loss far above what it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

HISTORY = 500  # steps whose median is the usual loss
ENOUGH = 100  # of them, before a loss is called far above it


class Trouble(NamedTuple):
    step: int
    what: str


class TrainingError(RuntimeError):
    """It went wrong again and again."""


class Watch:
    """Looks at the losses of many steps at once, when they are read from the device anyway.

    factor: a total loss so many times the median of the last ones is a collapse; 0: never.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.parts: list[str] = []  # that the loss had; others are another stretch of the schedule
        self.totals: list[float] = []  # of the last good steps with these parts

    def trouble(
        self, steps: Sequence[int], stretch: Mapping[str, Sequence[float]], *, gradients: bool
    ) -> Trouble | None:
        """The first of these steps that went wrong, if any; else they are remembered as good.

        stretch: by part of the loss the values at these steps; "total" and "gradient" have one for each.
        gradients: whether a gradient that is no number counts (a loss scaler deals with those of float16).
        """
        totals = stretch["total"]
        parts = sorted(name for name, values in stretch.items() if len(values) == len(totals))
        if parts != self.parts or len(parts) < len(stretch):
            self.parts, self.totals = parts, []
        usual = median(self.totals) if len(self.totals) >= ENOUGH else math.inf
        limit = self.factor * usual if self.factor else math.inf
        for step, total, gradient in zip(steps, totals, stretch["gradient"], strict=True):
            if not math.isfinite(total):
                return Trouble(step, f"the loss is {total}")
            if gradients and not math.isfinite(gradient):
                return Trouble(step, f"the gradient's norm is {gradient}")
            if total > limit:
                return Trouble(step, f"the loss is {total:.4g}, {total / usual:.0f} times its running median")
        if len(parts) == len(stretch):
            self.totals = [*self.totals, *totals][-HISTORY:]
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.parts, "totals": self.totals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.parts, self.totals = list(state["parts"]), list(state["totals"])
