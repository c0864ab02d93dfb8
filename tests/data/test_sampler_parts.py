"""Parts of the images of a sampler, and the shares that they are drawn by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from data.draws import Draws
from data.sampler import Part, PatchSampler

SAMPLER = PatchSampler([(40, 44)] * 12, Draws(seed=7, batch=4), patch=32, augment="all")
FIVE_SEVEN = [range(5), range(5, 12)]


def images(sampler: PatchSampler, steps: Sequence[int]) -> list[int]:
    return [crop.index for step in steps for crop in sampler.draw(step)]


def parts(*shares: str, ranges: Sequence[range] = FIVE_SEVEN) -> list[Part]:
    return [Part(*one) for one in zip(ranges, map(Fraction, shares), strict=True)]


@settings(deadline=None)
@drawn(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    counts=st.lists(st.integers(1, 7), min_size=4, max_size=4),
    batch=st.integers(1, 9),
    seed=st.integers(0, 2**40),
)
def test_each_part_has_its_share_at_any_time_and_each_image_its_turn(
    weights: list[int], counts: list[int], batch: int, seed: int
) -> None:
    starts = np.cumsum([0, *counts])
    ranges = [range(*starts[i : i + 2]) for i in range(len(weights))]
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    draws = Draws(seed=seed, batch=batch)
    sampler = PatchSampler([(40, 44)] * 40, draws, patch=32, augment="none", parts=list(map(Part, ranges, shares)))
    counted: Counter[int] = Counter()
    for step in range(30):
        counted.update(images(sampler, [step]))
        for images_of, share in zip(ranges, shares, strict=True):
            turns = [counted[image] for image in images_of]
            assert abs(sum(turns) - share * (step + 1) * batch) < len(shares)
            assert max(turns) - min(turns) <= 1


def test_which_position_of_a_batch_a_part_has_is_random() -> None:
    sampler = replace(SAMPLER, parts=parts("1/4", "3/4"))
    first = Counter(place for step in range(400) for place, i in enumerate(images(sampler, [step])) if i < 5)
    assert sum(first.values()) == 400  # exactly one of each four
    assert all(60 < first[place] < 140 for place in range(4))  # 100 expected, standard deviation 9


def test_places_and_forms_do_not_depend_on_the_part() -> None:
    mixed = replace(SAMPLER, parts=parts("1/2", "1/2"))
    assert [crop[1:] for crop in mixed.draw(3)] == [crop[1:] for crop in SAMPLER.draw(3)]
    assert replace(SAMPLER, parts=[Part(range(12), Fraction(1))]).draw(3) == SAMPLER.draw(3)


@pytest.mark.parametrize("world", [2, 4])
def test_draws_are_those_of_one_process_and_of_no_history(world: int) -> None:
    sampler = replace(SAMPLER, parts=parts("1/3", "2/3"))
    whole = [sampler.draw(step) for step in range(20)]
    assert [sampler.draw(step) for step in reversed(range(20))] == whole[::-1]
    for step in range(20):
        ranks = [replace(sampler.draws, rank=rank, world=world) for rank in range(world)]
        shares = [replace(sampler, draws=draws).draw(step) for draws in ranks]
        assert [crop for one in shares for crop in one] == whole[step]


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`parts`: expected shares that add up to 1, got 1/3, 1/3"):
        images(replace(SAMPLER, parts=parts("1/3", "1/3")), range(9))
