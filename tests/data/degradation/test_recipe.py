"""Recipes of `second_order`: what a file may say, and that the draws are those that it says."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from math import pi
from typing import Any

import pytest
import torch
from torch import Tensor

from data.degradation import SecondOrder
from data.degradation.recipe import FOLDER, PRESETS, PUBLISHED, read_recipe
from data.degradation.second_order_params import FAMILIES, PassParams

# Every range and every share is another one than in the published recipe.
CHANGED: dict[str, Any] = {
    "first": {
        "share": 0.6,
        "blur": {
            "share": 0.3,
            "width": [1, 2],
            "families": {"iso": 0.1, "aniso": 0.2, "generalised iso": 0.3, "plateau iso": 0.15, "sinc": 0.25},
            "generalised": [0.7, 3],
            "plateau": [0.6, 1.5],
            "cutoff": [0.5, 0.9],
            "cutoff_large": [0.3, 0.8],
            "sizes": [5, 9, 15],
        },
        "resize": {"up": 0.5, "down": 0.1, "factor": [0.5, 2], "modes": ["area", "bicubic"]},
        "noise": {"share": 0.7, "poisson": 0.2, "sigma": [3, 9], "strength": [1, 1.5], "grey": 0.9},
        "jpeg": {"share": 0.25, "quality": [10, 20]},
    },
    "second": {
        "share": 0.9,
        "blur": {"share": 0.5, "width": [0.5, 0.7], "families": {"plateau aniso": 1}, "sizes": [3]},
        "resize": {"up": 0, "down": 1, "factor": [0.4, 1], "modes": ["bilinear"]},
        "noise": {"share": 0.1, "poisson": 1, "strength": [2, 3], "grey": 0},
        "jpeg": {"share": 0.8, "quality": [90, 100]},
    },
    "last": {"sinc": 0.4, "cutoff": [0.6, 0.7], "sizes": [11, 13], "modes": ["area"], "jpeg_last": 0.15},
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_published_file_names_every_key():
    content = json.loads((FOLDER / f"{PUBLISHED}.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(asdict(read_recipe(PUBLISHED)))) == {"name": PUBLISHED, **content}
    assert read_recipe(PUBLISHED) == SecondOrder(scale=4).recipe
    assert read_recipe(PUBLISHED).changes == {}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_changes(name):
    recipe = read_recipe(name)
    assert read_recipe({"name": name, **recipe.changes}) == recipe
    assert read_recipe(json.loads(json.dumps(recipe.changes))).changes == recipe.changes


def test_published_draws_stay():
    """The numbers that runs of a seed have had since recipes were code."""
    params = SecondOrder(scale=4).sample(2, generator=rng(3))
    first, second = params.first, params.second
    assert [first.factor, second.factor] == pytest.approx([0.1918404262934167, 0.7203879641649902])
    numbers = [0.1582735332081734, 2.110348678554796, 51.857151854797074, 53.289817592403956]
    assert [*first.noise.tolist(), *second.quality.tolist()] == pytest.approx(numbers)
    assert (first.applied, first.noisy, first.compressed) == (True, True, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("ligth", "ligth is neither a file nor one of realesrgan, light, none-jpeg; did you mean light?"),
        ("nothing at all", "none-jpeg"),
        ({"frist": {}}, "frist is unknown; did you mean first?"),
        ({"second": {"jpg": {}}}, "second.jpg is unknown; did you mean jpeg?"),
        ({"first": {"blur": {"widht": [1, 2]}}}, "first.blur.widht is unknown; did you mean width?"),
        ({"first": {"blur": {"xyz": 1}}}, "first.blur.xyz is unknown; known are share, width"),
        ({"first": {"blur": 0.5}}, "first.blur: expected keys and values, found 0.5"),
        ({"first": []}, "first: expected keys and values"),
        ({"first": {"share": 1.5}}, "first.share: expected a number in 0..1, found 1.5"),
        ({"first": {"share": True}}, "first.share: expected a number in 0..1, found True"),
        ({"first": {"share": float("nan")}}, "first.share: expected a number in 0..1, found nan"),
        ({"first": {"share": "half"}}, "first.share: expected a number in 0..1, found half"),
        ({"second": {"jpeg": {"quality": [95, 30]}}}, "second.jpeg.quality: expected [min, max] with 1 <= min <= max"),
        ({"second": {"jpeg": {"quality": [30, 101]}}}, "second.jpeg.quality: expected [min, max] with 1 <= min <= max"),
        ({"second": {"jpeg": {"quality": 75}}}, "second.jpeg.quality: expected [min, max]"),
        ({"second": {"jpeg": {"quality": [30, 60, 90]}}}, "second.jpeg.quality: expected [min, max]"),
        (
            {"first": {"resize": {"factor": [1.2, 1.5]}}},
            "first.resize.factor: expected [min, max] with 0.1 <= min <= 1",
        ),
        ({"first": {"resize": {"up": 0.7, "down": 0.7}}}, "first.resize.up 0.7 and down 0.7: their sum is more than 1"),
        ({"first": {"resize": {"modes": ["bicubik"]}}}, "first.resize.modes: bicubik is none of"),
        ({"first": {"resize": {"modes": ["bicubik"]}}}, "did you mean bicubic?"),
        ({"first": {"resize": {"modes": []}}}, "first.resize.modes: expected a list of area, bilinear, bicubic"),
        ({"last": {"sizes": [8]}}, "last.sizes: 8 is none of 3, 5"),
        ({"last": {"name": 3}}, "last.name is unknown"),
        ({"name": 3}, "name: expected a word, found 3"),
        ({"first": {"blur": {"families": {"iso": 0.5}}}}, "first.blur.families: expected shares with the sum 1"),
        ({"first": {"blur": {"families": {"izo": 1}}}}, "izo is none of iso, aniso"),
        ({"first": {"blur": {"families": {"iso": -1, "sinc": 2}}}}, "families: expected a number in 0..1, found -1"),
    ],
)
def test_errors_name_the_key_and_the_nearest_known(content, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read_recipe(content)
    with pytest.raises(ValueError, match=r"^`recipe`: "):
        SecondOrder.from_flags(scale=4, recipe=content)


def test_draws_of_a_changed_recipe_are_those_of_its_file(assert_shares, assert_uniform):
    recipe, generator = SecondOrder.from_flags(scale=4, recipe=CHANGED), rng()
    batches = [recipe.sample(3, generator=generator) for _ in range(4000)]

    def each(value: Any) -> Tensor:
        return torch.tensor([value(params) for params in batches], dtype=torch.float64)

    def share(value: Any, expected: float) -> None:
        assert_shares(each(value).int(), {0: 1 - expected, 1: expected} if 0 < expected < 1 else {int(expected): 1})

    for name in ("first", "second"):
        said, drawn = CHANGED[name], [getattr(params, name) for params in batches]
        share(lambda params, n=name: getattr(params, n).applied, said["share"])
        share(lambda params, n=name: getattr(params, n).blurred, said["blur"]["share"])
        share(lambda params, n=name: getattr(params, n).noisy, said["noise"]["share"])
        share(lambda params, n=name: getattr(params, n).poisson, said["noise"]["poisson"])
        share(lambda params, n=name: getattr(params, n).compressed, said["jpeg"]["share"])
        _assert_resize(drawn, said["resize"], assert_shares, assert_uniform)
        _assert_blur(drawn, said["blur"], assert_shares, assert_uniform)
        grey, quality = (torch.cat([getattr(one, field) for one in drawn]) for field in ("grey", "quality"))
        assert_shares(grey.int(), {0: 1 - said["noise"]["grey"], 1: said["noise"]["grey"]})
        assert_uniform(quality, *said["jpeg"]["quality"])
        for poisson, key, unit in ((True, "strength", 1), (False, "sigma", 255)):
            if noise := [unit * one.noise for one in drawn if one.poisson is poisson]:
                assert_uniform(torch.cat(noise), *said["noise"][key])
    last = CHANGED["last"]
    share(lambda params: params.jpeg_last, last["jpeg_last"])
    assert {params.last_mode for params in batches} == {"area"}
    family, cutoff, size = (
        torch.cat([getattr(params.last_filter, field) for params in batches]) for field in ("family", "cutoff", "size")
    )
    assert_shares(family, {0: 1 - last["sinc"], FAMILIES.index("sinc"): last["sinc"]})
    assert_uniform(cutoff / pi, *last["cutoff"])
    assert_shares(size, dict.fromkeys(last["sizes"], 1 / 2))


def _assert_resize(drawn: list[PassParams], said: dict[str, Any], assert_shares: Any, assert_uniform: Any) -> None:
    factor = torch.tensor([one.factor for one in drawn], dtype=torch.float64)
    up, down, (low, high) = said["up"], said["down"], said["factor"]
    assert_shares((factor - 1).sign().int(), {1: up, -1: down, 0: 1 - up - down})
    assert_uniform(factor[factor < 1], low, 1)
    if up:
        assert_uniform(factor[factor > 1], 1, high)
    modes = torch.tensor([said["modes"].index(one.mode) for one in drawn])
    assert_shares(modes, dict.fromkeys(range(len(said["modes"])), 1 / len(said["modes"])))


def _assert_blur(drawn: list[PassParams], said: dict[str, Any], assert_shares: Any, assert_uniform: Any) -> None:
    fields = zip(*(one.kernel for one in drawn), strict=True)
    family, width, _, beta, cutoff, size = map(torch.cat, fields)
    assert_shares(family, {FAMILIES.index(name): share for name, share in said["families"].items()})
    assert_uniform(width[:, 0], *said["width"])
    assert_shares(size, dict.fromkeys(said["sizes"], 1 / len(said["sizes"])))
    for kinds, key in (((2, 3), "generalised"), ((4, 5), "plateau")):
        chosen = beta[(family == kinds[0]) | (family == kinds[1])]
        if key in said:
            assert_shares((chosen < 1).int(), {0: 0.5, 1: 0.5})
            assert_uniform(chosen[chosen < 1], said[key][0], 1)
            assert_uniform(chosen[chosen >= 1], 1, said[key][1])
    if "cutoff" in said:
        assert_uniform(cutoff[size < 13] / pi, *said["cutoff"])
        assert_uniform(cutoff[size >= 13] / pi, *said["cutoff_large"])


def test_what_does_not_happen_leaves_the_image_alone():
    """Without passes and filter only the resize to LR is left."""
    skipped: dict[str, Any] = {
        "first": {"share": 0},
        "second": {"share": 0},
        "last": {"sinc": 0, "modes": ["area"]},
    }
    recipe = SecondOrder.from_flags(scale=2, recipe=skipped)
    hr = torch.rand(2, 3, 48, 64, generator=rng()).mul(255).round() / 255
    lr = recipe.apply(hr, recipe.sample(2, generator=rng()), generator=rng())
    shrunk = torch.nn.functional.avg_pool2d(hr, 2)
    assert (lr - shrunk).abs().max() <= 0.5001 / 255


def test_without_noise_no_noise_is_drawn():
    quiet = {name: {"noise": {"share": 0}} for name in ("first", "second")}
    recipe = SecondOrder.from_flags(scale=4, recipe=quiet)
    hr = torch.rand(1, 3, 96, 96, generator=rng())
    params = recipe.sample(1, generator=rng(1))
    assert torch.equal(*(recipe.apply(hr, params, generator=rng(seed)) for seed in (2, 3)))


def test_presets_do_as_they_are_called():
    jpegless = SecondOrder.from_flags(scale=4, recipe="none-jpeg").sample(1, generator=rng())
    assert not jpegless.first.compressed
    assert not jpegless.second.compressed
    generator, light = rng(), SecondOrder.from_flags(scale=4, recipe="light")
    draws = [light.sample(2, generator=generator) for _ in range(500)]
    assert 0.1 < sum(params.first.applied for params in draws) / len(draws) < 0.3  # one stage mostly
    assert all(params.second.applied and params.second.compressed for params in draws)
    qualities = torch.cat([params.second.quality for params in draws])
    assert 60 <= qualities.min() < qualities.max() <= 95


def test_the_least_image_follows_the_recipe():
    def smallest(content: dict[str, Any] | str) -> int:
        return SecondOrder.from_flags(scale=2, recipe=content).smallest

    assert smallest(PUBLISHED) == 74
    assert smallest({"first": {"resize": {"factor": [0.5, 1.5]}}}) == 22
    assert smallest({"first": {"share": 0}}) == 22
    assert smallest({"first": {"resize": {"factor": [0.1, 1.5]}}}) == 110
