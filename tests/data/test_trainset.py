"""Several training folders, with weights, and pairs that are given: what a step draws of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import factory
from data.draws import Draws
from data.find_testsets import check_test_sets
from data.images import BadImage, write_image
from data.protocol import bicubic
from data.sampler import Part, PatchBatches, load
from data.store import ImageFolder, Selection, Union
from data.testset import Prepared
from data.training_folders import BESIDE_FOLDER, Source, sources
from data.trainset import TrainingSet, combine, hold_out, training_sets

# ------------------------------------------------------------------------------------------------- folders


def write(folder: Path, count: int = 4, side: int = 24, name: str = "{}.png", seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        write_image(folder / name.format(i), random.integers(0, 256, (side, side + 2, 3), dtype=np.uint8))
    return folder


def write_pairs(hr: Path, lr: Path, count: int = 4, names: tuple[str, str] = ("{}.png", "{}.png")) -> None:
    """Write smooth HR images that are their LR images with each pixel repeated."""
    for folder in (hr, lr):
        folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    for i in range(count):
        small = random.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)
        write_image(lr / names[1].format(i), small)
        write_image(hr / names[0].format(i), small.repeat(2, 0).repeat(2, 1))


def sets_of(folders: list[Source], **changes: Any) -> list[TrainingSet]:
    return training_sets(folders, **{"scale": 2, "at_least": 24, "log": lambda text: None, **changes})


@pytest.mark.parametrize("cache", [None, BESIDE_FOLDER, "named"])
def test_training_images_packed_or_not(tmp_path: Path, cache: Any) -> None:
    folder = write(tmp_path / "HR", 2)
    (folder / "c.gif").write_bytes(b"GIF89a")
    log: list[str] = []
    place = tmp_path / cache if isinstance(cache, str) else cache
    about = {"scale": 2, "data_cache": place, "log": log.append}
    (one,) = training_sets([Source(folder)], at_least=24, **about)
    assert one.images.names == ["0.png", "1.png"]
    assert "c.gif" in log[0]
    assert log[-1] == f"training images: 2 in {folder}"
    found = sorted(path.name for path in tmp_path.rglob("*.u8"))
    assert found == ([] if cache is None else ["named.u8"] if isinstance(cache, str) else ["HR.u8"])
    with pytest.raises(BadImage, match="are 25 HR pixels a side"):
        training_sets([Source(folder)], at_least=25, **about)
    with pytest.raises(FileNotFoundError, match=r"^`dir_data`: there is no folder"):
        training_sets([Source(tmp_path / "none")], at_least=25, **about)


@pytest.mark.parametrize("cache", [None, BESIDE_FOLDER, "packed"])
def test_several_folders_are_one_set(cache: Any, tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", 3, seed=1), write(tmp_path / "b", 5, side=30, seed=2)
    place = tmp_path / cache if isinstance(cache, str) else cache
    sets = sets_of([Source(a), Source(b)], data_cache=place)
    images, given, shares = combine(sets, Fraction(1))
    assert (given, shares) == (None, [Part(range(8), Fraction(1))])
    assert images.names == [f"{i}.png" for i in (0, 1, 2, 0, 1, 2, 3, 4)]
    for index, (store, i) in {0: (sets[0], 0), 2: (sets[0], 2), 3: (sets[1], 0), 7: (sets[1], 4)}.items():
        expected = store.images.crop(i, 1, 2, 3, 4)
        np.testing.assert_array_equal(images.crop(index, 1, 2, 3, 4), expected)
    names = {None: [], "packed": ["packed_1.u8", "packed_2.u8"], BESIDE_FOLDER: ["a.u8", "b.u8"]}
    assert sorted(path.name for path in tmp_path.glob("*.u8")) == names[cache]


def store_of(count: int, size: tuple[int, int] = (40, 44)) -> ImageFolder:
    return ImageFolder([Path(f"{i}.png") for i in range(count)], [size] * count)


def set_of(count: int, *, lr: bool = False, weight: str | None = None) -> TrainingSet:
    source = Source(Path("HR"), Path("LR") if lr else None, None if weight is None else Fraction(weight))
    return TrainingSet(source, store_of(count), store_of(count, (20, 22)) if lr else None)


@pytest.mark.parametrize(
    ("sets", "mix", "expected", "paired"),
    [
        ([set_of(3), set_of(5)], "1", [(8, "1")], None),
        ([set_of(3, weight="2"), set_of(5, weight="1")], "1", [(3, "2/3"), (5, "1/3")], None),
        ([set_of(3, lr=True)], "1", [(3, "1")], 3),
        ([set_of(3, lr=True)], "0.3", [(3, "3/10"), (3, "7/10")], 3),  # the same images, degraded
        ([set_of(3, lr=True), set_of(5)], "0.25", [(3, "1/4"), (5, "3/4")], 3),
        (
            [set_of(3, lr=True, weight="2"), set_of(4, lr=True, weight="1"), set_of(5, weight="9")],
            "0.5",
            [(3, "1/3"), (4, "1/6"), (5, "1/2")],
            7,
        ),
    ],
)
def test_shares_of_folders(sets: list[TrainingSet], mix: str, expected: Any, paired: int | None) -> None:
    images, given, found = combine(sets, Fraction(mix))
    assert [(len(part.images), str(part.share)) for part in found] == expected
    assert [part.images.start for part in found] == [sum(n for n, _ in expected[:i]) for i in range(len(found))]
    assert len(images.names) == sum(n for n, _ in expected)
    assert (None if given is None else len(given.names)) == paired


def test_weights_hold_for_the_patches_that_are_drawn(tmp_path: Path) -> None:
    black = write(tmp_path / "black", 0)
    for i in range(7):
        write_image(black / f"{i}.png", np.zeros((24, 24, 3), np.uint8))
    sets = sets_of(sources(Path(f"{write(tmp_path / 'noise', 2)}+{black}"), data_weights="2+1"))
    patches = factory.batches(sets, Draws(seed=3, batch=5), scale=2, side=24, augment="all")
    of_black = sum(int((one.hr.sum((1, 2, 3)) == 0).sum()) for one in load(patches, range(60), workers=0, pinned=False))
    assert of_black == 100


# ------------------------------------------------------------------------------------------------- given pairs


@pytest.mark.parametrize(
    "names",
    [
        ("{}.png", "{}.png"),
        ("{}.png", "{}x2.png"),
        ("Canon_{}_HR.png", "Canon_{}_LR2.png"),
        ("DSC_{}_x1.png", "DSC_{}_x2.png"),
        ("{}_GT.png", "{}_LR.png"),
    ],
)
@pytest.mark.parametrize("one_folder", [False, True])
def test_pairs_find_each_other(names: tuple[str, str], one_folder: bool, tmp_path: Path) -> None:
    hr, lr = (tmp_path / "both", tmp_path / "both") if one_folder else (tmp_path / "HR", tmp_path / "LR")
    if one_folder and names[0] == "{}.png":
        pytest.skip("the names of HR images in one folder tell that they are")
    write_pairs(hr, lr, names=names)
    (one,) = sets_of([Source(hr, lr)])
    assert one.lr is not None
    assert one.images.names == [names[0].format(i) for i in range(4)]
    assert one.lr.names == [names[1].format(i) for i in range(4)]
    assert [pair.lr for pair in one.pairs()] == [lr / name for name in one.lr.names]


def batches_of(sets: list[TrainingSet], *, mix: float = 1.0, **changes: int) -> PatchBatches:
    draws = Draws(**{"seed": 1, "batch": 6, "views": 2, **changes})
    return factory.batches(sets, draws, scale=2, side=24, augment="all", mix=mix)


@pytest.fixture
def mixed(tmp_path: Path) -> list[TrainingSet]:
    write_pairs(tmp_path / "HR", tmp_path / "LR")
    return sets_of([Source(tmp_path / "HR", tmp_path / "LR"), Source(write(tmp_path / "more", 9))])


def small(hr: torch.Tensor) -> torch.Tensor:
    return hr[..., ::2, ::2]


@pytest.mark.parametrize("workers", [0, 2])
def test_lr_and_hr_are_cut_at_one_place_in_one_form(workers: int, mixed: list[TrainingSet]) -> None:
    patches = batches_of(mixed, mix=0.4)
    count = 0
    for step, (hr, given) in enumerate(load(patches, range(20), workers=workers, pinned=False)):
        assert given is not None
        has = given.has.repeat(2)
        assert given.lr.shape == (12, 3, 12, 12)
        assert torch.equal(given.lr[has], small(hr[has]))  # repeated pixels: at the same place, or not equal
        assert not given.lr[~has].any()
        assert given.has.tolist() == [crop.index < 4 for crop in patches.sampler.draw(step)[:6]]
        count += int(given.has.sum())
    assert count == 48


def test_ranks_share_given_pairs(mixed: list[TrainingSet]) -> None:
    whole: Any = batches_of(mixed, mix=0.5, views=1)[3]
    shares: list[Any] = [batches_of(mixed, mix=0.5, views=1, rank=rank, world=3)[3] for rank in range(3)]
    assert torch.equal(torch.cat([one.hr for one in shares]), whole.hr)
    assert torch.equal(torch.cat([one.given.lr for one in shares]), whole.given.lr)
    assert torch.equal(torch.cat([one.given.has for one in shares]), whole.given.has)


def test_other_lr_images_are_another_run(mixed: list[TrainingSet]) -> None:
    before = batches_of(mixed, mix=0.5).images
    other = [replace(mixed[0], lr=store_of(4, (20, 22))), mixed[1]]
    other[0].lr.names[0] = "other.png"  # pyright: ignore[reportOptionalMemberAccess]
    assert batches_of(other, mix=0.5).images != before


def test_pairs_are_held_out_as_pairs(mixed: list[TrainingSet]) -> None:
    rest, (test_set,) = hold_out(mixed, protocol=bicubic(2), seed=1, log=lambda text: None)
    assert isinstance(test_set, Prepared)
    check_test_sets([test_set], at_least=24)
    (sample, _) = test_set.samples(torch.device("cpu"))
    assert torch.equal(sample.lr[0], small(sample.hr))
    assert rest[0].lr is not None
    assert len(rest[0].images.names) == len(rest[0].lr.names) == 2
    assert rest[1] is mixed[1]


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (9, 3), (100, 5)])
def test_images_are_held_out(count: int, held: int, tmp_path: Path) -> None:
    store = ImageFolder([tmp_path / f"{i}.png" for i in range(count)], [(24, 24)] * count)
    for i, name in enumerate(store.names):
        (tmp_path / name).write_text(str(i))
    log: list[str] = []
    first = TrainingSet(Source(tmp_path), store)
    (rest,), sets = hold_out([first], protocol=bicubic(2), seed=1, log=log.append)
    names = [path.name for one in sets for path in one.hr_paths]
    assert len(names) == held
    assert sorted(names + rest.images.names) == sorted(store.names)
    assert len(log) == 1


def test_copies_of_images_that_are_held_out_are_not_trained_on(tmp_path: Path) -> None:
    store = ImageFolder([tmp_path / f"{i}.png" for i in range(9)], [(24, 24)] * 9)
    for name, content in zip(store.names, "aba234567", strict=True):
        (tmp_path / name).write_text(content)
    log: list[str] = []
    (rest,), (out,) = hold_out([TrainingSet(Source(tmp_path), store)], protocol=bicubic(2), seed=1, log=log.append)
    assert [path.name for path in out.hr_paths] == ["0.png", "3.png", "6.png"]
    assert rest.images.names == ["1.png", "4.png", "5.png", "7.png", "8.png"]
    assert log[1].endswith("copies of these: 2.png")
    both = TrainingSet(Source(tmp_path), Selection(store, [0, 2]))  # or nothing would be left
    assert hold_out([both], protocol=bicubic(2), seed=1, log=log.append)[0][0].images.names == ["2.png"]


# ------------------------------------------------------------------------------------------------- hostile pairs


Spoil = Callable[[Path, Path], None]


def cut_off(hr: Path, lr: Path) -> None:
    (lr / "2.png").write_bytes((lr / "2.png").read_bytes()[:300])


def other_size(hr: Path, lr: Path) -> None:
    write_image(hr / "2.png", np.zeros((44, 47, 3), np.uint8))


def enlarged(hr: Path, lr: Path) -> None:
    shutil.copy(hr / "2.png", lr / "2.png")


def too_small(hr: Path, lr: Path) -> None:
    write_image(hr / "2.png", np.zeros((22, 48, 3), np.uint8))
    write_image(lr / "2.png", np.zeros((11, 24, 3), np.uint8))


WRONG: dict[Spoil, str] = {
    cut_off: r"LR/2\.png cannot be read as an image",
    other_size: r"HR/2\.png is 44 x 47 pixels \(height x width\), not 2 times the 22 x 24 of \S*LR/2\.png",
    enlarged: r"not 2 times the 44 x 48 of \S*LR/2\.png; the LR image has been enlarged already",
    too_small: r"HR/2\.png is 22 x 48 pixels",
}


@pytest.mark.parametrize("spoil", WRONG, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("cache", [None, BESIDE_FOLDER])
def test_one_pair_that_cannot_be_used(spoil: Spoil, cache: Path | None, tmp_path: Path) -> None:
    hr, lr = tmp_path / "HR", tmp_path / "LR"
    write_pairs(hr, lr)
    spoil(hr, lr)
    with pytest.raises(BadImage, match=WRONG[spoil]):
        sets_of([Source(hr, lr)], data_cache=cache)
    log: list[str] = []
    (one,) = sets_of([Source(hr, lr)], data_cache=cache, skip_bad_images=True, log=log.append)
    assert one.lr is not None
    assert one.images.names == one.lr.names == ["0.png", "1.png", "3.png"]
    assert any(re.search(f"left out: .*{WRONG[spoil]}", line) for line in log)
    hr, given = batches_of([one], batch=3)[0]
    assert given is not None
    assert torch.equal(given.lr, small(hr))


def test_images_without_a_partner_are_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / "HR", tmp_path / "LR", 9)
    (tmp_path / "HR/3.png").unlink()
    with pytest.raises(ValueError, match=r"^`dir_lr`: among 9 LR and 8 HR images, 1 have no partner .*LR/3\.png$"):
        sets_of([Source(tmp_path / "HR", tmp_path / "LR")], skip_bad_images=True)
    for i in range(4, 9):
        (tmp_path / f"LR/{i}.png").unlink()
    with pytest.raises(
        ValueError, match=r"^`dir_lr`: among 4 LR and 8 HR images, 6 have .*LR/3\.png, .*HR/7\.png and 1 more$"
    ):
        sets_of([Source(tmp_path / "HR", tmp_path / "LR")])


def test_a_missing_folder_of_lr_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`dir_lr`: there is no folder .*none"):
        sets_of([Source(write(tmp_path / "HR"), tmp_path / "none")])


def test_shifted_pairs_are_told(photo: np.ndarray, tmp_path: Path) -> None:
    for name in ("HR", "LR"):
        (tmp_path / name).mkdir()
    for i in range(3):
        hr = photo[50 * i : 50 * i + 128, 60:188]
        write_image(tmp_path / f"HR/{i}.png", np.ascontiguousarray(hr))
        seen = photo[50 * i : 50 * i + 128, 60 + 6 * (i == 1) : 188 + 6 * (i == 1)]
        write_image(tmp_path / f"LR/{i}.png", seen.reshape(64, 2, 64, 2, 3).mean((1, 3)).astype(np.uint8))
    log: list[str] = []
    sets_of([Source(tmp_path / "HR", tmp_path / "LR")], log=log.append)
    (line,) = (line for line in log if line.startswith("note"))
    assert "`dir_lr`: 1 of the pairs that were compared are shifted by more than half an LR pixel" in line
    assert re.search(r"LR/1\.png \(3\.0 pixels: -?0\.0 down, -3\.0 right\)$", line)


def test_a_union_gives_the_images_of_its_stores() -> None:
    stores = [store_of(2), store_of(1), store_of(3, (9, 9))]
    assert Union(stores).sizes == [(40, 44)] * 3 + [(9, 9)] * 3
