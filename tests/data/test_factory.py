"""From plain values to parts: units, contradictions, missing values, and folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from data import factory
from data.degradation import Gaussian, MANet, SecondOrder
from data.pairs import Pairs
from data.store import ImageFolder
from data.training_folders import Source
from data.trainset import TrainingSet
from runtime.distributed import Ranks

SIG: dict[str, Any] = {"sig_min": 0.25, "sig_max": 9.0}
LAMBDA: dict[str, Any] = {"lambda_min": 0.2, "lambda_max": 3.0}


# ------------------------------------------------------------------------------------------------ degradations


@pytest.mark.parametrize(
    ("name", "blur_type", "width"),
    [
        ("gaussian", "iso_gaussian", (0.25, 9.0)),
        ("gaussian", "aniso_gaussian", (0.2, 3.0)),
        ("manet", "iso_gaussian", (0.25, 9.0)),  # standard deviations
        ("manet", "aniso_gaussian", (0.5, 3.0)),  # variances
    ],
)
def test_published_ranges_become_standard_deviations(name: str, blur_type: str, width: tuple[float, float]) -> None:
    recipe = factory.degradation(name, scale=4, blur_type=blur_type, **SIG, **LAMBDA)
    assert isinstance(recipe, (Gaussian, MANet))
    assert recipe.width == width
    assert recipe.iso is (blur_type == "iso_gaussian")


def test_flags_become_the_units_of_the_inside() -> None:
    flags: dict[str, Any] = {**SIG, "noise": 51.0, "jpeg_low": 40.0, "draw_per": "batch", "sample_mode": "s-fold"}
    recipe = factory.degradation("gaussian", scale=2, **flags)
    expected = Gaussian(
        scale=2, iso=True, width=(0.25, 9.0), noise=0.2, quality=40.0, per_batch=True, sampling="s-fold"
    )
    assert recipe == expected
    flags["sample_mode"] = "bicubic"
    manet = factory.degradation("manet", scale=2, noise_var=True, **flags)
    assert isinstance(manet, MANet)
    assert (manet.noise, manet.quality, manet.per_batch, manet.noise_var) == (0.2, 40.0, True, True)
    second = factory.degradation("second_order", scale=4, codec="libjpeg", **flags | {"noise": 0.0})
    assert second == SecondOrder(scale=4, codec="libjpeg")


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("gausian", {}, "`degradation` gausian is none of gaussian, manet, ikc, second_order"),
        ("gaussian", {"sig_min": 1.0}, "`sig_min` and `sig_max`"),
        ("gaussian", {**SIG, "blur_type": "aniso_gaussian"}, "`lambda_min` and `lambda_max`"),
        ("manet", LAMBDA, "`sig_min` and `sig_max`"),
        ("second_order", {"codec": "webp"}, "`codec`"),
    ],
)
def test_wrong_flags_of_a_degradation(name: str, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        factory.degradation(name, scale=4, **flags)


# ------------------------------------------------------------------------------------------------ draws and batches


def test_ranks_share_patches_and_pairs() -> None:
    store = ImageFolder([Path(f"{i}.png") for i in range(9)], [(96, 96)] * 9)
    ranks = Ranks(rank=1, world=2)
    gaussian, second = factory.degradation("gaussian", scale=2, **SIG), factory.degradation("second_order", scale=2)
    draws = factory.draws(gaussian, batch_size=6, views=2, seed=1, ranks=ranks)
    patches = factory.batches([TrainingSet(Source(Path("HR")), store)], draws, scale=2, side=48, augment="all")
    assert len(patches.sampler.draw(0)) == 6
    draws = factory.draws(second, batch_size=18, seed=1, ranks=ranks)
    assert (factory.draws(gaussian, batch_size=4, seed=1).group, draws.group) == (None, 9)
    pool = Pairs(second, draws, patch=16, pool=36).pool
    assert pool is not None
    assert len(pool.lr) == 18
    with pytest.raises(ValueError, match="`batch_size` 7 cannot be shared out evenly among 2"):
        factory.draws(gaussian, batch_size=7, seed=1, ranks=ranks)
