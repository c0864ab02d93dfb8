"""Report what a run does: lines on the screen and in log.txt, rows of its tables, values for trackers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from runtime.curves import Reference
from runtime.tracker import Trackers
from utility import Run, append_rows, duration, forget_after

SCORES = ("psnr", "ssim")  # of each validation


class Logger:
    """Writes the logs of a run; on all ranks but the main one it writes nothing.

    Args:
        steps, epoch_steps: of the whole run, and of an epoch.
        step, epoch: where the run goes on; rows of later ones are dropped, since they will be written again.
        options: everything that the run was started with, for the trackers.
        sets: the names of its test sets.
        writes: this process is the one that writes.
        reference: the scores of another run, to compare with.
    """

    def __init__(
        self,
        run: Run,
        *,
        steps: int,
        epoch_steps: int,
        step: int,
        epoch: int,
        options: Mapping[str, Any],
        sets: Sequence[str],
        writes: bool,
        reference: Reference | None = None,
    ) -> None:
        self.run = run
        self.steps = steps
        self.epoch_steps = epoch_steps
        self._since = time.perf_counter()  # the last line; time that went into validation is added to it
        self._validation = 0.0  # seconds that the last one took
        self._writes = writes
        self._reference = reference
        scores = [f"{name}/{test_set}" for test_set in sets for name in SCORES]
        self._trackers = Trackers(run.path, options=options, scores=scores, log=run.log)
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=None if writes else True)
        self.rewind(step, epoch)

    def __enter__(self) -> Logger:
        self._usual_hook, threading.excepthook = threading.excepthook, self._on_thread_error
        return self

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """Stay silent about TensorBoard's thread: its next write raises the error, and `Trackers` logs it."""
        if type(error.thread).__module__.partition(".")[0] != "tensorboard":
            self._usual_hook(error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()
        try:
            with nullcontext() if error is None else suppress(OSError):  # the first error is the one to tell
                self._trackers.close()
        finally:
            threading.excepthook = self._usual_hook

    def rewind(self, step: int, epoch: int) -> None:
        """Go back to a step: drop what the tables hold of later ones."""
        self.bar.n = step
        if not self._writes:
            return
        forget_after(self.run.loss_log, step)
        forget_after(self.run.psnr_log, epoch * self.epoch_steps)
        self._trackers.begin(step)

    def losses(self, step: int, losses: Mapping[str, float], steps: int, learning_rate: float, shares: str) -> None:
        """Log the mean losses of the last `steps` steps; `shares` says where their time went."""
        now = time.perf_counter()
        rate, self._since = steps / (now - self._since), now
        done = (step - 1) // self.epoch_steps  # epochs that were validated
        validations = (self.steps // self.epoch_steps - done) * self._validation
        epoch, left = done + 1, duration((self.steps - step) / rate + validations)
        values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        self.bar.set_postfix_str(f"{values}  {shares}")
        self.run.log(
            f"epoch {epoch}  step {step}/{self.steps}  lr {learning_rate:.3g}  {values}"
            f"  |  {rate:.2f} steps/s, {left} left  |  {shares}"
        )
        if self._writes:
            rows = [{"step": step, "part": name, "value": value} for name, value in losses.items()]
            append_rows(self.run.loss_log, rows)
        told = {**losses, "learning rate": learning_rate, "steps per second": rate}
        self._trackers.scalars({f"train/{name}": value for name, value in told.items()}, step)

    def validated(self, seconds: float) -> None:
        """Take note of how long a validation took: that is no time of steps, but counts towards the time left."""
        self._since += seconds
        self._validation = seconds

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a row for each test set: epoch, step, set, protocol, and psnr and ssim as they are."""
        rows = [{**row, "psnr": f"{row['psnr']:.4f}", "ssim": f"{row['ssim']:.5f}"} for row in rows]
        for row in rows:
            self.run.log("epoch {epoch}  {set}  {protocol}  PSNR {psnr} dB  SSIM {ssim}".format_map(row))
            if self._reference is not None and (note := self._reference.compare(row)):
                self.run.log(note)
            self._trackers.scalars({f"{name}/{row['set']}": float(row[name]) for name in SCORES}, row["step"])
        if self._writes:
            append_rows(self.run.psnr_log, rows)

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        """Show images, (3, H, W) in [0, 1] on the CPU, to the trackers."""
        self._trackers.images(images, step)
