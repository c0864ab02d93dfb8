"""Train for a given time, even on a machine that becomes busy; shared by the demo and the comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import main
import option
from preflight import dry_run
from runtime.curves import draw_curves
from runtime.distributed import Ranks
from runtime.schedule import Schedule
from trainer import Trainer
from utility import Run, duration

EPOCHS = 8  # of a training; the learning rate is halved every second one
SCHEDULE = ["--lr_sr", "1e-3", "--epochs_sr", str(EPOCHS), "--lr_decay_sr", "2"]
PLANNED = 0.9  # share of the time that the steps should take, on a machine that stays as fast as it is


class Speed(NamedTuple):
    """The cost of training on this machine at this moment."""

    step: float  # seconds
    validation: float  # seconds


@dataclass(frozen=True, kw_only=True)
class ByTheClock(Schedule):
    """A schedule whose stairs come by the clock if that is ahead of the steps: the machine is slower than planned.

    Thus the learning rate has come down when the time is up, however many steps were taken.

    Args:
        begun: when it began, by `time.perf_counter`.
        seconds: that it may take.
    """

    begun: float
    seconds: float

    def __call__(self, step: int) -> float:
        share = (time.perf_counter() - self.begun) / self.seconds
        return super().__call__(min(max(step, int(share * self.total_steps)), self.total_steps - 1))


class JobRun(Run):
    """A run that is part of a longer job, and logs with each line how long the job will still take.

    Args:
        end: when the job ends, by `time.perf_counter`.
        job: its name.
    """

    def __init__(self, path: Path, *, end: float, job: str) -> None:
        super().__init__(path, wording=option.as_flags)
        self._end = end
        self._job = job

    def log(self, text: str) -> None:
        """Log a line, with the time that is left of the job."""
        super().log(f"{text}  |  {self._job}: {duration(max(0.0, self._end - time.perf_counter()))} left")


def train(arguments: Sequence[str], *, seconds: float, job: str, end: float) -> Path:
    """Train as main.py does with these flags and `SCHEDULE`, for `seconds` at most; return the file of the network.

    As many steps are planned as fit into the time. If the machine becomes slower, the learning rate falls by the clock,
    and training stops when the time is up; one step is taken in any case.

    Args:
        arguments: flags of main.py.
        seconds: for all of it, the planning included.
        job: name of the whole job; each line of the log tells what is left of it.
        end: when the job ends, by `time.perf_counter`.

    Raises:
        KeyboardInterrupt: it was asked to stop. What was learned is saved.
    """
    deadline = time.perf_counter() + seconds
    speed = measure([*arguments, *SCHEDULE])
    trainer = _prepare(arguments, speed, deadline, job, end)
    done = trainer.fit()
    if trainer.signals.asked:
        raise KeyboardInterrupt
    if not done:
        draw_curves(trainer.run)  # the last epoch was not validated
        print(f"time is up after {trainer.step} of {trainer.steps} steps: the machine was slower than at the start")
    return trainer.run.models / "model_latest.pt"


def measure(arguments: Sequence[str]) -> Speed:
    """Take a few steps of a training, and validate once; write nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = main.prepare(*option.train_options([*arguments, "--dry_run"], main.NAMES))
        step = dry_run(trainer) / trainer.steps
        begun = time.perf_counter()
        for test_set in trainer.test_sets:
            trainer.scores(test_set)
    return Speed(step, time.perf_counter() - begun)


def _prepare(arguments: Sequence[str], speed: Speed, deadline: float, job: str, end: float) -> Trainer:
    left = max(0.0, deadline - time.perf_counter())
    epoch = max(1, int((PLANNED * left - EPOCHS * speed.validation) / speed.step / EPOCHS))
    words = [*arguments, *SCHEDULE, "--test_every", str(epoch), "--print_every", str(max(1, epoch // 2))]
    words += ["--max_minutes", f"{left / 60:.2f}"]
    print(f"\npython main.py {shlex.join(words)}\n")
    given, options = option.train_options(words, main.NAMES)
    run = JobRun(options.run_dir, end=end, job=job)
    main.check_run(given, options, run)
    trainer = main.build_trainer(options, run, Ranks())
    planned = dataclasses.asdict(trainer.schedule)
    trainer.schedule = ByTheClock(**planned, begun=trainer.begun, seconds=max(left, 1e-3))
    return trainer
