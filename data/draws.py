"""The random draws of a run: pure functions of (seed, step, rank), in streams that are kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
import torch

# Streams of random numbers with one seed. A run draws the same again only where these numbers stay what they are.
ORDER, PLACES, FORMS = 1, 2, 3  # of images, of patches in them, and how these are turned
DEGRADATION, NOISE, CUT, POOL = 4, 5, 6, 7
PARTS = 8  # which place in a batch the images of a part have


class Group(NamedTuple):
    """This rank's part of a group of images that are degraded, cropped and mixed together."""

    number: int
    first: int  # index of its first image in the batch of all ranks
    start: int  # first image of this rank in it
    stop: int  # one after the last


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The seed and the batch that decide the random draws of a run, and this rank's share of them.

    Raises ValueError where the ranks cannot have equal shares of the batch.
    """

    seed: int
    batch: int  # images per step, of all ranks together
    group: int | None = None  # images that share what a recipe draws once, the crop and the pool; None: all of a batch
    views: int = 1  # patches per image
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch % self.world:
            raise ValueError(f"`batch_size` {self.batch} cannot be shared out evenly among {self.world} processes")

    @property
    def share(self) -> slice:
        """The images of a batch that are this rank's."""
        size = self.batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def numpy(self, *stream: int) -> np.random.Generator:
        """Return the generator of a stream."""
        return np.random.default_rng((self.seed, *stream))

    def torch(self, device: torch.device, *stream: int) -> torch.Generator:
        """Return the generator of a stream on a device."""
        seed = np.random.SeedSequence((self.seed, *stream)).generate_state(1, np.uint64)[0]
        return torch.Generator(device).manual_seed(int(seed >> 1))

    def groups(self) -> Iterator[Group]:
        """Yield the groups that this rank has images of."""
        rows, size = self.share, self.group or self.batch
        for number in range(rows.start // size, ceil(rows.stop / size)):
            first = number * size
            yield Group(number, first, max(rows.start, first), min(rows.stop, first + size))
