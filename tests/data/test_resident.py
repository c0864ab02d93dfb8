"""Images that are held decoded: patches from memory are those from the disk, to the byte."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data import factory, sampler, store
from data.draws import Draws
from data.images import write_image
from data.sampler import PatchBatches, load
from data.store import Resident
from data.training_folders import BESIDE_FOLDER, Source
from data.trainset import training_sets
from runtime.distributed import Ranks

CPU = torch.device("cpu")
NO_OTHERS = Ranks()


@pytest.fixture
def folders(tmp_path: Path) -> list[Source]:
    """Two folders, the first with LR images: random ones, which size and shift do not concern here."""
    random = np.random.default_rng(4)
    for name in ("HR", "LR", "more"):
        (tmp_path / name).mkdir()
    for i in range(3):
        small = random.integers(0, 256, (20 + 3 * i, 31 - i, 3), dtype=np.uint8)
        write_image(tmp_path / f"LR/{i}.png", small)
        write_image(tmp_path / f"HR/{i}.png", small.repeat(2, 0).repeat(2, 1))
        write_image(tmp_path / f"more/{i}.png", random.integers(0, 256, (33 + i, 30, 3), dtype=np.uint8))
    return [Source(tmp_path / "HR", tmp_path / "LR"), Source(tmp_path / "more")]


def batches(folders: list[Source], cache: Path | None = None, ranks: Ranks = NO_OTHERS) -> PatchBatches:
    lines: list[str] = []
    sets = training_sets(folders, scale=2, at_least=24, data_cache=cache, log=lines.append)
    about = {"scale": 2, "side": 24, "augment": "all", "mix": 0.5}
    return factory.batches(
        sets, Draws(seed=1, batch=8, views=2), data_cache=cache, ranks=ranks, log=lines.append, **about
    )


def same(one: PatchBatches, other: PatchBatches, workers: int = 0) -> None:
    assert one.images == other.images
    pairs = zip(load(one, range(6), workers=workers, pinned=False), (other[step] for step in range(6)), strict=True)
    for (hr, given), (hr_other, given_other) in pairs:
        assert given is not None
        assert given_other is not None
        assert torch.equal(hr, hr_other)
        assert torch.equal(given.lr, given_other.lr)
        assert torch.equal(given.has, given_other.has)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_ram_gives_the_patches_of_the_disk(packed: bool, workers: int, folders: list[Source]) -> None:
    plain = batches(folders, BESIDE_FOLDER if packed else None)
    resident = batches(folders, Path("ram"))
    assert isinstance(resident.store, Resident)
    same(resident, plain, workers)


def test_one_gather_gives_the_patches_of_the_disk(folders: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of `cuda`, on the CPU in the place of a GPU."""
    plain, resident = batches(folders), batches(folders, Path("ram"))
    calls = []

    def cut(store: Resident, crops: list[store.Crop], side: int) -> torch.Tensor:
        calls.append(len(crops))
        return store.gather(crops, side)

    monkeypatch.setattr(sampler, "_cut", cut)
    gathered = [resident[step] for step in range(40)]
    monkeypatch.undo()
    for step, (hr, given) in enumerate(gathered):
        assert given is not None
        expected = plain[step]
        assert expected.given is not None
        assert torch.equal(hr, expected.hr)
        assert torch.equal(given.lr, expected.given.lr)
    assert calls == [16, 8] * 40  # two gathers a batch: HR, LR


def test_a_gather_of_nothing(folders: list[Source]) -> None:
    resident = batches(folders, Path("ram"))
    assert isinstance(resident.given, Resident)
    assert resident.given.gather([], 12).shape == (0, 3, 12, 12)


def test_a_gpu_without_one_is_refused(folders: list[Source]) -> None:
    with pytest.raises(ValueError, match="`data_cache` cuda: this run is on the cpu; ram holds the images there"):
        batches(folders, Path("cuda"))


def test_images_that_do_not_fit_are_refused_before_they_are_read(
    folders: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(store.psutil, "virtual_memory", lambda: memory(1000))
    monkeypatch.setattr(factory, "Resident", None)
    words = r"`data_cache`: the decoded images take 0\.00 GiB of main memory, 0\.00 GiB are free"
    with pytest.raises(ValueError, match=words):
        batches(folders, Path("ram"))
    monkeypatch.setattr(store.psutil, "virtual_memory", lambda: memory(50_000))  # for one of the three processes here
    for ranks in (Ranks(0, 6, local_world=3), Ranks(4, 6, local_world=3)):
        with pytest.raises(ValueError, match=words):
            batches(folders, Path("ram"), ranks)
    sizes = [(1024, 1024)] * 1024
    with pytest.raises(ValueError, match=r"take 12\.00 GiB of main memory"):
        store.residence(Path("ram"), CPU, sizes, processes=4)
    monkeypatch.setattr(store.psutil, "virtual_memory", lambda: memory(16 * 2**30))
    assert store.residence(Path("ram"), CPU, sizes, processes=4, log=lambda text: None) == CPU


def test_a_batch_on_a_gpu_takes_no_loader_process(folders: list[Source]) -> None:
    resident = batches(folders, Path("ram"))
    assert not resident.on_device
    on_meta = replace(resident.sampler)
    meta = PatchBatches(resident.store, on_meta)
    assert isinstance(meta.store, Resident)
    meta.store.pixels = meta.store.pixels.to("meta")
    assert meta.on_device
