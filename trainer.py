"""The training loop: step, log, validate, save, resume. It knows steps, devices and files, but no method."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from data.pairs import Batch, Pairs
from data.sampler import PatchBatches, Patches, load, naming_loader
from data.testset import Sample, TestSet, centre
from evaluation import Score, evaluate, grouped, mean
from evaluation.report import RunReport
from loss import Objective, Phase, compiled
from model import EMA, BlindSR
from model.checkpoint import checkpoint, write_file
from model.layer import Trunk
from runtime import state as run_state
from runtime.curves import Reference
from runtime.distributed import Ranks
from runtime.divergence import Monitor, Recovery, TrainingError, Trouble
from runtime.graph import GraphedStep, check_graph
from runtime.logger import Logger
from runtime.precision import Precision
from runtime.signals import StopSignals
from utility import Clock, Run, atomic_write, digest, host_copy

TRACKED, CROP = 2, 96  # validation images that trackers get, and the side of the centre crop of each, HR pixels


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The length of a run, and its learning rate as a function of the step: a warm-up, then the rest of the run.

    The rate of the warm-up falls by stairs, that of the rest as `decay_type` says. Stairs come where the number of the
    epoch within its stretch is a multiple of `decay`. The released trainers count epochs from 1 (`first`), so each
    stair comes one epoch earlier than by counting from 0.

    "cosine" falls to a thousandth of `rate` in `decay` epochs and starts again, as IKC's released trainer has it: steps
    count from 1, and the last one of the run ends a period instead of beginning one. "none" stays at `rate`.
    """

    epoch_steps: int
    total_steps: int
    warmup_epochs: int = 0
    warmup_rate: float = 0.0
    warmup_decay: int = 1  # epochs
    warmup_gamma: float = 1.0
    rate: float
    decay: int  # epochs
    gamma: float
    first: int = 1
    decay_type: str = "step"  # "step" (stairs), "cosine" or "none"

    def __call__(self, step: int) -> float:
        epoch = step // self.epoch_steps
        if epoch < self.warmup_epochs:
            return self.warmup_rate * self.warmup_gamma ** ((epoch + self.first) // self.warmup_decay)
        if self.decay_type == "none":
            return self.rate
        if self.decay_type == "cosine":
            period, number = self.decay * self.epoch_steps, step + 1 - self.warmup_epochs * self.epoch_steps
            t = number % period or (period if step + 1 == self.total_steps else 0)
            low = self.rate / 1000
            return low + (self.rate - low) * (1 + math.cos(math.pi * t / period)) / 2
        return self.rate * self.gamma ** ((epoch - self.warmup_epochs + self.first) // self.decay)


class Due(NamedTuple):
    """The tasks of the loop that are due before the next step."""

    look: bool  # read the losses and try the weights
    line: bool  # write a line of the log
    validation: bool
    save: bool
    stop: bool
    done: bool


class Learner:
    """The part that learns: a network with its objective, Adam and moving average, one step at a time.

    Args:
        ema: decay of the average of the weights, per step; 0: none.
        degradation: what the checkpoints say of the degradation that they were trained on.
        accumulate: parts in which a batch goes through the network.
        recompute: compute the maps of the SR network twice instead of keeping them all.
        clip_grad: norm that the gradient of a step is scaled down to, where it is larger; 0: never.
        compile: compile what network and objective compute.
        cuda_graph: launch each step as one CUDA graph.
    """

    def __init__(
        self,
        net: BlindSR,
        objective: Objective[Any],
        *,
        beta2: float = 0.999,
        ema: float = 0.0,
        degradation: Mapping[str, Any] | None = None,
        accumulate: int = 1,
        recompute: bool = False,
        clip_grad: float = 0.0,
        compile: bool = False,
        cuda_graph: bool = False,
        device: torch.device,
        precision: Precision = Precision(),  # noqa: B008 (frozen)
        ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    ) -> None:
        if accumulate > 1 and objective.steps > 1:
            raise ValueError(f"`accumulate` {accumulate}: this objective takes {objective.steps} steps in each batch")
        if cuda_graph:
            alike, scaled = objective.turns is not None, precision.scaler(device).is_enabled()
            check_graph(device, processes=ranks.world, parts=accumulate, scaled=scaled, alike=alike)
        self.device = device
        self.precision = precision
        self.ranks = ranks
        self.accumulate = accumulate
        self.degradation = degradation
        self.clip_grad = clip_grad
        layout = precision.memory_format  # of a teacher and a discriminator, too
        self.net = ranks.replicate(net.to(device).to(memory_format=layout))
        self.objective = ranks.replicate(objective.to(device).to(memory_format=layout))
        if compile and any(isinstance(module, nn.SyncBatchNorm) for module in self.net.modules()):
            raise ValueError("`compile`: PyTorch cannot compile a BatchNorm over several GPUs; leave it out")
        for module in self.net.modules():
            if isinstance(module, Trunk):
                module.recompute = recompute
        self.ema = EMA(self.net, ema) if ema else None
        groups: list[dict[str, Any]] = [{"params": list(self.net.parameters()), "share": 1.0}]
        if trained := [p for p in self.objective.parameters() if p.requires_grad]:
            groups.append({"params": trained, "share": self.objective.rate_share})
        # Fused, Adam rounds otherwise than in the released trainers, whose runs on a CPU float32 repeats to the bit.
        fused = device.type == "cuda" or precision.precision == "bf16"
        self.optimizer = torch.optim.Adam(groups, lr=0.0, betas=(0.9, beta2), fused=fused, capturable=cuda_graph)
        self.scaler = precision.scaler(device)
        self._compute = compiled(self.objective) if compile else self.objective.phases
        self._graphed: GraphedStep | None = None
        if cuda_graph:
            self._graphed = GraphedStep(lambda first_alike, lr, hr: self._step(Batch(lr, hr), first_alike))
            for group in self.optimizer.param_groups:
                group["lr"] = torch.zeros((), device=device)  # where the graph reads it

    @property
    def eval_net(self) -> BlindSR:
        """The network to validate: the one that is trained, or the average of its weights."""
        return self.net if self.ema is None else self.ema.net

    def step(self, batch: Batch, number: int, rate: float) -> dict[str, Tensor]:
        """Take one training step. Return its losses and the norm of its gradient, which stay on the device."""
        for group in self.optimizer.param_groups:
            if self._graphed is None:
                group["lr"] = rate * group["share"]
            else:
                group["lr"].fill_(rate * group["share"])
        if self._graphed is None:
            return self._step(batch, number)
        return self._graphed(self.objective.first_alike(number), batch.lr, batch.hr)

    def _step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        parts, begins = batch.chunk(self.accumulate), True
        for i, part in enumerate(parts):
            for phase in self._with_autocast(self._compute(self.net, part, number)):
                if begins:
                    self.optimizer.zero_grad()
                begins = phase.step and i == len(parts) - 1  # the optimiser steps, and the next phase begins afresh
                self.scaler.scale(phase.total / len(parts)).backward()
                for name, loss in {**phase.losses, "total": phase.total}.items():
                    losses[name] = losses.get(name, 0) + loss.detach().float() / len(parts)
                if begins:
                    losses["gradient"] = self._optimize()
        if self.ema is not None:
            self.ema.update(self.net)
        return losses

    def _with_autocast(self, phases: Iterator[Phase]) -> Iterator[Phase]:
        """Yield the phases; autocast covers what they compute, not their backward."""
        while True:
            with self.precision.autocast(self.device):
                phase = next(phases, None)
            if phase is None:
                return
            yield phase

    def _optimize(self) -> Tensor:
        """Average the gradients over all ranks and let Adam step; return their norm, before it is clipped."""
        learning = [p for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None]
        gradients = [p.grad for p in learning]
        self.ranks.all_reduce_mean_(gradients)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm(gradients)
        if self.clip_grad:
            nn.utils.clip_grads_with_norm_(learning, self.clip_grad, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    @torch.no_grad()
    def probe(self, batch: Batch, number: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of a batch and the largest absolute value of the state, leaving everything as it is."""
        # Adam moves the parameters that it has; a forward pass may move the rest: statistics, queues, key encoders.
        of_objective = self.objective.state_dict().items()
        moved = [*self.net.buffers(), *(value for name, value in of_objective if not self.objective.is_constant(name))]
        before = [value.clone() for value in moved]
        part = batch.chunk(self.accumulate)[0]
        phases = list(self._with_autocast(self.objective.phases(self.net, part, number)))
        for value, was in zip(moved, before, strict=True):
            value.copy_(was)
        losses = {name: loss for phase in phases for name, loss in phase.losses.items()}
        losses["total"] = torch.stack([phase.total.float() for phase in phases]).sum()
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        averaged = [] if self.ema is None else self.ema.net.state_dict().values()
        held = chain(self.net.parameters(), moved, averaged, moments)
        floats = [value for value in held if isinstance(value, Tensor) and value.is_floating_point()]
        return losses, nn.utils.get_total_norm(floats, math.inf).to(self.device)

    def buffers(self) -> Iterator[Tensor]:
        averaged = () if self.ema is None else self.ema.net.buffers()
        return chain(self.net.buffers(), self.objective.buffers(), averaged)

    def checkpoint(self) -> dict[str, Any]:
        """Return the network, with its average, as a file of weights holds it."""
        return checkpoint(self.net, None if self.ema is None else self.ema.net, degradation=self.degradation)

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.checkpoint(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the tensors of this state. Raise ValueError if it is of another network."""
        found, asked = state["net"], self.checkpoint()
        if (found["network"], found["config"]) != (asked["network"], asked["config"]):
            raise ValueError(
                f"it is of {found['network']} {found['config']}, "
                f"the options ask for {asked['network']} {asked['config']}"
            )
        _load(self.net, found["params"])
        if self.ema is not None:
            _load(self.ema.net, found["params_ema"])
        _load(self.objective, state["objective"])
        # Settings (shares, betas, kernels) are those of the options; a state gives the moments and the last rate.
        groups, saved = self.optimizer.state_dict()["param_groups"], state["optimizer"]
        if [group["params"] for group in saved["param_groups"]] != [group["params"] for group in groups]:
            raise ValueError("its optimiser has other parameters")
        rates = [float(old["lr"]) for old in saved["param_groups"]]
        if self._graphed is not None:
            self._graphed.reset()  # it knows the moments that Adam had
            rates = [torch.tensor(rate, device=self.device) for rate in rates]
        groups = [group | {"lr": rate} for group, rate in zip(groups, rates, strict=True)]
        moments = copy.deepcopy(saved["state"])  # the optimiser goes on with the tensors that it is given
        for number, parameter in enumerate(
            chain.from_iterable(group["params"] for group in self.optimizer.param_groups)
        ):
            _check_moments(moments.get(number), parameter)
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])


def _load(module: nn.Module, saved: dict[str, Tensor]) -> None:
    """Load a state dict. Raise ValueError if a tensor is of another kind, which PyTorch would convert."""
    for name, expected in module.state_dict().items():
        if name in saved and saved[name].dtype != expected.dtype:
            raise ValueError(f"{name} is of {saved[name].dtype} instead of {expected.dtype}")
    module.load_state_dict(saved)


def _check_moments(moments: dict[str, Tensor] | None, parameter: Tensor) -> None:
    """Raise ValueError unless these are Adam's moments of this parameter; None: it has had no gradient yet."""
    if moments is None:
        return
    found = {name: (tuple(value.shape), value.dtype) for name, value in moments.items()}
    like = (tuple(parameter.shape), parameter.dtype)
    if found != {"step": ((), torch.float32), "exp_avg": like, "exp_avg_sq": like}:
        raise ValueError(f"a parameter of {like} has the moments {found}")


def strip(sample: Sample, sr: Tensor, case: int) -> Tensor:
    """Return the centre of LR (its pixels repeated), SR and HR image of a case, side by side: (3, h, 3·h), on the CPU.

    sr: (N, 3, s·H, s·W), the images of all cases.
    """
    scale = sr.shape[2] // sample.lr.shape[2]
    side = min(CROP // scale, *sample.lr.shape[2:])
    lr = centre(sample.lr[case], side=side).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    large = [centre(image, side=side, scale=scale) for image in (sr[case], sample.hr)]
    return torch.cat([lr, *large], 2).cpu()


class Trainer:
    """Trains a network. All that is random is a function of (seed, step), so a resumed run is the same run.

    Args:
        learner: takes the steps.
        pairs, batches: HR patches, and how they become LR and HR images.
        test_sets: validated at the end of each epoch; the first decides which weights are the best.
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
        self.net, self.objective, self.device, self.ranks = (
            learner.net,
            learner.objective,
            learner.device,
            learner.ranks,
        )
        self.pairs = pairs.to(self.device)
        self.batches = batches
        self.test_sets = test_sets
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
        scaled = self.learner.scaler.is_enabled()
        self.monitor = Monitor(collapse, gradients=not scaled, mean=self.ranks.all_reduce_mean)
        self.recovery = Recovery(self.epoch_steps)
        self.clock = Clock(self.device)
        self.step = 0
        self.epoch = -1 if score_start else 0  # the last one that was validated
        self.best: float | None = None  # dB, on the first test set
        self._untried: tuple[int, Batch] | None = None  # the last step and its batch, to try its weights on
        self._constant: dict[str, Tensor] = {}  # host copies of what never changes
        self._resumed = False

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self) -> bool:
        """Train to the end. Signals, the end of the time and errors save the last good state first.

        Returns True when the run is done, False when it was stopped. Raises TrainingError when it cannot go on.
        """
        self._compare_ranks()
        if self.ranks.is_main:
            self.run.open(self.config, resumed=self._resumed)
        self.recovery.keep(self._snapshot())
        self._on_disk, self._saved = self.step, time.perf_counter()
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
            if good["step"] > self._on_disk and (self.ranks.world == 1 or not good["pairs"]):
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self._save()
            raise
        finally:
            self.run.unlock()

    def _train(self) -> bool:
        self.net.train()
        self._first, patches, began = self.step, self._load(), time.perf_counter()
        try:
            while True:
                due = self._due()

                # Judge the steps since the last look and the weights they led to; go back if they are bad.
                if due.look and (trouble := self.monitor.read() or self._try_weights()):
                    patches.close()
                    self._go_back(trouble)
                    patches = self._load()
                    continue

                # Report, keep the state, validate, save.
                if due.line and self.monitor.recorded:
                    self._report()
                if due.look:
                    self.recovery.keep(self._snapshot())
                if due.validation:
                    self._end_epoch()
                    self.recovery.keep(self._snapshot())  # it knows now that the epoch is over
                if due.save:
                    self._save()

                # End.
                if due.stop:
                    self.run.log(f"stopped after step {self.step}; continue with the same command and `resume`")
                    return False
                if due.done:
                    self.run.log(f"done: {self.steps} steps, {self.run.path}")
                    return True

                # Step.
                with self.clock("data"):
                    drawn = next(patches)
                if self.step in self.recovery.skipped:
                    self.step += 1
                else:
                    self.train_step(drawn)
                self._logger.bar.update()
                if self.step == self._first + 3:
                    self._forecast((time.perf_counter() - began) / 3)
        finally:
            patches.close()

    def _forecast(self, seconds: float) -> None:
        """Warn of a run on a CPU that would take days, before it has said anything else; `seconds`: of a step."""
        days = seconds * (self.steps - self.step) / 86400
        if self.device.type == "cpu" and days > 3:
            self.run.log(
                f"note: a step takes {seconds:.1f} s on this CPU, and the run {days:.0f} days. Published batches and "
                "lengths are for GPUs; smaller `batch_size`, `patch_size`, `n_blocks` and `epochs_sr` make it shorter"
            )

    def _due(self) -> Due:
        """Return what is due before the next step: the same on all ranks."""
        now = time.perf_counter()
        late = now > self.begun + self.max_seconds and self.step > self._first  # one step at least
        stop, save = self.ranks.any_rank(
            self.signals.asked or self.ranks.orphaned or late, now - self._saved > self.save_seconds
        )
        done = self.step == self.steps
        line = done or self.step % self.print_every == 0
        epoch_ends = self.step // self.epoch_steps > self.epoch
        save = save or done or epoch_ends or stop
        return Due(
            look=line or save or self.step <= (self.recovery.suspect or 0),
            line=line,
            validation=epoch_ends and not stop,  # a stop must not wait for it; it comes on resume
            save=save,
            stop=stop,
            done=done,
        )

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

    def _load(self) -> Generator[Patches, None, None]:
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
        way = f"on without that {'update' if trouble.update else 'batch'}{slower}"
        if trouble.step not in self.recovery.skipped:
            way = "to find the step that broke them"
        self.run.log(f"step {trouble.step}: {trouble.what}; back to step {self.step}, {way}")

    # -------------------------------------------------------------------------------------------- log, validate

    def _report(self) -> None:
        steps, losses = self.monitor.line()
        self._logger.losses(self.step, losses, steps, self._rate(self.step - 1), self.clock.shares())

    def _end_epoch(self) -> None:
        """Validate, and keep the weights that are worth it."""
        start = time.perf_counter()
        self.epoch = self.step // self.epoch_steps
        self.ranks.broadcast(self.learner.buffers())  # without a GPU each rank has BatchNorm statistics of its own
        report = RunReport(self.run, self.net.scale, self.reference)
        if self.test_sets:
            psnr = self.validate(self.epoch, report)
            if self.epoch > 0:  # the weights that a run starts from are not its own
                better = self.best is None or psnr > self.best
                self.best = psnr if better else self.best
                if self.ranks.is_main:
                    self._save_models(psnr, better)
        if self.ranks.is_main:
            report.write()
        self._logger.validated(time.perf_counter() - start)

    def _save_models(self, psnr: float, better: bool) -> None:
        names = ["model_best.pt"] if better else []
        if self.epoch >= self.st_save_epoch:
            names.append(f"model_{self.epoch}_psnr_{psnr:.2f}.pt")
        for name in names:
            with atomic_write(self.run.models / name) as temporary:
                write_file(self.learner.checkpoint(), temporary)
        self.run.drop_old(self.keep)

    def validate(self, epoch: int, report: RunReport) -> float:
        """Score the network, or the average of its weights, on every test set; return the PSNR on the first.

        report: is given the scores, and crops of this rank's images.
        """
        self.net.eval()
        rows, tracked = [], dict[str, Tensor]()

        def show(name: str, sample: Sample, sr: Tensor) -> None:
            report.crops(sample, sr)
            if len(tracked) < TRACKED:
                case = len(sample.cases) // 2
                tracked[f"{name}/{sample.image}, {sample.cases[case]}"] = strip(sample, sr, case)

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
            row = {"epoch": epoch, "step": self.step, "set": test_set.name, "protocol": test_set.protocol}
            rows.append({**row, "psnr": f"{score['psnr']:.4f}", "ssim": f"{score['ssim']:.5f}"})
        self._logger.scores(rows)
        self._logger.images(tracked, self.step)
        self.net.train()
        return float(rows[0]["psnr"])

    def scores(
        self,
        test_set: TestSet,
        first: int | None = None,
        on_image: Callable[[Sample, Tensor], None] | None = None,
    ) -> list[Score]:
        """Return the scores of the network as it is; each rank restores its share of the images.

        Args:
            first: score so many images only.
            on_image: see `evaluate`.
        """
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
        return run_state.compose(
            step=self.step,
            epoch=self.epoch,
            images=self.batches.images,
            best=self.best,
            skipped=list(self.recovery.skipped),
            suspect=self.recovery.suspect,
            monitor=self.monitor.state_dict(),
            pairs=self.pairs.state_dict(),
            **self.learner.state_dict(),
        )

    def _snapshot(self) -> dict[str, Any]:
        """Return a copy of the state in host memory. What never changes (a teacher, VGG19) is copied once."""
        state = self.state_dict()
        objective = state["objective"]
        constant = {name for name in objective if self.objective.is_constant(name)}
        if not self._constant:
            self._constant = host_copy({name: objective[name] for name in constant})
        state["objective"] = {name: value for name, value in objective.items() if name not in constant}
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
        run_state.check(state, self.run.state, images=self.batches.images, steps=self.steps)
        try:
            self.load_state_dict(state | {"pairs": self.ranks.shard_state(state["pairs"])})
        except Exception as error:  # a damaged state fails in a dozen ways
            raise run_state.not_a_state(self.run.state, f"{type(error).__name__}: {error}") from error
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
        self._saved, self._on_disk = time.perf_counter(), state["step"]
