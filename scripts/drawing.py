"""What the pictures of several scripts share: enlarging pixels, images beside each other, contact sheets, labels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

DPI = 64  # a power of two: pixels as inches and back are the same pixels
FONT = 12  # pixels, as the following
LETTER = 7.23  # width of any letter of DejaVu Sans Mono, which matplotlib brings along
LINE = 16  # from one line of text to the next
GAP = 12  # between tiles
NARROWEST = 160  # room that a tile has for its text at least


def enlarge(image: Tensor, factor: int) -> Tensor:
    """(..., H, W) to (..., factor·H, factor·W), each pixel repeated, so that single pixels can be judged."""
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def widths(first: float, second: float) -> str:
    """`σ 1.80`, `σ 3.00 × 1.00`: the two widths of a Gaussian, in the unit that they are given in."""
    return f"σ {first:.2f}" if first == second else f"σ {first:.2f} × {second:.2f}"


def side_by_side(out: Path, images: dict[str, Tensor], crop: tuple[int, int, int]) -> None:
    """The images (3, H, W) beside each other, and below them the crop (top, left, side in HR pixels) of each."""
    (top, left, side), (_, height, width) = crop, next(iter(images.values())).shape
    shape = height / width
    figure = Figure(figsize=(3 * len(images), 3 * (shape + 1) + 0.5), layout="constrained")
    axes = figure.subplots(2, len(images), height_ratios=(shape, 1))
    for (title, image), whole, zoom in zip(images.items(), *axes, strict=True):
        pixels = image.permute(1, 2, 0).numpy()  # H W 3
        whole.imshow(pixels)
        whole.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="yellow", linewidth=1.5))
        whole.set_title(title)
        zoom.imshow(pixels[top : top + side, left : left + side], interpolation="nearest")
        for ax in (whole, zoom):
            ax.set_axis_off()
    figure.savefig(out, dpi=80)


class Tile(NamedTuple):
    """One picture of a contact sheet."""

    pixels: np.ndarray  # (H, W, 3) uint8, drawn one to one
    title: str
    lines: Sequence[str]  # below the title; too long ones are broken

    @property
    def width(self) -> int:
        """Of the picture, or of the room for its text where that is more."""
        return max(NARROWEST, self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Of the picture and of its text, once its lines are broken."""
        return self.pixels.shape[0] + LINE * (1 + len(self.lines))

    def broken(self) -> Tile:
        """With lines that fit, broken after commas where that can be."""
        space = "\N{NO-BREAK SPACE}"
        tied = [line.replace(" ", space).replace(f",{space}", ", ") for line in self.lines]
        letters = int(self.width / LETTER)
        parts = [part for line in tied for part in textwrap.wrap(line, letters, subsequent_indent=2 * space)]
        return self._replace(lines=[part.replace(space, " ") for part in parts])


def contact_sheet(rows: Sequence[Sequence[Tile]], heading: str) -> Figure:
    """Rows of tiles, each with its title and lines below it. Saved with its own dpi, pixels stay as they are."""
    rows = [[tile.broken() for tile in row] for row in rows]
    tall = [max(tile.height for tile in row) for row in rows]
    width = max(sum(tile.width + GAP for tile in row) for row in rows) + GAP
    above = textwrap.wrap(heading, int((width - 2 * GAP) / LETTER))
    height = sum(tall) + 2 * GAP * (len(rows) + 1) + LINE * len(above)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def write(text: Sequence[str], left: int, top: int, weight: str = "normal") -> None:
        for i, line in enumerate(text):
            at = left / width, 1 - (top + LINE * i) / height
            figure.text(*at, line, size=FONT * 72 / DPI, family="DejaVu Sans Mono", weight=weight, va="top")

    write(above, GAP, GAP)
    top = 2 * GAP + LINE * len(above)
    for row, deep in zip(rows, tall, strict=True):
        left = GAP
        for tile in row:
            bottom = top + tile.pixels.shape[0]
            figure.figimage(tile.pixels, left, height - bottom, origin="upper")
            write([tile.title], left, bottom + GAP // 3, weight="bold")
            write(tile.lines, left, bottom + GAP // 3 + LINE)
            left += tile.width + GAP
        top += deep + 2 * GAP
    return figure
