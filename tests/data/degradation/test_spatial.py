from __future__ import annotations

import pytest
import torch

from data.degradation import MANet, Params, SpatiallyVariant
from data.degradation import spatial as module


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 84, 96, generator=rng())


def recipe(mode: int, scale: int = 2) -> SpatiallyVariant:
    return SpatiallyVariant(mode=mode, scale=scale, height=84, width=96)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_one_kernel_everywhere_is_manet(scale):
    width, theta = torch.tensor([2.0, 1.0], dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    blocks = Params(width.expand(2, 3, 3, 2), theta.expand(2, 3, 3))
    lr = recipe(5, scale).apply(images(), blocks, generator=rng())
    manet = MANet(scale=scale, iso=False, width=(1, 2))
    expected = manet.apply(images(), Params(width.expand(2, 2), theta.expand(2)), generator=rng())
    difference = (lr - expected).abs() * 255
    assert difference.max() < 1.5
    assert (difference > 0.5).float().mean() < 1e-3


def test_blocks_begin_where_they_should():
    """Only the pixels of the one block whose kernel differs change."""
    width = torch.full((1, 3, 3, 2), 0.0, dtype=torch.float64)
    blurred = width.clone()
    blurred[0, 1, 2] = 3.0
    plain, one = (
        recipe(5).apply(images(1), Params(field, torch.zeros(1, 3, 3)), generator=rng()) for field in (width, blurred)
    )
    changed = (plain != one).any(1)[0]
    assert changed[20:40, 40:].float().mean() > 0.9
    changed[20:40, 40:] = False
    assert not changed.any()


@pytest.mark.parametrize("chunk", [1, 10**6])
def test_chunks_do_not_show(chunk, monkeypatch):
    params = recipe(5).sample(2, generator=rng())
    whole = recipe(5).apply(images(), params, generator=rng())
    monkeypatch.setattr(module, "_CHUNK", chunk)
    parts = recipe(5).apply(images(), params, generator=rng())
    assert ((whole - parts).abs() > 0.5 / 255).float().mean() < 1e-3


def test_mode_5_is_drawn_and_in_range():
    params = SpatiallyVariant(mode=5, scale=4, height=800, width=800).sample(4, generator=rng())
    assert params.theta is not None
    variance = params.width.square()
    assert params.width.shape == (4, 20, 20, 2)
    assert variance.amin() >= 0.7
    assert variance.amin() < 0.75
    assert variance.amax() <= 10
    assert variance.amax() > 9.95
    assert len(variance.unique()) == variance.numel()
    assert 3.1 < params.theta.amax() < 3.1416


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_other_modes_draw_nothing(mode):
    first, second = (recipe(mode).sample(2, generator=rng(seed)) for seed in (1, 2))
    assert torch.equal(first.width, second.width)


def test_noise_level_is_fixed():
    noise = SpatiallyVariant(mode=1, scale=4, height=48, width=48, noise=0.06).sample(3, generator=rng()).noise
    assert noise is not None
    assert noise.tolist() == [0.06] * 3


def test_images_of_another_size():
    params = recipe(1).sample(2, generator=rng())
    with pytest.raises(ValueError, match="84×96"):
        recipe(1).apply(torch.zeros(2, 3, 84, 98), params, generator=rng())


def test_mode_6_is_a_chessboard_of_two_rotations():
    params = recipe(6, 4).sample(1, generator=rng())
    assert params.theta is not None
    torch.testing.assert_close(params.width[0, ..., 0], torch.full((3, 3), 10.0).double().sqrt())  # (2.5 - 0.175 + ...)
    torch.testing.assert_close(params.width[0, ..., 1], torch.full((3, 3), 0.7).double().sqrt())
    expected = torch.tensor([[1.0, 3.0, 1.0], [3.0, 1.0, 3.0], [1.0, 3.0, 1.0]], dtype=torch.float64) * torch.pi / 4
    torch.testing.assert_close(params.theta[0], expected)


@pytest.mark.parametrize("mode", range(1, 7))
def test_isotropic_kernels_are_those_of_manet_in_every_mode(mode):
    own = SpatiallyVariant(mode=mode, scale=2, height=84, width=96, sig=1.7)
    lr = own.apply(images(), own.sample(2, generator=rng()), generator=rng())
    width = torch.full((2, 2), 1.7, dtype=torch.float64)
    expected = MANet(scale=2, iso=True, width=(1.7, 1.7)).apply(images(), Params(width), generator=rng())
    difference = (lr - expected).abs() * 255
    assert difference.max() < 1.5
    assert (difference > 0.5).float().mean() < 1e-3


def test_noise_differs_from_block_to_block():
    grey = torch.full((8, 3, 320, 240), 0.5)
    own = SpatiallyVariant(mode=1, scale=2, height=320, width=240, noise=0.1, noise_var=True)
    noise = own.apply(grey, own.sample(8, generator=rng()), generator=rng()) - 128 / 255
    blocks = noise.unfold(2, 20, 20).unfold(3, 20, 20)  # (8, 3, 8, 6, 20, 20)
    deviation = blocks.transpose(1, 3).flatten(3).std(-1).flatten()  # 384 blocks
    silent = deviation < 1e-6
    assert silent.float().mean().item() == pytest.approx(0.2, abs=0.08)
    loud = deviation[~silent].sort().values
    assert loud[-1] < 0.11
    torch.testing.assert_close(loud, torch.linspace(0, 0.1, len(loud)), rtol=0, atol=0.012)  # uniform
