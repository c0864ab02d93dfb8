"""Check main memory, shared memory and disk against what a run takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

import option
import parts
from loss import factory as loss_factory
from option import TrainOptions
from preflight.finding import Finding, error, note, ok, size_of
from utility import existing, why_unwritable

SHARED = Path("/dev/shm")  # on Linux: where loader processes leave their batches
PREFETCH = 2  # batches that PyTorch has each loader process prepare ahead


class Footprint(NamedTuple):
    """Bytes that a run takes."""

    batch: int  # the patches of a step
    queue: int  # the batches that loader processes have ready or in the making, and two that change hands
    network: int  # a checkpoint
    state: int  # a saved state


def footprint(options: TrainOptions) -> Footprint:
    """Build network and objective without memory and add up their bytes. Raise ValueError for impossible sizes."""
    loss, network, loading, sizes = options.loss, options.network, options.loading, parts.network_sizes(options)
    with torch.device("meta"):
        net = loss_factory.network(network.model, scale=network.scale, sizes=sizes)
        teacher = loss_factory.teacher(net, None) if options.has_teacher else None
        objective = loss_factory.objective(
            loss.objective,
            net,
            teacher=teacher,
            pretrained=False,
            warmup_steps=0,
            freeze_step=0,
            lr_sr=1.0,
            **option.acting(loss, options),
        )
    weights, extra = (sum(x.nbytes for x in part.state_dict().values()) for part in (net, objective))
    moments = 2 * sum(x.nbytes for part in (net, objective) for x in part.parameters() if x.requires_grad)  # of Adam
    weights *= 2 if options.training.ema else 1  # the average too
    pool = loading.pool_size * 3 * (1 + network.scale**2) * loading.patch_size**2
    area = loading.crop_size**2 * (network.scale**2 + (loading.dir_lr is not None))
    batch = objective.views * options.training.batch_size * 3 * area
    return Footprint(
        batch=batch,
        queue=batch * (PREFETCH * loading.n_threads + 2) if loading.n_threads else 0,
        network=weights,
        state=weights + extra + moments + pool,
    )


def space(options: TrainOptions) -> Iterator[Finding]:
    """Check memory and disk."""
    need = footprint(options)
    yield from memory(need)
    yield from shared_memory(options, need)
    yield from disk(options, need)


def memory(need: Footprint) -> Iterator[Finding]:
    """Compare the free main memory with what batches, weights and the state take."""
    free, least = psutil.virtual_memory().available, need.queue + need.state
    text = f"{size_of(free)} of main memory free"
    if free > least:
        yield ok(text)
    else:
        yield note(f"{text}, batches and weights alone take {size_of(least)}: end other programs, or do with less")


def shared_memory(options: TrainOptions, need: Footprint) -> Iterator[Finding]:
    """Check /dev/shm: if it is full, loader processes die with a bare `bus error`; containers often have 64 MiB."""
    if not need.queue or not SHARED.is_dir():
        return
    free, workers = shutil.disk_usage(SHARED).free, options.loading.n_threads
    text = f"{SHARED} has {size_of(free)} free, `n_threads` {workers} fills {size_of(need.queue)} with batches"
    if need.queue < free:
        yield ok(text)
    else:
        fitting, ample = max(free // need.batch - 2, 0) // PREFETCH, ceil(2 * need.queue / 2**30)
        yield error(f"{text}: `n_threads` {fitting}, or a container with more (docker run --shm-size {ample}g)")


def disk(options: TrainOptions, need: Footprint) -> Iterator[Finding]:
    """Compare the free disk with what the run may write."""
    saving, place = options.saving, options.run_dir
    if saving.dry_run:
        return
    numbered = max(options.epochs - max(saving.st_save_epoch, 1) + 1, 0)
    kept = min(numbered, saving.keep + 2) if saving.keep else numbered  # the best too, and the one about to go
    files = (2 + kept) * need.network + 3 * need.state  # latest and best; a state, the one before, and a new one
    grows = max(files - sum(path.stat().st_size for path in place.glob("model/*.pt")), 0)
    free = shutil.disk_usage(existing(place)).free
    text = f"{place} takes up to {size_of(grows)} more, {size_of(free)} are free"
    yield ok(text) if grows < free else error(f"{text}: make room, `keep` fewer, or name another `dir_experiment`")


def run_directory(options: TrainOptions) -> Iterator[Finding]:
    """Check that files can be written where the run will write."""
    place = options.run_dir / "model"
    if not options.saving.dry_run and (why := why_unwritable(place)):
        yield error(f"`dir_experiment`: {existing(place)} cannot be written to ({why}): name another folder")


def numbered_checkpoints(options: TrainOptions) -> Iterator[Finding]:
    """Compare the first numbered checkpoint with the last epoch."""
    first, last = options.saving.st_save_epoch, options.epochs
    if first > last:
        yield note(f"`st_save_epoch` {first} is after the last epoch, {last}: no numbered checkpoint will be kept")
