"""The training loop: step, log, validate, save, resume. It knows steps, devices and files, but no method."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from data.pairs import Batch, Pairs
from data.sampler import PatchBatches, Patches, load, naming_loader
from data.testset import HELD_OUT, Sample, TestSet
from evaluation import Score, evaluate, grouped, mean
from evaluation.report import RunReport
from evaluation.strips import Strips
from loss.learner import Learner
from model.checkpoint import write_file
from runtime import state as run_state
from runtime.curves import Reference
from runtime.divergence import Monitor, Recovery, TrainingError, Trouble
from runtime.logger import Logger
from runtime.schedule import Schedule
from runtime.signals import StopSignals
from utility import Clock, Run, atomic_write, digest, host_copy


class Due(NamedTuple):
    """The tasks of the loop that are due before the next step."""

    look: bool  # read the losses and try the weights
    line: bool  # write a line of the log
    validation: bool
    save: bool
    stop: bool


class Trainer:
    """Trains a network. All that is random is a function of (seed, step), so a resumed run is the same run.

    Args:
        learner: takes the steps.
        pairs, batches: HR patches, and how they become LR and HR images.
        test_sets: validated at the end of each epoch; the first decides which weights are the best, if PSNR does.
        schedule: the learning rate of each step, the number of steps, and that in an epoch.
        config: written to config.json.
        metric: planes of PSNR and SSIM.
        collapse: take back a step whose loss is this many times the running median; 0: never.
        n_threads: loader processes.
        max_minutes, save_minutes: stop after, save at least every.
        st_save_epoch, keep: numbered checkpoints from this epoch on, how many of them.
        begun: when the minutes began, by `time.perf_counter`.
        reference: the scores of another run, to compare with.
        score_start: validate before the first step, too: the weights are those of another run.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        pairs: Pairs,
        batches: PatchBatches,
        test_sets: Sequence[TestSet],
        schedule: Schedule,
        run: Run,
        config: dict[str, Any],
        metric: str,
        collapse: float = 0.0,
        n_threads: int = 0,
        print_every: int = 100,
        max_minutes: float | None = None,
        save_minutes: float = math.inf,
        st_save_epoch: int = 0,
        keep: int = 0,
        signals: StopSignals | None = None,
        begun: float | None = None,
        reference: Reference | None = None,
        score_start: bool = False,
    ) -> None:
        share = pairs.draws.batch // pairs.draws.world
        if share % learner.accumulate:
            raise ValueError(
                f"`accumulate` {learner.accumulate}: the {share} images of a process cannot be cut into so many"
            )
        self.learner = learner
        self.net = learner.net
        self.objective = learner.objective
        self.device = learner.device
        self.ranks = learner.ranks
        self.pairs = pairs.to(self.device)
        self.batches = batches
        self.test_sets = test_sets
        self.tests = {  # digests of protocols and images, by the names of the sets
            test_set.name: digest([test_set.digest, *sorted((p.name, p.stat().st_size) for p in test_set.hr_paths)])
            for test_set in test_sets
        }
        self.schedule = schedule
        self.run = run
        self.config = config
        self.steps, self.epoch_steps = schedule.total_steps, schedule.epoch_steps
        self.metric = metric
        self.n_threads = n_threads
        self.print_every = print_every
        self.max_seconds = math.inf if max_minutes is None else 60 * max_minutes
        self.save_seconds = 60 * save_minutes
        self.st_save_epoch = st_save_epoch
        self.keep = keep
        self.reference = reference
        self.score_start = score_start
        self.signals = signals or StopSignals(impatient=self.ranks.world == 1)
        self.begun = time.perf_counter() if begun is None else begun
        self.monitor = Monitor(collapse, gradients=not learner.scaler.is_enabled(), mean_=self.ranks.all_reduce_mean_)
        self.recovery = Recovery(self.epoch_steps)
        self.clock = Clock(self.device)
        self.step = 0
        self.epoch = -1 if score_start else 0  # the last one that was validated
        self.best: float | None = None  # dB, on the first test set
        self._untried: tuple[int, Batch] | None = None  # the last step and its batch, to try its weights on
        self._constant: dict[str, Tensor] = {}  # host copies of what never changes
        self._resumed = False
        self._start = self._saved_step = 0  # where `fit` began, and of the state on the disk
        self._saved_at = 0.0  # when that state was written, by `time.perf_counter`
        self._logger: Logger  # while `fit` runs

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self) -> bool:
        """Train to the end. Signals, the end of the time and errors save the last good state first.

        Returns True when the run is done, False when it was stopped. Raises TrainingError when it cannot go on.
        """
        self._compare_ranks()
        if self.ranks.is_main:
            self.run.open(self.config, resumed=self._resumed)
        self.recovery.keep(self._snapshot())
        self._start = self._saved_step = self.step
        self._saved_at = time.perf_counter()
        where = {"steps": self.steps, "epoch_steps": self.epoch_steps, "step": self.step, "epoch": self.epoch}
        about = {"options": self.config, "sets": [test_set.name for test_set in self.test_sets]}
        try:
            with (
                self.signals.deferred(),
                naming_loader(),
                Logger(self.run, **where, **about, writes=self.ranks.is_main, reference=self.reference) as self._logger,
            ):
                return self._train()
        except BaseException:
            # The other processes may be gone: a state of which they hold a part stays as it is on the disk.
            good = self.recovery.good
            if good["step"] > self._saved_step and (self.ranks.world == 1 or not good["pairs"]):
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self._save()
            raise
        finally:
            self.run.unlock()

    def _train(self) -> bool:
        self.net.train()
        patches = self._patches()
        try:
            while True:
                due = self._due()

                # Judge the steps since the last look and the weights they led to; go back if they are bad.
                if due.look and (trouble := self.monitor.read() or self._try_weights()):
                    patches.close()
                    self._go_back(trouble)
                    patches = self._patches()
                    continue

                # Report, keep the state, validate, save.
                if due.line and self.monitor.recorded:
                    self._report()
                if due.validation:  # without a GPU each rank has BatchNorm statistics of its own
                    self.ranks.broadcast(self.learner.buffers())
                if due.look:
                    self.recovery.keep(self._snapshot())
                if due.validation:
                    self._save()  # a validation may take longer than a launcher waits after its stop signal
                    self._end_epoch()
                if due.save:
                    self._save()

                # End.
                if due.stop:
                    self.run.log(f"stopped after step {self.step}; continue with the same command and `resume`")
                    return False
                if self.step == self.steps:
                    self.run.log(f"done: {self.steps} steps, {self.run.path}")
                    return True

                # Step.
                start = time.perf_counter()
                with self.clock("data"):
                    drawn = next(patches)
                if self.step in self.recovery.skipped:
                    self.step += 1
                else:
                    self.train_step(drawn)
                self._logger.bar.update()
                if self.step == self._start + 3:  # the first ones take longer
                    self._forecast(time.perf_counter() - start)
        finally:
            patches.close()

    def _due(self) -> Due:
        """Return what is due before the next step: the same on all ranks."""
        now = time.perf_counter()
        late = now > self.begun + self.max_seconds and self.step > self._start  # one step at least
        asked = self.signals.asked or self.ranks.orphaned or late
        stop, save = self.ranks.any_rank(asked, now - self._saved_at > self.save_seconds)
        done = self.step == self.steps
        line = done or self.step % self.print_every == 0
        epoch_ends = self.step // self.epoch_steps > self.epoch
        save = save or done or epoch_ends or stop
        look = line or save or self.step <= (self.recovery.suspect or 0)
        validation = epoch_ends and not stop  # a stop must not wait for it; it comes on resume
        return Due(look, line, validation, save, stop)

    def train_step(self, patches: Patches) -> dict[str, Tensor]:
        """Take one step on patches of the host; return the losses, which stay on the device."""
        with self.clock("degradation"):
            hr, given = patches.to(self.device)
            batch = self.pairs(hr, self.step, given)
        with self.clock("network"):
            losses = self.learner.step(batch, self.step, self._rate(self.step))
        self.monitor.record(self.step, losses)
        self._untried = self.step, batch
        self.step += 1
        return losses

    def _patches(self) -> Generator[Patches, None, None]:
        """Yield the patches of the steps from the present one on, which loader processes cut ahead."""
        pinned = self.device.type == "cuda"
        return load(self.batches, range(self.step, self.steps), workers=self.n_threads, pinned=pinned)

    def _rate(self, step: int) -> float:
        return self.schedule(step) * self.recovery.rate_factor(step)

    def _compare_ranks(self) -> None:
        """Raise ValueError unless all processes are at one step of one run on the same images."""
        images = {test_set.name: digest([path.name for path in test_set.hr_paths]) for test_set in self.test_sets}
        held = {"dir_data": self.batches.images, "data_test": images, "step": (self.step, self.recovery.skipped)}
        for name, values in self.ranks.differing(held).items():
            if name == "step":
                raise ValueError(
                    f"the processes found different states of {self.run.path}; it must lie in a folder that all "
                    "machines share"
                )
            told = ", ".join(f"{value} in process {rank}" for rank, value in enumerate(values))
            raise ValueError(f"`{name}`: the processes found different images: {told}")

    # -------------------------------------------------------------------------------------------- when it goes wrong

    def _try_weights(self) -> Trouble | None:
        """Try the present weights on the last batch: a state is good only if the loss from it is."""
        if self._untried is None:
            return None
        step, batch = self._untried
        if what := self.monitor.judge_weights(*self.learner.probe(batch, step)):
            return Trouble(step, what, update=True)
        self._untried = None
        return None

    def _go_back(self, trouble: Trouble) -> None:
        """Return to a good state, to go on without the step that went wrong, more slowly if it happens again."""
        try:
            good = self.recovery.recover(trouble)
        except TrainingError as error:
            self._save()
            raise TrainingError(
                f"{error}. {self.run.models} holds the last good state, of step {self.recovery.good['step']}; a run of "
                "another name can start from model_latest.pt there (`pre_train`), with a lower `lr_sr`, another "
                "`precision` or other images"
            ) from error
        self.load_state_dict(good)
        self._logger.rewind(self.step, self.epoch)
        factor = self.recovery.rate_factor(trouble.step + 1)
        slower = f", the learning rate times {factor:g}" if factor < 1 else ""
        if trouble.step in self.recovery.skipped:
            way = f"on without that {'update' if trouble.update else 'batch'}{slower}"
        else:
            way = "to find the step that broke them"
        self.run.log(f"step {trouble.step}: {trouble.what}; back to step {self.step}, {way}")

    # -------------------------------------------------------------------------------------------- log, validate

    def _report(self) -> None:
        steps, losses = self.monitor.line()
        self._logger.losses(self.step, losses, steps, self._rate(self.step - 1), self.clock.shares())

    def _forecast(self, seconds: float) -> None:
        """Warn of a run on a CPU that would take days, before it has said anything else; `seconds`: of a step."""
        days = seconds * (self.steps - self.step) / 86400
        if self.device.type == "cpu" and days > 3:
            self.run.log(
                f"note: a step takes {seconds:.1f} s on this CPU, and the run {days:.0f} days. Published batches and "
                "lengths are for GPUs; smaller `batch_size`, `patch_size`, `n_blocks` and `epochs_sr` make it shorter"
            )

    def _end_epoch(self) -> None:
        """Validate, and keep the weights that are worth it."""
        start = time.perf_counter()
        self.epoch = self.step // self.epoch_steps
        report = RunReport(self.run, self.net.scale, self.reference)
        if self.test_sets:
            psnr = self.validate(report)
            if self.epoch > 0:  # the weights that a run starts from are not its own
                if better := self.objective.ranked_by_psnr and (self.best is None or psnr > self.best):
                    self.best = psnr
                if self.ranks.is_main:
                    self._save_models(psnr, better)
        if self.ranks.is_main:
            report.write()
        self.recovery.good |= {"epoch": self.epoch, "best": self.best}  # all of the state that has changed
        self._logger.validated(time.perf_counter() - start)

    def _save_models(self, psnr: float, better: bool) -> None:
        names = ["model_best.pt"] if better else []
        if self.epoch >= self.st_save_epoch:
            names.append(f"model_{self.epoch}_psnr_{psnr:.2f}.pt")
        for name in names:
            with atomic_write(self.run.models / name) as temporary:
                write_file(self.learner.checkpoint(), temporary)
        self.run.drop_old(self.keep)

    def validate(self, report: RunReport) -> float:
        """Score the network, or the average of its weights, on every test set; return the PSNR on the first, in dB.

        report: is given the scores, and crops of this rank's images.
        """
        self.net.eval()
        rows, strips = [], Strips()

        def show(name: str, sample: Sample, sr: Tensor) -> None:
            report.crops(sample, sr)
            strips(name, sample, sr)

        for test_set in self.test_sets:
            scores = self.scores(test_set, on_image=partial(show, test_set.name))
            report.scores += scores
            score = mean(scores)
            if math.isnan(score["psnr"]):
                raise TrainingError(
                    f"the PSNR on {test_set.name} is nan after step {self.step}: statistics of BatchNorm, or the "
                    f"average of the weights, are not finite any more. {self.run.models} may hold a checkpoint of an "
                    "earlier epoch, from which a run of another name can start (`pre_train`)"
                )
            row = {"epoch": self.epoch, "step": self.step, "set": test_set.name, "protocol": test_set.protocol}
            rows.append(row | score)
        self._logger.scores(rows)
        self._logger.images(strips.found, self.step)
        self.net.train()
        return rows[0]["psnr"]

    def scores(
        self,
        test_set: TestSet,
        first: int | None = None,
        on_image: Callable[[Sample, Tensor], None] | None = None,
    ) -> list[Score]:
        """Return the scores of the network as it is; each rank restores its share of the images. See `evaluate`."""
        net = self.learner.eval_net
        scores = evaluate(
            lambda lr, hr: net(lr, hr).image,
            test_set.part(self.ranks.rank, self.ranks.world),
            scale=net.scale,
            planes=self.metric,
            device=self.device,
            first=first,
            on_image=on_image,
        )
        of_images = list(grouped(scores, "image").values())
        return [score for image in self.ranks.gather(of_images) for score in image]

    # ------------------------------------------------------------------------------------------- save and resume

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs to be the same run; where ranks differ, that of this one."""
        return {
            "format": run_state.FORMAT,
            "step": self.step,
            "epoch": self.epoch,
            "images": self.batches.images,
            "tests": self.tests,
            "best": self.best,
            "skipped": list(self.recovery.skipped),
            "suspect": self.recovery.suspect,
            "monitor": self.monitor.state_dict(),
            "pairs": self.pairs.state_dict(),
            **self.learner.state_dict(),
        }

    def _snapshot(self) -> dict[str, Any]:
        """Return a copy of the state in host memory. What never changes (a teacher, VGG19) is copied once."""
        state = self.state_dict()
        constant = {name: value for name, value in state["objective"].items() if self.objective.is_constant(name)}
        self._constant = self._constant or host_copy(constant)
        state["objective"] = {name: value for name, value in state["objective"].items() if name not in constant}
        state = host_copy(state)
        state["objective"] |= self._constant
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from this state. Raise ValueError if it is of another network."""
        self.learner.load_state_dict(state)
        self.monitor.load_state_dict(state["monitor"])
        self.pairs.load_state_dict(state["pairs"])
        self.step, self.epoch = state["step"], state["epoch"]
        self.best = None if state["best"] is None else float(state["best"])
        self.recovery.skipped = [int(step) for step in state["skipped"]]
        self.recovery.suspect = state["suspect"]
        self._untried = None

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; the number of processes may differ. Raise ValueError if it does not fit."""
        before = state.get("tests") or {}
        if HELD_OUT in self.tests and before and HELD_OUT not in before:
            raise ValueError(
                f"`data_test`: this run validates on {' and '.join(before)}, which is not found any more; put it back "
                "where it was. Without it training images would be held out"
            )
        run_state.check(state, self.run.state, images=self.batches.images, steps=self.steps)
        try:
            self.load_state_dict(state | {"pairs": self.ranks.shard_state(state["pairs"])})
        except Exception as error:  # a damaged state fails in a dozen ways
            raise run_state.not_a_state(self.run.state, f"{type(error).__name__}: {error}") from error
        if changed := [name for name, tested in self.tests.items() if before.get(name, tested) != tested]:
            self.run.log(
                f"note: the protocol or the images of {' and '.join(changed)} have changed: do not compare the scores "
                "from here on with those before; the best weights are chosen anew"
            )
            self.best = None
        self._constant = {}
        self._resumed = True

    def _save(self) -> None:
        """Write the last good state, whole or not at all; the one before it stays beside it."""
        good = self.recovery.good
        state = good | {"pairs": self.ranks.gather_state(good["pairs"])}
        if self.ranks.is_main:
            self.run.sync_tables()
            with atomic_write(self.run.state, keep=self.run.previous) as temporary:
                write_file(state, temporary)  # first: weights without a state could not be continued
            with atomic_write(self.run.models / "model_latest.pt") as temporary:
                write_file(state["net"], temporary)
        self._saved_step = state["step"]
        self._saved_at = time.perf_counter()
