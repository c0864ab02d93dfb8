"""Resizing by rows is resizing at once, by the bicubic of the degradations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.degradation.resize import bicubic
from data.resize_rows import ResizedRows, Resizer

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 21, 28


@pytest.mark.parametrize("to", [(13, 17), (42, 56), (30, 9), (1, 1)])
def test_resizing_by_rows_is_resizing_at_once(to: tuple[int, int]) -> None:
    image, rows = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), []
    at_once = Resizer((HEIGHT, WIDTH), to).resize(image, 0, to[0])
    stream = ResizedRows((HEIGHT, WIDTH), to, rows.append)
    for top in range(0, HEIGHT, 4):
        stream.write(image[top : top + 4])
    np.testing.assert_array_equal(np.concatenate(rows), at_once)


def test_resizing_is_the_bicubic_of_the_degradations() -> None:
    image = RNG.integers(0, 256, (24, 32, 3), np.uint8)
    expected = bicubic(torch.from_numpy(image).double().permute(2, 0, 1)[None], 0.5)[0].permute(1, 2, 0)
    found = Resizer((24, 32), (12, 16)).resize(image, 0, 12)
    assert np.abs(found - expected.clamp(0, 255).numpy()).max() < 0.51
