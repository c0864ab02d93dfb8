from __future__ import annotations

import pytest
import torch

from data.degradation.noise import add_noise, add_poisson, draw_block_sigma

DOUBLE = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_level_per_sample():
    x = torch.full((4, 3, 128, 128), 0.5)
    sigma = torch.tensor([0.0, 0.01, 0.1, 0.5], dtype=DOUBLE)
    noise = add_noise(x, sigma, rng()) - x
    assert torch.equal(noise[0], torch.zeros_like(noise[0]))
    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise.std((1, 2, 3)).double(), sigma, rtol=0.02, atol=0)
    assert noise.mean((1, 2, 3)).abs().max() < 0.01


def test_channels_and_samples_differ():
    noise = add_noise(torch.zeros(2, 3, 64, 64), torch.ones(2), rng()).flatten(2).flatten(0, 1)
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 0.1


def test_generator_decides():
    x, sigma = torch.zeros(1, 3, 8, 8), torch.ones(1)
    first, same, other = (add_noise(x, sigma, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("add", [add_noise, add_poisson])
def test_grey_noise(add):
    """The same in all channels where asked, its own in every image, and the others do not notice."""
    x = torch.full((4, 3, 64, 64), 0.2)
    grey = torch.tensor([True, False, True, False])
    noise = add(x, torch.ones(4, dtype=DOUBLE), rng(), grey=grey) - x
    for image, is_grey in zip(noise, grey.tolist(), strict=True):
        assert torch.equal(image, image[:1].expand(3, -1, -1)) is is_grey
    others = add(x, torch.ones(4, dtype=DOUBLE), rng(), grey=torch.zeros_like(grey)) - x
    assert torch.equal(noise[~grey], others[~grey])
    correlation = torch.corrcoef(noise[:, 0].flatten(1)) - torch.eye(4)
    assert correlation.abs().max() < 0.1


def steps(count: int, side: int = 96) -> torch.Tensor:
    """(3, side, side) with so many 8-bit levels from black to white, all of them in every channel."""
    levels = torch.linspace(0, 255, count, dtype=DOUBLE).round() / 255
    return levels[torch.arange(side * side) % count].float().view(1, side, side).expand(3, -1, -1)


@pytest.mark.parametrize("grey", [False, True])
def test_poisson_variance(grey):
    """v photons in white: the variance of a level is level / v, times the square of the strength."""
    counts = (2, 5, 8, 9, 129)
    x = torch.stack([steps(count) for count in counts])
    strength = torch.tensor([1.0, 0.5, 2.0, 3.0, 1.0], dtype=DOUBLE)
    choice = torch.full((5,), grey)
    noise = (add_poisson(x, strength, rng(), grey=choice) - x)[:, 0].double()
    for image, own, photons, factor in zip(x[:, 0], noise, (2, 8, 8, 16, 256), strength.tolist(), strict=True):
        bright = image > 0.4
        ratio = own[bright].square().mean() / (image[bright].mean() / photons * factor**2)
        assert float(ratio) == pytest.approx(1, abs=0.1)
        assert abs(float(own.mean())) < 4 * float(own.std()) / 96
        assert own[image == 0].abs().max() == 0  # no photons, no noise


def test_photons_of_a_grey_image_are_those_of_its_grey_levels():
    """Two channels with 16 levels that cancel: the luma hardly varies."""
    ramp = torch.linspace(0.2, 0.5, 16).repeat(96 * 6).view(96, 96)
    flat = (0.6 - 0.2989 * ramp) / 0.587  # 0.2989 R + 0.587 G = 0.6
    x = torch.stack([ramp, flat, torch.zeros_like(ramp)])[None]
    noise = add_poisson(x, torch.ones(1), rng(), grey=torch.tensor([True])) - x
    photons = 0.6 / float(noise.double().var(correction=0))
    assert photons == pytest.approx(1, rel=0.1)


def test_poisson_needs_no_image_within_range():
    x = steps(9).add(0.02)[None]  # as a bicubic resize leaves it
    noise = add_poisson(x, torch.ones(1), rng(), grey=torch.tensor([False])) - x
    assert noise.isfinite().all()
    assert noise.std() > 0.1


def test_poisson_batch_equals_one_by_one():
    """Other images do not change how many photons one gets: variances of each in company and alone."""
    x = torch.stack([steps(count) for count in (2, 200)])
    grey = torch.zeros(2, dtype=torch.bool)
    together = (add_poisson(x, torch.ones(2), rng(), grey=grey) - x).std((1, 2, 3))
    alone = [(add_poisson(x[i : i + 1], torch.ones(1), rng(5), grey=grey[:1]) - x[i : i + 1]).std() for i in range(2)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0.05, atol=0)


def test_block_sigma_is_constant_in_blocks_and_cut_off_at_the_edges():
    sigma = draw_block_sigma(torch.tensor([1.0, 2.0]), (50, 70), rng())
    assert sigma.shape == (2, 50, 70)
    for top in range(0, 50, 20):
        for left in range(0, 70, 20):
            block = sigma[:, top : top + 20, left : left + 20].flatten(1)
            assert torch.equal(block.amin(1), block.amax(1))
    assert (sigma.amax((1, 2)) <= torch.tensor([1.0, 2.0])).all()
    assert len(sigma.unique()) > 15
