"""The pixel loss in EDSR's form."""

from __future__ import annotations

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
    assert torch.equal(PixelLoss()(*images), F.l1_loss(*images))
    assert PixelLoss().name == "l1"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("1*MSE", "mse", lambda d: d.square().mean()),
        ("2*L1", "l1", lambda d: 2 * d.abs().mean()),
        ("1*Charbonnier", "charbonnier", lambda d: (d.square() + 1e-6).sqrt().mean()),
        ("0.5*L1+1e-1*MSE", "pixel", lambda d: 0.5 * d.abs().mean() + 0.1 * d.square().mean()),
    ],
)
def test_sums(text, name, expected, images):
    loss = PixelLoss(text)
    torch.testing.assert_close(loss(*images), expected(images[0] - images[1]))
    assert loss.name == name


@pytest.mark.parametrize("text", ["", "L1", "1*L2", "-1*L1", "1*L1+", "1*L1,MSE", "0*L1", "nan*L1", "1*l1"])
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match=r"`loss` .*: expected a weight, \* and one of L1, MSE, Charbonnier"):
        PixelLoss(text)


def test_every_objective_that_compares_images_takes_it():
    net = build("KDSR_S", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    cdsr = CDSR(scale=2, n_blocks=1)
    teacher = build("KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    lr, hr = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 32, 32)
    for objective, of in (
        (Pixel(loss="1*MSE"), net),
        (Distillation(teacher, loss="1*MSE"), net),
        (Contrast(cdsr, loss="1*MSE", queue=8), cdsr),
        (Adversarial(UNetDiscriminator(n_feats=8), loss="1*MSE"), net),
    ):
        phase = next(objective.phases(of, Batch(lr, hr), 0))  # pyright: ignore[reportArgumentType]
        assert "mse" in phase.losses
        assert "l1" not in phase.losses
    assert SFTMD(loss="1*MSE").pixel.name == "mse"
