"""From plain values in published units to the parts of a run: degradations, protocols, images, test sets and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from data.degradation import DEGRADATIONS, Degradation
from data.images import Log
from data.pairs import Draws, Pairs
from data.sampler import PatchBatches, PatchSampler
from data.store import RESIDENT, Resident, residence
from data.trainset import TrainingSet, combine
from runtime.distributed import Ranks
from utility import call


def degradation(name: str, /, *, scale: int, **flags: Any) -> Degradation[Any]:
    """Build a recipe by its name in `DEGRADATIONS`.

    Args:
        name: of the recipe.
        scale: HR pixels per LR pixel, along each side.
        flags: any flags in published units; the builder gets those that its signature names.

    Raises:
        ValueError: the name is unknown, or the flags make no sense.

    Examples:
        >>> degradation("gaussian", scale=4, sig_min=0.2, sig_max=4.0, codec="libjpeg").width
        (0.2, 4.0)
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"`degradation` {name} is none of {', '.join(DEGRADATIONS)}")
    return call(DEGRADATIONS[name], scale=scale, **flags)


def batches(
    sets: Sequence[TrainingSet],
    *,
    scale: int,
    side: int,
    batch_size: int,
    views: int,
    augment: str,
    mix: float = 1.0,
    data_cache: Path | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    seed: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    log: Log = print,
) -> PatchBatches:
    """Draw random patches of the training images, `side` HR pixels a side; `batch_size` counts those of all ranks.

    Args:
        mix: share of given pairs, where there are any.
        data_cache: `ram` or `cuda` hold all images decoded, in main memory or on `device`.

    Raises:
        ValueError: an image is too small, the ranks cannot have equal shares, or the images need more memory than
            there is.
    """
    store, given, parts = combine(sets, Fraction(str(mix)))
    if data_cache in RESIDENT:
        sizes = [*store.sizes, *(() if given is None else given.sizes)]
        place = residence(data_cache, device, sizes, processes=ranks.world, log=log)
        store, given = Resident(store, place), None if given is None else Resident(given, place)
    drawn = {"batch": batch_size, "views": views, "seed": seed, "rank": ranks.rank, "world": ranks.world}
    paired = {"parts": parts, "paired": 0 if given is None else len(given.names), "scale": scale}
    return PatchBatches(store, PatchSampler(sizes=store.sizes, patch=side, augment=augment, **drawn, **paired), given)


def pairs(
    degradation: Degradation[Any],
    *,
    batch_size: int,
    patch_size: int,
    pool_size: int = 0,
    views: int = 1,
    seed: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Pairs:
    """Make patches into LR and HR images; `batch_size` and `pool_size` count those of all ranks.

    Raises ValueError where the ranks cannot have equal shares.
    """
    drawn = {"batch": batch_size, "views": views, "seed": seed, "rank": ranks.rank, "world": ranks.world}
    draws = Draws(group=getattr(degradation, "group", None), **drawn)
    return Pairs(degradation, draws, patch=patch_size, pool=pool_size)
