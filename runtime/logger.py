"""What a run tells: lines on the screen and in log.txt, rows of its tables, values for TensorBoard, curves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from plan import Plan
from utility import Run, append_rows, draw_curves, duration, forget_after, naming_file


class Logger:
    """Kept by the first of all processes; the others have one that writes nothing.

    step, epoch: where the run goes on; what its tables hold of later ones gets written again.
    """

    def __init__(self, run: Run, plan: Plan, *, step: int, epoch: int, writes: bool) -> None:
        self.run = run
        self.plan = plan
        self.since = time.perf_counter()  # the last line, without the time that went into validation
        self._tensorboard: SummaryWriter | None = None
        if writes:
            forget_after(run.loss_log, step)
            forget_after(run.psnr_log, epoch * plan.epoch_steps)
            self._tensorboard = SummaryWriter(str(run.path / "tb"), purge_step=step + 1)
        self.bar = tqdm(total=plan.steps, initial=step, unit="step", disable=None if writes else True)

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()
        if self._tensorboard is not None:
            with naming_file(self.run.path / "tb"):
                self._tensorboard.close()

    def losses(self, step: int, losses: Mapping[str, float], steps: int, learning_rate: float, shares: str) -> None:
        """The mean losses of the last `steps` steps. shares: of the parts of a step in its time."""
        now = time.perf_counter()
        rate, self.since = steps / (now - self.since), now
        epoch, left = (step - 1) // self.plan.epoch_steps + 1, duration((self.plan.steps - step) / rate)
        values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        self.bar.set_postfix_str(f"{values}  {shares}")
        self.run.log(
            f"epoch {epoch}  step {step}/{self.plan.steps}  lr {learning_rate:.3g}  {values}"
            f"  |  {rate:.2f} steps/s, {left} left  |  {shares}"
        )
        if self._tensorboard is not None:
            append_rows(self.run.loss_log, [{"step": step, "part": k, "value": v} for k, v in losses.items()])
            told = {**losses, "learning rate": learning_rate, "steps per second": rate}
            self._chart(self._tensorboard, {f"train/{name}": value for name, value in told.items()}, step)

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A row for each benchmark: epoch, step, set, protocol, psnr, ssim."""
        for row in rows:
            self.run.log("epoch {epoch}  {set}  {protocol}  PSNR {psnr} dB  SSIM {ssim}".format_map(row))
            if self._tensorboard is not None:
                values = {f"{name}/{row['set']}": float(row[name]) for name in ("psnr", "ssim")}
                self._chart(self._tensorboard, values, row["step"])
        if self._tensorboard is not None:
            append_rows(self.run.psnr_log, rows)
            draw_curves(self.run)

    def _chart(self, writer: SummaryWriter, values: Mapping[str, float], step: int) -> None:
        with naming_file(self.run.path / "tb"):
            for name, value in values.items():
                writer.add_scalar(name, value, step)
