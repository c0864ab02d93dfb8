from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from data.degradation import Gaussian, MANet, Params
from runtime.precision import full_precision

MATMUL = torch.backends.cuda.matmul


@pytest.fixture
def reduced() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("reduced")
def test_switches_are_off_inside_and_restored_after():
    seen = []

    @full_precision
    def operation(x: torch.Tensor) -> torch.Tensor:
        seen.append((MATMUL.fp32_precision, torch.is_autocast_enabled("cpu")))
        raise RuntimeError

    outside = MATMUL.fp32_precision
    assert outside not in ("none", "ieee")
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            operation(torch.zeros(1))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [("ieee", False)]
    assert MATMUL.fp32_precision == outside
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("reduced")
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("recipe", [Gaussian, MANet])
def test_recipes_do_not_notice_autocast(recipe, rotated):
    degradation = recipe(scale=4, iso=not rotated, width=(0.2, 4.0))
    hr = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    theta = torch.ones(2) if rotated else None
    params = Params(torch.full((2, 2), 1.5), theta, quality=torch.full((2,), 60.0))
    generator = torch.Generator()
    with torch.autocast("cpu", torch.bfloat16):
        inside = degradation.apply(hr, params, generator=generator)
    torch.set_float32_matmul_precision("highest")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, degradation.apply(hr, params, generator=generator))
