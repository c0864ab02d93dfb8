from __future__ import annotations

import math

import pytest
import torch

from data.degradation.photons import _tables, count_photons

LEVELS, COUNTS = 256, 512


def poisson(white: int) -> torch.Tensor:
    """(256, 512) chances of the counts at every level."""
    mean = torch.arange(LEVELS, dtype=torch.float64)[:, None] / 255 * white
    count = torch.arange(COUNTS, dtype=torch.float64)
    return torch.exp(torch.xlogy(count, mean) - mean - torch.lgamma(count + 1))


@pytest.mark.parametrize("white", [1, 2, 16, 100, 256])
def test_tables_hold_the_distribution(white):
    share, further = (table.view(LEVELS, COUNTS).double() for table in _tables(white))
    assert share.min() >= 0
    assert share.max() <= 1
    other = (torch.arange(COUNTS) + further).long()
    assert other.min() >= 0
    assert other.max() < COUNTS
    chances = share.clone().scatter_add_(1, other, 1 - share) / COUNTS
    torch.testing.assert_close(chances, poisson(white), rtol=0, atol=1e-9)


@pytest.mark.parametrize("white", [1, 16, 256])
def test_tables_are_the_same_whether_denormal_numbers_are_flushed_or_not(white):
    """A run on a CPU flushes them, a program on a GPU or a script does not: both must make the same test images."""
    found = []
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        _tables.cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
        found.append(_tables(white))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_counts_are_drawn_with_their_chances(level):
    """The chi-square of a million draws is within five standard deviations of its mean."""
    draws = 10**6
    levels = torch.full((1, 1, 1000, 1000), float(level))
    counts = count_photons(levels, torch.tensor([256]), torch.Generator().manual_seed(0))
    expected = poisson(256)[level] * draws
    found = torch.bincount(counts.flatten().long(), minlength=COUNTS).double()
    common = expected >= 10
    rare = torch.tensor([found[~common].sum()]), torch.tensor([expected[~common].sum()])
    found, expected = (torch.cat([all_[common], rest]) for all_, rest in zip((found, expected), rare, strict=True))
    kept = expected > 0
    square = float(((found - expected).square() / expected)[kept].sum())
    freedom = int(kept.sum()) - 1
    assert abs(square - freedom) <= 5 * math.sqrt(2 * freedom)


def test_white_is_of_each_image():
    levels = torch.full((3, 3, 64, 64), 255.0, dtype=torch.float64)
    counts = count_photons(levels, torch.tensor([1, 16, 256]), torch.Generator().manual_seed(0))
    assert counts.dtype == levels.dtype
    for image, white in zip(counts, (1, 16, 256), strict=True):
        assert float(image.mean()) == pytest.approx(white, rel=0.05)
        assert float(image.var()) == pytest.approx(white, rel=0.05)


def test_the_generator_decides():
    levels = torch.full((1, 3, 16, 16), 100.0)
    first, again, other = (
        count_photons(levels, torch.tensor([64]), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
