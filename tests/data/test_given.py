"""Given pairs: their sizes, and how far their images lie from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.degradation import Gaussian, SecondOrder
from data.given import MAX_SHIFT, Shift, shift, shifted, shifts, wrong_size
from data.images import write_image
from data.store import ImageFolder

RECIPES = {
    "blur": Gaussian(scale=4, iso=True, width=(3.0, 3.0)),
    "noise": Gaussian(scale=4, iso=True, width=(1.0, 1.0), noise=0.1),
    "JPEG": Gaussian(scale=4, iso=True, width=(1.0, 1.0), quality=30.0),
    "second_order": SecondOrder(scale=4),
}


def lr_of(hr: np.ndarray, recipe: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    x = torch.from_numpy(np.ascontiguousarray(hr)).permute(2, 0, 1)[None].float() / 255
    degradation = RECIPES[recipe]
    lr = degradation.apply(x, degradation.sample(1, generator=generator), generator=generator)
    return (255 * lr[0]).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("down", "right"), [(0, 0), (4, 0), (0, -6), (-13, 22)])
def test_the_shift_of_a_degraded_image_is_found(recipe: str, down: int, right: int, photo: np.ndarray) -> None:
    """In HR pixels of four to an LR pixel; the image that was shifted shows what lies the other way."""
    hr = photo[40:440, 40:440]
    lr = lr_of(photo[40 - down : 440 - down, 40 - right : 440 - right], recipe)
    small = hr.reshape(100, 4, 100, 4, 3).mean((1, 3)).astype(np.uint8)
    within = 0.45 if recipe == "second_order" else 0.15
    assert shift(lr, small) == (pytest.approx(down / 4, abs=within), pytest.approx(right / 4, abs=within))


def test_an_image_of_one_colour_has_no_shift(photo: np.ndarray) -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert shift(flat, photo[:64, :64]) == (0, 0)
    assert shift(photo[:1, :1], photo[:1, :1]) == (0, 0)


@pytest.mark.parametrize("sample", [None, 3, 100])
def test_shifted_pairs_are_named_worst_first(sample: int | None, photo: np.ndarray, tmp_path: Path) -> None:
    moved = {1: 8, 4: 12, 5: 1}  # HR pixels
    for i in range(6):
        top = 30 * i
        write_image(tmp_path / f"{i}_HR.png", np.ascontiguousarray(photo[top : top + 256, 100:356]))
        top -= moved.get(i, 0)
        write_image(tmp_path / f"{i}_LR.png", lr_of(photo[top : top + 256, 100:356], "blur"))
    stores = [
        ImageFolder([tmp_path / f"{i}_{kind}.png" for i in range(6)], [(side, side)] * 6)
        for kind, side in (("LR", 64), ("HR", 256))
    ]
    found = shifts(*stores, scale=4, sample=sample)
    assert [one.index for one in found] == ([4] if sample == 3 else [4, 1])  # the third of a sample is the fifth image
    assert all(one.length > MAX_SHIFT for one in found)
    assert found[0].down == pytest.approx(3, abs=0.1)
    assert shifted(found, stores[0].names).startswith("4_LR.png (3.0 pixels: 3.0 down, ")


def test_the_worst_of_many_are_listed() -> None:
    text = shifted([Shift(i, 0, 9 - i) for i in range(7)], [f"{i}.png" for i in range(7)])
    assert text.startswith("0.png (9.0 pixels: 0.0 down, 9.0 right), 1.png (8.0")
    assert text.endswith(" and 2 more")


@pytest.mark.parametrize(
    ("lr", "hr", "words"),
    [
        ((10, 12), (40, 48), None),
        ((10, 12), (43, 50), None),
        ((10, 12), (44, 50), "b is 44 x 50 pixels (height x width), not 4 times the 10 x 12 of a"),
        ((10, 12), (40, 47), "b is 40 x 47 pixels (height x width), not 4 times the 10 x 12 of a"),
        ((10, 12), (48, 40), "b is 48 x 40 pixels (height x width), not 4 times the 10 x 12 of a"),
        ((40, 48), (40, 48), "4 times the 40 x 48 of a; the LR image has been enlarged already, shrink it"),
    ],
)
def test_sizes(lr: tuple[int, int], hr: tuple[int, int], words: str | None) -> None:
    error = wrong_size("a", lr, "b", hr, 4)
    assert (error is None) == (words is None)
    assert words is None or words in str(error)
