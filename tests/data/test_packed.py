from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from data.images import BadImage, list_images, read_image
from data.packed import PackedImages, open_packed, pack, read_index, verify, why_repack
from data.store import ImageFolder, check_images

RNG = np.random.default_rng(0)


def noise(height: int, width: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image of each kind, each of another size."""
    folder = tmp_path / "HR"
    folder.mkdir()
    kinds = ("rgb.png", "rgba.png", "grey.png", "palette.png", "jpeg.JPG", "webp.webp", "bmp.bmp", "tiff.tif")
    modes = ("RGB", "RGBA", "L", "P", "RGB", "RGB", "RGB", "RGB")
    for extra, (name, mode) in enumerate(zip(kinds, modes, strict=True)):
        noise(20 + extra, 40 - extra, mode).save(folder / name)
    deep = RNG.integers(0, 65536, (21, 33), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(20, 50).save(folder / "turned.jpg", exif=exif)
    return folder


def test_crops_equal_those_of_the_folder(folder: Path, tmp_path: Path) -> None:
    packed = open_packed(folder, tmp_path / "cache")
    paths, sizes = zip(*check_images(list_images(folder), at_least=1, skip_bad=False), strict=True)
    plain = ImageFolder(paths, sizes)
    assert len(packed.names) == 10
    assert (packed.names, packed.sizes) == (plain.names, plain.sizes)
    for index, (height, width) in enumerate(packed.sizes):
        for place in ((0, 0, height, width), (height - 7, width - 9, 7, 9), (3, 2, 11, 5)):
            np.testing.assert_array_equal(packed.crop(index, *place), plain.crop(index, *place))


def test_many_images_keep_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for shade in range(60):  # more than are decoded ahead on a small machine
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(folder / f"{shade:03d}.png")
    packed = open_packed(folder, tmp_path / "cache")
    assert [int(packed.crop(index, 0, 0, 1, 1)[0, 0, 0]) for index in range(60)] == list(range(60))


def test_cache_is_used_until_the_folder_changes(folder: Path, tmp_path: Path) -> None:
    cache, log = tmp_path / "deep" / "cache", []

    def log_of_opening() -> str:
        log.clear()
        open_packed(folder, cache, log=log.append)
        return "".join(log)

    assert "there is no" in log_of_opening()
    assert log_of_opening() == ""
    noise(30, 30).save(folder / "new.png")
    assert "1 added (new.png, …)" in log_of_opening()
    noise(31, 30).save(folder / "new.png")
    assert "1 changed (new.png, …)" in log_of_opening()
    status = (folder / "new.png").stat()
    os.utime(folder / "new.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert "1 changed (new.png, …)" in log_of_opening()
    (folder / "new.png").rename(folder / "other.png")
    reason = log_of_opening()
    assert "1 added (other.png, …)" in reason
    assert "1 removed (new.png, …)" in reason
    assert log_of_opening() == ""


def test_damaged_cache_is_refused_and_packed_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data, index = tmp_path / "cache.u8", tmp_path / "cache.json"
    pack(folder, cache)
    whole = data.read_bytes(), index.read_bytes()
    old = json.dumps({**json.loads(whole[1]), "version": 0})
    damages = [
        (data, whole[0][:-1], r"cache\.u8 is damaged: \d+ bytes instead of \d+"),
        (index, whole[1][:-20], r"cache\.json is damaged"),
        (index, b"[]", r"cache\.json is damaged"),
        (index, old.encode(), r"version 0"),
    ]
    for path, content, message in damages:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            PackedImages(cache)
        log: list[str] = []
        open_packed(folder, cache, log=log.append)
        assert len(log) == 1
        assert (data.read_bytes(), index.read_bytes()) == whole
    data.unlink()
    with pytest.raises(FileNotFoundError, match=r"cache\.u8"):
        PackedImages(cache)


def test_bad_image_stops_packing_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    path = folder / "rgb.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadImage, match=r"rgb\.png.*`skip_bad_images`"):
        open_packed(folder, tmp_path / "cache", log=lambda _: None)
    assert {path.name for path in tmp_path.iterdir()} <= {"HR", ".cache.lock"}


def test_failed_packing_keeps_the_old_cache(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "cache")
    (folder / "new.png").write_text("not an image")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.glob("cache*"))
    with pytest.raises(BadImage, match=r"new\.png"):
        pack(folder, tmp_path / "cache")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.glob("cache*")) == before


def test_what_a_killed_process_left_goes(folder: Path, tmp_path: Path) -> None:
    for name in (".c[1].u8.77.tmp", ".c[1].json.77.tmp", ".c1.u8.77.tmp"):
        (tmp_path / name).write_text("half")
    open_packed(folder, tmp_path / "c[1]")
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".c1.u8.77.tmp"]  # of another cache


def test_one_packs_and_the_others_wait(folder: Path, tmp_path: Path) -> None:
    log = SimpleQueue[str]()
    with ThreadPoolExecutor(2) as pool:
        with FileLock(tmp_path / ".cache.lock"):
            stores = [pool.submit(open_packed, folder, tmp_path / "cache", log=log.put) for _ in range(2)]
            waiting = [log.get(timeout=10) for _ in stores]
            assert not (tmp_path / "cache.u8").exists()
        assert stores[0].result().names == stores[1].result().names
    assert all("another process is packing" in line for line in waiting)
    assert log.get().startswith("packing")
    assert log.empty()


def test_new_pixels_never_stand_beside_an_old_index(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(folder, tmp_path / "cache")
    monkeypatch.setattr(json, "dumps", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, tmp_path / "cache")
    assert why_repack(folder, tmp_path / "cache") == f"there is no {tmp_path / 'cache.json'}"


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_bad_and_small_images_are_left_out_and_named_each_time(folder: Path, tmp_path: Path) -> None:
    (folder / "text.png").write_text("not an image")
    cache, log = tmp_path / "cache", []
    store = open_packed(folder, cache, at_least=24, skip_bad=True, log=log.append)
    assert min(map(min, store.sizes)) == 24
    assert len(log) == 1 + 11 - len(store.names)
    log.clear()
    assert why_repack(folder, cache) is None
    open_packed(folder, cache, at_least=1, skip_bad=True, log=log.append)
    assert len(log) == 1
    assert "text.png" in log[0]
    with pytest.raises(BadImage, match=r"(?s)`skip_bad_images`.*text\.png.*bmp\.bmp is 26 x 34.*`patch_size`"):
        open_packed(folder, cache, at_least=27)
    with pytest.raises(BadImage, match=r"^all \d+ images are unusable; the first: .*$"):  # so it is no use to skip them
        open_packed(folder, cache, at_least=1000)
    for index, name in enumerate(store.names):  # places survive the gaps
        np.testing.assert_array_equal(store.crop(index, 0, 0, *store.sizes[index]), read_image(folder / name))


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "HR"
    folder.mkdir()
    (folder / "a.png").write_text("not an image")
    with pytest.raises(BadImage, match=r"holds no readable image.*a\.png"):
        pack(folder, tmp_path / "cache", skip_bad=True)
    assert not list(tmp_path.glob("cache*"))


def test_store_is_small_to_pickle_and_maps_itself_again(folder: Path, tmp_path: Path) -> None:
    store = open_packed(folder, tmp_path / "cache", log=lambda _: None)
    expected = store.crop(3, 1, 2, 9, 8)
    pickled = pickle.dumps(store)
    assert len(pickled) < 3000 < read_index(tmp_path / "cache").size
    np.testing.assert_array_equal(pickle.loads(pickled).crop(3, 1, 2, 9, 8), expected)


def test_threads_may_open_the_file_at_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second replaces the first one's file, which must not be closed while that looks at it."""
    store, fstat = open_packed(folder, tmp_path / "cache"), os.fstat
    expected = store.crop(0, 0, 0, 2, 2).copy()
    again = pickle.loads(pickle.dumps(store))

    def second_comes(descriptor: int) -> os.stat_result:
        again._file = None
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", second_comes)
    assert np.array_equal(again.crop(0, 0, 0, 2, 2), expected)


def test_crops_cannot_change_the_cache(folder: Path, tmp_path: Path) -> None:
    store = open_packed(folder, tmp_path / "cache", log=lambda _: None)
    with pytest.raises(ValueError, match="read-only"):
        store.crop(0, 0, 0, 4, 4)[:] = 0


# ------------------------------------------------------------------------------------------------ damage


def test_every_changed_pixel_is_found(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    index = pack(folder, cache)
    assert verify(cache) == len(index.images)
    for image in (index.images[0], index.images[-1]):
        content = bytearray((tmp_path / "cache.u8").read_bytes())
        content[image.offset + 3 * image.height * image.width - 1] ^= 1
        (tmp_path / "cache.u8").write_bytes(content)
        with pytest.raises(ValueError, match=image.name):
            verify(cache)


def test_a_disk_that_gives_back_other_pixels_is_noticed_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.memmap

    def damaged(*args: object, **more: object) -> np.ndarray:
        pixels = np.array(truth(*args, **more))  # pyright: ignore[reportCallIssue, reportArgumentType]
        pixels[0] ^= 1
        return pixels

    monkeypatch.setattr(np, "memmap", damaged)
    with pytest.raises(ValueError, match="is damaged: the pixels of bmp"):
        pack(folder, tmp_path / "cache")
    assert not list(tmp_path.glob("cache*"))


def test_older_caches_without_checksums_still_open(folder: Path, tmp_path: Path) -> None:
    cache, index = tmp_path / "cache", tmp_path / "cache.json"
    pack(folder, cache)
    content = json.loads(index.read_text())
    for image in content["images"]:
        del image["crc32"]
    index.write_text(json.dumps(content))
    assert why_repack(folder, cache) is None
    assert len(open_packed(folder, cache).names) == 10
    with pytest.raises(ValueError, match="has no checksums"):
        verify(cache)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -3},
        {"offset": 0.0},
        {"offset": 3},
        {"offset": True},
        {"height": 0},
        {"height": -20},
        {"width": 40.0},
        {"name": 7},
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_an_index_of_impossible_places_is_refused(change: dict[str, object], which: int, tmp_path: Path) -> None:
    folder, index = tmp_path / "HR", tmp_path / "cache.json"
    folder.mkdir()
    for name in "ab":
        noise(20, 40).save(folder / f"{name}.png")
    pack(folder, tmp_path / "cache")
    content = json.loads(index.read_text())
    content["images"][which] |= change
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"cache\.json is damaged"):
        PackedImages(tmp_path / "cache")
    assert len(open_packed(folder, tmp_path / "cache", log=lambda _: None).names) == 2  # packed again


def test_a_file_that_is_cut_off_during_a_run_is_an_error(folder: Path, tmp_path: Path) -> None:
    """Not the end of the process, which is what happens to those who read beyond the end of a mapped file."""
    store = open_packed(folder, tmp_path / "cache", log=lambda _: None)
    store.crop(9, 0, 0, 4, 4)
    os.truncate(tmp_path / "cache.u8", 100)
    for opened in (store, pickle.loads(pickle.dumps(store))):
        with pytest.raises(BadImage, match=r"cache\.u8 was changed while it is in use \(100 bytes instead of \d+\)"):
            opened.crop(9, 0, 0, 4, 4)
    (tmp_path / "cache.u8").unlink()
    with pytest.raises(BadImage, match=r"cache\.u8"):
        pickle.loads(pickle.dumps(store)).crop(9, 0, 0, 4, 4)


def test_packing_again_does_not_disturb_those_who_read(folder: Path, tmp_path: Path) -> None:
    store = open_packed(folder, tmp_path / "cache", log=lambda _: None)
    before = np.array(store.crop(9, 0, 0, 4, 4))
    noise(30, 30).save(folder / "a.png")
    pack(folder, tmp_path / "cache")
    np.testing.assert_array_equal(store.crop(9, 0, 0, 4, 4), before)
