"""What tells that a training went wrong: a loss or gradient that is no number, or a loss far above what it was."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor

HISTORY = 500  # steps whose median is the usual loss
OVERFLOWS = 20  # of float16 in a row that its loss scaler is left to deal with
ENOUGH = 100  # of these steps, before a loss is called far above their median


class Trouble(NamedTuple):
    step: int
    what: str


class TrainingError(RuntimeError):
    """It went wrong again and again."""


class DivergenceMonitor:
    """Keeps the losses of the steps, on the device until somebody looks, and tells when they go wrong.

    Steps are looked at one by one, so what is found does not depend on when it is looked for.

    factor: a total loss so many times the median of the last ones is a collapse; 0: never. gradients: whether a
    gradient that is no number counts (a loss scaler deals with those of float16). mean: of the values of all ranks.
    """

    def __init__(
        self, factor: float, *, gradients: bool = True, mean: Callable[[Tensor], Tensor] = torch.clone
    ) -> None:
        self.factor = factor
        self.gradients = gradients
        self.mean = mean
        self._unread: list[tuple[int, dict[str, Tensor]]] = []
        self._line: dict[str, list[float]] = defaultdict(list)  # what was read since the last line of the log
        self._overflows = 0  # steps in a row whose gradient was no number
        self._names: list[str] = []  # parts of the last loss; others are another stretch of the schedule
        self._totals: list[float] = []  # of the last good steps with these parts

    def note(self, step: int, parts: dict[str, Tensor]) -> None:
        """The scalars of a step, "total" and "gradient" among them; they stay where they are."""
        self._unread.append((step, parts))

    @property
    def noted(self) -> int:
        """Steps since the last line of the log."""
        return len(self._unread) + len(self._line.get("total", ()))

    def look(self) -> Trouble | None:
        """Read what was noted, all at once; the first of these steps that went wrong, if any."""
        if not self._unread:
            return None
        stacked = torch.stack([part.float() for _, parts in self._unread for part in parts.values()])
        values = iter(self.mean(stacked).tolist())
        unread, self._unread = self._unread, []
        for step, parts in unread:
            losses = {name: next(values) for name in parts}
            if what := self._wrong(losses):
                return Trouble(step, what)
            for name, value in losses.items():
                self._line[name].append(value)
        return None

    def _wrong(self, losses: Mapping[str, float]) -> str | None:
        """What is wrong with a step; one that is good is remembered."""
        total, gradient, names = losses["total"], losses["gradient"], sorted(losses)
        if not math.isfinite(total):
            return f"the loss is {total}"
        self._overflows = 0 if math.isfinite(gradient) else self._overflows + 1
        if self._overflows > (0 if self.gradients else OVERFLOWS):
            return f"the gradient's norm is {gradient}"
        if names != self._names:
            self._names, self._totals = names, []
        usual = median(self._totals) if self.factor and len(self._totals) >= ENOUGH else 0.0
        if total > self.factor * usual > 0:  # a hinge loss may be negative, and is no measure then
            return f"the loss is {total:.4g}, {total / usual:.0f} times its running median"
        self._totals = [*self._totals, total][-HISTORY:]
        return None

    def line(self) -> tuple[int, dict[str, float]]:
        """How many steps were read since the last call, and the mean of each part over those that had it."""
        steps, losses = len(self._line["total"]), {name: fmean(values) for name, values in self._line.items()}
        self._line.clear()
        return steps, losses

    def state_dict(self) -> dict[str, Any]:
        """Of what was read."""
        return {"line": dict(self._line), "overflows": self._overflows, "names": self._names, "totals": self._totals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forgets what was noted and not read."""
        self._unread.clear()
        self._line = defaultdict(list, {name: list(values) for name, values in state["line"].items()})
        self._overflows = int(state["overflows"])
        self._names, self._totals = list(state["names"]), [float(total) for total in state["totals"]]
