"""What a degradation does to a photograph: a contact sheet of many draws, or one of them replayed.

    python scripts/preview_degradation.py IMAGE --out sheet.png [--draws 12] [--seed 1] [--crop 64] [flags of main.py]
    python scripts/preview_degradation.py IMAGE --out one.png --replay 7 [the same flags]

The recipe and its ranges are chosen by the flags that choose them in training, and default to what is published for
--model. Each tile is a draw of its own seed: the HR crop, degraded, each LR pixel enlarged to a square. --replay draws
the one of that seed again, larger, beside the kernels that blurred it, and prints all its parameters.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import build
from commandline import REQUIRED, Given, flag, parse
from data.degradation import Degradation as Recipe
from data.images import read_image
from data.testset import to_pixels
from model import NETWORKS
from option import DEFAULT_SCALE, Degradation, TrainingDegradation, TrainOptions
from resolve import idle, resolve
from scripts.drawing import Tile, contact_sheet, enlarge
from scripts.parameters import described, kernels, plain, table
from utility import atomic_write

PICTURES = (".png", ".jpg", ".webp")
TILE, REPLAYED, KERNEL = 256, 512, 252  # least side of a tile in a sheet, of a draw alone, of a kernel; pixels


@dataclass(frozen=True, kw_only=True)
class Sheet:
    image: Path = flag(REQUIRED, "a photograph; may stand first, without the flag")  # noqa: RUF009 (`flag` makes a field)
    out: Path = flag(REQUIRED, f"picture to write: {', '.join(PICTURES)}")  # noqa: RUF009
    model: str = flag("KDSR_S", "network whose published degradation is drawn", choices=tuple(NETWORKS))
    scale: int = flag(DEFAULT_SCALE, "super-resolution factor", low=2, high=4)
    draws: int = flag(12, "how many", low=1, high=500)
    seed: int = flag(1, "of the first draw; the next ones count on", low=0)
    replay: int | None = flag(None, "draw only the one of this seed, larger, and print its parameters", low=0)
    crop: int = flag(64, "side of what is shown of the middle of the image, LR pixels; or as much as there is", low=1)


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Draw a contact sheet of a photograph under many draws of a degradation, or replay one of them."""

    sheet: Sheet
    degradation: Degradation
    training_degradation: TrainingDegradation


def options_of(argv: Sequence[str]) -> tuple[Given, Sheet, TrainOptions]:
    """What a command line says, and what follows for the sheet and for the recipe of a training run."""
    words = list(argv)
    if words and not words[0].startswith("-"):
        words.insert(0, "--image")
    given = parse(PreviewOptions, words, prog="preview_degradation.py")
    sheet = Sheet(**{f.name: given[f.name] for f in dataclasses.fields(Sheet) if f.name in given})
    drawn = {f.name for section in (Degradation, TrainingDegradation) for f in dataclasses.fields(section)}
    run: Given = {"model": sheet.model, "scale": sheet.scale, "save": "", "objective": "pixel", "epochs_sr": 1}
    run |= {name: value for name, value in given.items() if name in drawn}
    return given, sheet, resolve(TrainOptions, run, model=sheet.model, scale=sheet.scale, data_test="")


# ----------------------------------------------------------------------------------------------------- pictures


class Draw(NamedTuple):
    """What one seed does to the image."""

    seed: int
    params: Any
    lr: Tensor  # (3, H, W), 8-bit levels / 255


def draw(recipe: Recipe[Any], hr: Tensor, seed: int) -> Draw:
    """Degrade (3, s·H, s·W) by the draw of `seed`. Parameters and noise come from one generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    params = recipe.sample(1, generator=generator)
    return Draw(seed, params, recipe.apply(hr[None], params, generator=generator)[0])


def middle(path: Path, crop: int, recipe: Recipe[Any]) -> Tensor:
    """`crop` LR pixels a side of the middle of the image, or what there is: (3, s·H, s·W) in [0, 1].

    Raises BadImage for a file that is no image, ValueError where too little is left for the recipe.
    """
    pixels, scale = read_image(path), recipe.scale
    sides = [scale * min(crop, side // scale) for side in pixels.shape[:2]]
    least = ceil(recipe.smallest / scale)
    if min(sides) < scale * least:
        raise ValueError(
            f"{path} has {pixels.shape[1]}×{pixels.shape[0]} pixels, --crop is {crop}: "
            f"{least} LR pixels a side, {scale * least} HR ones, are the least for this recipe at x{scale}"
        )
    top, left = ((side - shown) // 2 for side, shown in zip(pixels.shape[:2], sides, strict=True))
    cut = pixels[top : top + sides[0], left : left + sides[1]]
    return torch.from_numpy(cut.copy()).permute(2, 0, 1).float() / 255


def kernel_tile(name: str, kernel: Tensor) -> Tile:
    """A (k, k) kernel: red is positive, blue negative, white 0."""
    shades = matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * (kernel / kernel.abs().max()).numpy(), bytes=True)
    zoom = ceil(KERNEL / len(kernel))
    pixels = shades[..., :3].repeat(zoom, 0).repeat(zoom, 1)
    return Tile(pixels, name, [f"window {len(kernel)}×{len(kernel)}, peak {kernel.max():.3f}"])


def tiles(hr: Tensor, draws: Sequence[Draw], scale: int, side: int) -> list[Tile]:
    """The HR image (3, s·H, s·W), then its draws, pixels enlarged alike until a tile has at least `side` of them."""
    zoom = ceil(side / max(hr.shape[1:]))  # of an HR pixel
    shown = [Tile(to_pixels(enlarge(hr, zoom)), "HR", [f"{hr.shape[2]}×{hr.shape[1]} pixels"])]
    for one in draws:
        shown.append(Tile(to_pixels(enlarge(one.lr, zoom * scale)), f"seed {one.seed}", described(one.params)))
    return shown


def sheet_of(hr: Tensor, draws: Sequence[Draw], scale: int, heading: str) -> Figure:
    """Many draws, in rows."""
    shown = tiles(hr, draws, scale, TILE)
    columns = ceil(sqrt(1.5 * len(shown)))
    return contact_sheet([shown[i : i + columns] for i in range(0, len(shown), columns)], heading)


def replay_of(hr: Tensor, one: Draw, recipe: Recipe[Any], heading: str) -> Figure:
    """One draw, large, and the kernels that it was filtered with beside it."""
    filters = [kernel_tile(name, kernel) for name, kernel in kernels(recipe, one.params).items()]
    return contact_sheet([[*tiles(hr, [one], recipe.scale, REPLAYED), *filters]], heading)


# ------------------------------------------------------------------------------------------------------ program


def without_effect(given: Given, sheet: Sheet, options: TrainOptions) -> list[str]:
    """The flags that were given though nothing here depends on them."""
    here = ["sv_mode", "draw_per"] + ([] if sheet.replay is None else ["draws", "seed"])
    return list(dict.fromkeys([*idle(given, options), *(f"--{name}" for name in here if name in given)]))


def run(given: Given, sheet: Sheet, options: TrainOptions) -> None:
    if sheet.out.suffix.lower() not in PICTURES:
        raise ValueError(f"--out {sheet.out}: expected a name that ends in {', '.join(PICTURES)}")
    if sheet.out.resolve() == sheet.image.resolve():
        raise ValueError(f"--out {sheet.out} is the photograph itself")
    recipe = build.recipe(options)
    hr = middle(sheet.image, sheet.crop, recipe)
    said = [f"--{name} {plain(value)}" for name, value in given.items() if name not in ("image", "out")]
    heading = f"{sheet.image.name}, {options.degradation.degradation} ×{sheet.scale}  {' '.join(said)}"
    if sheet.replay is None:
        seeds = range(sheet.seed, sheet.seed + sheet.draws)
        figure = sheet_of(hr, [draw(recipe, hr, seed) for seed in seeds], sheet.scale, heading)
    else:
        one = draw(recipe, hr, sheet.replay)
        figure = replay_of(hr, one, recipe, heading)
        print(f"seed {one.seed}\n{table(one.params)}")
    sheet.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(sheet.out) as temporary:
        figure.savefig(temporary, format=sheet.out.suffix[1:].lower())
    print(f"written to {sheet.out}")


def main(argv: Sequence[str] | None = None) -> None:
    try:
        given, sheet, options = options_of(sys.argv[1:] if argv is None else argv)
        for name in without_effect(given, sheet, options):
            print(f"note: {name} has no effect here")
        run(given, sheet, options)
    except (ValueError, OSError) as error:
        sys.exit(f"preview_degradation.py: error: {error}")


if __name__ == "__main__":
    main()
