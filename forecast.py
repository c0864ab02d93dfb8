"""What a run would cost, from a few of its steps: `main.py --dry_run`."""

from __future__ import annotations

import time

import numpy as np

from data.testset import TestSet
from trainer import Trainer
from utility import duration, peak_memory

STEPS = 6  # of each stretch of the schedule; the first two warm up


def dry_run(trainer: Trainer) -> float:
    """Take a few steps of each stretch, score one image of each test set, print what the run would cost; write nothing.

    Returns the seconds that all steps would take. The trainer's network is not as it was.
    """
    plan, say = trainer.plan, trainer.run.log  # of several processes one says it
    trainer.net.train()
    warmup = min(plan.schedule.warmup_steps, plan.steps)
    seconds = 0.0
    for start, stop in ((0, warmup), (warmup, plan.steps)):
        if stop > start:
            per_step = _seconds_per_step(trainer, start)
            seconds += per_step * (stop - start)
            say(f"steps {start} to {stop}: {1 / per_step:.2f} steps/s  ({trainer.clock.shares()})")
    validation = sum(_seconds_to_validate(trainer, benchmark) for benchmark in trainer.benchmarks)
    validation *= plan.steps // plan.epoch_steps
    say(f"parameters: {sum(p.numel() for p in trainer.net.parameters()):,} in the network")
    say(f"memory of a process, at most: {peak_memory(trainer.device)}")
    say(f"forecast: {duration(seconds)} for {plan.steps:,} steps, {duration(validation)} for validation")
    return seconds


def _seconds_per_step(trainer: Trainer, start: int) -> float:
    """Of computing, or of loading where that takes longer."""
    trainer.step, times, losses = start, [], {}
    for step in range(start, start + STEPS):
        begin = time.perf_counter()
        with trainer.clock("data"):
            hr = trainer.batches[step]
        loaded = time.perf_counter()
        losses = {name: value.item() for name, value in trainer.train_step(hr).items()}  # waits for the device
        times.append((loaded - begin, time.perf_counter() - loaded))
        trainer.snapshot()  # takes its memory
    trainer.run.log("losses: " + "  ".join(f"{name} {value:.4g}" for name, value in losses.items()))
    load, compute = np.median(times[2:], axis=0).tolist()
    workers = trainer.plan.loader_workers
    return max(compute, load / workers) if workers else compute + load


def _seconds_to_validate(trainer: Trainer, benchmark: TestSet) -> float:
    trainer.net.eval()
    begin = time.perf_counter()
    trainer.scores(benchmark, first=1)
    trainer.net.train()
    return (time.perf_counter() - begin) * len(benchmark.hr_paths) / trainer.ranks.world
