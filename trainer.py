"""The training loop: step, log, validate, save, resume. It knows steps, devices and files, and no method."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data.benchmark import Benchmark
from data.degradation import Degradation
from data.sampler import PatchBatches
from evaluation import Score, evaluate, mean
from loss import Objective
from model import BlindSR, checkpoint
from utility import Clock, Run, append_rows, draw_curves, duration, forget_after, save

FORMAT = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the step: two stretches, each with its own decay in stairs."""

    warmup_steps: int
    warmup_rate: float
    warmup_decay: int  # steps
    warmup_gamma: float
    rate: float
    decay: int  # steps
    gamma: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.warmup_rate * self.warmup_gamma ** (step // self.warmup_decay)
        return self.rate * self.gamma ** ((step - self.warmup_steps) // self.decay)


@dataclass(frozen=True)
class Plan:
    """How long, how often, where."""

    steps: int
    epoch_steps: int
    schedule: Schedule
    seed: int
    loader_workers: int
    print_every: int  # steps
    max_seconds: float
    metric: str
    save_from_epoch: int
    keep: int  # numbered checkpoints; 0: all


class Trainer:
    """Trains `net` on `objective`. All that is random is a function of (seed, step): a resumed run is the same run."""

    def __init__(
        self,
        *,
        net: BlindSR,
        objective: Objective[Any],
        degradation: Degradation,
        batches: PatchBatches,
        benchmarks: Sequence[Benchmark],
        plan: Plan,
        run: Run,
        config: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.net = net.to(device)
        self.objective = objective.to(device)
        self.degradation = degradation
        self.batches = batches
        self.benchmarks = benchmarks
        self.plan = plan
        self.run = run
        self.config = config
        self.device = device
        self.optimizer = torch.optim.Adam(net.parameters(), lr=plan.schedule(0), fused=device.type == "cuda")
        self.step = 0
        self.best: float | None = None  # dB, of the first benchmark
        self._stop = False
        self._in_step = False  # the weights may be those of one step and the optimiser of another
        self.clock = Clock(device)

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self) -> None:
        """Train to the end of the plan. SIGINT, SIGTERM, the end of the time and errors between steps save first."""
        self.run.open(self.config, resumed=self.step > 0)
        for log in (self.run.psnr_log, self.run.loss_log):
            forget_after(log, self.step)  # what an interrupted run wrote after its last state
        self._tensorboard = SummaryWriter(str(self.run.path / "tb"), purge_step=self.step + 1)
        previous = [signal.signal(number, self._on_signal) for number in SIGNALS]
        try:
            with tqdm(total=self.plan.steps, initial=self.step, unit="step", disable=None, smoothing=0.05) as bar:
                self._train(bar)
        except BaseException:
            if not self._in_step and self.step:
                save(self.state_dict(), self.run.state)
            raise
        finally:
            for number, handler in zip(SIGNALS, previous, strict=True):
                signal.signal(number, handler)
            self._tensorboard.close()

    def _train(self, bar: tqdm[Any]) -> None:
        self.net.train()
        parts: dict[str, list[Tensor]] = defaultdict(list)
        since = time.perf_counter()
        deadline = since + self.plan.max_seconds
        for hr in self._loader(self.step, self.plan.steps):
            for name, value in self.train_step(hr).items():
                parts[name].append(value)
            bar.update()
            if self.step % self.plan.print_every == 0 or self.step == self.plan.steps:
                rate = len(parts["total"]) / (time.perf_counter() - since)
                self._report({name: torch.stack(values).mean().item() for name, values in parts.items()}, rate, bar)
                parts.clear()
                since = time.perf_counter()
            if self.step % self.plan.epoch_steps == 0:
                since += self._end_epoch()
            if self._stop or time.perf_counter() > deadline:
                save(checkpoint(self.net), self.run.models / "model_latest.pt")
                save(self.state_dict(), self.run.state)
                self.run.log(f"stopped after step {self.step}; continue with the same command and --resume")
                return
        self.run.log(f"done: {self.plan.steps} steps, {self.run.path}")

    def train_step(self, hr: Tensor) -> dict[str, Tensor]:
        """One step on (V·B, 3, s·P, s·P) uint8 images of the host; the parts of the loss stay on the device."""
        with self.clock("degradation"):
            hr = hr.to(self.device, non_blocking=True).float() / 255
            lr = self._degrade(hr)
        self._in_step = True
        with self.clock("network"):
            for group in self.optimizer.param_groups:
                group["lr"] = self.plan.schedule(self.step)
            parts = self.objective(self.net, lr, hr, self.step)
            self.optimizer.zero_grad()
            parts["total"].backward()
            self.optimizer.step()
        self.step += 1
        self._in_step = False
        return {name: part.detach() for name, part in parts.items()}

    def _degrade(self, hr: Tensor) -> Tensor:
        """LR of HR, every view of an image under the same degradation."""
        seed = np.random.SeedSequence((self.plan.seed, self.step)).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self.device).manual_seed(int(seed >> 1))
        views = self.objective.views
        params = self.degradation.sample(len(hr) // views, generator=generator)
        return self.degradation.apply(hr, params.repeat(views), generator=generator)

    def _loader(self, start: int, stop: int) -> Any:
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=self.plan.loader_workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_trainer,
        )
        iterator = iter(loader)
        while True:
            with self.clock("data"):
                hr = next(iterator, None)
            if hr is None:
                return
            yield hr

    # -------------------------------------------------------------------------------------------- log, validate

    def _report(self, losses: dict[str, float], rate: float, bar: tqdm[Any]) -> None:
        left = duration((self.plan.steps - self.step) / rate)
        epoch = (self.step - 1) // self.plan.epoch_steps + 1
        learning_rate, shares = self.plan.schedule(self.step - 1), self.clock.shares()
        values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        bar.set_postfix_str(f"{values}  {shares}")
        self.run.log(
            f"epoch {epoch}  step {self.step}/{self.plan.steps}  lr {learning_rate:.3g}  {values}"
            f"  |  {rate:.2f} steps/s, {left} left  |  {shares}"
        )
        append_rows(self.run.loss_log, [{"step": self.step, "part": k, "value": v} for k, v in losses.items()])
        for name, value in {**losses, "learning rate": learning_rate, "steps per second": rate}.items():
            self._tensorboard.add_scalar(f"train/{name}", value, self.step)

    def _end_epoch(self) -> float:
        """Validate and save; returns the seconds that took."""
        start = time.perf_counter()
        epoch = self.step // self.plan.epoch_steps
        psnr = self.validate(epoch) if self.benchmarks else None
        contents = checkpoint(self.net)
        save(contents, self.run.models / "model_latest.pt")
        if psnr is not None and (self.best is None or psnr > self.best):
            self.best = psnr
            save(contents, self.run.models / "model_best.pt")
        if psnr is not None and epoch >= self.plan.save_from_epoch:
            save(contents, self.run.models / f"model_{epoch}_psnr_{psnr:.2f}.pt")
            self._drop_old()
        save(self.state_dict(), self.run.state)
        draw_curves(self.run)
        return time.perf_counter() - start

    def validate(self, epoch: int) -> float:
        """Score the network on every benchmark and log it; the PSNR of the first one."""
        self.net.eval()
        rows = []
        for benchmark in self.benchmarks:
            psnr, ssim = mean(self.scores(benchmark))
            rows.append({"epoch": epoch, "step": self.step, "set": benchmark.name, "protocol": benchmark.protocol})
            rows[-1] |= {"psnr": f"{psnr:.4f}", "ssim": f"{ssim:.5f}"}
            self.run.log(f"epoch {epoch}  {benchmark.name}  {benchmark.protocol}  PSNR {psnr:.3f} dB  SSIM {ssim:.4f}")
            self._tensorboard.add_scalar(f"psnr/{benchmark.name}", psnr, self.step)
            self._tensorboard.add_scalar(f"ssim/{benchmark.name}", ssim, self.step)
        append_rows(self.run.psnr_log, rows)
        self.net.train()
        return float(rows[0]["psnr"])

    def scores(self, benchmark: Benchmark, first: int | None = None) -> list[Score]:
        """Of the network as it is; `first`: of so many images only."""
        return evaluate(
            lambda lr, hr: self.net(lr, hr).image,
            benchmark,
            scale=self.net.scale,
            metric_protocol=self.plan.metric,
            device=self.device,
            first=first,
        )

    # ------------------------------------------------------------------------------------------- save and resume

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to be the same run."""
        return {
            "format": FORMAT,
            "step": self.step,
            "best": self.best,
            "net": checkpoint(self.net),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state. ValueError where it is of another format or network."""
        if state.get("format") != FORMAT:
            raise ValueError(
                f"--resume: {self.run.state} has format {state.get('format')}, this version reads {FORMAT}"
            )
        found, own = state["net"], checkpoint(self.net)
        if (found["network"], found["config"]) != (own["network"], own["config"]):
            raise ValueError(
                f"--resume: the run is of {found['network']} {found['config']}, "
                f"the options ask for {own['network']} {own['config']}"
            )
        self.net.load_state_dict(found["params"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = state["step"], state["best"]

    def _drop_old(self) -> None:
        numbered = [path.stem.split("_") for path in self.run.models.glob("model_*_psnr_*.pt")]
        newest = sorted(numbered, key=lambda words: int(words[1]))
        best = max(numbered, key=lambda words: float(words[3]))
        for words in newest[: -self.plan.keep] if self.plan.keep else []:
            if words != best:
                (self.run.models / f"{'_'.join(words)}.pt").unlink()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop:  # asked twice
            raise KeyboardInterrupt
        self._stop = True


def _leave_signals_to_the_trainer(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
