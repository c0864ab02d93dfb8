"""Stores of images that training crops are cut from: check which files are usable, and read crops."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor
from tqdm import tqdm

from data.images import BadImage, Log, Size, check_image, read_image

RESIDENT = {Path("ram"): "cpu", Path("cuda"): "cuda"}  # as `data_cache`: where all decoded images are held


class Crop(NamedTuple):
    """A place to cut a patch from its image, and the form to turn it into: transposed first, then flipped."""

    index: int
    top: int
    left: int
    flip_h: bool  # left and right change places
    flip_v: bool  # top and bottom change places
    transpose: bool


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


class Resident:
    """An `ImageStore` that holds all images decoded, in main memory or on a GPU, as one tensor of bytes.

    On a GPU `crop` fetches pixels from it, one image at a time; `gather` leaves a whole batch there.

    Args:
        store: is read once, with a progress bar. Raises BadImage if an image cannot be.
        device: holds the images.
    """

    def __init__(self, store: ImageStore, device: torch.device) -> None:
        self.names, self.sizes = store.names, store.sizes
        self._offsets = list(accumulate((3 * math.prod(size) for size in self.sizes), initial=0))
        self.pixels = torch.empty(self._offsets[-1], dtype=torch.uint8, device=device)

        def read(index: int) -> None:
            pixels = np.ascontiguousarray(store.crop(index, 0, 0, *self.sizes[index]))
            place = self.pixels[self._offsets[index] : self._offsets[index + 1]]
            place.copy_(torch.from_numpy(pixels.copy() if not pixels.flags.writeable else pixels).view(-1))

        with ThreadPoolExecutor() as pool:
            done = pool.map(read, range(len(self.sizes)))
            deque(
                tqdm(done, f"reading images into {device.type}", len(self.sizes), unit="image", disable=None), maxlen=0
            )

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB, in main memory a view."""
        image = self.pixels[self._offsets[index] : self._offsets[index + 1]].view(*self.sizes[index], 3)
        return image[top : top + height, left : left + width].cpu().numpy()

    def gather(self, crops: Sequence[Crop], side: int) -> Tensor:
        """Return patches turned into the form of their crops, (N, 3, side, side) uint8 on the device, by one gather."""
        starts = torch.tensor([self._walk(crop, side) for crop in crops], dtype=torch.int64).view(-1, 3)
        on_cuda = self.pixels.device.type == "cuda"
        starts = (starts.pin_memory() if on_cuda else starts).to(self.pixels.device, non_blocking=True)
        first, down, right = starts[:, :, None, None, None].unbind(1)  # each N 1 1 1
        way = torch.arange(side, device=self.pixels.device)
        channels = torch.arange(3, device=self.pixels.device)[:, None, None]
        return self.pixels[first + channels + down * way[:, None] + right * way]  # N 3 side side

    def _walk(self, crop: Crop, side: int) -> tuple[int, int, int]:
        """Return the byte of the first pixel of a turned patch, and how many bytes lead one pixel down, and right."""
        row, column = 3 * self.sizes[crop.index][1], 3
        first = self._offsets[crop.index] + crop.top * row + crop.left * column
        down, right = (column, row) if crop.transpose else (row, column)
        if crop.flip_v:
            first, down = first + (side - 1) * down, -down
        if crop.flip_h:
            first, right = first + (side - 1) * right, -right
        return first, down, right


def residence(
    data_cache: Path,
    device: torch.device,
    sizes: Sequence[Size],
    *,
    processes: int = 1,
    log: Log = print,
) -> torch.device:
    """Return where `data_cache` ram or cuda holds images of these sizes, and log what they take.

    Raises ValueError where there is no room for them: in main memory, where each process of a run holds them, or on the
    GPU that is `device`.
    """
    place = torch.device("cpu") if data_cache == Path("ram") else device
    if place.type != RESIDENT[data_cache]:
        raise ValueError(f"`data_cache` cuda: this run is on the {device.type}; ram holds the images there")
    size = sum(3 * height * width for height, width in sizes)
    check_room(size * (processes if place.type == "cpu" else 1), place, log=log)
    return place


def check_room(size: int, device: torch.device, *, log: Log) -> None:
    """Log that decoded images take `size` bytes of a device. Raise ValueError where that is more than is free."""
    if device.type == "cuda":
        free, place = torch.cuda.mem_get_info(device)[0], "the GPU's memory"
    else:
        free, place = psutil.virtual_memory().available, "main memory"
    text = f"the decoded images take {size / 2**30:.2f} GiB of {place}, {free / 2**30:.2f} GiB are free"
    if size > free:
        raise ValueError(f"`data_cache`: {text}; without a value it maps them from the disk")
    log(text)


def check_images(paths: Sequence[Path], *, at_least: int, skip_bad: bool, log: Log = print) -> list[tuple[Path, Size]]:
    """Check beginning and end of every file; return the usable ones with their sizes.

    `at_least` HR pixels a side are needed. Reading all bytes of a large set would take minutes, so damage in the middle
    of a file is found only when it is decoded.

    Bad and too small files raise BadImage; with `skip_bad` they are left out and named in the log.
    """

    def examine(path: Path) -> Size | BadImage:
        try:
            size = check_image(path, all_bytes=False)
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


def leave_out(bad: Sequence[BadImage], *, left: int, skip_bad: bool, log: Log) -> None:
    """Log the errors about `bad` files; raise BadImage about them without `skip_bad`, or if no image is `left`."""
    if bad and left and not skip_bad:
        listed = "\n  ".join(map(str, bad[:10])) + (f"\n  and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise BadImage(f"unusable images; repair or remove them, or set `skip_bad_images`:\n  {listed}")
    for error in bad if skip_bad else ():
        log(f"left out: {error}")
    if not left:
        raise BadImage(f"all {len(bad)} images are unusable; the first: {bad[0]}")
