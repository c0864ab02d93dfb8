"""A look at every image of a folder: whether it is whole, its size and form, and what it shows.

What an image shows is told by the steps of grey between neighbours on a 17 x 17 thumbnail, as one vector of length 1;
the product of two is their likeness. Among the 134 421 pairs of BSD400, Set5, Set14 and B100 are two of one photograph
at two sizes, with a likeness of 0.97 and more; the next has 0.45. A copy at half the size and JPEG quality 30 has 0.99,
one at a quarter and quality 10 at least 0.84, one that lost 5 % of its height and width at the edges at least 0.72.
Mirrored and turned copies and small crops are not found.
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

from data.images import IMAGE_SUFFIXES, BadImage, Size, check_image, read_photo

ALIKE = 0.7
CELLS = 16  # steps on a side of the thumbnail
ENOUGH = 8 * CELLS  # pixels on a side of what is decoded for it
FLAT = 0.05  # length of the steps below which they are as likely rounding: half a level of 255 each
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


class Look(NamedTuple):
    """What a whole image file holds."""

    path: Path
    size: Size
    form: frozenset[str]  # of "16-bit", "grey", "alpha"
    digest: bytes  # of the file
    shows: np.ndarray  # float32, of length 1; shorter for an image of nearly one colour


class Leak(NamedTuple):
    """A training image that shows what a test image shows."""

    train: Path
    test: Path
    likeness: float  # ALIKE..1


def survey(paths: Sequence[Path], threads: int) -> tuple[list[Look], list[BadImage]]:
    """Look at all files, with a progress bar; those that are unreadable or damaged come as errors."""

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
    """Raises BadImage for a file that is not whole."""
    size = check_image(path)
    levels, form = _decode(path)
    return Look(path, size, form, hashlib.sha256(path.read_bytes()).digest(), _shown(levels))


def _decode(path: Path) -> tuple[np.ndarray, frozenset[str]]:
    """(H, W) or (H, W, 3) float32 in [0, 1], of a JPEG about as large as is needed: that decodes many times faster."""
    with Image.open(path) as image:
        if image.format == "JPEG":
            form = frozenset({"grey"} if image.mode == "L" else ())
            image.draft("L", (ENOUGH, ENOUGH))
            return np.asarray(ImageOps.exif_transpose(image).convert("L"), np.float32) / 255, form
    photo = read_photo(path)
    form = {"16-bit": photo.bits == 16, "grey": photo.grey, "alpha": photo.alpha is not None}
    return photo.rgb, frozenset(name for name, has in form.items() if has)


def _shown(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) to `Look.shows`."""
    grey = cv2.resize(image, (CELLS + 1, CELLS + 1), interpolation=cv2.INTER_AREA)
    grey = grey @ LUMA if grey.ndim == 3 else grey
    steps = np.concatenate([np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()])
    return steps / max(float(np.linalg.norm(steps)), FLAT)


def copies(looks: Sequence[Look]) -> list[list[Path]]:
    """The files that are the same to the byte, in groups."""
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for one in looks:
        groups[one.digest].append(one.path)
    return [group for group in groups.values() if len(group) > 1]


def leaks(train: Sequence[Look], test: Sequence[Look]) -> list[Leak]:
    """The pairs that are alike, the most alike first."""
    if not train or not test:
        return []
    likeness = np.stack([one.shows for one in train]) @ np.stack([one.shows for one in test]).T
    pairs = np.argwhere(likeness >= ALIKE)
    found = [Leak(train[i].path, test[j].path, float(likeness[i, j])) for i, j in pairs]
    return sorted(found, key=lambda leak: -leak.likeness)


def unlisted(folder: Path) -> list[Path]:
    """What is called like an image and is no file: a folder, a link that leads nowhere."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_file())
