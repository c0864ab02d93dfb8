"""Folders of images that training crops are cut from: which of their files are usable, and how crops are read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from data.images import BadImage, Size, check_image, read_image


class ImageStore(Protocol):
    """Decoded images that crops are cut from."""

    names: list[str]
    sizes: list[Size]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB, perhaps a read-only view. Raise BadImage if the file has changed."""
        ...


class ImageFolder:
    """An `ImageStore` that decodes the whole file at every crop: it needs no preparation, but is slow."""

    def __init__(self, paths: Sequence[Path], sizes: Sequence[Size]) -> None:
        self.paths = list(paths)
        self.sizes = list(sizes)
        self.names = [path.name for path in self.paths]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB. Raise BadImage if the file cannot be read or has another size now."""
        image = read_image(self.paths[index])
        if image.shape[:2] != self.sizes[index]:
            raise BadImage(f"{self.paths[index]} was {self.sizes[index]} and is now {image.shape[:2]} (height, width)")
        return image[top : top + height, left : left + width]


class Selection:
    """An `ImageStore` of some images of another one."""

    def __init__(self, store: ImageStore, indices: Sequence[int]) -> None:
        self._store = store
        self._indices = list(indices)
        self.names = [store.names[index] for index in indices]
        self.sizes = [store.sizes[index] for index in indices]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB, as the other store gives it."""
        return self._store.crop(self._indices[index], top, left, height, width)


class Union:
    """An `ImageStore` of the images of several, one store after the other."""

    def __init__(self, stores: Sequence[ImageStore]) -> None:
        self._stores = list(stores)
        self._starts = list(accumulate((len(store.names) for store in stores[:-1]), initial=0))
        self.names = [name for store in stores for name in store.names]
        self.sizes = [size for store in stores for size in store.sizes]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB, as the store of the image gives it."""
        which = bisect_right(self._starts, index) - 1
        return self._stores[which].crop(index - self._starts[which], top, left, height, width)


def check_images(
    paths: Sequence[Path], *, at_least: int, skip_bad: bool, log: Callable[[str], None] = print
) -> list[tuple[Path, Size]]:
    """Check every file and return the usable ones with their sizes; `at_least` HR pixels a side are needed.

    Bad and too small files raise BadImage; with `skip_bad` they are left out and named in the log.
    """

    def examine(path: Path) -> Size | BadImage:
        try:
            size = check_image(path)
        except BadImage as error:
            return error
        return size if min(size) >= at_least else too_small(path, size, at_least)

    with ThreadPoolExecutor() as pool:
        found = list(zip(paths, pool.map(examine, paths), strict=True))
    good = [(path, size) for path, size in found if not isinstance(size, BadImage)]
    bad = [error for _, error in found if isinstance(error, BadImage)]
    leave_out(bad, left=len(good), skip_bad=skip_bad, log=log)
    return good


def too_small(path: str | Path, size: Size, at_least: int) -> BadImage:
    """Return the error about an image with a side under `at_least` HR pixels."""
    height, width = size
    return BadImage(
        f"{path} is {height} x {width} pixels (height x width); training patches, by `patch_size` or `crop_size`, "
        f"are {at_least} HR pixels a side"
    )


def leave_out(bad: Sequence[BadImage], *, left: int, skip_bad: bool, log: Callable[[str], None]) -> None:
    """Log each of the `bad` files with `skip_bad`, provided some are `left`; raise BadImage about them otherwise."""
    if bad and not skip_bad:
        listed = "\n  ".join(map(str, bad[:10])) + (f"\n  and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise BadImage(f"unusable images; repair or remove them, or set `skip_bad_images`:\n  {listed}")
    for error in bad:
        log(f"left out: {error}")
    if not left:
        raise BadImage(f"all {len(bad)} images are unusable; the first: {bad[0]}")
