"""Draw pictures for several scripts: enlarged pixels, images side by side, contact sheets, labels."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from utility import printable

DPI = 64  # a power of two: pixels as inches and back are the same pixels
FONT = 12  # pixels, like those below
LETTER = 7.23  # width of any letter of DejaVu Sans Mono, which matplotlib brings along
LINE = 16  # from one line of text to the next
GAP = 12  # between tiles
TITLE = 24  # letters above a picture that is three inches wide
NARROWEST = 160  # least width of a tile, for its text


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Repeat each pixel of (..., H, W) to (..., factor·H, factor·W), so that single pixels can be judged."""
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def widths(first: float, second: float) -> str:
    """Return the two widths of a Gaussian as `σ 1.80` or `σ 3.00 × 1.00`, in the unit that they come in."""
    return f"σ {first:.2f}" if first == second else f"σ {first:.2f} × {second:.2f}"


def title(text: str) -> str:
    """Return a text whose lines fit over a picture of `side_by_side`, broken after _, - or a blank if possible.

    Examples:
        >>> title("kdsr_s_x4_light after 400 epochs\\n29.66 dB").splitlines()
        ['kdsr_s_x4_light after', '400 epochs', '29.66 dB']
    """
    most = f".{{1,{TITLE}}}"
    parts = re.findall(f"{most}$|{most}(?<=[-_ ])|{most}", printable(text), re.MULTILINE)
    return "\n".join(part.strip() for part in parts)


def side_by_side(out: Path, images: dict[str, Tensor], crop: tuple[int, int, int]) -> None:
    """Draw images (3, H, W) side by side, and below each its crop (top, left, side in HR pixels).

    The suffix of `out` decides the format: that of a picture, or .pdf.
    """
    (top, left, side), (_, height, width) = crop, next(iter(images.values())).shape
    shape = height / width
    figure = Figure(figsize=(3 * len(images), 3 * (shape + 1) + 0.5), layout="constrained")
    axes = figure.subplots(2, len(images), height_ratios=(shape, 1))
    for (name, image), overview, zoom in zip(images.items(), *axes, strict=True):
        pixels = image.permute(1, 2, 0).numpy()  # H W 3
        overview.imshow(pixels)
        overview.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="yellow", linewidth=1.5))
        overview.set_title(title(name))
        zoom.imshow(pixels[top : top + side, left : left + side], interpolation="nearest")
        for ax in (overview, zoom):
            ax.set_axis_off()
    figure.savefig(out, dpi=300 if out.suffix.lower() == ".pdf" else 80)


class Tile(NamedTuple):
    """One picture of a contact sheet."""

    pixels: np.ndarray  # (H, W, 3) uint8, drawn one to one
    title: str
    lines: Sequence[str]  # below the title; too long ones are broken

    @property
    def width(self) -> int:
        """The width of the picture, or of the room for its text if that is wider, in pixels."""
        return max(NARROWEST, self.pixels.shape[1])

    @property
    def height(self) -> int:
        """The height of the picture and its text, in pixels; break the lines first."""
        return self.pixels.shape[0] + LINE * (1 + len(self.lines))

    def broken(self) -> Tile:
        """Return the tile with lines that fit, broken after commas if possible."""
        space = "\N{NO-BREAK SPACE}"
        tied = [line.replace(" ", space).replace(f",{space}", ", ") for line in self.lines]
        letters = int(self.width / LETTER)
        parts = [part for line in tied for part in textwrap.wrap(line, letters, subsequent_indent=2 * space)]
        return self._replace(lines=[part.replace(space, " ") for part in parts])


def contact_sheet(rows: Sequence[Sequence[Tile]], heading: str) -> Figure:
    """Draw rows of tiles, each above its title and lines. Saved with the dpi of the figure, pixels stay as they are."""
    rows = [[tile.broken() for tile in row] for row in rows]
    tall = [max(tile.height for tile in row) for row in rows]
    width = max(sum(tile.width + GAP for tile in row) for row in rows) + GAP
    above = textwrap.wrap(heading, int((width - 2 * GAP) / LETTER))
    height = sum(tall) + 2 * GAP * (len(rows) + 1) + LINE * len(above)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def write(text: Sequence[str], left: int, top: int, weight: str = "normal") -> None:
        for i, line in enumerate(text):
            at = left / width, 1 - (top + LINE * i) / height
            figure.text(*at, printable(line), size=FONT * 72 / DPI, family="DejaVu Sans Mono", weight=weight, va="top")

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
