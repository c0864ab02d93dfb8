"""Pairs of a step: the same on any number of ranks, cut out together, mixed by the pool."""

import numpy as np
import pytest
import torch

from data.degradation import Gaussian
from data.pairs import Draws, Pairs, Pool

HR = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 48, 48), dtype=np.uint8))
ISO = Gaussian(scale=2, iso=True, width=(0.2, 3.0))


def pairs(degradation=ISO, patch=24, pool=0, views=1, **draws):
    return Pairs(degradation, Draws(**{"seed": 1, "batch": 4, **draws}, views=views), patch=patch, pool=pool)


def test_a_step_is_a_function_of_seed_and_step():
    lr, hr = pairs()(HR, 3)
    assert torch.equal(hr, HR / 255)
    assert torch.equal(lr, pairs()(HR, 3)[0])
    assert not torch.equal(lr, pairs()(HR, 4)[0])
    assert not torch.equal(lr, pairs(seed=2)(HR, 3)[0])


def test_views_of_an_image_share_their_degradation():
    image = HR[:2]
    lr, _ = pairs(views=2, batch=2)(torch.cat([image, image]), 0)
    assert torch.equal(lr[:2], lr[2:])
    assert not torch.equal(lr[0], lr[1])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_apply_their_share_of_the_degradations(world):
    whole = pairs(patch=20)(HR, 5)
    n = 4 // world
    for rank in range(world):
        part = pairs(patch=20, rank=rank, world=world)(HR[rank * n : (rank + 1) * n], 5)
        for a, b in zip(whole, part, strict=True):
            assert torch.equal(a[rank * n : (rank + 1) * n], b)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_images_that_are_drawn_together(world, together):
    """What a recipe draws once for a batch differs from group to group, and not with the number of ranks."""
    once = Gaussian(scale=2, iso=True, width=(0.2, 3.0), per_batch=True)
    same = HR[:1].repeat(4, 1, 1, 1)
    n = 4 // world
    lr = torch.cat([pairs(once, together=together, rank=r, world=world)(same[:n], 5)[0] for r in range(world)])
    assert torch.equal(lr, pairs(once, together=together)(same, 5)[0])
    for a in range(4):
        for b in range(4):
            assert torch.equal(lr[a], lr[b]) == (a // together == b // together)


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
        lr, hr = cut(HR, step)
        assert lr.shape == (4, 3, 10, 10)
        assert torch.equal(lr, hr[..., ::2, ::2])
        grey = (HR[0, 0].float() / 255).unfold(0, 20, 2).unfold(1, 20, 2)
        places.add(tuple((grey == hr[0, 0]).all(-1).all(-1).nonzero()[0].tolist()))
    assert {place[0] for place in places} == {place[1] for place in places} == set(range(15))


def test_the_pool_passes_batches_through_until_it_is_full_and_mixes_then():
    pool = Pool(6, 1, 2)
    given, taken = [], []
    for step in range(400):
        level = step % 256
        lr, hr = torch.full((2, 3, 1, 1), level / 255), torch.full((2, 3, 2, 2), level / 255)
        out_lr, out_hr = pool(lr, hr, np.random.default_rng(step))
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
    pool = Pool(5, 1, 1)
    for step in range(3):
        pool(torch.ones(2, 3, 1, 1), torch.ones(2, 3, 1, 1), np.random.default_rng(step))
    assert pool.filled == 5
    assert (pool.lr == 255).all()
