"""Shrink the photographs of a folder by a whole factor with MATLAB's bicubic, and write them as PNG files.

    python scripts/shrink_images.py PHOTOS --factor 4 --out DIR [--tile 512] [--skip_bad_images]

Photographs of 5 to 24 megapixels are soft at the scale of a pixel, and carry noise and JPEG blocks that a network would
learn to restore as if they were detail. Shrunk by 2 to 4 they make HR images. A few rows and columns at the right and
the bottom are cut off where the factor does not divide the size. Files that are there already are kept as they are, so
an interrupted call goes on where it stopped. Photographs that cannot be shrunk are named and left out; without
`--skip_bad_images` the call fails for them in the end.

Training draws each image of a set equally often, whatever its size. With `--tile`, large photographs are cut into tiles
of about that side, without overlap, so they are seen more often than small ones.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.degradation import quantize
from data.degradation.resize import bicubic
from data.images import BadImage, list_images, read_image, write_image
from data.testset import to_pixels, to_tensor
from scripts.program import check_folder, integer, one_line, program, words_of
from utility import argument, atomic_write


def shrink(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Shrink (H, W, 3) uint8 to (H // factor, W // factor, 3) uint8 with MATLAB's bicubic, antialiased.

    Examples:
        >>> shrink(np.full((9, 8, 3), 100, np.uint8), 4).shape
        (2, 2, 3)
    """
    height, width = (side // factor * factor for side in pixels.shape[:2])
    image = to_tensor(pixels[:height, :width].copy(), torch.device("cpu"))
    return to_pixels(quantize(bicubic(image[None], Fraction(1, factor))[0]))


def tiles(pixels: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """Cut (H, W, 3) into tiles of like sizes, about `side` pixels; return them by "row_column", each of two digits.

    Examples:
        >>> {name: tile.shape for name, tile in tiles(np.zeros((500, 790, 3), np.uint8), 512).items()}
        {'00_00': (500, 395, 3), '00_01': (500, 395, 3)}
    """

    def cuts(length: int) -> list[slice]:
        count = max(1, round(length / side))
        return [slice(i * length // count, (i + 1) * length // count) for i in range(count)]

    height, width, _ = pixels.shape
    return {
        f"{i:02d}_{j:02d}": pixels[rows, columns]
        for i, rows in enumerate(cuts(height))
        for j, columns in enumerate(cuts(width))
    }


def run(given: Namespace) -> None:
    """Shrink what the command line names. Raise ValueError or OSError that names the argument to mend."""
    with argument("dir"):
        paths = list_images(given.dir, log=print)
    check_folder("--out", given.out)
    if given.out.resolve() == given.dir.resolve():
        raise ValueError(f"--out {given.out} is the folder of the photographs; name another one")
    stems = Counter(path.stem for path in paths)
    if twice := [path.name for path in paths if stems[path.stem] > 1]:
        raise ValueError(f"`dir`: these would get one name: {', '.join(twice[:5])}; rename some")
    given.out.mkdir(parents=True, exist_ok=True)
    written, kept, bad = 0, 0, 0
    for path in tqdm(paths, desc=f"shrinking {given.dir}", unit="image", disable=None):
        if (given.out / f"{path.stem}.png").exists() or (given.out / f"{path.stem}_00_00.png").exists():
            kept += 1
            continue
        try:
            pixels = read_image(path)
            if min(pixels.shape[:2]) < given.factor:
                height, width = pixels.shape[:2]
                raise BadImage(f"{path} is {height} x {width} pixels; nothing is left at a {given.factor}th of that")
        except BadImage as error:
            tqdm.write(f"left out: {error}")
            bad += 1
            continue
        small = shrink(pixels, given.factor)
        parts = {path.stem: small}
        if given.tile is not None:
            parts = {f"{path.stem}_{where}": tile for where, tile in tiles(small, given.tile).items()}
        for name in reversed(parts):  # the first is written last: its presence means that all are there
            with atomic_write(given.out / f"{name}.png") as temporary:
                write_image(temporary, np.ascontiguousarray(parts[name]))
        written += len(parts)
    print(f"{written} images written to {given.out}" + (f", {kept} were there already" if kept else ""))
    if bad and not given.skip_bad_images:
        raise BadImage(f"{bad} photographs were left out; repair or remove them, or set `skip_bad_images`")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("dir", metavar="PHOTOS", type=Path, help="folder of photographs")
    parser.add_argument(
        "--factor", required=True, type=integer(2, 16), help="2 to 16; a side becomes that much shorter"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the PNG files")
    parser.add_argument("--tile", type=integer(64), metavar="PIXELS", help="cut each into tiles of about this side")
    parser.add_argument("--skip_bad_images", action="store_true", help="do not fail for photographs that are left out")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


if __name__ == "__main__":
    main()
