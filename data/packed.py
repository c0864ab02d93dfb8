"""A folder of images decoded once into one memory-mapped file, of which a crop touches only its own rows.

`<cache>.u8` holds the pixels of all images one after the other, (H, W, 3) uint8 RGB each; `<cache>.json` says where
each begins, the CRC-32 of its pixels, and size and time of its source file. Both are written completely or not at all.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from filelock import Timeout
from tqdm import tqdm

from data.images import BadImage, Size, list_images, read_image
from data.store import leave_out, too_small
from utility import TEMPORARY, acquire, atomic_write, file_lock, listing, read_json, write_text

VERSION = 1


class Packed(NamedTuple):
    """An image in the cache, with the size and time of its source file."""

    name: str
    bytes: int
    mtime_ns: int
    height: int
    width: int
    offset: int  # of its first byte in the .u8 file
    crc32: int | None = None  # of its pixels; older caches have none


class Skipped(NamedTuple):
    """A source file that could not be decoded."""

    name: str
    bytes: int
    mtime_ns: int
    reason: str


class Index(NamedTuple):
    """The content of `<cache>.json`."""

    folder: str
    images: list[Packed]
    skipped: list[Skipped]

    @property
    def size(self) -> int:
        """Bytes of the .u8 file."""
        return sum(3 * image.height * image.width for image in self.images)


class PackedImages:
    """An `ImageStore` over a packed cache; images with a side under `at_least` HR pixels are left out.

    Cheap to pickle: each process maps the file for itself, at its first crop. `index` is read from the disk, unless the
    caller has read it already.
    Raises FileNotFoundError or ValueError if the cache is missing or damaged.
    """

    def __init__(self, cache: str | Path, *, at_least: int = 1, index: Index | None = None) -> None:
        index = read_index(cache) if index is None else index
        images = [image for image in index.images if min(image.height, image.width) >= at_least]
        self.names = [image.name for image in images]
        self.sizes: list[Size] = [(image.height, image.width) for image in images]
        self._path = _paths(cache)[0]
        self._bytes = index.size
        self._offsets = [image.offset for image in images]
        self._file: IO[bytes] | None = None
        self._flat: np.ndarray | None = None

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB, a read-only view. Raise BadImage if the file is gone or was cut off."""
        flat = self._map()
        offset, (rows, columns) = self._offsets[index], self.sizes[index]
        image = flat[offset : offset + 3 * rows * columns].reshape(rows, columns, 3)
        return image[top : top + height, left : left + width]

    def _map(self) -> np.ndarray:
        try:
            # Several threads may open the file at once. Each holds its own here, so that no other closes it meanwhile.
            self._file = file = self._file or self._path.open("rb")
            # Touching a part that is no longer there would end the process without a message (SIGBUS).
            size = os.fstat(file.fileno()).st_size
            if size != self._bytes:
                raise OSError(f"{size} bytes instead of {self._bytes}")
            if self._flat is None:
                self._flat = np.asarray(np.memmap(file, np.uint8, mode="r"))
        except OSError as error:
            raise BadImage(f"{self._path} was changed while it is in use ({error}); pack the images again") from error
        return self._flat

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_flat": None}


def open_packed(
    folder: str | Path,
    cache: str | Path,
    *,
    at_least: int = 1,
    skip_bad: bool = False,
    log: Callable[[str], None] = print,
) -> PackedImages:
    """Open the packed images of `folder`; pack them first if the cache is missing, damaged or older than the folder.

    Unreadable images and those under `at_least` HR pixels a side raise BadImage; with `skip_bad` they are left out and
    named in the log. If several processes call it, one packs; the others wait, and use its cache.
    """
    if why_repack(folder, cache):
        with _alone(cache, log):
            if reason := why_repack(folder, cache):
                log(f"packing {folder} into {cache}.u8: {reason}")
                _pack(folder, cache, skip_bad=skip_bad)
    index = read_index(cache)
    store = PackedImages(cache, at_least=at_least, index=index)
    bad = [BadImage(file.reason) for file in index.skipped]
    for image in index.images:
        if min(image.height, image.width) < at_least:
            bad.append(too_small(Path(folder, image.name), (image.height, image.width), at_least))
    leave_out(bad, left=len(store.names), skip_bad=skip_bad, log=log)
    return store


def pack(folder: str | Path, cache: str | Path, *, skip_bad: bool = False) -> Index:
    """Decode every image of `folder` into `<cache>.u8` and `<cache>.json`, with a progress bar, and read them back.

    Raises BadImage at the first image that cannot be decoded; with `skip_bad` it is noted in the index instead.
    Raises ValueError if the disk gives back other pixels than were written.
    """
    with _alone(cache, print):
        return _pack(folder, cache, skip_bad=skip_bad)


def verify(cache: str | Path) -> int:
    """Compare all pixels of a cache with the checksums in its index, with a progress bar; return the number of images.

    Raises ValueError naming the images whose pixels have changed, or if the index has no checksums (older caches), and
    FileNotFoundError or ValueError if the cache is missing or damaged.
    """
    data, index_path = _paths(cache)
    index = read_index(cache)
    if any(image.crc32 is None for image in index.images):
        raise ValueError(f"{index_path} has no checksums: an older version wrote it; pack the images again")
    _verify(data, index.images)
    return len(index.images)


def _verify(data: Path, images: Sequence[Packed]) -> None:
    flat = np.memmap(data, np.uint8, mode="r")

    def crc32(image: Packed) -> int:
        return zlib.crc32(flat[image.offset : image.offset + 3 * image.height * image.width].data)

    with ThreadPoolExecutor() as pool:
        found = tqdm(pool.map(crc32, images), f"verifying {data}", len(images), unit="image", leave=False, disable=None)
        changed = [image.name for image, one in zip(images, found, strict=True) if one != image.crc32]
    if changed:
        raise ValueError(f"{data} is damaged: the pixels of {listing(changed)} have changed; pack the images again")


@contextmanager
def _alone(cache: str | Path, log: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from packing this cache, and remove the files of one that was killed while it packed."""
    paths = _paths(cache)
    folder, name = paths[0].parent, Path(cache).name
    lock = file_lock(folder / f".{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        acquire(lock, log=log)
    except Timeout:
        log(f"another process is packing {paths[0]}; waiting for it to end")
        acquire(lock, log=log, blocking=True)
    except OSError as error:
        remedy = "name a place that can be written to"
        raise OSError(error.errno, f"`data_cache`: {error.strerror}; {remedy}", str(folder)) from error
    try:
        for path in paths:
            for left in folder.glob(f".{escape(path.name)}.*{TEMPORARY}"):
                left.unlink()
        yield
    finally:
        lock.release()


def _pack(folder: str | Path, cache: str | Path, *, skip_bad: bool) -> Index:
    data, index_path = _paths(cache)
    paths = list_images(folder)
    index = Index(str(Path(folder).resolve()), [], [])
    with atomic_write(data) as temporary:
        with temporary.open("wb") as flat:
            stamps = [_stamp(path) for path in paths]  # before reading: a later change must show
            decoded = tqdm(_decode_ahead(paths), total=len(paths), desc=f"packing {folder}", unit="image", disable=None)
            for path, stamp, found in zip(paths, stamps, decoded, strict=True):
                if isinstance(found, BadImage):
                    if not skip_bad:
                        raise BadImage(f"{found}; repair or remove it, or set `skip_bad_images`")
                    index.skipped.append(Skipped(path.name, *stamp, reason=str(found)))
                else:
                    pixels, crc32 = found
                    height, width, _ = pixels.shape
                    index.images.append(Packed(path.name, *stamp, height, width, offset=flat.tell(), crc32=crc32))
                    flat.write(pixels.data)
        if not index.images:
            raise BadImage(f"{folder} holds no readable image; the first: {index.skipped[0].reason}")
        _verify(temporary, index.images)
        index_path.unlink(missing_ok=True)  # an old index must never stand beside new pixels
    write_index(index, cache)
    return index


def write_index(index: Index, cache: str | Path) -> None:
    """Write `<cache>.json`, whole or not at all."""
    write_text(_paths(cache)[1], _to_json(index))


def why_repack(folder: str | Path, cache: str | Path) -> str | None:
    """Say why `cache` does not serve for `folder` as it is now (missing, damaged, files changed); None if it does."""
    now = {path.name: _stamp(path) for path in list_images(folder)}
    try:
        index = read_index(cache)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    then = {file.name: (file.bytes, file.mtime_ns) for file in (*index.images, *index.skipped)}
    changes = {
        "added": now.keys() - then.keys(),
        "removed": then.keys() - now.keys(),
        "changed": {name for name in now.keys() & then.keys() if now[name] != then[name]},
    }
    return "; ".join(f"{len(names)} {what} ({min(names)}, …)" for what, names in changes.items() if names) or None


def read_index(cache: str | Path) -> Index:
    """Read the index of a complete cache. Raises FileNotFoundError if there is none, ValueError if it is damaged."""
    data, index_path = _paths(cache)
    for path in (data, index_path):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
    try:
        content = read_json(index_path)
        version = content["version"]
        images = [Packed(**image) for image in content["images"]] if version == VERSION else []
        skipped = [Skipped(**file) for file in content["skipped"]] if version == VERSION else []
        index = Index(content["folder"], images, skipped)
        _check_places(images)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{index_path} is damaged ({type(error).__name__}: {error})") from error
    if version != VERSION:
        raise ValueError(f"{index_path} has version {version}, and {VERSION} is expected")
    if data.stat().st_size != index.size:
        raise ValueError(f"{data} is damaged: {data.stat().st_size} bytes instead of {index.size}")
    return index


def _check_places(images: Sequence[Packed]) -> None:
    """Raise ValueError unless the images lie one after the other, without gaps."""
    end = 0
    for image in images:
        numbers = (image.bytes, image.mtime_ns, image.height, image.width, image.offset)
        if not isinstance(image.name, str) or any(type(number) is not int for number in numbers):
            raise ValueError(f"{image.name}: expected whole numbers, found {numbers}")
        if min(image.height, image.width) < 1 or image.offset != end:
            raise ValueError(f"{image.name}: {image.height} x {image.width} pixels at {image.offset} instead of {end}")
        end += 3 * image.height * image.width


def _to_json(index: Index) -> str:
    images, skipped = ([entry._asdict() for entry in entries] for entries in (index.images, index.skipped))
    return json.dumps({"version": VERSION, "folder": index.folder, "images": images, "skipped": skipped}, indent=1)


def _paths(cache: str | Path) -> tuple[Path, Path]:
    return Path(f"{cache}.u8"), Path(f"{cache}.json")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _decode_ahead(paths: Sequence[Path]) -> Iterator[tuple[np.ndarray, int] | BadImage]:
    """Decode in threads and yield pixels and their CRC-32 in order, holding only a few images at a time."""

    def decode(path: Path) -> tuple[np.ndarray, int] | BadImage:
        try:
            pixels = read_image(path)
        except BadImage as error:
            return error
        return pixels, zlib.crc32(pixels.data)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        running = deque(pool.submit(decode, path) for path in paths[: 2 * threads])
        for path in paths[2 * threads :]:
            yield running.popleft().result()
            running.append(pool.submit(decode, path))
        while running:
            yield running.popleft().result()
