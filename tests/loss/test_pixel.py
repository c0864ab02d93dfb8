"""The pixel loss in EDSR's form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from data.pairs import Batch
from loss import SFTMD, Adversarial, Contrast, Distillation, Pixel
from loss.pixel import PixelLoss
from model import CDSR, build
from model.discriminator import UNetDiscriminator


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 8, 8, generator=generator)


def test_the_default_is_l1_to_the_bit(images):
    found = PixelLoss()(*images)
    assert torch.equal(found.total, F.l1_loss(*images))
    assert [*found.parts] == ["l1"]
    assert found.parts["l1"] is found.total  # nothing is computed twice


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("1*MSE", {"mse": 1}),
        ("2*L1", {"l1": 2}),
        ("1*Charbonnier", {"charbonnier": 1}),
        ("0.5*L1+1e-1*MSE", {"l1": 0.5, "mse": 0.1}),
        ("1e+2*L1+.5*MSE+1E-2*Charbonnier", {"l1": 100, "mse": 0.5, "charbonnier": 0.01}),
    ],
)
@pytest.mark.parametrize("factor", [1, 255])
def test_sums_and_their_parts(text, weights, factor, images):
    d = images[0] - images[1]
    parts = {"l1": d.abs().mean(), "mse": d.square().mean(), "charbonnier": (d.square() + 1e-6).sqrt().mean()}
    found = PixelLoss(text, factor)(*images)
    torch.testing.assert_close(found.parts, {name: factor * parts[name] for name in weights})
    torch.testing.assert_close(found.total, sum(factor * weight * parts[name] for name, weight in weights.items()))


def test_sr_images_of_lower_precision_are_compared_in_float32(images):
    sr, hr = images[0].bfloat16(), images[1]
    assert torch.equal(PixelLoss()(sr, hr).total, F.l1_loss(sr.float(), hr))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "L1",
        "1*L2",
        "-1*L1",
        "1*L1+",
        "1*L1,MSE",
        "0*L1",
        "nan*L1",
        "1*l1",
        "1*L1+1*L1",
        ".*L1",
        "1e*L1",
        "1*L1*MSE",
    ],
)
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match=r"`loss` .*: expected a weight, \* and one of L1, MSE, Charbonnier"):
        PixelLoss(text)


def test_every_objective_that_compares_images_takes_it():
    text = "1*MSE+0.5*Charbonnier"
    net = build("KDSR_S", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    cdsr = CDSR(scale=2, n_blocks=1)
    teacher = build("KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    lr, hr = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 32, 32)
    for objective, of in (
        (Pixel(loss=text), net),
        (Distillation(teacher, loss=text), net),
        (Contrast(cdsr, loss=text, queue=8), cdsr),
        (Adversarial(UNetDiscriminator(n_feats=8), loss=text), net),
        (SFTMD(loss=text), build("IKC", scale=2, n_feats=8, n_blocks=1)),
    ):
        params = SimpleNamespace(code=torch.rand(4, 10))
        phase = next(objective.phases(of, Batch(lr, hr, params), 0))  # pyright: ignore[reportArgumentType]
        assert {"mse", "charbonnier"} <= phase.losses.keys()
        assert not {"l1", "pixel"} & phase.losses.keys()
