"""From plain values to parts: units, contradictions, missing values, and folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import factory
from data.degradation import Gaussian, MANet, SecondOrder
from data.images import BadImage, write_image
from data.protocol import bicubic
from data.store import ImageFolder
from data.trainset import Source, TrainingSet
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
    manet = factory.degradation("manet", scale=2, noise_var=True, **flags)
    assert isinstance(manet, MANet)
    assert (manet.noise, manet.quality, manet.per_batch, manet.noise_var) == (0.2, 40.0, True, True)
    assert factory.degradation("second_order", scale=4, codec="libjpeg", **flags) == SecondOrder(
        scale=4, codec="libjpeg"
    )


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


# ------------------------------------------------------------------------------------------------ protocols


# ------------------------------------------------------------------------------------------------ images


def write_images(folder: Path, count: int = 2, side: int = 24) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(side)
    for i in range(count):
        write_image(folder / f"{i}.png", random.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return folder


def test_the_folder_to_train_on(tmp_path: Path) -> None:
    assert factory.training_folder(tmp_path) == tmp_path
    for part in ("HR", "DF2K/HR", "mine", "other/HR"):
        (tmp_path / part).mkdir(parents=True)
    assert factory.training_folder(tmp_path) == tmp_path / "DF2K/HR"
    assert factory.training_folder(tmp_path / "HR") == tmp_path / "HR"
    assert factory.training_folder(tmp_path, "mine") == tmp_path / "mine"
    assert factory.training_folder(tmp_path, "other") == tmp_path / "other/HR"
    with pytest.raises(FileNotFoundError, match=r"`data_train` none: there is neither"):
        factory.training_folder(tmp_path, "none")
    with pytest.raises(FileNotFoundError, match="`dir_data`: there is no folder"):
        factory.training_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="`dir_data`"):
        factory.training_folder(None)


@pytest.mark.parametrize("cache", [None, factory.BESIDE_FOLDER, "named"])
def test_training_images_packed_or_not(tmp_path: Path, cache: Any) -> None:
    folder = write_images(tmp_path / "HR")
    (folder / "c.gif").write_bytes(b"GIF89a")
    log: list[str] = []
    place = tmp_path / cache if isinstance(cache, str) else cache
    about = {"scale": 2, "data_cache": place, "log": log.append}
    (one,) = factory.training_sets([Source(folder)], at_least=24, **about)
    assert one.images.names == ["0.png", "1.png"]
    assert "c.gif" in log[0]
    assert log[-1] == f"training images: 2 in {folder}"
    found = sorted(path.name for path in tmp_path.rglob("*.u8"))
    assert found == ([] if cache is None else ["named.u8"] if isinstance(cache, str) else ["HR.u8"])
    with pytest.raises(BadImage, match="are 25 HR pixels a side"):
        factory.training_sets([Source(folder)], at_least=25, **about)
    with pytest.raises(FileNotFoundError, match=r"^`dir_data`: there is no folder"):
        factory.training_sets([Source(tmp_path / "none")], at_least=25, **about)


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (9, 3), (100, 5)])
def test_images_are_held_out(count: int, held: int) -> None:
    store = ImageFolder([Path(f"{i}.png") for i in range(count)], [(24, 24)] * count)
    log: list[str] = []
    first = TrainingSet(Source(Path("HR")), store)
    (rest,), sets = factory.hold_out([first], protocol=bicubic(2), seed=1, log=log.append)
    names = [path.name for one in sets for path in one.hr_paths]
    assert len(names) == held
    assert sorted(names + rest.images.names) == sorted(store.names)
    assert len(log) == 1


# ------------------------------------------------------------------------------------------------ batches and pairs


def test_ranks_share_batches_and_pairs() -> None:
    store = ImageFolder([Path(f"{i}.png") for i in range(9)], [(96, 96)] * 9)
    ranks = Ranks(rank=1, world=2)
    sets = [TrainingSet(Source(Path("HR")), store)]
    about = {"scale": 2, "side": 48, "augment": "all", "seed": 1, "ranks": ranks}
    patches = factory.batches(sets, batch_size=6, views=2, **about)
    assert len(patches.sampler.draw(0)) == 6
    second = factory.degradation("second_order", scale=2)
    made = factory.pairs(second, batch_size=18, patch_size=16, pool_size=36, seed=1, ranks=ranks)
    assert made.draws.group == 9
    assert made.pool is not None
    assert len(made.pool.lr) == 18
    with pytest.raises(ValueError, match="`batch_size` 7 cannot be shared out evenly among 2"):
        factory.batches(sets, batch_size=7, views=1, **about)
    assert (
        factory.pairs(factory.degradation("gaussian", scale=2, **SIG), batch_size=4, patch_size=8, seed=1).pool is None
    )
