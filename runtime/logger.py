"""Tell what a run does: lines on the screen and in log.txt, rows of its tables, values for TensorBoard, curves."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from runtime.reference import Reference
from utility import Run, append_rows, draw_curves, duration, forget_after, naming_file

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Logger:
    """Writes the logs of a run; on all ranks but the main one it writes nothing.

    Args:
        steps, epoch_steps: of the whole run, and of an epoch.
        step, epoch: where the run goes on; rows of later ones are dropped, for they will be written again.
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
        writes: bool,
        reference: Reference | None = None,
    ) -> None:
        self.run = run
        self.steps = steps
        self.epoch_steps = epoch_steps
        self.since = time.perf_counter()  # the last line; time that went into validation is added to it
        self._writes = writes
        self._reference = reference
        self._charts = run.path / "tb"
        self._tensorboard: SummaryWriter | None = None
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=None if writes else True)
        self.rewind(step, epoch)

    def __enter__(self) -> Logger:
        self._usual_hook, threading.excepthook = threading.excepthook, self._on_thread_error
        return self

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """Stay silent about TensorBoard's thread: its error is raised by the next write to it."""
        if type(error.thread).__module__.partition(".")[0] != "tensorboard":
            self._usual_hook(error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()
        try:
            with nullcontext() if error is None else suppress(OSError):  # the first error is the one to tell
                self._close_tensorboard()
        finally:
            threading.excepthook = self._usual_hook

    def rewind(self, step: int, epoch: int) -> None:
        """Go back to a step: drop what the tables hold of later ones."""
        self.bar.n = step
        if not self._writes:
            return
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        forget_after(self.run.loss_log, step)
        forget_after(self.run.psnr_log, epoch * self.epoch_steps)
        self._close_tensorboard()
        self._tensorboard = SummaryWriter(str(self._charts), purge_step=step + 1)

    def losses(self, step: int, losses: Mapping[str, float], steps: int, learning_rate: float, shares: str) -> None:
        """Log the mean losses of the last `steps` steps; `shares` tells where their time went."""
        now = time.perf_counter()
        rate, self.since = steps / (now - self.since), now
        epoch, left = (step - 1) // self.epoch_steps + 1, duration((self.steps - step) / rate)
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
        self._chart({f"train/{name}": value for name, value in told.items()}, step)

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a row for each test set: epoch, step, set, protocol, psnr, ssim."""
        for row in rows:
            self.run.log("epoch {epoch}  {set}  {protocol}  PSNR {psnr} dB  SSIM {ssim}".format_map(row))
            if self._reference is not None and (note := self._reference.compare(row)):
                self.run.log(note)
            self._chart({f"{name}/{row['set']}": float(row[name]) for name in ("psnr", "ssim")}, row["step"])
        if self._writes:
            append_rows(self.run.psnr_log, rows)
            draw_curves(self.run, self._reference)

    def _chart(self, values: Mapping[str, float], step: int) -> None:
        if self._tensorboard is None:
            return
        self._check_charts()
        with naming_file(self._charts):
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)

    def _close_tensorboard(self) -> None:
        if self._tensorboard is not None and self._charts.is_dir():
            with naming_file(self._charts):
                self._tensorboard.close()

    def _check_charts(self) -> None:
        """Raise FileNotFoundError if the folder is gone; TensorBoard would notice minutes later."""
        if not self._charts.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "the folder was removed while the run writes to it", str(self._charts)
            )
