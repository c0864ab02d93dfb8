"""A new recipe is one file and one line in `DEGRADATIONS`: from then on it trains and tests by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from data import factory
from data.degradation import DEGRADATIONS, Params, quantize
from data.degradation.params import check_hr, move_all
from data.draws import Draws
from data.pairs import Pairs
from data.protocol import Protocol
from data.protocol_flags import build_protocol


@dataclass(frozen=True, kw_only=True)
class Box:
    """Averages over blocks of s·s pixels, made brighter by up to `gain` grey levels, drawn for each image.

    Here the class itself is the builder: its fields are the flags.
    """

    scale: int
    gain: float = 0.0
    blocks: int = 1

    @property
    def smallest(self) -> int:
        return self.scale * self.blocks

    def sample(self, batch: int, *, generator: torch.Generator) -> Params:
        return Params(self.gain * torch.rand(batch, 2, generator=generator, dtype=torch.float64))

    def apply(self, hr: Tensor, params: Params, *, generator: torch.Generator) -> Tensor:
        check_hr(hr, self.scale, len(params.width))
        bright = hr + move_all(params, hr.device).width[:, :1, None, None].to(hr.dtype) / 255
        return quantize(torch.nn.functional.avg_pool2d(bright, self.scale)).float()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEGRADATIONS, "box", Box)


@pytest.fixture
def hr() -> Tensor:
    return torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0)).mul(200).round() / 255


def test_it_is_built_from_the_flags_that_it_takes() -> None:
    assert factory.degradation("box", scale=4, gain=7.0, sig_max=3.0, codec="libjpeg") == Box(scale=4, gain=7.0)


def test_it_trains(hr: Tensor) -> None:
    made = Pairs(factory.degradation("box", scale=4, gain=30.0), Draws(seed=1, batch=4, views=2), patch=6)
    patches = (255 * hr[..., :24]).round().byte().expand(8, 3, 24, 24)
    batch = made(patches, 0)
    assert (batch.lr.shape, batch.hr.shape) == ((8, 3, 6, 6), (8, 3, 24, 24))
    assert torch.equal(batch.lr[:4], batch.lr[4:])  # two views, one degradation
    assert not torch.equal(batch.lr[0], batch.lr[1])
    assert torch.equal(Box(scale=4).apply(batch.hr, batch.params, generator=torch.Generator()), batch.lr)


def test_it_is_a_protocol_whose_draws_are_fixed_by_the_seed(hr: Tensor) -> None:
    rule = build_protocol("box", scale=4, gain=30.0, lambda_max=4.0)
    assert str(rule) == "box gain 30.0"
    (case,) = rule.cases
    lr = rule.degrade(hr, case, seed="1/a")
    assert lr.shape == (3, 6, 8)
    assert torch.equal(lr, rule.degrade(hr, case, seed="1/a"))
    assert not torch.equal(lr, rule.degrade(hr, case, seed="1/b"))
    assert not torch.equal(lr, build_protocol("box", scale=4).degrade(hr, case, seed="1/a"))


def test_its_settings_are_part_of_the_definition() -> None:
    def rule(**flags: Any) -> Protocol:
        return build_protocol("box", scale=4, **flags)

    assert rule(gain=30.0).definition["settings"] == {"gain": 30.0}
    assert rule(gain=0.0).digest == rule().digest == rule(sig_max=3.0).digest  # the default, and what it does not take
    assert len({rule().digest, rule(gain=1.0).digest, rule(gain=2.0).digest, rule(gain=1.0, blocks=2).digest}) == 4
    assert rule(blocks=5).smallest == 20


def test_what_it_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="`protocol` box takes no `noise`: leave it out"):
        build_protocol("box", scale=4, noise=15)
    with pytest.raises(ValueError, match="`degradation` box takes no `noise`: leave it out"):
        factory.degradation("box", scale=4, noise=15)


def test_every_recipe_that_is_registered_works_as_a_protocol(hr: Tensor) -> None:
    flags: dict[str, Any] = {"sig_min": 0.2, "sig_max": 2.0, "noise": 0.0}
    hr = hr.repeat(1, 4, 3)
    for name in DEGRADATIONS:
        rule = build_protocol(name, scale=2, **flags)
        lr = rule.degrade(hr, rule.cases[0], seed="1/a")
        assert lr.shape == (3, 48, 48)
        assert torch.equal(quantize(lr), lr)
        if name != "box":
            assert not torch.equal(lr, rule.degrade(hr, rule.cases[0], seed="1/b"))


def test_a_recipe_that_takes_noise_draws_it_as_a_protocol(hr: Tensor) -> None:
    rule = build_protocol("gaussian", scale=2, sig_min=1.0, sig_max=1.0, noise=50)
    plain = build_protocol("gaussian", scale=2, sig_min=1.0, sig_max=1.0)
    assert rule.digest != plain.digest
    assert not torch.equal(*(one.degrade(hr, one.cases[0], seed="1/a") for one in (rule, plain)))
    assert build_protocol("gaussian", scale=2, sig_min=1.0, sig_max=1.0, draw_per="batch").digest == plain.digest


@pytest.mark.parametrize("wrong", [Tensor.double, lambda lr: lr[..., 1:]], ids=["dtype", "size"])
def test_results_of_another_kind_are_told(wrong: Any, hr: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Box.apply
    monkeypatch.setattr(Box, "apply", lambda *args, generator: wrong(right(*args, generator=generator)))
    made = Pairs(factory.degradation("box", scale=4), Draws(seed=1, batch=2, views=1), patch=6)
    told = r"Box.apply: expected to get \(\d, 3, 6, \d\) in float32, got .*quantize"
    with pytest.raises(ValueError, match=told):
        made((255 * hr[..., :24]).round().byte().expand(2, 3, 24, 24), 0)
    rule = build_protocol("box", scale=4)
    with pytest.raises(ValueError, match=told):
        rule.degrade(hr, rule.cases[0], seed="1")
