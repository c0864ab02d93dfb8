"""The sheet shows what the recipe makes of the image, tells its parameters truly, and can be drawn again."""

from __future__ import annotations

import dataclasses
import re
from math import degrees, pi, radians
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import FigureImage
from torch import Tensor

import option
from data.degradation import IKC, Gaussian, MANet, Params, SecondOrder, SecondOrderParams, quantize
from data.degradation.blur import blur
from data.degradation.ikc import truncate
from data.degradation.resize import pillow_bicubic
from data.degradation.second_order_params import FAMILIES, KernelParams, PassParams
from data.images import read_image, write_image
from data.testset import to_pixels
from main import NAMES
from scripts.drawing import Tile, contact_sheet, enlarge
from scripts.parameters import described, kernels, leaves, readable, table
from scripts.preview_degradation import draw, main, middle, options_of, recipe_of, sheet_of

PLAIN = Gaussian(scale=4, iso=True, width=(0, 0))
ANISO = "--blur_type aniso_gaussian --noise 25 --jpeg_low 30"


@pytest.fixture
def image(tmp_path: Path, photo: np.ndarray) -> Path:
    path = tmp_path / "astronaut.png"
    write_image(path, np.ascontiguousarray(photo[:97, 100:213]))
    return path


def drawn(image: Path, text: str) -> np.ndarray:
    """The picture that a command line makes."""
    out = image.parent / "out" / "sheet.png"
    main([str(image), "--out", str(out), *text.split()])
    return read_image(out)


def rendered(figure: Figure) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """The picture, and the rows and columns of it that each tile has."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    places = []
    for shown in figure.images:
        assert isinstance(shown, FigureImage)
        height, width = np.asarray(shown.get_array()).shape[:2]
        left, bottom = int(shown.ox), picture.shape[0] - int(shown.oy)
        places.append((slice(bottom - height, bottom), slice(left, left + width)))
    return picture, places


def holds(picture: np.ndarray, tile: np.ndarray) -> bool:
    """Return True if the tile is somewhere in the picture, pixel for pixel."""
    height, width = tile.shape[:2]
    starts = np.argwhere((picture[: 1 - height, : 1 - width] == tile[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + height, x : x + width], tile) for y, x in starts)


def degraded(image: Path, text: str, crop: int, seed: int) -> Tensor:
    """(3, H, W): the draw of one seed, made without the script's own `draw`."""
    recipe = recipe_of(options_of([str(image), "--out", "o.png", *text.split()])[2])
    generator = torch.Generator().manual_seed(seed)
    hr = middle(image, crop, recipe)[None]
    return recipe.apply(hr, recipe.sample(1, generator=generator), generator=generator)[0]


# ----------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    "text", ["", f"--scale 2 {ANISO}", "--scale 3 --model CDSR --noise 15", "--degradation second_order"]
)
def test_a_sheet_holds_the_image_and_every_draw(image, text):
    picture = drawn(image, f"--draws 3 --seed 5 --crop 20 {text}")
    scale = options_of([str(image), "--out", "o.png", *text.split()])[1].scale
    zoom = -(-256 // (20 * scale))
    assert holds(picture, to_pixels(enlarge(middle(image, 20, dataclasses.replace(PLAIN, scale=scale)), zoom)))
    tiles = [to_pixels(enlarge(degraded(image, text, 20, seed), zoom * scale)) for seed in (5, 6, 7, 8)]
    assert [holds(picture, tile) for tile in tiles] == [True, True, True, False]


def test_a_replayed_draw_is_that_of_any_sheet(image):
    small = to_pixels(enlarge(degraded(image, ANISO, 20, 6), 16))
    assert holds(drawn(image, f"--draws 2 --seed 6 --crop 20 {ANISO}"), small)
    assert holds(drawn(image, f"--draws 7 --seed 1 --crop 20 {ANISO}"), small)
    large = to_pixels(enlarge(degraded(image, ANISO, 20, 6), 28))
    assert holds(drawn(image, f"--replay 6 --crop 20 {ANISO}"), large)


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize(("height", "width"), [(40, 77), (91, 50), (1, 301)])
def test_tiles_and_their_texts_are_kept_apart(count, height, width):
    tile = Tile(np.zeros((height, width, 3), np.uint8), "seed", ["a, bc, " * 12, "long" * 30])
    figure = contact_sheet([[tile] * 3, [tile] * count], "heading " * 40)
    picture, places = rendered(figure)
    taken = np.zeros(picture.shape[:2], int)
    for place in places:
        assert picture[place].shape == tile.pixels.shape
        assert not picture[place].any()
        taken[place] += 1
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= picture.shape[1]
        assert 0 <= box.y0 < box.y1 <= picture.shape[0]
        taken[int(picture.shape[0] - box.y1) : int(picture.shape[0] - box.y0), int(box.x0) : int(box.x1)] += 1
    assert taken.max() == 1
    assert len(places) == 3 + count


def test_the_middle_of_the_image_is_shown(image):
    whole = torch.from_numpy(read_image(image)).permute(2, 0, 1) / 255  # 97×113
    assert torch.equal(middle(image, 10, PLAIN), whole[:, 28:68, 36:76])
    assert torch.equal(middle(image, 64, PLAIN), whole[:, :96, :112])
    with pytest.raises(ValueError, match="--crop is 18: 19 LR pixels a side, 76 HR ones"):
        middle(image, 18, SecondOrder(scale=4))


@pytest.mark.parametrize("iso", [True, False])
def test_the_kernel_shown_is_the_one_that_blurred(image, iso):
    manet = MANet(scale=3, iso=iso, width=(0.5, 3))
    hr = middle(image, 16, manet).double()
    one = draw(manet, hr, 3)
    kernel = kernels(manet, one.params)["blur"][None]
    assert torch.equal(one.lr, quantize(blur(hr[None], kernel, padding="replicate", stride=3))[0].float())
    gaussian = Gaussian(scale=3, iso=iso, width=(0.5, 3), sampling="s-fold")
    one = draw(gaussian, hr, 3)
    kernel = kernels(gaussian, one.params)["blur"][None]
    assert torch.equal(one.lr, quantize(blur(hr[None], kernel, stride=3))[0].float())
    ikc = IKC(scale=3)
    one = draw(ikc, hr, 3)
    kernel = kernels(ikc, one.params)["blur"][None]
    assert torch.equal(one.lr, (pillow_bicubic(truncate(blur(hr[None], kernel)), 3)[0] / 255).float())


# --------------------------------------------------------------------------------------------------- parameters


class Step(NamedTuple):
    strength: Tensor
    mode: str
    nothing: Tensor | None


class Nested(NamedTuple):
    first: Step
    quality: Tensor
    order: int


def test_parameters_of_any_recipe_are_told():
    params = Params(torch.tensor([[2.314, 0.8]]), torch.tensor([radians(37)]), torch.tensor([12.34 / 255]))
    assert described(params) == ["σ 2.31 × 0.80, θ 37°, noise 12.3"]
    assert described(Params(torch.tensor([[2.3, 2.3]]), quality=torch.tensor([57.2]))) == ["σ 2.30, JPEG 57"]
    nested = Nested(Step(torch.tensor([0.51239]), "area", None), torch.tensor([30.0]), 2)
    assert described(nested) == ["first: strength 0.51239, area", "JPEG 30, order 2"]
    rows = [line.split() for line in table(nested).splitlines()]
    assert [row[:2] for row in rows] == [
        ["first.strength", "0.51239"],
        ["first.mode", "area"],
        ["quality", "30"],
        ["order", "2"],
    ]


def kernel(family: str, width: tuple[float, float], **others: float) -> KernelParams:
    numbers = {"theta": 0.0, "beta": 1.0, "cutoff": 1.0, **others}
    tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in numbers.items()}
    return KernelParams(
        torch.tensor([FAMILIES.index(family)]), torch.tensor([width]), size=torch.tensor([13]), **tensors
    )


def test_a_second_order_draw_in_short():
    first = PassParams(
        applied=True,
        blurred=True,
        kernel=kernel("generalised aniso", (2.0, 0.5), theta=-pi / 2, beta=0.7, cutoff=2.0),
        factor=0.432,
        mode="area",
        poisson=False,
        noisy=True,
        noise=torch.tensor([10 / 255]),
        grey=torch.tensor([True]),
        compressed=True,
        quality=torch.tensor([57.0]),
    )
    second = first._replace(blurred=False, poisson=True, noise=torch.tensor([2.0]), grey=torch.tensor([False]))
    params = SecondOrderParams(first, second, kernel("sinc", (0.0, 0.0), cutoff=pi / 2), "bicubic", True)
    assert described(params) == [
        "first kernel: generalised aniso, σ 2.00 × 0.50, θ -90°, β 0.70, 13×13",
        "first: ×0.43, area, noise 10.0, grey, JPEG 57",
        "second kernel: none",
        "second: ×0.43, area, Poisson 2.00, JPEG 57",
        "last filter: sinc, cutoff 0.50π, 13×13",
        "last resize bicubic, JPEG after it",
    ]
    assert described(params._replace(last_filter=kernel("iso", (0.0, 0.0))))[4] == "last filter: none"
    assert list(kernels(SecondOrder(scale=4), params)) == ["first blur", "last filter"]


def changed(params: Any, silent: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> Any:
    """The named tuple with another value in every number that is silent; the identity stays the identity."""

    def other(name: str, field: Any) -> Any:
        if isinstance(field, tuple):
            return changed(field, silent, (*path, name))
        numbers = isinstance(field, Tensor) and field.is_floating_point() and bool((field != 0).any())
        return field + 0.37 if numbers and (*path, name) in silent else field

    return type(params)(**{name: other(name, field) for name, field in params._asdict().items()})


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("realesrgan", {"width", "theta", "beta", "cutoff"}),
        ("light", {"width", "theta", "beta", "cutoff", "noise", "quality"}),
        ("none-jpeg", {"width", "theta", "beta", "cutoff", "quality"}),
    ],
)
def test_what_a_label_leaves_out_has_no_effect(image, name, left_out):
    recipe = SecondOrder.from_flags(scale=2, recipe=name)
    hr = middle(image, 40, recipe)[None]
    found: set[str] = set()
    for seed in range(30):
        params = recipe.sample(1, generator=torch.Generator().manual_seed(seed))
        silent = {leaf.path for leaf in leaves(params) if not readable(leaf)}
        others = changed(params, silent)
        found |= {one.path[-1] for one, other in zip(leaves(params), leaves(others), strict=True) if one[1] != other[1]}
        same = [recipe.apply(hr, each, generator=torch.Generator().manual_seed(0)) for each in (params, others)]
        assert torch.equal(*same), described(params)
    assert found == left_out


def test_each_label_tells_what_was_done_above_it(image):
    options = options_of([str(image), "--out", "o.png", *ANISO.split()])[2]
    recipe = recipe_of(options)
    hr = middle(image, 20, recipe)
    draws = [draw(recipe, hr, seed) for seed in range(4)]
    figure = sheet_of(hr, draws, 4, "heading")
    picture, places = rendered(figure)
    texts = [text.get_text() for text in figure.texts]
    starts = [texts.index(f"seed {seed}") for seed in range(4)]
    for seed, (start, stop) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        above = places[1 + seed]
        assert np.array_equal(picture[above], to_pixels(enlarge(draws[seed].lr, 16)))
        box = figure.texts[start].get_window_extent()
        assert box.x0 == pytest.approx(above[1].start, abs=2)
        assert 0 < picture.shape[0] - box.y1 - above[0].stop < 10
        found = [float(number) for number in re.findall(r"[\d.]+", " ".join(texts[start + 1 : stop]))]
        width, theta, noise, quality = (field[0] for field in draws[seed].params)
        expected = [*width.tolist(), degrees(theta), 255 * noise.item(), quality.item()]
        np.testing.assert_array_less(np.abs(np.subtract(found, expected)), [0.006, 0.006, 0.51, 0.051, 0.51])


def test_replay_prints_the_parameters_of_its_seed(image, capsys):
    drawn(image, f"--replay 6 --crop 20 {ANISO}")
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    recipe = recipe_of(options_of([str(image), "--out", "o.png", *ANISO.split()])[2])
    params = recipe.sample(1, generator=torch.Generator().manual_seed(6))
    assert lines["seed"] == ["seed", "6"]
    assert [float(number) for number in lines["width"][1:3]] == pytest.approx(params.width[0].tolist(), rel=1e-5)
    for name in ("theta", "noise", "quality"):
        assert float(lines[name][1]) == pytest.approx(getattr(params, name).item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize("model", ["KDSR_T", "KDSR_S", "CDSR", "DASR", "RRDB"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "--scale 2 --sig_max 1.5",
        ANISO,
        "--degradation manet --draw_per image",
        "--degradation second_order",
        "--degradation ikc --sig_max 2",
    ],
)
def test_the_recipe_is_that_of_training(model, text):
    words = ["--model", model, *text.split()]
    trained = option.train_options(["--save", "run", "--objective", "pixel", *words], NAMES)[1]
    assert recipe_of(options_of(["photo.png", "--out", "o.png", *words])[2]) == recipe_of(trained)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.png --out o.png", "missing.png cannot be read as an image"),
        ("notes.txt --out o.png", "notes.txt cannot be read as an image"),
        ("IMAGE --out IMAGE", "is the photograph itself"),
        ("IMAGE --out o.txt", "--out o.txt: expected a name that ends in .png"),
        ("IMAGE --out notes.txt/o.png", "notes.txt is a file, and no folder"),
        ("IMAGE --out o.png --draws x", "invalid int value: 'x'"),
        ("IMAGE --out o.png --crop 2", "--crop is 2: 3 LR pixels a side, 12 HR ones"),
        ("tiny.png --out o.png", "tiny.png has 30×9 pixels"),
        ("IMAGE --out o.png --sig_min 3 --sig_max 1", "--sig_min 3 is more than --sig_max 1"),
        ("IMAGE --out o.png --model CDSR --sample_mode s-fold", "--sample_mode s-fold"),
        ("IMAGE", "--out must be given"),
        ("--out o.png", "--image must be given"),
        ("IMAGE --out o.png --replay 3 --degradation motion", "invalid choice: 'motion'"),
        ("IMAGE --out o.png --replay -1", "--replay -1 must be 0 at least"),
        ("IMAGE --out o.png --draws 0", "--draws 0 must be in 1..500"),
        ("IMAGE --out o.png --reply 3", "did you mean --replay"),
    ],
)
def test_what_cannot_be_done_is_said(text, message, image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no image")
    write_image("tiny.png", np.zeros((9, 30, 3), np.uint8))
    with pytest.raises(SystemExit) as caught:
        main([str(image) if word == "IMAGE" else word for word in text.split()])
    assert message in f"{caught.value}{capsys.readouterr().err}"
    assert not Path("o.png").exists()


def test_flags_without_effect_are_named(image, capsys):
    drawn(image, "--crop 10 --replay 3 --draws 5 --sv_mode 2 --lambda_max 3")
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert [note.split()[1] for note in notes] == ["--lambda_max", "--sv_mode", "--draws"]
