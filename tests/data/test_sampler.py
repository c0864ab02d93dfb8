from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data import sampler
from data.draws import Draws
from data.images import BadImage, check_image, list_images, write_image
from data.packed import open_packed
from data.sampler import Crop, PatchBatches, Patches, PatchSampler, load, naming_loader, turn
from data.store import ImageFolder

SIZES = [(40 + 3 * n, 70 - 2 * n) for n in range(10)]
SAMPLER = PatchSampler(SIZES, Draws(seed=7, batch=4, views=2), patch=32, augment="all")


def sampler_of(**changes: int) -> PatchSampler:
    """Return the sampler with other draws."""
    return replace(SAMPLER, draws=replace(SAMPLER.draws, **changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("HR")
    rng = np.random.default_rng(0)
    for n, size in enumerate(SIZES):
        write_image(folder / f"{n}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def batches(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PatchBatches:
    return PatchBatches(open_packed(folder, tmp_path_factory.mktemp("cache") / "HR"), SAMPLER)


@pytest.mark.parametrize(("batch", "world"), [(1, 1), (4, 1), (3, 2), (7, 3), (25, 1)])
def test_every_image_once_per_pass(batch: int, world: int) -> None:
    ranks = [sampler_of(batch=batch * world, world=world, rank=rank) for rank in range(world)]
    drawn = [crop.index for step in range(60) for sampler in ranks for crop in sampler.draw(step)[:batch]]
    passes = [drawn[at : at + 10] for at in range(0, len(drawn), 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1]


def test_views_are_other_places_of_the_same_images() -> None:
    for step in range(20):
        crops = SAMPLER.draw(step)
        first, second = crops[:4], crops[4:]
        assert [crop.index for crop in first] == [crop.index for crop in second]
        assert [(crop.top, crop.left) for crop in first] != [(crop.top, crop.left) for crop in second]
        assert [crop[3:] for crop in first] == [crop[3:] for crop in second]  # the image is turned once, then cut twice


def test_crops_fill_the_image_and_stay_inside() -> None:
    sampler = PatchSampler([(34, 33), (32, 36)], Draws(seed=0, batch=8, views=2), patch=32, augment="none")
    places = {crop[:3] for step in range(100) for crop in sampler.draw(step)}
    expected = {(0, top, left) for top in range(3) for left in range(2)} | {(1, 0, left) for left in range(5)}
    assert places == expected


@pytest.mark.parametrize("change", [{"seed": 8}, {"rank": 1, "world": 2}])
def test_draw_is_a_function_of_seed_step_and_rank(change: dict[str, int]) -> None:
    assert SAMPLER.draw(5) == replace(SAMPLER).draw(5)
    assert SAMPLER.draw(5) != SAMPLER.draw(6)
    assert SAMPLER.draw(5) != sampler_of(**change).draw(5)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_out_the_batch_of_one(world: int) -> None:
    for step in range(5):
        whole = SAMPLER.draw(step)
        shares = [sampler_of(rank=rank, world=world).draw(step) for rank in range(world)]
        size = 4 // world
        for view in range(2):
            together = [crop for one in shares for crop in one[view * size : (view + 1) * size]]
            assert together == whole[4 * view : 4 * view + 4]


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`batch_size` 4 .* 3 processes"):
        replace(SAMPLER.draws, world=3)


def test_mirrored_patches_stand_upright() -> None:
    crops = [crop for step in range(20) for crop in replace(SAMPLER, augment="mirror").draw(step)]
    assert {crop[3:] for crop in crops} == {(False, False, False), (True, False, False)}


def test_draw_does_not_depend_on_what_was_drawn_before() -> None:
    forwards = [SAMPLER.draw(step) for step in range(30)]
    backwards = [SAMPLER.draw(step) for step in reversed(range(30))]
    assert forwards == backwards[::-1]


def test_augmentation_turns_patches_but_does_not_move_them() -> None:
    turned, plain = SAMPLER.draw(3), replace(SAMPLER, augment="none").draw(3)
    assert [crop[:3] for crop in turned] == [crop[:3] for crop in plain]
    assert {crop[3:] for crop in plain} == {(False, False, False)}


def test_all_eight_forms_are_drawn_evenly_and_differ() -> None:
    forms = Counter(crop[3:] for step in range(500) for crop in SAMPLER.draw(step))
    assert len(forms) == 8
    assert min(forms.values()) > 400  # of 500 expected, standard deviation 30: two views have one form
    square = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    expected = {np.rot90(side, quarter).tobytes() for side in (square, square.swapaxes(0, 1)) for quarter in range(4)}
    assert {turn(square, Crop(0, 0, 0, *form)).tobytes() for form in forms} == expected


def test_too_small_an_image_names_the_flag() -> None:
    with pytest.raises(ValueError, match=r"`patch_size`: patches of 53 HR pixels, but an image has a side of 40"):
        replace(SAMPLER, patch=53)
    with pytest.raises(ValueError, match="at least one image"):
        replace(SAMPLER, sizes=[])


def test_batch_holds_the_drawn_patches(batches: PatchBatches) -> None:
    batch = batches[3].hr
    assert (batch.shape, batch.dtype, batch.is_contiguous()) == ((8, 3, 32, 32), torch.uint8, True)
    for patch, crop in zip(batch.numpy(), SAMPLER.draw(3), strict=True):
        pixels = batches.store.crop(crop.index, crop.top, crop.left, 32, 32)
        pixels = pixels.swapaxes(0, 1) if crop.transpose else pixels
        pixels = pixels[:, ::-1] if crop.flip_h else pixels
        pixels = pixels[::-1] if crop.flip_v else pixels
        np.testing.assert_array_equal(patch, pixels.transpose(2, 0, 1))


def test_folder_and_packed_give_the_same_batch(folder: Path, batches: PatchBatches) -> None:
    paths = list_images(folder)
    plain = PatchBatches(ImageFolder(paths, [check_image(path) for path in paths]), SAMPLER)
    assert torch.equal(plain[11].hr, batches[11].hr)


@pytest.mark.parametrize(("workers", "start_by"), [(0, None), (1, "fork"), (2, "fork"), (1, "spawn")])
def test_same_patches_whatever_the_workers(batches: PatchBatches, workers: int, start_by: str | None) -> None:
    loader = DataLoader(
        batches, batch_size=None, sampler=range(5, 12), num_workers=workers, multiprocessing_context=start_by
    )
    loaded = list(loader)
    assert len(loaded) == 7
    assert all(torch.equal(batch.hr, batches[step].hr) for step, batch in zip(range(5, 12), loaded, strict=True))


class Stuck(PatchBatches):
    """Batches of which only the first two come."""

    def __getitem__(self, step: int) -> Patches:
        if step > 1:
            time.sleep(3600)
        return super().__getitem__(step)


@pytest.mark.slow
def test_processes_that_wait_for_a_disk_end_with_the_loader(batches: PatchBatches) -> None:
    stuck, before = Stuck(batches.store, batches.sampler), set(active_children())
    loader = load(stuck, range(9), workers=2, pinned=False)
    next(loader)
    assert len(set(active_children()) - before) == 2
    loader.close()
    assert set(active_children()) == before


@pytest.mark.slow
def test_a_loader_that_makes_no_progress_is_told(batches: PatchBatches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "TIMEOUT", 1)
    loader, before = load(Stuck(batches.store, batches.sampler), range(9), workers=1, pinned=False), active_children()
    with pytest.raises(ChildProcessError, match=r"`n_threads`: no loader process gave .* for 1 s"), naming_loader():
        list(loader)
    assert active_children() == before


class Holding(PatchBatches):
    """Batches of which the second is no image; its process then holds a lock that it takes before each, for long."""

    def __getitem__(self, step: int) -> Patches:
        if step == 0:
            return super().__getitem__(step)
        frame = sys._getframe()
        while "done_event" not in frame.f_locals:
            assert frame.f_back is not None
            frame = frame.f_back
        frame.f_locals["done_event"]._cond.acquire()
        raise BadImage("gone")


@pytest.mark.parametrize("killed", [False, True])
def test_a_process_that_dies_with_a_lock_holds_nobody_up(killed: bool, batches: PatchBatches) -> None:
    before = active_children()
    loader = load(Holding(batches.store, batches.sampler), range(9), workers=1, pinned=False)
    next(loader)
    if killed:  # as by a system without memory, while the network takes its step
        time.sleep(0.5)
        (worker,) = set(active_children()).difference(before)
        with suppress(RuntimeError):
            worker.kill()
            worker.join()
        loader.close()
    else:
        with pytest.raises(BadImage, match="gone"):
            next(loader)
    assert active_children() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_breaks_during_the_run_is_named(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "a.png"
    write_image(path, np.zeros((40, 40, 3), np.uint8))
    store = ImageFolder([path], [(40, 40)])
    path.write_bytes(path.read_bytes()[:60])
    patches = PatchBatches(store, replace(SAMPLER, sizes=store.sizes))
    batches = load(patches, range(9), workers=workers, pinned=False)
    with pytest.raises(BadImage, match=r"^\S*a\.png cannot be read as an image: .*$"):
        next(batches)
    assert not active_children()
    assert not list(batches)
