"""Given pairs, of HR images whose LR images exist already: check their sizes, and find pairs that are shifted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from data.images import BadImage, Size
from data.store import ImageStore
from utility import listing

MAX_SHIFT = 0.5  # LR pixels that a pair may be shifted by
MAX_SIDE = 256  # of the centre that is compared, at most, LR pixels
BAND = 0.15  # cycles per pixel: standard deviation of the frequencies that count; noise and JPEG blocks are above
MIN_CONTRAST = 1.0  # grey levels: images with a standard deviation under this show nothing to compare


class Shift(NamedTuple):
    """The shift of the LR image of a pair against its HR image, LR pixels."""

    index: int
    down: float
    right: float

    @property
    def length(self) -> float:
        return float(np.hypot(self.down, self.right))


def wrong_size(lr: str, lr_size: Size, hr: str, hr_size: Size, scale: int) -> BadImage | None:
    """Return the error about a pair whose HR image is not `scale` times its LR image, or None.

    The HR image may be larger by less than `scale` pixels: the LR image was made without its last rows and columns.

    Examples:
        >>> print(wrong_size("a_LR4.png", (10, 10), "a_HR.png", (40, 44), scale=4))
        a_HR.png is 40 x 44 pixels (height x width), not 4 times the 10 x 10 of a_LR4.png
    """
    if lr_size == (hr_size[0] // scale, hr_size[1] // scale):
        return None
    text = "{} is {} x {} pixels (height x width), not {} times the {} x {} of {}"
    enlarged = "; the LR image has been enlarged already, shrink it" if lr_size == hr_size else ""
    return BadImage(text.format(hr, *hr_size, scale, *lr_size, lr) + enlarged)


def shifts(lr: ImageStore, hr: ImageStore, *, scale: int, sample: int | None) -> list[Shift]:
    """Compare pairs, evenly spread over the set; return those that are shifted by more than half an LR pixel.

    The farthest come first. Both stores have the same numbers. Raises BadImage for an image that cannot be read.

    Args:
        sample: how many pairs are compared; None: all.
    """
    count = len(lr.names)
    some = count if sample is None else min(sample, count)

    def compare(index: int) -> Shift:
        height, width = lr.sizes[index]
        h, w = min(height, MAX_SIDE), min(width, MAX_SIDE)
        top, left = (height - h) // 2, (width - w) // 2
        small = lr.crop(index, top, left, h, w)
        large = hr.crop(index, scale * top, scale * left, scale * h, scale * w)
        return Shift(index, *shift(small, cv2.resize(large, (w, h), interpolation=cv2.INTER_AREA)))

    with ThreadPoolExecutor() as pool:
        found = pool.map(compare, [i * count // some for i in range(some)])
        return sorted((one for one in found if one.length > MAX_SHIFT), key=lambda one: -one.length)


def shift(image: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return how far `image` lies below and to the right of `other`, in pixels, by phase correlation.

    Blur, noise and JPEG move the result by a tenth of a pixel, the strongest of Real-ESRGAN's by up to a half.
    (0, 0) for an image of nearly one colour.

    Args:
        image, other: (H, W, 3) uint8.

    Examples:
        >>> photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        >>> down, right = shift(np.roll(photo, (3, -2), (0, 1)), photo)
        >>> round(down), round(right)
        (3, -2)
    """
    height, width = image.shape[:2]
    greys = [one.mean(2) for one in (image, other)]
    if min(grey.std() for grey in greys) < MIN_CONTRAST:
        return 0.0, 0.0
    window = np.outer(np.hanning(height), np.hanning(width))  # the edges meet where the transform wraps around
    ours, theirs = (np.fft.fft2((grey - grey.mean()) * window) for grey in greys)
    cross = ours * theirs.conj()
    down, right = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    cross *= np.exp(-(down**2 + right**2) / (2 * BAND**2)) / np.maximum(np.abs(cross), 1e-9)
    likeness = np.fft.ifft2(cross).real
    y, x = np.unravel_index(likeness.argmax(), likeness.shape)
    return _peak(likeness[:, x], int(y)), _peak(likeness[y], int(x))


def _peak(likeness: np.ndarray, at: int) -> float:
    """Return where the parabola through a peak and its neighbours is highest; the second half is negative."""
    size = len(likeness)
    before, here, after = likeness[at - 1], likeness[at], likeness[(at + 1) % size]
    bend = 2 * here - before - after
    return (at + size // 2) % size - size // 2 + (float(after - before) / (2 * bend) if bend > 0 else 0.0)


def shifted(found: Sequence[Shift], names: Sequence[str]) -> str:
    """Name the worst pairs and how far they are shifted.

    Examples:
        >>> shifted([Shift(1, 0.0, 2.04)], ["a.png", "b.png"])
        'b.png (2.0 pixels: 0.0 down, 2.0 right)'
    """
    rows = [
        f"{names[one.index]} ({one.length:.1f} pixels: {one.down:.1f} down, {one.right:.1f} right)" for one in found
    ]
    return listing(rows)
