"""Survey the images of a folder: which files are damaged, their sizes and forms, and which show the same photograph.

The content of an image is described by the differences of grey between neighbours on a 17 x 17 thumbnail, as one vector
of length 1; the product of two vectors is their likeness. Among the 134 421 pairs of BSD400, Set5, Set14 and B100, two
pairs are one photograph at two sizes, with a likeness of 0.97 and more; the next pair has 0.45. A copy at half the size
and JPEG quality 30 has 0.99, one at a quarter and quality 10 at least 0.84, one that lost 5 % of its height and width
at the edges at least 0.72. Mirrored and turned copies and small crops are not found.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from data.images import FORMATS, IMAGE_SUFFIXES, BadImage, Size, check_image
from data.photo import read_photo

ALIKE = 0.7
CELLS = 16  # differences on a side of the thumbnail
ENOUGH = 8 * CELLS  # pixels on a side: a JPEG is decoded no larger than this takes
FLAT = 0.05  # vectors shorter than this may be mere rounding: half a level of 255 in each difference
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


class Look(NamedTuple):
    """The findings about an image file that is not damaged."""

    path: Path
    size: Size
    form: frozenset[str]  # of "16-bit", "grey", "alpha"
    digest: bytes  # of the file
    shows: np.ndarray  # float32, of length 1; shorter for an image of nearly one colour


class Leak(NamedTuple):
    """A training image that shows the same photograph as a test image."""

    train: Path
    test: Path
    likeness: float  # ALIKE..1


def survey(paths: Sequence[Path], threads: int) -> tuple[list[Look], list[BadImage]]:
    """Look at all files, with a progress bar. Return the findings, and errors about unreadable or damaged files."""

    def examine(path: Path) -> Look | BadImage:
        try:
            return look(path)
        except BadImage as error:
            return error

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        bar = tqdm(pool.map(examine, paths), "looking at images", len(paths), leave=False, unit="image", disable=None)
        found = list(bar)
    return [x for x in found if isinstance(x, Look)], [x for x in found if isinstance(x, BadImage)]


def look(path: Path) -> Look:
    """Look at one file. Raises BadImage if it is damaged."""
    size = check_image(path)
    levels, form = _decode(path)
    return Look(path, size, form, hashlib.sha256(path.read_bytes()).digest(), _signature(levels))


def _decode(path: Path) -> tuple[np.ndarray, frozenset[str]]:
    """Decode to (H, W) or (H, W, 3) float32 in [0, 1], a JPEG only as large as needed, which is many times faster."""
    with Image.open(path, formats=FORMATS) as image:
        if image.format == "JPEG":
            form = frozenset({"grey"} if image.mode == "L" else ())
            image.draft("L", (ENOUGH, ENOUGH))
            return np.asarray(ImageOps.exif_transpose(image).convert("L"), np.float32) / 255, form
    photo = read_photo(path)
    form = {"16-bit": photo.pixels.dtype == np.uint16, "grey": photo.grey, "alpha": photo.has_alpha}
    levels = photo.rgb.astype(np.float32) / np.iinfo(photo.pixels.dtype).max
    return levels, frozenset(name for name, has in form.items() if has)


def _signature(image: np.ndarray) -> np.ndarray:
    """Compute `Look.shows` of (H, W) or (H, W, 3)."""
    grey = cv2.resize(image, (CELLS + 1, CELLS + 1), interpolation=cv2.INTER_AREA)
    grey = grey @ LUMA if grey.ndim == 3 else grey
    steps = np.concatenate([np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()])
    return steps / max(float(np.linalg.norm(steps)), FLAT)


def copies(looks: Sequence[Look]) -> list[list[Path]]:
    """Return groups of files that are the same to the byte."""
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for one in looks:
        groups[one.digest].append(one.path)
    return [group for group in groups.values() if len(group) > 1]


def leaks(train: Sequence[Look], test: Sequence[Look]) -> list[Leak]:
    """Return the pairs that are alike, the most alike first."""
    if not train or not test:
        return []
    likeness = np.stack([one.shows for one in train]) @ np.stack([one.shows for one in test]).T
    pairs = np.argwhere(likeness >= ALIKE)
    found = [Leak(train[i].path, test[j].path, float(likeness[i, j])) for i, j in pairs]
    return sorted(found, key=lambda leak: -leak.likeness)


def unlisted(folder: Path) -> list[Path]:
    """Return paths that are named like images but are no files: folders, pipes, and links that lead nowhere."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_file())
