from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.degradation.resize import bicubic, bicubic_matrix

KDSR = np.load(Path(__file__).parents[2] / "parity" / "degradation_kdsr.npz")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_down_parity(scale):
    hr = torch.from_numpy(KDSR["hr"]).float() / 255
    reference = torch.from_numpy(KDSR[f"bicubic_down/x{scale}"])
    torch.testing.assert_close(bicubic(hr, Fraction(1, scale)), reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
def test_up_parity(scale):
    lr = torch.from_numpy(KDSR["bicubic_down/x4"])
    torch.testing.assert_close(bicubic(lr, scale), torch.from_numpy(KDSR[f"bicubic_up/x{scale}"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4, 1 / 2, 1 / 3, 1 / 4, 0.7, 1.3])
def test_constant_stays(scale):
    matrix = bicubic_matrix(60, scale, device=torch.device("cpu"), dtype=torch.float64)
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))


@pytest.mark.parametrize("scale", [2, 3, 4, 1 / 2, 1 / 3, 1 / 4, 1.3])
def test_ramp_stays_inside(scale):
    """Keys' cubic reproduces lines, when it is not widened or by a whole number."""
    matrix = bicubic_matrix(60, scale, device=torch.device("cpu"), dtype=torch.float64)
    expected = (torch.arange(len(matrix), dtype=torch.float64) + 0.5) / scale - 0.5
    inside = (expected > 9) & (expected < 50)
    assert inside.sum() > 5
    ramp = torch.arange(60, dtype=torch.float64)
    torch.testing.assert_close((matrix @ ramp)[inside], expected[inside])


@pytest.mark.parametrize("scale", [2, 1 / 2, 1 / 4, 0.7, 0.3, 1.3])
def test_equals_pillow_inside(scale):
    """Pillow's bicubic has the same kernel and another rule at the edges."""
    x = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    ours = bicubic(x, scale)[0, 0]
    side = len(ours)
    pillow = Image.fromarray(x[0, 0].numpy()).resize((side, side), Image.Resampling.BICUBIC)
    edge = slice(side // 5, -(side // 5))
    torch.testing.assert_close(ours[edge, edge], torch.from_numpy(np.array(pillow))[edge, edge], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [3, 30, 48, 99, 2040])
def test_float_thirds_give_exact_sizes(length):
    matrix = bicubic_matrix(length, 1 / 3, device=torch.device("cpu"), dtype=torch.float32)
    assert matrix.shape == (length // 3, length)
    assert torch.equal(matrix, bicubic_matrix(length, Fraction(1, 3), device=matrix.device, dtype=matrix.dtype))


def test_sides_are_resized_apart():
    x = torch.rand(2, 1, 12, 20, generator=torch.Generator().manual_seed(0))
    assert bicubic(x, 0.5).shape == (2, 1, 6, 10)
    torch.testing.assert_close(bicubic(x.mT, 0.5), bicubic(x, 0.5).mT)


def test_scale_one_is_the_identity():
    x = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bicubic(x, 1), x)
