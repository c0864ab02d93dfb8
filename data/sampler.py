"""Random patches as a pure function of (seed, step): there is no state, so resuming at a step is exact and free."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from threading import Event
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.draws import FORMS, ORDER, PARTS, PLACES, Draws
from data.images import BadImage, Size
from data.store import Crop, ImageStore, Resident
from runtime.signals import leave_signals_to_the_parent
from utility import digest

TIMEOUT = 600.0  # seconds to wait for the patches of a step, before the loader counts as stuck

AUGMENT: dict[str, tuple[bool, bool, bool]] = {  # whether to mirror left and right, top and bottom, and to transpose
    "all": (True, True, True),  # the eight symmetries of the square
    "mirror": (True, False, False),
    "none": (False, False, False),
}


class Part(NamedTuple):
    """Images that take turns among themselves, and their share of all that are drawn."""

    images: range
    share: Fraction


@dataclass(frozen=True)
class PatchSampler:
    """Chooses the patches of a training step; all ranks draw the same, and each takes its share.

    Images are drawn without replacement: step by step, the batches run through all images in a random order, then in
    another one. Places within an image are uniform, and so are the forms (`augment`); all views of an image have one
    form, as if the image were turned and then cut.

    With several `parts` each runs through its own images in this way. Which part the n-th image of a run comes from is
    no random draw: the parts take turns, so that at any point each part is within one round, as many images as there
    are parts, of its share. Within a batch they are shuffled.
    """

    sizes: Sequence[Size]  # of the images: (height, width)
    draws: Draws
    patch: int  # side, HR pixels
    augment: str  # a name in AUGMENT
    parts: Sequence[Part] = ()  # their shares add up to 1; none: all images are one
    paired: int = 0  # how many images, the first ones, have an LR image
    scale: int = 1  # of those: their patches begin at multiples of it

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("`sizes`: expected at least one image, got none")
        smallest = min(min(size) for size in self.sizes)
        if smallest < self.patch:
            raise ValueError(f"`patch_size`: patches of {self.patch} HR pixels, but an image has a side of {smallest}")

    def draw(self, step: int) -> list[Crop]:
        """Draw this rank's patches of `step`, view-major: patch 1 of every image, then patch 2 of every image."""
        draws, indices = self.draws, self._images(step)
        heights, widths = np.array([self.sizes[index] for index in indices]).T
        unit = np.where(np.array(indices) < self.paired, self.scale, 1)
        shape = (draws.views, draws.batch)
        places = draws.numpy(PLACES, step)
        tops = unit * places.integers(0, (heights - self.patch) // unit, shape, endpoint=True)
        lefts = unit * places.integers(0, (widths - self.patch) // unit, shape, endpoint=True)
        forms = draws.numpy(FORMS, step).integers(0, 2, (3, 1, draws.batch), dtype=bool)
        forms &= np.array(AUGMENT[self.augment])[:, None, None]
        drawn = indices, tops, lefts, *forms
        columns = [np.broadcast_to(values, shape)[:, draws.share].ravel().tolist() for values in drawn]
        return [Crop(*row) for row in zip(*columns, strict=True)]

    def _images(self, step: int) -> list[int]:
        parts = self.parts or [Part(range(len(self.sizes)), Fraction(1))]
        batch = self.draws.batch
        images = [self._image(number, parts) for number in range(step * batch, (step + 1) * batch)]
        if len(parts) > 1:
            self.draws.numpy(PARTS, step).shuffle(images)
        return images

    def _image(self, number: int, parts: Sequence[Part]) -> int:
        """Return the image that is drawn as the number-th of a run."""
        left = Fraction(1)
        for which, (images, share) in enumerate(parts):
            taken, next_taken = number, number + 1  # images of this part before this one, and with it
            if share < left:
                taken, next_taken = (math.floor(share / left * n) for n in (taken, next_taken))
            if next_taken > taken:
                again, at = divmod(taken, len(images))
                return images[int(_order(self.draws.seed, again, len(images), which)[at])]
            number, left = number - taken, left - share  # the other parts take turns in what this one leaves
        raise ValueError(f"`parts`: expected shares that add up to 1, got {', '.join(str(p.share) for p in parts)}")


@lru_cache(maxsize=16)
def _order(seed: int, number: int, count: int, part: int) -> np.ndarray:
    """Return the random order of the images of a part in pass `number` through them."""
    stream = (seed, ORDER, number, part) if part else (seed, ORDER, number)
    return np.random.default_rng(stream).permutation(count)


class GivenLR(NamedTuple):
    """LR patches that were given with the HR patches instead of being made from them."""

    lr: Tensor
    """(V·B, 3, P/s, P/s) uint8 RGB, view-major; zeros for the images that have none."""
    has: Tensor
    """(B,) bool: the images that have one. It stays on the host, which decides by it."""

    def part(self, images: slice) -> GivenLR:
        """Return the patches of these images."""
        return GivenLR(self.lr.unflatten(0, (-1, len(self.has)))[:, images].flatten(0, 1), self.has[images])


class Patches(NamedTuple):
    """The patches of a step, V of each of B images, view-major."""

    hr: Tensor
    """(V·B, 3, P, P) uint8 RGB."""
    given: GivenLR | None = None

    def to(self, device: torch.device) -> Patches:
        """Return the same with the images on `device`, without waiting for it."""
        given = self.given and self.given._replace(lr=self.given.lr.to(device, non_blocking=True))
        return Patches(self.hr.to(device, non_blocking=True), given)


class PatchBatches(Dataset[Patches]):
    """Maps a step to its patches; see `load`. Raises BadImage if an image cannot be read.

    Args:
        store: HR images.
        sampler: chooses the patches.
        given: the LR images of the first `sampler.paired` images.
    """

    def __init__(self, store: ImageStore, sampler: PatchSampler, given: ImageStore | None = None) -> None:
        self.store = store
        self.sampler = sampler
        self.given = given

    @property
    def on_device(self) -> bool:
        """True if patches come from the memory of a GPU, where no loader process helps."""
        return isinstance(self.store, Resident) and self.store.pixels.device.type != "cpu"

    @cached_property
    def images(self) -> tuple[int, str]:
        """The number of images, and a digest of their names and sizes, which decide the patches of a step."""
        given = [] if self.given is None else [self.given.names]
        return len(self.store.names), digest([self.store.names, self.store.sizes, *given])

    def __getitem__(self, step: int) -> Patches:
        crops, side = self.sampler.draw(step), self.sampler.patch
        hr = _cut(self.store, crops, side)
        if self.given is None:
            return Patches(hr)
        s, paired = self.sampler.scale, self.sampler.paired
        small = [crop._replace(top=crop.top // s, left=crop.left // s) for crop in crops]
        has = torch.tensor([crop.index < paired for crop in crops])
        lr = torch.zeros(len(crops), 3, side // s, side // s, dtype=torch.uint8, device=hr.device)
        rows = has.nonzero()[:, 0].to(hr.device, non_blocking=True)  # a mask would be read back
        lr[rows] = _cut(self.given, [crop for crop in small if crop.index < paired], side // s)
        return Patches(hr, GivenLR(lr, has[: len(crops) // self.sampler.draws.views]))


def _cut(store: ImageStore, crops: Sequence[Crop], side: int) -> Tensor:
    """Cut patches out of their images and turn them: (N, 3, P, P) uint8."""
    if isinstance(store, Resident) and store.pixels.device.type != "cpu":
        return store.gather(crops, side)
    batch = torch.empty(len(crops), 3, side, side, dtype=torch.uint8)
    for patch, crop in zip(batch.numpy(), crops, strict=True):
        pixels = store.crop(crop.index, crop.top, crop.left, side, side)
        cv2.split(turn(pixels, crop), list(patch))  # H W 3 -> 3 H W
    return batch


def turn(pixels: np.ndarray, crop: Crop) -> np.ndarray:
    """Return (P, P, 3) uint8 pixels in the crop's form, one of the eight symmetries of the square.

    OpenCV takes half the time of NumPy, which moves byte by byte what does not lie side by side.
    """
    if crop.transpose:
        pixels = cv2.transpose(pixels)
    if crop.flip_h or crop.flip_v:
        pixels = cv2.flip(pixels, -1 if crop.flip_h and crop.flip_v else int(crop.flip_h))
    return pixels


class _OrError(Dataset["Patches | BadImage"]):
    """Hands an error over as a value: raised in a loader process, it would arrive with a traceback as its message."""

    def __init__(self, batches: PatchBatches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Patches | BadImage:
        try:
            return self.batches[step]
        except BadImage as error:
            return error


def load(batches: PatchBatches, steps: Sequence[int], *, workers: int, pinned: bool) -> Generator[Patches, None, None]:
    """Yield the patches of these steps in their order, the same for any number of loader processes.

    The processes end with the generator. Raises BadImage if an image cannot be read.
    """
    if batches.on_device:
        workers, pinned = 0, False
    others = active_children()
    loader = iter(
        DataLoader(
            _OrError(batches),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            pin_memory=pinned,
            timeout=TIMEOUT if workers else 0,
            worker_init_fn=leave_signals_to_the_parent,
        )
    )
    try:
        for patches in loader:
            if isinstance(patches, BadImage):
                raise patches
            yield patches
    except (ConnectionError, EOFError) as error:  # it died while it handed patches over
        raise ChildProcessError(f"`n_threads`: loader process ended ({error})") from error
    finally:
        # A process that was killed may have held the lock of this event. The loader sets the event when it ends, and
        # would wait for the lock for ever.
        loader._workers_done_event = Event()  # pyright: ignore[reportAttributeAccessIssue]
        _kill_all_but(others)  # the traceback of an error keeps the loader alive


def _kill_all_but(others: Sequence[BaseProcess]) -> None:
    """End the loader's processes: they leave signals to their parent, and Python would wait for them at its end.

    Nothing they hold is worth keeping.
    """
    for worker in set(active_children()).difference(others):
        with suppress(RuntimeError):  # which the loader raises when it sees them die
            worker.kill()
            worker.join(5)  # one that waits for a dead disk cannot be killed


@contextmanager
def naming_loader() -> Iterator[None]:
    """Raise ChildProcessError, in one line, if a loader process dies in this block or `load` waits for it in vain.

    A death may interrupt the block anywhere, not in `load` alone.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).strip()
        if died := re.match(r"DataLoader worker \(pid.*?(\d.*?)\) (.*)", text):
            raise ChildProcessError(f"`n_threads`: loader process {died[1]} {died[2]}") from error
        if text.startswith("DataLoader timed out"):
            raise ChildProcessError(
                f"`n_threads`: no loader process gave the patches of a step for {TIMEOUT:g} s; does the disk with the "
                "training images answer?"
            ) from error
        raise
