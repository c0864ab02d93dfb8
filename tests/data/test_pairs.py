"""Pairs of a step: the same on any number of ranks, cut out and mixed group by group."""

from typing import Any

import numpy as np
import pytest
import torch

from data.degradation import Degradation, Gaussian, SecondOrder
from data.draws import Draws
from data.pairs import Batch, PairPool, Pairs
from data.sampler import GivenLR, Patches

HR = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 48, 48), dtype=np.uint8))
ISO = Gaussian(scale=2, iso=True, width=(0.2, 3.0))


def pairs(degradation: Degradation = ISO, patch=24, pool=0, views=1, **draws):
    return Pairs(degradation, Draws(**{"seed": 1, "batch": 4, **draws}, views=views), patch=patch, pool=pool)


def test_a_step_is_a_function_of_seed_and_step():
    batch = pairs()(HR, 3)
    assert isinstance(batch, Batch)
    assert torch.equal(batch.hr, HR / 255)
    assert torch.equal(batch.lr, pairs()(HR, 3).lr)
    assert not torch.equal(batch.lr, pairs()(HR, 4).lr)
    assert not torch.equal(batch.lr, pairs(seed=2)(HR, 3).lr)


def test_views_of_an_image_share_their_degradation():
    image = HR[:2]
    lr, _, params = pairs(views=2, batch=2)(torch.cat([image, image]), 0)
    assert torch.equal(params.width[:2], params.width[2:])
    assert torch.equal(lr[:2], lr[2:])
    assert not torch.equal(lr[0], lr[1])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_apply_their_share_of_the_degradations(world):
    whole = pairs(patch=20)(HR, 5)
    n = 4 // world
    for rank in range(world):
        part = pairs(patch=20, rank=rank, world=world)(HR[rank * n : (rank + 1) * n], 5)
        for a, b in zip(whole[:2], part[:2], strict=True):
            assert torch.equal(a[rank * n : (rank + 1) * n], b)
        assert torch.equal(whole.params.width[rank * n : (rank + 1) * n], part.params.width)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("group", [1, 2, 3])
def test_groups_of_images(world, group):
    """Draws that hold for a whole batch differ from group to group, and not with the number of ranks."""
    once = Gaussian(scale=2, iso=True, width=(0.2, 3.0), per_batch=True)
    same = HR[:1].repeat(4, 1, 1, 1)
    n = 4 // world
    lr = torch.cat([pairs(once, group=group, rank=r, world=world)(same[:n], 5)[0] for r in range(world)])
    assert torch.equal(lr, pairs(once, group=group)(same, 5)[0])
    for a in range(4):
        for b in range(4):
            assert torch.equal(lr[a], lr[b]) == (a // group == b // group)


def test_ranks_draw_noise_of_their_own():
    noisy = Gaussian(scale=2, iso=True, width=(1.0, 1.0), noise=0.1)
    same = HR[:1].repeat(2, 1, 1, 1)
    first, second = (pairs(noisy, rank=rank, world=2)(same, 0)[0] for rank in range(2))
    assert not torch.equal(first, second)


def test_lr_and_hr_are_cut_together():
    plain = Gaussian(scale=2, iso=True, width=(0.0, 0.0), sampling="s-fold")
    cut = pairs(plain, patch=10)
    places = set()
    for step in range(200):
        lr, hr, _ = cut(HR, step)
        assert lr.shape == (4, 3, 10, 10)
        assert torch.equal(lr, hr[..., ::2, ::2])
        grey = (HR[0, 0].float() / 255).unfold(0, 20, 2).unfold(1, 20, 2)
        places.add(tuple((grey == hr[0, 0]).all(-1).all(-1).nonzero()[0].tolist()))
    assert {place[0] for place in places} == {place[1] for place in places} == set(range(15))


def test_the_pool_passes_batches_through_until_it_is_full_and_mixes_then():
    pool = PairPool(6, 1, 2)
    given, taken = [], []
    for step in range(400):
        level = step % 256
        lr, hr = torch.full((2, 3, 1, 1), level / 255), torch.full((2, 3, 2, 2), level / 255)
        out_lr, out_hr = pool(lr, hr, slice(0, 6), np.random.default_rng(step))
        assert torch.equal(out_lr.expand(2, 3, 2, 2), out_hr)  # pairs stay pairs
        assert torch.equal((255 * out_lr).round() / 255, out_lr)
        given += [level] * 2
        taken += (255 * out_lr[:, 0, 0, 0]).round().int().tolist()
        if step < 3:
            assert torch.equal(out_lr, lr)
    assert taken != given
    kept = (255 * pool.lr[:, 0, 0, 0].float() / 255).int().tolist()
    assert sorted(given + given[:6]) == sorted(taken + kept)  # all that went in came out once; the first six twice
    ages = [(after - before) % 256 for before, after in zip(taken[6:], given[6:], strict=True)]
    assert 2 < np.mean(ages) < 4  # steps, 6 / 2 on average: uniformly chosen


def test_the_pool_is_saved_with_all_that_it_holds():
    one, other = pairs(pool=8), pairs(pool=8)
    for step in range(7):
        one(HR, step)
        if step == 3:
            other.load_state_dict(one.state_dict())
    for step in range(4, 7):
        out = other(HR, step)
    again = pairs(pool=8)
    for step in range(7):
        expected = again(HR, step)
    assert torch.equal(out[0], expected[0])


def test_a_pool_whose_size_is_no_multiple_of_the_batch_is_filled():
    pool = PairPool(5, 1, 1)
    for step in range(3):
        pool(torch.ones(2, 3, 1, 1), torch.ones(2, 3, 1, 1), slice(0, 5), np.random.default_rng(step))
    assert pool.held.all()
    assert (pool.lr == 255).all()


# ------------------------------------------------------------------------------------------------ parameters


def test_a_batch_tells_its_degradations():
    """Applied again they give the same images."""
    batch = pairs(views=2, batch=2)(HR, 7)
    lr = ISO.apply(batch.hr, batch.params, generator=torch.Generator())
    assert torch.equal(lr, batch.lr)


def test_the_degradations_of_several_groups_come_in_the_order_of_the_images():
    batch = pairs(group=2, batch=4)(HR, 7)
    assert torch.equal(ISO.apply(HR / 255, batch.params, generator=torch.Generator()), batch.lr)


def test_degradations_that_cannot_be_told_are_none():
    second = SecondOrder(scale=2)
    hr = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 80, 80), dtype=np.uint8))
    assert pairs(second, patch=40)(hr, 0).params.last_filter.size.shape == (4,)
    several = [pairs(second, patch=40, group=2)(hr, step).params for step in range(5)]
    assert several == [None] * 5  # each group resizes by factors of its own
    assert pairs(pool=8)(HR, 0).params is None


# ------------------------------------------------------------------------------------------------ groups


def places(batch):
    """Where the kept patches of each image lie in HR, of images that tell the place in their first two channels."""
    return (255 * batch.hr[:, :2, 0, 0]).round().int().tolist()


def test_each_group_is_cut_at_a_place_of_its_own():
    plain = Gaussian(scale=2, iso=True, width=(0.0, 0.0), sampling="s-fold")
    rows = torch.arange(48, dtype=torch.uint8)
    hr = torch.stack([rows[:, None].expand(48, 48), rows.expand(48, 48), rows.expand(48, 48)]).repeat(4, 1, 1, 1)
    differ = 0
    for step in range(20):
        first, second, third, fourth = places(pairs(plain, patch=10, group=2)(hr, step))
        assert first == second
        assert third == fourth
        differ += first != third
    assert differ > 15


@pytest.mark.parametrize(("world", "group"), [(1, 2), (2, 2), (2, 1), (4, 1), (1, 3)])
def test_each_group_has_a_pool_of_its_own(world, group):
    """Pairs never change groups, and each rank holds an equal share of the pool, all of which is used."""
    plain = Gaussian(scale=2, iso=True, width=(0.0, 0.0), sampling="s-fold")
    n = 4 // world
    for rank in range(world):
        own = pairs(plain, patch=24, pool=16, group=group, rank=rank, world=world)
        assert own.pool is not None
        assert len(own.pool.lr) == 16 // world
        for step in range(12):
            marks = (rank * n + torch.arange(n)) // group
            hr = (10 * marks + 5).byte()[:, None, None, None].expand(-1, 3, 48, 48)
            batch = own(hr, step)
            assert torch.equal((255 * batch.hr[:, 0, 0, 0]).round().long() // 10, marks)
        assert own.pool.held.all()


@pytest.mark.parametrize("world", [2, 4])
def test_pools_of_whole_groups_do_not_depend_on_the_number_of_ranks(world):
    group, n = 4 // world, 4 // world
    whole = pairs(patch=20, pool=16, group=group)
    ranks = [pairs(patch=20, pool=16, group=group, rank=rank, world=world) for rank in range(world)]
    random = np.random.default_rng(0)
    for step in range(12):
        hr = torch.from_numpy(random.integers(0, 256, (4, 3, 48, 48), dtype=np.uint8))
        parts = [own(hr[rank * n : (rank + 1) * n], step) for rank, own in enumerate(ranks)]
        batch = whole(hr, step)
        assert torch.equal(batch.lr, torch.cat([part.lr for part in parts]))
        assert torch.equal(batch.hr, torch.cat([part.hr for part in parts]))
    assert whole.pool is not None
    rows = torch.cat([own.pool.lr for own in ranks if own.pool is not None])
    assert torch.equal(whole.pool.lr, rows)  # so that the state of N ranks is that of one


def test_a_pool_that_is_not_full_goes_on_where_it_was_on_another_number_of_ranks():
    """Each rank has filled half of its rows: nothing but pairs may come out of them."""
    ranks = [pairs(pool=16, rank=rank, world=2) for rank in range(2)]
    for step in range(2):
        for rank, own in enumerate(ranks):
            own(HR[2 * rank : 2 * rank + 2].clamp(min=1), step)
    states = [own.state_dict() for own in ranks]
    whole = pairs(pool=16)
    whole.load_state_dict({key: torch.cat([state[key] for state in states]) for key in states[0]})
    for step in range(2, 30):
        batch = whole(HR.clamp(min=1), step)
        assert (batch.hr > 0).all()


def test_states_that_count_the_pairs_are_still_read():
    pool = PairPool(6, 1, 1)
    pool.set_extra_state(4)
    assert pool.held.tolist() == [True] * 4 + [False] * 2
    with pytest.raises(ValueError, match="has 5 pairs, and this run's has 6"):
        pool.set_extra_state(torch.ones(5, dtype=torch.uint8))


def test_a_pool_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match="`pool_size` 13 cannot be shared out evenly among 2"):
        pairs(pool=13, world=2)


# ------------------------------------------------------------------------------------------------ given LR images


class Counting(Gaussian):
    calls = 0

    def apply(self, *arguments: Any, **options: Any) -> torch.Tensor:
        Counting.calls += 1
        return super().apply(*arguments, **options)


def make(patches: Patches, **draws: Any) -> Any:
    recipe = Counting(scale=2, iso=True, width=(2.0, 2.0))
    return Pairs(recipe, Draws(**{"seed": 1, "batch": 4, "views": 2, **draws}), patch=8)(patches.hr, 3, patches.given)


@pytest.mark.parametrize("group", [None, 1, 2, 3])
def test_given_images_are_not_degraded_and_others_are_as_without(group: int | None) -> None:
    random = np.random.default_rng(0)
    hr, lr = (torch.from_numpy(random.integers(0, 256, (8, 3, n, n), dtype=np.uint8)) for n in (24, 12))
    has = torch.tensor([True, False, True, False])
    batch = make(Patches(hr, GivenLR(lr, has)), group=group)
    plain = make(Patches(hr), group=group)
    everything = make(Patches(hr, GivenLR(lr, torch.ones(4, dtype=torch.bool))), group=group)
    assert batch.params is None
    assert plain.params is not None
    both = has.repeat(2)
    assert torch.equal(batch.hr, plain.hr)
    assert torch.equal(batch.lr[~both], plain.lr[~both])
    assert torch.equal(batch.lr[both], everything.lr[both])
    windows = (lr[0] / 255).unfold(1, 8, 1).unfold(2, 8, 1)  # 3 5 5 8 8
    ((top, left),) = (windows == batch.lr[0, :, None, None]).all((0, 3, 4)).nonzero().tolist()
    assert torch.equal(batch.hr[0], hr[0, :, 2 * top : 2 * top + 16, 2 * left : 2 * left + 16] / 255)


def test_a_batch_of_given_pairs_costs_no_degradation() -> None:
    hr, lr = torch.zeros(8, 3, 24, 24, dtype=torch.uint8), torch.zeros(8, 3, 12, 12, dtype=torch.uint8)
    before = Counting.calls
    make(Patches(hr, GivenLR(lr, torch.ones(4, dtype=torch.bool))))
    assert Counting.calls == before
