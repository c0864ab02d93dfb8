"""Notice when a training run goes wrong, and find the state and the steps to go on without.

`Monitor` reads the losses of the steps: one that is not finite, or far above what is usual, is trouble. `Recovery`
keeps the last two good states in host memory and decides which one to return to and which steps to leave out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor

HISTORY = 500  # steps whose median is the usual loss
ENOUGH = 100  # of these steps, before `factor` applies
EARLY = 1e4  # stands for `factor` before that: early losses fall fast, but an explosion must not pass
OVERFLOWS = 20  # of float16, in a row, that are left to the loss scaler to deal with
PATIENCE = 5  # times that an epoch may go wrong
LIMIT = 1e10  # no weight, statistic or moment of a sound run is this large
DOUBT = 4  # so many bad steps right after a good state put that state in doubt


class Trouble(NamedTuple):
    step: int
    what: str
    update: bool = False  # the update of this step is to blame, not its batch


class TrainingError(RuntimeError):
    """Raised when training has gone wrong and cannot go on by itself."""


class Monitor:
    """Keeps the losses of the steps on the device until they are read, and tells the first step that went wrong.

    Steps are judged one by one, so the verdict does not depend on when the losses are read.

    Args:
        factor: a total loss this many times the median of the last ones is a collapse; 0: never.
        gradients: a gradient that is not finite is trouble (with float16 the loss scaler deals with it).
        mean_: averages tensors over all ranks, in place.
    """

    def __init__(
        self,
        factor: float,
        *,
        gradients: bool = True,
        mean_: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
    ) -> None:
        self.factor = factor
        self.gradients = gradients
        self.mean_ = mean_
        self._unread: list[tuple[int, dict[str, Tensor]]] = []
        self._line: dict[str, list[float]] = defaultdict(list)  # read since the last line of the log
        self._overflows = 0  # steps in a row whose gradient was not finite
        self._names: list[str] = []  # parts of the last loss; other parts are another stretch of the schedule
        self._totals: list[float] = []  # of the last good steps with these parts

    def record(self, step: int, losses: dict[str, Tensor]) -> None:
        """Take the scalars of a step, "total" and "gradient" among them; they stay where they are."""
        self._unread.append((step, losses))

    @property
    def recorded(self) -> int:
        """Steps since the last line of the log."""
        return len(self._unread) + len(self._line.get("total", ()))

    def read(self) -> Trouble | None:
        """Read what was recorded, all at once, and return the first step that went wrong."""
        if not self._unread:
            return None
        stacked = torch.stack([loss.float() for _, losses in self._unread for loss in losses.values()])
        self.mean_([stacked])
        values = iter(stacked.tolist())
        unread, self._unread = self._unread, []
        for step, losses in unread:
            numbers = {name: next(values) for name in losses}
            if what := self._judge(numbers):
                return Trouble(step, what)
            self._remember(numbers)
        return None

    def judge_weights(self, losses: Mapping[str, Tensor], largest: Tensor) -> str | None:
        """Return what is wrong with the present weights, if anything.

        Args:
            losses: what they give on a batch, as for `record`, but without "gradient".
            largest: the largest absolute value of all that a state holds.
        """
        values = torch.stack([losses["total"].float(), largest.float()])
        self.mean_([values])
        total, size = values.tolist()
        if not math.isfinite(total):
            return f"the weights give a loss of {total}"
        if not size < LIMIT:
            return f"the weights, or what goes with them, hold a value of {size:.4g}"
        return self._too_large(total, _parts(losses))

    def _judge(self, losses: Mapping[str, float]) -> str | None:
        total, gradient = losses["total"], losses["gradient"]
        if not math.isfinite(total):
            return f"the loss is {total}"
        self._overflows = 0 if math.isfinite(gradient) else self._overflows + 1
        if self._overflows > (0 if self.gradients else OVERFLOWS):
            return f"the gradient's norm is {gradient}"
        return self._too_large(total, _parts(losses))

    def _too_large(self, total: float, names: list[str]) -> str | None:
        if not self.factor or not self._totals or names != self._names:
            return None
        usual = median(self._totals)
        factor = self.factor if len(self._totals) >= ENOUGH else max(self.factor, EARLY)
        if total > factor * usual > 0:  # a hinge loss may be negative, and is no measure then
            return f"the loss is {total:.4g}, {total / usual:.0f} times its running median"
        return None

    def _remember(self, losses: Mapping[str, float]) -> None:
        names = _parts(losses)
        if names != self._names:
            self._names, self._totals = names, []
        self._totals = [*self._totals, losses["total"]][-HISTORY:]
        for name, value in losses.items():
            self._line[name].append(value)

    def line(self) -> tuple[int, dict[str, float]]:
        """Return how many steps were read since the last call, and the mean of each part over those that had it."""
        steps, losses = len(self._line["total"]), {name: fmean(values) for name, values in self._line.items()}
        self._line.clear()
        return steps, losses

    def state_dict(self) -> dict[str, Any]:
        return {"line": dict(self._line), "overflows": self._overflows, "names": self._names, "totals": self._totals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was read; forget what was recorded and not read."""
        self._unread.clear()
        self._line = defaultdict(list, {name: list(values) for name, values in state["line"].items()})
        self._overflows = int(state["overflows"])
        self._names, self._totals = list(state["names"]), [float(total) for total in state["totals"]]


def _parts(losses: Mapping[str, Any]) -> list[str]:
    return sorted(losses.keys() - {"total", "gradient"})


class Recovery:
    """Keeps the last two good states of a run, and the steps that are left out of it.

    A step that goes wrong is left out, and the run repeats the steps since the last good state. Up to that step it then
    tries its weights after each step (`suspect`): if an update has broken them, that step is left out instead: the
    later batch only showed what the update had done. The step that broke weights is searched for in the same way if
    they are found broken after several untried steps.
    """

    def __init__(self, epoch_steps: int) -> None:
        self.epoch_steps = epoch_steps
        self.skipped: list[int] = []
        self.suspect: int | None = None  # try the weights after each step up to this one
        self.good: dict[str, Any] = {}
        self._previous: dict[str, Any] = {}

    def keep(self, state: dict[str, Any]) -> None:
        """Keep a state, a copy, that was found to be good."""
        if self.good and self.good["step"] != state["step"]:
            self._previous = self.good
        self.good = state

    def recover(self, trouble: Trouble) -> dict[str, Any]:
        """Leave a step out, once it is known which, and return the state to go on from.

        Raises TrainingError if there is no way on.
        """
        first = self.good["step"]
        if trouble.update:
            innocent = {self.suspect} if (self.suspect or 0) > trouble.step else set()
            guilty = {trouble.step} if trouble.step == first else set()  # or else one of the steps from `first` on
            self.skipped = sorted({*self.skipped, *guilty} - innocent)
            self.suspect = None if guilty else trouble.step + 1
        else:
            self.skipped = sorted({*self.skipped, trouble.step})
            self.suspect = trouble.step
        in_a_row = range(first, trouble.step + 1)
        if self._previous and len(in_a_row) >= DOUBT and set(in_a_row) <= set(self.skipped):
            self.skipped = sorted({*self.skipped, first - 1})
            self.good, self._previous = self._previous, {}
        if (troubles := self.troubles(trouble.step, including=True)) > PATIENCE:
            raise TrainingError(
                f"it went wrong {troubles} times in one epoch, the last time at step {trouble.step}: {trouble.what}"
            )
        self.good |= {"skipped": list(self.skipped), "suspect": self.suspect}
        return self.good

    def troubles(self, step: int, *, including: bool = False) -> int:
        """Return the number of steps left out of this step's epoch, before it or, with `including`, anywhere in it."""
        epoch = step // self.epoch_steps
        return sum(s // self.epoch_steps == epoch and (including or s < step) for s in self.skipped)

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rate: it halves each time an epoch goes wrong, from the second time on."""
        return 0.5 ** max(0, self.troubles(step) - 1)
