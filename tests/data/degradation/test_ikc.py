"""IKC's recipe and codes against numbers of the released code, and Pillow's bicubic against Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.degradation import IKC, IKCParams
from data.degradation.blur import blur
from data.degradation.ikc import code_matrix, kernel_code, truncate
from data.degradation.kernel import gaussian_kernel
from data.degradation.params import part, repeat
from data.degradation.resize import pillow_bicubic

NUMBERS = np.load(Path(__file__).parents[2] / "parity" / "ikc.npz")


def number(name: str) -> torch.Tensor:
    return torch.from_numpy(NUMBERS[name])


def drawn(*widths: float) -> IKCParams:
    width = torch.tensor(widths, dtype=torch.float64)[:, None].expand(-1, 2)
    return IKCParams(width, torch.zeros(len(widths), 10))


def assert_same_levels(lr: torch.Tensor, reference: torch.Tensor) -> None:
    """Equal but for one level on at most 0.1 % of the values: truncation hangs on the last bit of the blur."""
    assert lr.shape == reference.shape
    difference = ((lr * 255).round() - reference.float()).abs()
    assert difference.max() <= 1
    assert difference.mean() <= 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_matrix_of_the_codes(scale):
    matrix = code_matrix(scale, (0.2, float(scale)))
    torch.testing.assert_close(matrix, number(f"pca/matrix_x{scale}"), rtol=0, atol=1e-6)
    gram = matrix.double().T @ matrix.double()
    torch.testing.assert_close(gram, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_codes(scale):
    code = kernel_code(drawn(*NUMBERS[f"code/x{scale}_sigmas"].tolist()).width, scale, (0.2, float(scale)))
    torch.testing.assert_close(code, number(f"code/x{scale}"), rtol=0, atol=1e-6)


def test_the_blur_is_cut_down_to_whole_levels():
    hr = number("degrade/hr").float() / 255
    blurred = truncate(blur(hr, gaussian_kernel(torch.tensor([[2.6, 2.6]]), None, 21)))
    assert_same_levels(blurred / 255, number("degrade/blurred_2.6"))


@pytest.mark.parametrize("key", [key for key in NUMBERS if key.startswith("degrade/x")])
def test_lr_images(key):
    scale, width = key.removeprefix("degrade/x").split("_")
    lr = IKC(scale=int(scale)).apply(
        number("degrade/hr").float() / 255, drawn(float(width)), generator=torch.Generator()
    )
    assert_same_levels(lr, number(key))


def test_each_image_has_its_own_kernel_and_code():
    params = drawn(*NUMBERS["degrade/batch_sigmas"].tolist())
    recipe = IKC(scale=4)
    lr = recipe.apply(number("degrade/batch_hr").float() / 255, params, generator=torch.Generator())
    assert_same_levels(lr, number("degrade/batch_lr"))
    code = kernel_code(params.width, 4, recipe.width)
    torch.testing.assert_close(code, number("degrade/batch_code"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_draws(scale, assert_uniform):
    recipe = IKC(scale=scale)
    params = recipe.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert_uniform(params.width[:, 0], 0.2, float(scale))
    assert torch.equal(params.width[:, 0], params.width[:, 1])
    assert torch.equal(params.code, kernel_code(params.width, scale, recipe.width))
    assert IKC(scale=scale, sig_min=1.0, sig_max=1.5).width == (1.0, 1.5)


def test_params_are_repeated_and_cut():
    params = IKC(scale=2).sample(3, generator=torch.Generator().manual_seed(0))
    twice = repeat(params, 2)
    assert torch.equal(twice.code[3:], params.code)
    assert torch.equal(part(twice, 1, 4).width, torch.cat((params.width[1:], params.width[:1])))


def test_a_range_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="`sig_min` 3 is more than `sig_max` 2"):
        IKC(scale=2, sig_min=3.0)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("side", [(1, 1), (1, 7), (5, 5), (9, 8), (12, 40)])  # Pillow turns taller images' passes round
@pytest.mark.parametrize("extreme", [False, True])
def test_pillows_bicubic_is_pillows(scale, side, extreme):
    random = np.random.default_rng(scale)
    shape = (scale * side[0], scale * side[1])
    levels = 255 * random.integers(0, 2, shape) if extreme else random.integers(0, 256, shape)
    expected = Image.fromarray(levels.astype(np.uint8)).resize(side[::-1], Image.Resampling.BICUBIC)
    found = pillow_bicubic(torch.from_numpy(levels)[None, None], scale)
    assert torch.equal(found[0, 0], torch.from_numpy(np.asarray(expected).astype(np.float64)))
