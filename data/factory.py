"""From plain values in published units to the parts of a run: the recipe, the random draws, the patches."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from data.degradation import DEGRADATIONS, Degradation
from data.degradation.params import refuse
from data.draws import Draws
from data.images import Log
from data.sampler import PatchBatches, PatchSampler
from data.store import RESIDENT, Resident, residence
from data.trainset import TrainingSet, combine
from runtime.distributed import Ranks
from utility import call, taken

SETTINGS = ("noise", "noise_var", "sample_mode")  # that would be missed if a recipe passed over them in silence


def degradation(name: str, /, *, scale: int, **flags: Any) -> Degradation[Any]:
    """Build a recipe by its name in `DEGRADATIONS`.

    Args:
        name: of the recipe.
        scale: HR pixels per LR pixel, along each side.
        flags: any flags in published units; the builder gets those that its signature names.

    Raises:
        ValueError: the name is unknown, the flags make no sense, or the recipe does not take one of `SETTINGS`.

    Examples:
        >>> degradation("gaussian", scale=4, sig_min=0.2, sig_max=4.0, codec="libjpeg").width
        (0.2, 4.0)
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"`degradation` {name} is none of {', '.join(DEGRADATIONS)}")
    known = taken(DEGRADATIONS[name])
    refuse(f"`degradation` {name}", {key: flags.get(key) for key in SETTINGS if key not in known})
    return call(DEGRADATIONS[name], scale=scale, **flags)


def draws(
    degradation: Degradation[Any],
    *,
    batch_size: int,
    views: int = 1,
    seed: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Draws:
    """Return what decides the random draws of a run: of its patches and of their pairs.

    Raises ValueError where the ranks cannot have equal shares of a batch.

    Args:
        degradation: the recipe; it may draw by groups of images.
        batch_size: images per step, of all ranks together.
        views: patches per image.
        seed: of all streams.
        ranks: the processes of the run.
    """
    group = getattr(degradation, "group", None)
    return Draws(seed=seed, batch=batch_size, group=group, views=views, rank=ranks.rank, world=ranks.world)


def batches(
    sets: Sequence[TrainingSet],
    draws: Draws,
    *,
    scale: int,
    side: int,
    augment: str,
    mix: float = 1.0,
    data_cache: Path | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    log: Log = print,
) -> PatchBatches:
    """Draw random patches of the training images, `side` HR pixels a side.

    Args:
        sets: the images.
        draws: seed, batch and this rank's share.
        scale: HR pixels per LR pixel, along each side.
        side: of a patch, HR pixels.
        augment: a name in `AUGMENT`.
        mix: share of given pairs, where there are any.
        data_cache: `ram` or `cuda` hold all images decoded, in main memory or on `device`.
        device: of the run.
        ranks: the processes of the run.
        log: is told how much memory the images take.

    Raises:
        ValueError: an image is too small, or the images need more memory than there is.
    """
    store, given, parts = combine(sets, Fraction(str(mix)))
    if data_cache in RESIDENT:
        sizes = [*store.sizes, *(() if given is None else given.sizes)]
        place = residence(data_cache, device, sizes, processes=ranks.local_world, log=log)
        ranks.barrier()  # none takes memory before all have looked
        store, given = Resident(store, place), None if given is None else Resident(given, place)
    paired = 0 if given is None else len(given.names)
    sampler = PatchSampler(store.sizes, draws, patch=side, augment=augment, parts=parts, paired=paired, scale=scale)
    return PatchBatches(store, sampler, given)
