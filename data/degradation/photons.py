"""Count photons: Poisson numbers whose means are the 8-bit levels of an image."""

from __future__ import annotations

import torch
from torch import Tensor

from data.degradation.params import constant, move

_COUNTS = 512
"""Counts that a CPU draws: 0 to 511. Of 256 photons on average, more than 511 come once in 10⁴⁴ times."""


def count_photons(levels: Tensor, white: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the photons that every pixel counts: Poisson numbers with the means levels / 255 · white.

    PyTorch draws them on a GPU. Its sampler takes a CPU four times as long as tables do, and an image has 256 means at
    most: so a CPU draws a cell of a table, and then one of the two counts in it (Walker's alias method, 1974).

    Args:
        levels: (B, C, H, W), whole numbers in 0..255.
        white: (B,) photons of the level 255 on average, whole numbers in 1..256.
        generator: the numbers are drawn on its device and then moved to that of the levels.

    Returns:
        (B, C, H, W) whole numbers, of the dtype of the levels.

    Examples:
        >>> levels = torch.full((1, 1, 64, 64), 51.0)
        >>> counts = count_photons(levels, torch.tensor([100]), torch.Generator().manual_seed(0))
        >>> bool(abs(counts.mean() - 20) < 0.3), bool(abs(counts.var() - 20) < 2)
        (True, True)
    """
    device = generator.device
    if device.type == "cpu":
        images = zip(move(levels, device).float(), white.tolist(), strict=True)
        counts = torch.stack([_count(image, photons, generator) for image, photons in images])
    else:
        mean = levels / 255 * white.to(levels)[:, None, None, None]
        counts = torch.poisson(move(mean, device), generator=generator)
    return move(counts.to(levels.dtype), levels.device)


def _count(levels: Tensor, white: int, generator: torch.Generator) -> Tensor:
    share, further = _tables(white)
    position = torch.rand(levels.shape, generator=generator, device=levels.device, dtype=torch.float32)
    position.mul_(_COUNTS)  # exact: a power of two
    count = position.floor()
    cell = torch.add(count, levels, alpha=_COUNTS).int().flatten()
    moves = torch.ge(position.sub_(count).flatten(), share.index_select(0, cell)).float()
    return count.flatten().addcmul_(moves, further.index_select(0, cell)).view(levels.shape)


@constant(most=9)
def _tables(white: int) -> tuple[Tensor, Tensor]:
    """Return two tables, (256 · 512,) float32: a cell for each level and count, all of a level equally likely.

    The first table holds the share of its cell that a count has, the second how much larger the other count in it is.
    """
    level, count = torch.arange(256), torch.arange(_COUNTS, dtype=torch.float64)
    mean = level.double()[:, None] / 255 * white
    chance = _without_denormals(torch.exp(torch.xlogy(count, mean) - mean - torch.lgamma(count + 1)))
    needs = chance * (_COUNTS / chance.sum(1, keepdim=True))  # cells, 512 for all counts of a level
    share, further = torch.ones_like(needs), torch.zeros_like(needs)
    for _ in range(_COUNTS - 1):  # the count that needs most fills the cell of the one that needs least
        least, most = needs.argmin(1), needs.argmax(1)
        own = needs[level, least].clamp(max=1)
        given = own < 1
        share[level, least] = own.where(given, share[level, least])
        further[level, least] = (most - least).double().where(given, further[level, least])
        needs[level, least] += 1 - own
        needs[level, most] -= 1 - own
    return _without_denormals(share.float()).flatten(), further.float().flatten()


def _without_denormals(x: Tensor) -> Tensor:
    """Return x with 0 for denormal numbers, as a CPU has it that flushes them: or the tables would depend on that."""
    return x.where(x >= torch.finfo(x.dtype).tiny, 0)
