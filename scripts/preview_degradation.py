"""Show what a degradation does to a photograph: a contact sheet of many draws, or one of them replayed.

    python scripts/preview_degradation.py IMAGE --out sheet.png [--draws 12] [--seed 1] [--crop 64] [flags of main.py]
    python scripts/preview_degradation.py IMAGE --out one.png --replay 7 [the same flags]

The recipe and its ranges are chosen by the flags that choose them in training, and default to what is published for
--model. Each tile is the HR crop, degraded by the draw of another seed, with each LR pixel enlarged to a square.
--replay draws the tile of one seed again, larger, beside the kernels that blurred it, and prints all its parameters.
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

import option
from data.degradation import Degradation
from data.images import read_image
from data.testset import to_pixels
from flags import REQUIRED, Given, fill, flag, flags_of, parse
from main import NAMES
from option import DEFAULT_SCALE, DegradationOptions, TrainingDegradationOptions, TrainOptions
from parts import recipe_of
from scripts.drawing import Tile, contact_sheet, enlarge
from scripts.parameters import described, kernels, plain, table
from scripts.program import check_picture, one_line
from utility import atomic_write, print_any_name

PICTURES = (".png", ".jpg", ".webp")
TILE, REPLAYED, KERNEL = 256, 512, 252  # least side of a tile in a sheet, of a draw alone, of a kernel; pixels


@dataclass(frozen=True, kw_only=True)
class SheetOptions:
    image: Path = flag(REQUIRED, "a photograph; may stand first, without the flag")  # noqa: RUF009 (`flag` makes a field)
    out: Path = flag(REQUIRED, f"picture to write: {', '.join(PICTURES)}")  # noqa: RUF009
    model: str = flag("KDSR_S", "network whose published degradation is drawn", registry="model")
    scale: int = flag(DEFAULT_SCALE, "super-resolution factor", low=2, high=4)
    draws: int = flag(12, "number of draws", low=1, high=500)
    seed: int = flag(1, "seed of the first draw; the next ones count on", low=0)
    replay: int | None = flag(None, "draw only the one of this seed, larger, and print its parameters", low=0)
    crop: int = flag(64, "side of the crop from the middle of the image, LR pixels; or as much as there is", low=1)


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Draw a contact sheet of a photograph under many draws of a degradation, or replay one of them."""

    sheet: SheetOptions
    degradation: DegradationOptions
    training_degradation: TrainingDegradationOptions


def options_of(argv: Sequence[str]) -> tuple[Given, SheetOptions, TrainOptions]:
    """Return the values that a command line gives, the options of the sheet, and those of a run with this recipe."""
    words = list(argv)
    if words and not words[0].startswith("-"):
        words.insert(0, "--image")
    given = parse(PreviewOptions, words, prog="preview_degradation.py", names=NAMES)
    sheet = fill(SheetOptions, given)
    run = f"--model {sheet.model} --scale {sheet.scale} --save preview --objective pixel --epochs_sr 1".split()
    for section in (DegradationOptions, TrainingDegradationOptions):
        for field in dataclasses.fields(section):
            run += [f"--{field.name}", str(given[field.name])] if field.name in given else []
    return given, sheet, option.train_options(run, NAMES)[1]


# ----------------------------------------------------------------------------------------------------- pictures


class Draw(NamedTuple):
    """The image, degraded by the draw of one seed."""

    seed: int
    params: Any
    lr: Tensor  # (3, H, W), 8-bit levels / 255


def draw(recipe: Degradation[Any], hr: Tensor, seed: int) -> Draw:
    """Degrade (3, s·H, s·W) by the draw of `seed`; parameters and noise come from a generator of this seed alone."""
    generator = torch.Generator().manual_seed(seed)
    params = recipe.sample(1, generator=generator)
    return Draw(seed, params, recipe.apply(hr[None], params, generator=generator)[0])


def middle(path: Path, crop: int, recipe: Degradation[Any]) -> Tensor:
    """Cut `crop` LR pixels a side from the middle of the image, or what there is: (3, s·H, s·W) in [0, 1].

    Raises BadImage if the file is no image, and ValueError if the crop is too small for the recipe.
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
    """Draw a (k, k) kernel: red is positive, blue negative, white 0."""
    shades = matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * (kernel / kernel.abs().max()).numpy(), bytes=True)
    zoom = ceil(KERNEL / len(kernel))
    pixels = shades[..., :3].repeat(zoom, 0).repeat(zoom, 1)
    return Tile(pixels, name, [f"window {len(kernel)}×{len(kernel)}, peak {kernel.max():.3f}"])


def tiles(hr: Tensor, draws: Sequence[Draw], scale: int, side: int) -> list[Tile]:
    """Return the HR image (3, s·H, s·W), then its draws, all enlarged until a tile is at least `side` pixels wide."""
    zoom = ceil(side / max(hr.shape[1:]))  # of an HR pixel
    shown = [Tile(to_pixels(enlarge(hr, zoom)), "HR", [f"{hr.shape[2]}×{hr.shape[1]} pixels"])]
    for one in draws:
        shown.append(Tile(to_pixels(enlarge(one.lr, zoom * scale)), f"seed {one.seed}", described(one.params)))
    return shown


def sheet_of(hr: Tensor, draws: Sequence[Draw], scale: int, heading: str) -> Figure:
    """Draw a contact sheet: the HR image and its draws, in rows."""
    shown = tiles(hr, draws, scale, TILE)
    columns = ceil(sqrt(1.5 * len(shown)))
    return contact_sheet([shown[i : i + columns] for i in range(0, len(shown), columns)], heading)


def replay_of(hr: Tensor, one: Draw, recipe: Degradation[Any], heading: str) -> Figure:
    """Draw one degraded image, large, beside the kernels that filtered it."""
    filters = [kernel_tile(name, kernel) for name, kernel in kernels(recipe, one.params).items()]
    return contact_sheet([[*tiles(hr, [one], recipe.scale, REPLAYED), *filters]], heading)


# ------------------------------------------------------------------------------------------------------ program


def without_effect(given: Given, sheet: SheetOptions, options: TrainOptions) -> list[str]:
    """Return the flags that were given but have no effect here."""
    here = ["sv_mode", "draw_per"] + ([] if sheet.replay is None else ["draws", "seed"])
    return list(dict.fromkeys([*option.without_effect(given, options), *(name for name in here if name in given)]))


def run(given: Given, sheet: SheetOptions, options: TrainOptions) -> None:
    """Draw and write. Raise ValueError or OSError that names the argument to mend."""
    check_picture("--out", sheet.out, PICTURES)
    if sheet.out.resolve() == sheet.image.resolve():
        raise ValueError(f"--out {sheet.out} is the photograph itself")
    recipe = recipe_of(options)
    hr = middle(sheet.image, sheet.crop, recipe)
    told = [f"--{name} {plain(value)}" for name, value in given.items() if name not in ("image", "out")]
    heading = f"{sheet.image.name}, {options.degradation.degradation} ×{sheet.scale}  {' '.join(told)}"
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
    print_any_name()
    with one_line("preview_degradation.py", {name: f"--{name}" for name in flags_of(PreviewOptions)}):
        given, sheet, options = options_of(sys.argv[1:] if argv is None else argv)
        for name in without_effect(given, sheet, options):
            print(f"note: --{name} has no effect here")
        run(given, sheet, options)


if __name__ == "__main__":
    main()
