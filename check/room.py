"""Is there room for the run: memory, shared memory, disk; and may it be written."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

import build
from check.finding import Finding, fine, mend, note, readable
from check.machine import free_memory
from loss.perceptual import vgg19
from option import TrainOptions

SHARED = Path("/dev/shm")  # on Linux: where loader processes leave their batches
PREFETCH = 2  # batches that PyTorch has each loader process prepare ahead


class Footprint(NamedTuple):
    """Bytes that a run takes."""

    batch: int  # the patches of a step
    queue: int  # the batches that loader processes have ready or in the making, and two that change hands
    network: int  # a checkpoint
    state: int  # what --resume needs


def footprint(options: TrainOptions) -> Footprint:
    """By building network and objective without the weights they start from. ValueError for impossible sizes."""
    loss = dataclasses.replace(options.loss, pre_train=None, pre_train_TA=None, perceptual_weight=0.0)
    net = build.network(dataclasses.replace(options, loss=loss))
    objective = build.objective(dataclasses.replace(options, loss=loss), net)
    network, extra = (sum(x.nbytes for x in part.state_dict().values()) for part in (net, objective))
    trained = [x for part in (net, objective) for x in part.parameters() if x.requires_grad]
    moments = 2 * sum(x.nbytes for x in trained)  # of Adam
    if options.loss.objective == "adversarial":  # what was left out above
        extra += network * options.has_teacher
        extra += sum(x.nbytes for x in vgg19().parameters()) * (options.loss.perceptual_weight > 0)
    loading, scale = options.loading, options.network.scale
    network *= 2 if options.training.ema else 1  # the average too
    pool = loading.pool_size * 3 * (1 + scale**2) * loading.patch_size**2
    side, workers = loading.crop_size * scale, loading.n_threads
    batch = objective.views * options.training.batch_size * 3 * side**2
    return Footprint(
        batch=batch,
        queue=batch * (PREFETCH * workers + 2) if workers else 0,
        network=network,
        state=network + extra + moments + pool,
    )


def space(options: TrainOptions) -> Iterator[Finding]:
    """In memory and on disk. Raises ValueError for options of which no network can be built."""
    need = footprint(options)
    yield from memory(need)
    yield from shared_memory(options, need)
    yield from disk(options, need)


def memory(need: Footprint) -> Iterator[Finding]:
    free, least = free_memory(), need.queue + need.state
    if free is None:
        return
    text = f"{readable(free)} of main memory free"
    if free > least:
        yield fine(text)
    else:
        yield note(f"{text}, batches and weights alone take {readable(least)}: end other programs, or do with less")


def shared_memory(options: TrainOptions, need: Footprint) -> Iterator[Finding]:
    """Loader processes die of a full /dev/shm with no more than a `bus error`; containers often have 64 MiB."""
    if not need.queue or not SHARED.is_dir():
        return
    free, workers = shutil.disk_usage(SHARED).free, options.loading.n_threads
    text = f"{SHARED} has {readable(free)} free, --n_threads {workers} fills {readable(need.queue)} with batches"
    if need.queue < free:
        yield fine(text)
    else:
        fitting, ample = max(free // need.batch - 2, 0) // PREFETCH, ceil(2 * need.queue / 2**30)
        yield mend(f"{text}: --n_threads {fitting}, or a container with more (docker run --shm-size {ample}g)")


def disk(options: TrainOptions, need: Footprint) -> Iterator[Finding]:
    saving, place = options.saving, options.run_dir
    if saving.dry_run:
        return
    numbered = max(options.epochs - max(saving.st_save_epoch, 1) + 1, 0)
    kept = min(numbered, saving.keep + 2) if saving.keep else numbered  # the best too, and the one about to go
    whole = (2 + kept) * need.network + 2 * need.state  # latest and best; a state is whole before the old one goes
    grows = max(whole - sum(path.stat().st_size for path in place.glob("model/*.pt")), 0)
    free = shutil.disk_usage(existing(place)).free
    text = f"{place} takes up to {readable(grows)} more, {readable(free)} are free"
    yield fine(text) if grows < free else mend(f"{text}: make room, --keep fewer, or another --dir_experiment")


def run_directory(options: TrainOptions) -> Iterator[Finding]:
    """By really writing."""
    place = existing(options.run_dir / "model")
    try:
        if not options.saving.dry_run:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"can be written")
    except OSError as error:
        yield mend(f"--dir_experiment: {place} cannot be written to ({error.strerror}): name another folder")


def numbered_checkpoints(options: TrainOptions) -> Iterator[Finding]:
    first, last = options.saving.st_save_epoch, options.epochs
    if first > last:
        yield note(f"--st_save_epoch {first} is after the last epoch, {last}: no numbered checkpoint will be kept")


def existing(path: Path) -> Path:
    """The nearest that exists of a path and the folders above it: the one whose disk it would be on."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())
