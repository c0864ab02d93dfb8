"""The training loop: step, watch, log, validate, save, resume. It knows steps, devices and files, and no method."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from data.pairs import Pairs
from data.sampler import PatchBatches, load
from data.testset import TestSet
from evaluation.evaluate import Score, evaluate, grouped, mean
from learner import Learner
from loss import Objective
from model import BlindSR
from plan import Plan
from runtime.distributed import Ranks
from runtime.divergence import DivergenceMonitor, TrainingError, Trouble
from runtime.logger import Logger
from runtime.precision import Precision
from runtime.signals import StopSignals
from runtime.state import FORMAT, check_state, no_state
from utility import Clock, Run, save


class Trainer:
    """Trains `net` on `objective`. All that is random is a function of (seed, step): a resumed run is the same run."""

    def __init__(
        self,
        *,
        net: BlindSR,
        objective: Objective[Any],
        pairs: Pairs,
        batches: PatchBatches,
        benchmarks: Sequence[TestSet],
        plan: Plan,
        run: Run,
        config: dict[str, Any],
        device: torch.device,
        numerics: Precision | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        own = pairs.draws.batch // pairs.draws.world
        if own % plan.accumulate:
            raise ValueError(
                f"--accumulate {plan.accumulate}: the {own} images of a process cannot be cut into so many"
            )
        self.ranks = ranks or Ranks()
        self.learner = Learner(net, objective, plan, device=device, numerics=numerics or Precision(), ranks=self.ranks)
        self.net, self.objective = self.learner.net, self.learner.objective
        self.pairs = pairs.to(device)
        self.batches = batches
        self.images = batches.images
        self.benchmarks = benchmarks
        self.plan = plan
        self.run = run
        self.config = config
        self.device = device
        self.watch = DivergenceMonitor(
            plan.collapse, gradients=not self.learner.scaler.is_enabled(), mean=self.ranks.all_reduce_mean
        )
        self.clock = Clock(device)
        self.step = 0
        self.epoch = 0  # the last one that was validated
        self.best: float | None = None  # dB, of the first benchmark
        self.skipped: list[int] = []  # steps whose batch went wrong
        self._resumed = False

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self, begun: float | None = None) -> bool:
        """Train to the end of the plan. SIGINT, SIGTERM, the end of the time and errors save the last good state.

        begun: when the time of the plan began, by `time.perf_counter`; default: now. True: it is done, False: it was
        stopped.
        """
        if not self.ranks.all_equal((self.step, self.skipped)):
            raise ValueError(
                f"--resume: the processes found different states of {self.run.path}; it must lie in a folder that all "
                "machines share"
            )
        if self.ranks.is_main:
            self.run.open(self.config, resumed=self._resumed)
        self.snapshot()
        self._on_disk = self.step
        self._saved = time.perf_counter()
        self._deadline = (self._saved if begun is None else begun) + self.plan.max_seconds
        try:
            with (
                StopSignals(impatient=self.ranks.world == 1) as self._interrupt,
                Logger(
                    self.run, self.plan, step=self.step, epoch=self.epoch, writes=self.ranks.is_main
                ) as self._logbook,
            ):
                while (done := self._train()) is None:
                    pass  # something went wrong and was mended: the loader starts again at another step
                return done
        except BaseException:
            # Of several processes the others may be gone: what is on the disk stands.
            if self.ranks.world == 1 and self._good["step"] > self._on_disk:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self._save()
            raise
        finally:
            self.run.unlock()

    def _train(self) -> bool | None:
        """Take steps to the end: True; or until a stop: False. None where it is back at the last good state.

        That is one of the last line of the log, of the end of the epoch, or a later one that was saved. What is healed
        does not depend on which: all steps up to the one that went wrong are good, and are the same again.
        """
        self.net.train()
        plan, first = self.plan, self.step
        steps, pinned = range(first, plan.steps), self.device.type == "cuda"
        loading = load(self.batches, steps, workers=plan.loader_workers, pinned=pinned)
        with contextlib.closing(loading) as patches:
            while True:
                now = time.perf_counter()
                late = now > self._deadline and self.step > first  # one step at least
                asked = self._interrupt.asked or self.ranks.orphaned
                stop, save = self.ranks.any_rank(asked or late, now - self._saved > plan.save_seconds)
                ended = self.step == plan.steps
                epoch = self.step // plan.epoch_steps > self.epoch
                line = ended or self.step % plan.print_every == 0
                if line or epoch or stop or save:
                    if trouble := self.watch.look():
                        self._heal(trouble)
                        return None
                    if line and self.watch.noted:
                        self._report()
                    self.snapshot()
                    if epoch or ended or stop or save:
                        self._save()
                if stop:
                    self.run.log(f"stopped after step {self.step}; continue with the same command and --resume")
                    return False
                if epoch:
                    self._end_epoch()
                    self.snapshot()
                    self._save()
                if ended:
                    self.run.log(f"done: {self.plan.steps} steps, {self.run.path}")
                    return True
                with self.clock("data"):
                    hr = next(patches)
                if self.step in self.skipped:
                    self.step += 1
                else:
                    self.train_step(hr)
                self._logbook.bar.update()

    def train_step(self, hr: Tensor) -> dict[str, Tensor]:
        """One step on (V·B, 3, s·Q, s·Q) uint8 images of the host; the parts of the loss stay on the device."""
        with self.clock("degradation"):
            lr, hr = self.pairs(hr.to(self.device, non_blocking=True), self.step)
        with self.clock("network"):
            parts = self.learner.step(lr, hr, self.step, self._rate(self.step))
        self.watch.note(self.step, parts)
        self.step += 1
        return parts

    def _rate(self, step: int) -> float:
        before = [bad for bad in self._troubles(step) if bad < step]
        return self.plan.schedule(step) * 0.5 ** max(0, len(before) - 1)

    def _troubles(self, step: int) -> list[int]:
        """The steps that were left out in the epoch of this one."""
        return [bad for bad in self.skipped if bad // self.plan.epoch_steps == step // self.plan.epoch_steps]

    def _heal(self, trouble: Trouble) -> None:
        """Back to the last good state, on without the batch that went wrong; more slowly if it happens again."""
        good, self.skipped = self._good["step"], [*self.skipped, trouble.step]
        troubles = len(self._troubles(trouble.step))
        if troubles > self.plan.patience:
            self._save()
            raise TrainingError(
                f"it went wrong {troubles} times in one epoch, the last time at step {trouble.step}: {trouble.what}. "
                f"{self.run.models} holds the last good state, of step {good}; a run of another name can start from "
                "model_latest.pt there (--pre_train), with a lower --lr_sr, another --precision or other images"
            )
        self._good |= {"skipped": self.skipped}
        self.load_state_dict(copy.deepcopy(self._good))  # the optimiser goes on with the tensors that it is given
        self._logbook.bar.n = good
        slower = f", the learning rate times {0.5 ** (troubles - 1):g}" if troubles > 1 else ""
        self.run.log(f"step {trouble.step}: {trouble.what}; back to step {good}, on without that batch{slower}")

    # -------------------------------------------------------------------------------------------- log, validate

    def _report(self) -> None:
        steps, losses = self.watch.line()
        self._logbook.losses(self.step, losses, steps, self._rate(self.step - 1), self.clock.shares())

    def _end_epoch(self) -> None:
        """Validate, and save what is worth it."""
        start = time.perf_counter()
        self.epoch = self.step // self.plan.epoch_steps
        self.ranks.broadcast(self.learner.buffers())  # without a GPU each has BatchNorm statistics of its own
        psnr = self.validate(self.epoch) if self.benchmarks else None
        if psnr is not None:
            better = self.best is None or psnr > self.best
            self.best = psnr if better else self.best
            if self.ranks.is_main:
                self._save_models(psnr, better)
        self._logbook.since += time.perf_counter() - start

    def _save_models(self, psnr: float, better: bool) -> None:
        contents = self.learner.checkpoint()
        if better:
            save(contents, self.run.models / "model_best.pt")
        if self.epoch >= self.plan.save_from_epoch:
            save(contents, self.run.models / f"model_{self.epoch}_psnr_{psnr:.2f}.pt")
            self.run.drop_old(self.plan.keep)

    def validate(self, epoch: int) -> float:
        """Score the network, or the average of its weights, on every benchmark and log it; the first one's PSNR."""
        self.net.eval()
        rows = []
        for benchmark in self.benchmarks:
            psnr, ssim = mean(self.scores(benchmark))
            if math.isnan(psnr):
                raise TrainingError(
                    f"the PSNR on {benchmark.name} is nan after step {self.step}: the weights, or statistics of "
                    f"BatchNorm, are no numbers any more. {self.run.models} may hold a checkpoint of an earlier epoch, "
                    "from which a run of another name can start (--pre_train)"
                )
            of = {"epoch": epoch, "step": self.step, "set": benchmark.name, "protocol": benchmark.protocol}
            rows.append({**of, "psnr": f"{psnr:.4f}", "ssim": f"{ssim:.5f}"})
        self._logbook.scores(rows)
        self.net.train()
        return float(rows[0]["psnr"])

    def scores(self, benchmark: TestSet, first: int | None = None) -> list[Score]:
        """Of the network as it is, each rank restoring its share of the images; `first`: of so many images only."""
        net = self.learner.eval_net
        scores = evaluate(
            lambda lr, hr: net(lr, hr).image,
            benchmark.part(self.ranks.rank, self.ranks.world),
            scale=net.scale,
            metric_protocol=self.plan.metric,
            device=self.device,
            first=first,
        )
        of_images = list(grouped(scores, "image").values())
        return [score for image in self.ranks.gather(of_images) for score in image]

    # ------------------------------------------------------------------------------------------- save and resume

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to be the same run; of this rank, where ranks differ."""
        return {
            "format": FORMAT,
            "step": self.step,
            "epoch": self.epoch,
            "best": self.best,
            "skipped": list(self.skipped),
            "watch": self.watch.state_dict(),
            **self.learner.state_dict(),
            "pairs": self.pairs.state_dict(),
            "images": self.images,
        }

    def snapshot(self) -> None:
        """Remember this state as the last good one."""
        self._good = copy.deepcopy(self.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be as in this state. ValueError where it is of another network."""
        self.learner.load_state_dict(state)
        self.watch.load_state_dict(state["watch"])
        self.pairs.load_state_dict(state["pairs"])
        self.step, self.epoch = state["step"], state["epoch"]
        self.best = None if state["best"] is None else float(state["best"])
        self.skipped = [int(step) for step in state["skipped"]]

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, perhaps of another number of processes. ValueError where it does not fit."""
        check_state(state, self.run.path, self.run.state, images=self.images, steps=self.plan.steps)
        try:
            self.load_state_dict(state | {"pairs": self.ranks.shard_state(state["pairs"])})
        except Exception as error:  # one that is damaged fails in a dozen ways
            raise no_state(self.run.state, f"{type(error).__name__}: {error}") from error
        self._resumed = True

    def _save(self) -> None:
        """The last good state, whole or not at all."""
        state = self._good | {"pairs": self.ranks.gather_state(self._good["pairs"])}
        if self.ranks.is_main:
            save(state, self.run.state)  # first: weights without a state could not be continued
            save(state["net"], self.run.models / "model_latest.pt")
        self._saved, self._on_disk = time.perf_counter(), state["step"]
