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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, degrees
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
from data.degradation import Gaussian, MANet
from data.degradation.kernel import gaussian_kernel, manet_kernel
from data.images import read_image
from model import NETWORKS
from option import DEFAULT_SCALE, Degradation, TrainingDegradation, TrainOptions
from resolve import idle, resolve
from scripts.drawing import Tile, contact_sheet, enlarge, widths
from scripts.make_testset import pixels_of
from utility import whole

PICTURES = (".png", ".jpg", ".webp")
TILE, REPLAYED = 256, 512  # least side of a tile, pixels; in a sheet, and of a draw alone


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


# --------------------------------------------------------------------------------------------------- parameters


class Leaf(NamedTuple):
    """One parameter of one draw."""

    path: tuple[str, ...]  # the names of the fields that lead to it
    value: Any  # a number, a list of numbers, a word


def leaves(params: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The parameters of a batch of one, from NamedTuples of tensors (1, ...) and plain values; None is left out."""
    if hasattr(params, "_fields"):
        for name, value in zip(params._fields, params, strict=True):
            yield from leaves(value, (*path, name))
    elif isinstance(params, Tensor):
        yield Leaf(path, params[0].tolist())
    elif params is not None:
        yield Leaf(path, params)


READABLE: dict[str, Callable[[Any], str]] = {  # by the name of the field, in the unit that people think in
    "width": lambda width: widths(*width),
    "theta": lambda theta: f"θ {degrees(theta):.0f}°",
    "noise": lambda noise: f"noise {255 * noise:.1f}",
    "quality": lambda quality: f"JPEG {quality:.0f}",
}


def readable(leaf: Leaf) -> str:
    """`σ 2.31 × 0.84`, `θ 37°`, `noise 12.3` (grey levels), `JPEG 57`; others by their names."""
    name, value = leaf.path[-1], leaf.value
    if name in READABLE:
        return READABLE[name](value)
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"


def plain(value: Any) -> str:
    """A value as digits or as a word, without what Python writes around it."""
    if isinstance(value, list):
        return " ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def described(params: Any) -> list[str]:
    """The parameters in short, a line for each of the steps that the recipe groups them by."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for leaf in leaves(params):
        lines.setdefault(leaf.path[:-1], []).append(readable(leaf))
    return [" ".join([*path, ", ".join(parts)]) for path, parts in lines.items()]


def table(params: Any) -> str:
    """All parameters, one a line: the field, its exact value as the recipe has it, and the readable form."""
    return "\n".join(f"{'.'.join(leaf.path):<20}{plain(leaf.value):<24}{readable(leaf)}" for leaf in leaves(params))


def kernels(recipe: Recipe, params: Any) -> dict[str, Tensor]:
    """The (k, k) blur kernels of a batch of one, by name."""
    if isinstance(recipe, MANet):
        return {"kernel": manet_kernel(params.width, params.theta, recipe.size, recipe.scale)[0]}
    if isinstance(recipe, Gaussian):
        return {"kernel": gaussian_kernel(params.width, params.theta, recipe.size)[0]}
    return {}


# ----------------------------------------------------------------------------------------------------- pictures


class Draw(NamedTuple):
    """What one seed does to the image."""

    seed: int
    params: Any
    lr: Tensor  # (3, H, W), 8-bit levels / 255


def draw(recipe: Recipe, hr: Tensor, seed: int) -> Draw:
    """Degrade (3, s·H, s·W) by the draw of `seed`. Parameters and noise come from one generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    params = recipe.sample(1, generator=generator)
    return Draw(seed, params, recipe.apply(hr[None], params, generator=generator)[0])


def middle(path: Path, crop: int, scale: int) -> Tensor:
    """`crop` LR pixels a side of the middle of the image, or what there is: (3, s·H, s·W) in [0, 1].

    Raises BadImage for a file that is no image, ValueError where too little is left to be blurred.
    """
    pixels = read_image(path)
    sides = [scale * min(crop, side // scale) for side in pixels.shape[:2]]
    least = build.SMALLEST_BLURRED // scale + 1
    if min(sides) < scale * least:
        raise ValueError(
            f"{path} has {pixels.shape[1]}×{pixels.shape[0]} pixels, --crop is {crop}: "
            f"{least} LR pixels a side, {scale * least} HR ones, are the least that can be blurred at x{scale}"
        )
    top, left = ((side - shown) // 2 for side, shown in zip(pixels.shape[:2], sides, strict=True))
    cut = pixels[top : top + sides[0], left : left + sides[1]]
    return torch.from_numpy(cut.copy()).permute(2, 0, 1).float() / 255


def kernel_tile(name: str, kernel: Tensor, side: int) -> Tile:
    """A kernel as large as `side` allows: red is positive, blue negative, white 0, each as deep as its share."""
    shades = matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * (kernel / kernel.abs().max()).numpy(), bytes=True)
    pixels = enlarge(torch.from_numpy(shades[..., :3].copy()).permute(2, 0, 1), max(1, side // len(kernel)))
    size = f"{len(kernel)}×{len(kernel)} pixels"
    return Tile(pixels.permute(1, 2, 0).numpy(), name, [f"{size}, peak {kernel.max():.3f}"])


def preview(recipe: Recipe, hr: Tensor, draws: Sequence[Draw], heading: str, *, side: int) -> Figure:
    """The HR image (3, s·H, s·W), then its draws, each pixel enlarged until a tile has `side` pixels."""
    zoom = ceil(side / max(hr.shape[1:]))  # of an HR pixel
    height, width = (length // recipe.scale for length in hr.shape[1:])
    tiles = [Tile(pixels_of(enlarge(hr, zoom)), "HR", [f"{recipe.scale * width}×{recipe.scale * height} pixels"])]
    for one in draws:
        enlarged = pixels_of(enlarge(one.lr, zoom * recipe.scale))
        tiles.append(Tile(enlarged, f"seed {one.seed}", described(one.params)))
    if len(draws) == 1:
        shown = kernels(recipe, draws[0].params)
        tiles += [kernel_tile(name, kernel, max(tiles[0].pixels.shape)) for name, kernel in shown.items()]
    return contact_sheet(tiles, heading)


# ------------------------------------------------------------------------------------------------------ program


def without_effect(given: Given, sheet: Sheet, options: TrainOptions) -> list[str]:
    """The flags that were given though nothing here depends on them."""
    here = ["sv_mode", "draw_per"] + ([] if sheet.replay is None else ["draws", "seed"])
    return idle(given, options) + [f"--{name}" for name in here if name in given]


def run(given: Given, sheet: Sheet, options: TrainOptions) -> None:
    if sheet.out.suffix.lower() not in PICTURES:
        raise ValueError(f"--out {sheet.out}: expected a name that ends in {', '.join(PICTURES)}")
    recipe = build.recipe(options)
    hr = middle(sheet.image, sheet.crop, sheet.scale)
    seeds = range(sheet.seed, sheet.seed + sheet.draws) if sheet.replay is None else [sheet.replay]
    draws = [draw(recipe, hr, seed) for seed in seeds]
    said = [f"--{name} {plain(value)}" for name, value in given.items() if name not in ("image", "out")]
    heading = f"{sheet.image.name}, {options.degradation.degradation} ×{sheet.scale}  {' '.join(said)}"
    figure = preview(recipe, hr, draws, heading, side=TILE if sheet.replay is None else REPLAYED)
    sheet.out.parent.mkdir(parents=True, exist_ok=True)
    with whole(sheet.out) as temporary:
        figure.savefig(temporary, format=sheet.out.suffix[1:].lower())
    if sheet.replay is not None:
        print(f"seed {sheet.replay}\n{table(draws[0].params)}")
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
