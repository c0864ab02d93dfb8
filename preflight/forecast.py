"""Take a few steps, and forecast what a run costs."""

from __future__ import annotations

import time

import numpy as np

from data.testset import TestSet
from trainer import Trainer
from utility import duration, peak_memory

DRY_STEPS = 6  # of each stretch of the schedule; the first two warm up


def dry_run(trainer: Trainer) -> float:
    """Take a few steps of each stretch, score one image of each test set, print what the run would cost; write nothing.

    Returns the seconds that all steps would take. The trainer's network is changed.
    """
    say = trainer.run.log  # in one of several processes only
    trainer.net.train()
    warmup = min(trainer.schedule.warmup_epochs * trainer.epoch_steps, trainer.steps)
    seconds = 0.0
    for start, stop in ((0, warmup), (warmup, trainer.steps)):
        if stop > start:
            per_step = _seconds_per_step(trainer, start)
            seconds += per_step * (stop - start)
            say(f"steps {start} to {stop}: {1 / per_step:.2f} steps/s  ({trainer.clock.shares()})")
    validation = sum(_seconds_to_validate(trainer, test_set) for test_set in trainer.test_sets)
    validation *= trainer.steps // trainer.epoch_steps + trainer.score_start
    say(f"memory of a process, at most: {peak_memory(trainer.device)}")
    say(f"forecast: {duration(seconds)} for {trainer.steps:,} steps, {duration(validation)} for validation")
    return seconds


def _seconds_per_step(trainer: Trainer, start: int) -> float:
    """Return the seconds of a step: of computing, or of loading where that takes longer."""
    trainer.step, times, losses = start, [], {}
    for step in range(start, start + DRY_STEPS):
        begin = time.perf_counter()
        with trainer.clock("data"):
            patches = trainer.batches[step]
        loaded = time.perf_counter()
        losses = {name: value.item() for name, value in trainer.train_step(patches).items()}  # waits for the device
        times.append((loaded - begin, time.perf_counter() - loaded))
    trainer.run.log("losses: " + "  ".join(f"{name} {value:.4g}" for name, value in losses.items()))
    load, compute = np.median(times[2:], axis=0).tolist()
    return max(compute, load / trainer.n_threads) if trainer.n_threads else compute + load


def _seconds_to_validate(trainer: Trainer, test_set: TestSet) -> float:
    trainer.net.eval()
    begin = time.perf_counter()
    trainer.scores(test_set, first=1)
    trainer.net.train()
    return (time.perf_counter() - begin) * len(test_set.hr_paths) / trainer.ranks.world
