from __future__ import annotations

from math import pi
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation import SecondOrder, SecondOrderParams, quantize
from data.degradation.jpeg import jpeg
from data.degradation.mixed import mixed_kernel
from data.degradation.params import move_all, part, repeat
from data.degradation.second_order import _resize
from data.degradation.second_order_params import PassParams

SHARES = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
SIZES = (7, 9, 11, 13, 15, 17, 19, 21)
MODES = ("area", "bilinear", "bicubic")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def photographs(official_numbers) -> Tensor:
    """(4, 3, 96, 120)"""
    x = official_numbers("realesrgan")["hr"].float() / 255
    return torch.cat([x, 1 - x, x.flip(3), x.flip(1)])


def silent(params: SecondOrderParams) -> SecondOrderParams:
    """The same without noise."""
    first, second = (p._replace(noise=torch.zeros_like(p.noise)) for p in (params.first, params.second))
    return params._replace(first=first, second=second)


def leaves(fields: tuple[Any, ...]) -> list[Any]:
    return [leaf for field in fields for leaf in (leaves(field) if isinstance(field, tuple) else [field])]


def test_is_the_published_sequence(photographs):
    """One image after the other, in plain words."""

    def blurred(x: Tensor, kernel: Tensor) -> Tensor:
        padded = F.pad(x, (10,) * 4, mode="reflect").transpose(0, 1)
        return F.conv2d(padded, kernel.to(x)[None, None]).transpose(0, 1)

    recipe = SecondOrder(scale=4)
    for seed in range(8):
        params = silent(recipe.sample(4, generator=rng(seed)))
        first, second = params.first, params.second
        expected = []
        for i in range(4):
            x = blurred(photographs[i : i + 1], mixed_kernel(first.kernel)[i])
            x = F.interpolate(x, scale_factor=first.factor, mode=first.mode).clamp(0, 1)
            x = jpeg(x, first.quality[i : i + 1])
            if second.blurred:
                x = blurred(x, mixed_kernel(second.kernel)[i])
            size = [int(side / 4 * second.factor) for side in (96, 120)]
            x = F.interpolate(x, size=size, mode=second.mode).clamp(0, 1)
            sinc = mixed_kernel(params.last_filter)[i]
            if params.jpeg_last:
                x = blurred(F.interpolate(x, size=(24, 30), mode=params.last_mode), sinc)
                x = jpeg(x.clamp(0, 1), second.quality[i : i + 1])
            else:
                x = F.interpolate(jpeg(x, second.quality[i : i + 1]), size=(24, 30), mode=params.last_mode)
                x = blurred(x, sinc)
            expected.append((x.clamp(0, 1) * 255).round() / 255)
        lr = recipe.apply(photographs, params, generator=rng())
        assert ((lr - torch.cat(expected)).abs() > 0.5 / 255).float().mean() < 5e-3  # ties of rounding, also in JPEG


@pytest.mark.parametrize("seed", range(4))
def test_batch_equals_one_by_one(seed, photographs):
    recipe = SecondOrder(scale=2)
    params = silent(recipe.sample(4, generator=rng(seed)))
    together = recipe.apply(photographs, params, generator=rng())
    apart = [recipe.apply(photographs[i : i + 1], part(params, i, i + 1), generator=rng()) for i in range(4)]
    assert ((together - torch.cat(apart)).abs() > 0.5 / 255).float().mean() < 5e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_result_is_8_bit_and_repeats_with_its_generator(scale, photographs):
    recipe = SecondOrder(scale=scale)
    hr = photographs * 1.5 - 0.2  # clipped white and black too

    def run(seed: int) -> Tensor:
        generator = rng(seed)
        return recipe.apply(hr.clamp(0, 1), recipe.sample(4, generator=generator), generator=generator)

    for seed in range(4):
        lr = run(seed)
        assert lr.shape == (4, 3, 96 // scale, 120 // scale)
        assert lr.dtype == torch.float32
        assert torch.equal(lr, quantize(lr))
        assert torch.equal(lr, run(seed))
        assert not torch.equal(lr, run(seed + 100))


def test_double_precision_and_memory_format_change_ties_only(photographs):
    recipe = SecondOrder(scale=4)
    params = silent(recipe.sample(4, generator=rng(1)))
    lr = recipe.apply(photographs, params, generator=rng())
    for other in (photographs.double(), photographs.to(memory_format=torch.channels_last)):
        result = recipe.apply(other, params, generator=rng())
        assert result.dtype == torch.float32
        assert ((lr - result).abs() > 0.5 / 255).float().mean() < 5e-3


def test_does_not_notice_autocast(photographs):
    recipe = SecondOrder(scale=4)
    for seed in range(4):
        params = recipe.sample(4, generator=rng(seed))
        with torch.autocast("cpu", torch.bfloat16):
            inside = recipe.apply(photographs, params, generator=rng())
        assert torch.equal(inside, recipe.apply(photographs, params, generator=rng()))


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_every_image_has_noise_of_its_own(poisson, grey):
    """The same image with the same degradation twice: only the noise tells the results apart."""
    recipe = SecondOrder(scale=2)
    params = repeat(recipe.sample(1, generator=rng(3)), 2)
    grey_images = torch.full((2,), grey)
    loud = params.first._replace(poisson=poisson, grey=grey_images, noise=torch.full((2,), 1.0 if poisson else 0.1))
    params = params._replace(
        first=loud._replace(factor=1.0, quality=torch.full((2,), 100.0)),
        second=silent(params).second._replace(blurred=False, factor=1.0, quality=torch.full((2,), 100.0)),
    )
    hr = torch.linspace(0.3, 0.7, 128).expand(2, 3, 128, 128)
    lr = recipe.apply(hr, params, generator=rng())
    noise = (lr - F.avg_pool2d(hr, 2)).flatten(1)
    noise = noise - noise.mean(1, keepdim=True)
    assert noise.std(1).min() > 0.005
    assert torch.corrcoef(noise)[0, 1].abs() < 0.1
    colour = (lr - lr.mean(1, keepdim=True)).std()
    assert bool(colour < 0.004) is grey


def test_one_image_does_not_change_another(photographs):
    recipe = SecondOrder(scale=4)
    params = recipe.sample(4, generator=rng(2))
    params = params._replace(**{name: getattr(params, name)._replace(poisson=False) for name in ("first", "second")})
    lr = recipe.apply(photographs, params, generator=rng())
    photographs[2] = 0.5
    changed = recipe.apply(photographs, params, generator=rng())
    assert [torch.equal(*pair) for pair in zip(lr, changed, strict=True)] == [True, True, False, True]


def test_repeat_and_part_and_to():
    params = SecondOrder(scale=4).sample(3, generator=rng())
    views = repeat(params, 2)
    for one, two in zip(leaves(params), leaves(views), strict=True):
        if isinstance(one, Tensor):
            assert torch.equal(two.unflatten(0, (2, 3)), torch.stack([one, one]))
        else:
            assert one == two
    assert type(views) is SecondOrderParams
    assert type(views.first) is PassParams
    some = part(views, 2, 5)
    for one, two in zip(leaves(params), leaves(some), strict=True):
        assert torch.equal(one[[2, 0, 1]], two) if isinstance(one, Tensor) else one == two
    moved = leaves(move_all(params, torch.device("meta")))
    assert {leaf.device.type for leaf in moved if isinstance(leaf, Tensor)} == {"meta"}


def test_parameters_move_in_one_copy(monkeypatch):
    """Their bytes lie in one buffer: what comes out of it is what went in."""
    params = SecondOrder(scale=4).sample(3, generator=rng())
    buffers: list[Tensor] = []

    def move(buffer: Tensor, device: torch.device) -> Tensor:
        buffers.append(buffer)
        return buffer

    monkeypatch.setattr("data.degradation.params.move", move)
    moved = move_all(params, torch.device("meta"))
    assert len(buffers) == 1
    for one, other in zip(leaves(params), leaves(moved), strict=True):
        if isinstance(one, Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_smallest_image(scale):
    """Under the strongest shrinking of both passes, with a blur everywhere."""
    recipe = SecondOrder(scale=scale)
    side = -(-recipe.smallest // scale) * scale
    params = recipe.sample(2, generator=rng())
    params = params._replace(
        first=params.first._replace(factor=recipe.recipe.first.resize.factor[0]),
        second=params.second._replace(factor=recipe.recipe.second.resize.factor[0], blurred=True),
    )
    hr = torch.rand(2, 3, side, side + scale, generator=rng())
    for last in (True, False):
        lr = recipe.apply(hr, params._replace(jpeg_last=last), generator=rng())
        assert lr.shape == (2, 3, side // scale, side // scale + 1)
    with pytest.raises(ValueError, match=f"at least {recipe.smallest} pixels"):
        recipe.apply(hr[..., :-scale, :], params, generator=rng())


def test_codec(photographs):
    published, other = SecondOrder(scale=4), SecondOrder(scale=4, codec="libjpeg")
    params = published.sample(4, generator=rng())
    lr = [recipe.apply(photographs, params, generator=rng()) for recipe in (published, other)]
    assert 0 < (lr[0] - lr[1]).abs().mean() < 0.1


def test_errors(photographs):
    recipe = SecondOrder(scale=4)
    params = recipe.sample(2, generator=rng())
    with pytest.raises(ValueError, match="multiples of the scale 4"):
        recipe.apply(photographs[:2, ..., :-1], params, generator=rng())
    with pytest.raises(ValueError, match="each of 4 images, got 2"):
        recipe.apply(photographs, params, generator=rng())
    device: Any = SimpleNamespace(device=torch.device("cuda", 0))
    with pytest.raises(ValueError, match="on the CPU, got cuda:0"):
        recipe.sample(2, generator=device)
    with pytest.raises(ValueError, match="scale"):
        SecondOrder(scale=0)
    with pytest.raises(ValueError, match="codec"):
        SecondOrder(scale=4, codec="webp")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kinds", [(True, False), (False, True)])
def test_ten_thousand_images(kinds, assert_shares, assert_uniform):
    draws = (SecondOrder(scale=4).sample(10_000, generator=rng(seed)) for seed in range(20))
    params = next(params for params in draws if (params.first.poisson, params.second.poisson) == kinds)
    for drawn, width, sigma, strength in (
        (params.first, 3.0, 30 / 255, 3.0),
        (params.second, 1.5, 25 / 255, 2.5),
    ):
        assert_shares(drawn.kernel.family, dict(enumerate(SHARES)))
        assert_shares(drawn.kernel.size, dict.fromkeys(SIZES, 1 / 8))
        assert_uniform(drawn.kernel.width[:, 0], 0.2, width)
        assert_uniform(drawn.kernel.theta, -pi, pi)
        assert_uniform(drawn.noise, *((0.05, strength) if drawn.poisson else (1 / 255, sigma)))
        assert_shares(drawn.grey.int(), {0: 0.6, 1: 0.4})
        assert_uniform(drawn.quality, 30, 95)
    assert_shares(params.last_filter.family, {0: 0.2, 6: 0.8})
    table = torch.stack(
        [
            *(field.double() for drawn in (params.first, params.second) for field in (drawn.noise, drawn.grey)),
            params.first.quality,
            params.second.quality,
            params.first.kernel.width[:, 0],
            params.second.kernel.width[:, 0],
            params.last_filter.cutoff,
        ]
    )
    assert (torch.corrcoef(table) - torch.eye(len(table))).abs().max() < 0.05


def test_ten_thousand_batches(assert_shares, assert_uniform):
    generator, recipe = rng(), SecondOrder(scale=4)
    draws = [recipe.sample(1, generator=generator) for _ in range(10_000)]
    for drawn, blurs, shares, low, high in (
        ([p.first for p in draws], 1.0, {1: 0.2, -1: 0.7, 0: 0.1}, 0.15, 1.5),
        ([p.second for p in draws], 0.8, {1: 0.3, -1: 0.4, 0: 0.3}, 0.3, 1.2),
    ):
        factor = torch.tensor([p.factor for p in drawn], dtype=torch.float64)
        assert_shares((factor - 1).sign().int(), shares)
        assert_uniform(factor[factor > 1], 1, high)
        assert_uniform(factor[factor < 1], low, 1)
        assert_shares(torch.tensor([MODES.index(p.mode) for p in drawn]), dict.fromkeys(range(3), 1 / 3))
        assert_shares(torch.tensor([p.poisson for p in drawn]).int(), {0: 0.5, 1: 0.5})
        assert_shares(torch.tensor([p.blurred for p in drawn]).int(), {0: 1 - blurs, 1: blurs})
    assert_shares(torch.tensor([MODES.index(p.last_mode) for p in draws]), dict.fromkeys(range(3), 1 / 3))
    assert_shares(torch.tensor([p.jpeg_last for p in draws]).int(), {0: 0.5, 1: 0.5})
    table = [
        [p.first.factor, p.second.factor, p.first.poisson, p.second.poisson, p.second.blurred, p.jpeg_last]
        for p in draws
    ]
    assert (torch.corrcoef(torch.tensor(table).double().T) - torch.eye(6)).abs().max() < 0.05


def test_applying_reads_nothing_back_to_the_host():
    """On the meta device there are shapes and no values. Poisson noise has no implementation there."""
    recipe = SecondOrder(scale=4)
    for seed in range(6):
        params = recipe.sample(2, generator=rng(seed))
        first, second = (one._replace(poisson=False) for one in (params.first, params.second))
        hr = torch.zeros(2, 3, 96, 120, device="meta")
        lr = recipe.apply(hr, params._replace(first=first, second=second), generator=rng())
        assert lr.shape == (2, 3, 24, 30)


@pytest.mark.parametrize("mode", MODES)
def test_resizing_to_the_same_size_is_what_interpolation_gives(mode):
    x = torch.rand(2, 3, 13, 17, generator=rng())
    assert torch.equal(_resize(x, 1.0, mode), F.interpolate(x, scale_factor=1.0, mode=mode))
    assert torch.equal(_resize(x, (13, 17), mode), F.interpolate(x, size=(13, 17), mode=mode))
