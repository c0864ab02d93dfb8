"""From HR patches to the pairs of a step: degrade them, keep a part of each, mix the pairs of many steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data.degradation import Degradation
from data.degradation.params import check_lr, concatenate, part, repeat
from data.draws import CUT, DEGRADATION, NOISE, POOL, Draws, Group
from data.sampler import GivenLR


class Batch(NamedTuple):
    """The LR and HR images of a step: V views of each of B images, view-major."""

    lr: Tensor
    """(V·B, 3, P, P) in [0, 1], multiples of 1/255."""
    hr: Tensor
    """(V·B, 3, s·P, s·P) in [0, 1], likewise."""
    params: Any = None
    """The degradations of the images, a named tuple of V·B entries, on the CPU. None for pairs that a pool has mixed,
    for given pairs, and for groups that differ in what a recipe draws once for all images."""

    def chunk(self, parts: int) -> list[Batch]:
        """Cut the batch into parts of equal size; the last may be smaller."""
        chunks, start = [], 0
        for lr, hr in zip(self.lr.chunk(parts), self.hr.chunk(parts), strict=True):
            stop = start + len(lr)
            chunks.append(Batch(lr, hr, None if self.params is None else part(self.params, start, stop)))
            start = stop
        return chunks


class Pairs(nn.Module):
    """Makes the LR and HR images of a step; a function of its HR patches, of (seed, step, rank) and of the pool.

    Images are handled in groups (`Draws.group`). Published training of second_order has one group of nine for each GPU;
    here the groups are the same on any number of ranks, and so are their draws where each rank has whole groups.

    Args:
        degradation: applied to whole patches; all views of an image get the same.
        draws: seed, batch and this rank's share.
        patch: side that is kept of a patch, LR pixels. It lies anywhere in the patch, at the same place for a group, so
            that borders and the grid of JPEG blocks lie anywhere in it, too.
        pool: pairs of former steps to mix with, of all ranks together, shared out to the groups; 0: none.

    Raises:
        ValueError: ranks cannot have equal shares of the pool.
    """

    def __init__(self, degradation: Degradation[Any], draws: Draws, *, patch: int, pool: int = 0) -> None:
        super().__init__()
        self.degradation = degradation
        self.draws = draws
        self.patch = patch
        if pool % draws.world:
            raise ValueError(f"`pool_size` {pool} cannot be shared out evenly among {draws.world} processes")
        self._pool_size = pool
        self.pool = PairPool(pool // draws.world, patch, patch * degradation.scale) if pool else None

    @torch.no_grad()
    def forward(self, hr: Tensor, step: int, given: GivenLR | None = None) -> Batch:
        """Make a batch of (V·B, 3, s·Q, s·Q) uint8 patches on the device, view-major; B counts this rank's images.

        Degradations are drawn for whole groups, by all ranks alike, and on the CPU: they are the same on any device,
        and what the host must know needs no reading back. Each rank draws the noise of its images. Given LR patches
        take the place of degraded ones.
        """
        draws, views = self.draws, self.draws.views
        mine = draws.share
        noise = draws.torch(hr.device, NOISE, step, draws.rank)
        images = (hr.float() / 255).unflatten(0, (views, -1))  # V B 3 s·Q s·Q
        lr_parts, hr_parts, params_parts = [], [], []
        for group in draws.groups():
            generator = draws.torch(torch.device("cpu"), DEGRADATION, step, group.number)
            size = min(draws.group or draws.batch, draws.batch - group.first)
            params = self.degradation.sample(size, generator=generator)
            params = part(params, group.start - group.first, group.stop - group.first)
            rows = slice(group.start - mine.start, group.stop - mine.start)
            sharp = images[:, rows].flatten(0, 1)
            blurred = self._degrade(sharp, repeat(params, views), noise, given and given.part(rows))
            blurred, sharp = self._cut(blurred, sharp, draws.numpy(CUT, step, group.number))
            if self.pool is not None:
                blurred, sharp = self.pool(blurred, sharp, self._rows(group), draws.numpy(POOL, step, group.start))
            lr_parts.append(blurred.unflatten(0, (views, -1)))
            hr_parts.append(sharp.unflatten(0, (views, -1)))
            params_parts.append(params)
        params = concatenate(params_parts) if self.pool is None and given is None else None
        return Batch(
            torch.cat(lr_parts, 1).flatten(0, 1),
            torch.cat(hr_parts, 1).flatten(0, 1),
            None if params is None else repeat(params, views),
        )

    def _degrade(self, hr: Tensor, params: Any, noise: torch.Generator, given: GivenLR | None) -> Tensor:
        """Return the LR images of (V·B, 3, s·Q, s·Q): those that are given, and degraded ones."""
        if given is None:
            return self._apply_recipe(hr, params, noise)
        lr = given.lr.float() / 255
        if given.has.all():
            return lr
        has = given.has.repeat(self.draws.views).to(hr.device, non_blocking=True)[:, None, None, None]
        return torch.where(has, lr, self._apply_recipe(hr, params, noise))

    def _apply_recipe(self, hr: Tensor, params: Any, noise: torch.Generator) -> Tensor:
        return check_lr(self.degradation.apply(hr, params, generator=noise), hr, self.degradation)

    def _cut(self, lr: Tensor, hr: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut patches of all images at one place."""
        spare = lr.shape[-1] - self.patch
        if not spare:
            return lr, hr
        s, p = self.degradation.scale, self.patch
        top, left = random.integers(0, spare, 2, endpoint=True).tolist()
        return lr[..., top : top + p, left : left + p], hr[..., s * top : s * (top + p), s * left : s * (left + p)]

    def _rows(self, group: Group) -> slice:
        """Return the rows of this rank's pool that belong to a group: as many as its share of the batch."""
        draws, pool = self.draws, self._pool_size
        mine = draws.share
        begin, start, stop = (pool * image // draws.batch for image in (mine.start, group.start, group.stop))
        return slice(start - begin, stop - begin)


class PairPool(nn.Module):
    """Pairs of former steps (Real-ESRGAN): a group shares its resizing, so its images are mixed with older ones.

    Until the rows of a group are full, its batches pass through and are kept. Then each step takes a batch out of them
    at random and puts the new one in its place. Images are 8-bit levels, and are kept as such.
    """

    lr: Tensor
    hr: Tensor

    def __init__(self, size: int, lr_side: int, hr_side: int) -> None:
        super().__init__()
        self.held = np.zeros(size, bool)  # rows that hold a pair; on the host, which decides by it
        self.register_buffer("lr", torch.zeros(size, 3, lr_side, lr_side, dtype=torch.uint8))
        self.register_buffer("hr", torch.zeros(size, 3, hr_side, hr_side, dtype=torch.uint8))

    def forward(self, lr: Tensor, hr: Tensor, rows: slice, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Exchange a batch of pairs, (B, 3, P, P) and (B, 3, s·P, s·P), multiples of 1/255, for another.

        Args:
            lr: LR images.
            hr: HR images.
            rows: the part of the pool that takes part.
            random: chooses the rows.
        """
        empty = rows.start + np.flatnonzero(~self.held[rows])[: len(lr)]
        if len(empty):
            self.held[empty] = True
            self._put(torch.from_numpy(empty), lr[: len(empty)], hr[: len(empty)])
            return lr, hr
        places = torch.from_numpy(rows.start + random.permutation(rows.stop - rows.start)[: len(lr)])
        places = places.to(lr.device, non_blocking=True)
        taken = self.lr[places].float() / 255, self.hr[places].float() / 255
        self._put(places, lr, hr)
        return taken

    def _put(self, places: Tensor, lr: Tensor, hr: Tensor) -> None:
        places = places.to(lr.device, non_blocking=True)
        self.lr[places] = lr.mul(255).round().byte()
        self.hr[places] = hr.mul(255).round().byte()

    def get_extra_state(self) -> Tensor:
        """Return which rows hold a pair: one entry per row, as the buffers have."""
        return torch.from_numpy(self.held.astype(np.uint8))

    def set_extra_state(self, state: Any) -> None:
        """Restore which rows hold a pair; older states hold the number of pairs instead."""
        held = np.arange(len(self.held)) < state if isinstance(state, int) else state.cpu().numpy() > 0
        if held.shape != self.held.shape:
            raise ValueError(f"the pool of this state has {len(held)} pairs, and this run's has {len(self.held)}")
        self.held = held
