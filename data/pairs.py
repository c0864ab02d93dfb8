"""From HR patches to what a step trains on: degrade them, keep a part of each, mix the pairs of many steps."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.degradation import Degradation
from data.sampler import share

# Keeps the streams of random numbers apart that share a seed, from those of the sampler too.
_DEGRADATION, _NOISE, _CUT, _MIX = 4, 5, 6, 7


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What decides the random draws of a run, and this rank's share of them."""

    seed: int
    batch: int  # images per step, of all ranks together
    together: int | None = None  # images that share what a recipe draws once for a batch; None: all of them
    views: int = 1  # patches per image
    rank: int = 0
    world: int = 1

    def numpy(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *stream))

    def torch(self, device: torch.device, *stream: int) -> torch.Generator:
        seed = np.random.SeedSequence((self.seed, *stream)).generate_state(1, np.uint64)[0]
        return torch.Generator(device).manual_seed(int(seed >> 1))


class Pairs(nn.Module):
    """The LR and HR images of a step, as a function of its HR patches, of (seed, step, rank) and of the pool.

    degradation: applied to whole patches; all views of an image get the same. patch: side that is kept of them, LR
    pixels; it lies anywhere in the patch, so that borders and the grid of JPEG blocks do too. pool: how many pairs of
    former steps to mix with, of all ranks together; 0: none. ValueError where ranks cannot have equal shares of it.
    """

    def __init__(self, degradation: Degradation[Any], draws: Draws, *, patch: int, pool: int = 0) -> None:
        super().__init__()
        self.degradation = degradation
        self.draws = draws
        self.patch = patch
        if pool % draws.world:
            raise ValueError(f"--pool_size {pool} cannot be shared out evenly among {draws.world} processes")
        self.pool = Pool(pool // draws.world, patch, patch * degradation.scale) if pool else None

    @torch.no_grad()
    def forward(self, hr: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(V·B, 3, s·Q, s·Q) uint8 on the device, view-major, to LR (V·B, 3, P, P) and HR (V·B, 3, s·P, s·P) in [0, 1].

        B counts the images of this rank. LR are multiples of 1/255.
        """
        hr = hr.float() / 255
        lr, hr = self._cut(self._degraded(hr, step), hr, step)
        if self.pool is not None:
            lr, hr = self.pool(lr, hr, self.draws.numpy(_MIX, step, self.draws.rank))
        return lr, hr

    def _degraded(self, hr: Tensor, step: int) -> Tensor:
        """Degradations are drawn for the whole batch by all ranks alike, of which each applies its own.

        On the CPU: the same on any device, and what the host must know needs no reading back. Noise is drawn by rank.
        """
        draws, views = self.draws, self.draws.views
        own, together = share(draws.batch, draws.rank, draws.world), draws.together or draws.batch
        noise = draws.torch(hr.device, _NOISE, step, draws.rank)
        images = hr.unflatten(0, (views, -1))  # V B 3 s·Q s·Q
        parts = []
        for group in range(own.start // together, ceil(own.stop / together)):
            first = group * together
            generator = draws.torch(torch.device("cpu"), _DEGRADATION, step, group)
            params = self.degradation.sample(min(together, draws.batch - first), generator=generator)
            start, stop = max(own.start, first), min(own.stop, first + together)
            params = params.part(start - first, stop - first).repeat(views)
            some = images[:, start - own.start : stop - own.start].flatten(0, 1)
            parts.append(self.degradation.apply(some, params, generator=noise).unflatten(0, (views, -1)))
        return torch.cat(parts, 1).flatten(0, 1)

    def _cut(self, lr: Tensor, hr: Tensor, step: int) -> tuple[Tensor, Tensor]:
        spare = lr.shape[-1] - self.patch
        if not spare:
            return lr, hr
        s, p = self.degradation.scale, self.patch
        top, left = self.draws.numpy(_CUT, step).integers(0, spare, 2, endpoint=True).tolist()
        return (
            lr[..., top : top + p, left : left + p].contiguous(),
            hr[..., s * top : s * (top + p), s * left : s * (left + p)].contiguous(),
        )


class Pool(nn.Module):
    """Pairs of former steps (Real-ESRGAN): a batch shares its resizing, so batches are mixed with older ones.

    Until it is full, batches pass through and are kept. Then each step takes a batch out of it at random and puts the
    new one in its place. Images are 8-bit levels, and kept as such.
    """

    lr: Tensor
    hr: Tensor

    def __init__(self, size: int, lr_side: int, hr_side: int) -> None:
        super().__init__()
        self.filled = 0  # on the host, who decides by it
        self.register_buffer("lr", torch.zeros(size, 3, lr_side, lr_side, dtype=torch.uint8))
        self.register_buffer("hr", torch.zeros(size, 3, hr_side, hr_side, dtype=torch.uint8))

    def forward(self, lr: Tensor, hr: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A batch of pairs for a batch of pairs, (B, 3, P, P) and (B, 3, s·P, s·P), multiples of 1/255."""
        size, batch = len(self.lr), len(lr)
        if self.filled < size:
            room = slice(self.filled, min(self.filled + batch, size))
            self.filled = room.stop
            self._put(room, lr[: room.stop - room.start], hr[: room.stop - room.start])
            return lr, hr
        places = torch.from_numpy(random.permutation(size)[:batch]).to(lr.device, non_blocking=True)
        taken = self.lr[places].float() / 255, self.hr[places].float() / 255
        self._put(places, lr, hr)
        return taken

    def _put(self, places: slice | Tensor, lr: Tensor, hr: Tensor) -> None:
        self.lr[places] = lr.mul(255).round().byte()
        self.hr[places] = hr.mul(255).round().byte()

    def get_extra_state(self) -> Any:
        return self.filled

    def set_extra_state(self, state: Any) -> None:
        self.filled = state
