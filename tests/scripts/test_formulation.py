"""The baseline of the benchmark computes what ours does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import model
from data.degradation import Gaussian, MANet, SecondOrder, sharpen
from data.sampler import Crop
from evaluation import metric
from scripts import formulation


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 96, 128, generator=rng()).mul(255).round() / 255


def test_blurs_give_the_same_images(images):
    recipes = [Gaussian(scale=4, iso=iso, width=(0.2, 4.0)) for iso in (True, False)]
    for recipe in (*recipes, MANet(scale=4, iso=False, width=(0.9, 3.0))):
        drawn = recipe.sample(6, generator=rng())
        if isinstance(recipe, MANet):
            theirs = formulation.manet(255 * images, drawn, 4)
        else:
            theirs = formulation.gaussian(images, drawn, 4)
        difference = (theirs - recipe.apply(images, drawn, generator=rng())).abs()
        assert (difference > 0.5 / 255).float().mean() < 1e-3  # ties of rounding


@pytest.mark.parametrize("seed", range(4))
def test_second_order_takes_the_same_steps(seed, images):
    """JPEG has another table there, and noise is drawn otherwise: what is alike are size and overall look."""
    recipe = SecondOrder(scale=4)
    drawn = recipe.sample(6, generator=torch.Generator().manual_seed(seed))
    theirs = formulation.second_order(images, drawn, 4, rng())
    ours = recipe.apply(images, drawn, generator=rng())
    assert theirs.shape == ours.shape
    assert torch.equal((255 * theirs).round() / 255, theirs)
    assert (theirs.mean((2, 3)) - ours.mean((2, 3))).abs().max() < 0.05


def test_jpeg_of_best_quality_keeps_grey_images():
    x = torch.rand(2, 1, 20, 24, generator=rng()).expand(-1, 3, -1, -1)
    assert (formulation.jpeg(x, torch.tensor([99.9, 99.9])) - x).abs().max() < 1e-2


def test_its_sharpened_images_are_ours(photo):
    x = torch.from_numpy(photo[:96, :128]).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(formulation.sharpen(x), sharpen(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("KDSR_S", {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
        ("CDSR", {"n_blocks": 1}),
        ("DASR", {"n_feats": 8, "n_blocks": 1}),
    ],
)
def test_networks_compute_the_same_with_the_same_gradients(name, sizes):
    torch.manual_seed(0)
    net, lr = model.build(name, scale=2, **sizes).eval(), torch.rand(2, 3, 16, 16)

    def outcome() -> list[torch.Tensor]:
        net.zero_grad()
        image = net(lr).image
        image.square().mean().backward()
        return [image.detach(), *[p.grad for p in net.parameters() if p.grad is not None]]

    ours = outcome()
    with formulation.networks():
        theirs = outcome()
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_patch_is_that_of_the_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (tmp_path / "a.pt").write_bytes(pickle.dumps(pixels))
    crop = Crop(index=0, top=3, left=5, flip_h=True, flip_v=False, transpose=False)
    patch = formulation.patch(tmp_path / "a.pt", crop, 8)
    assert np.array_equal(patch.numpy(), pixels[3:11, 5:13][:, ::-1].transpose(2, 0, 1))


def test_scores_are_those_of_the_metrics():
    hr = torch.rand(1, 3, 40, 52, generator=rng())
    sr = (hr + 0.1 * torch.rand(hr.shape, generator=rng())).clamp(0, 1)
    psnr, ssim = formulation.scores(sr, hr, 4)
    assert psnr == pytest.approx(metric.psnr(sr, hr, border=4).item(), abs=1e-9)
    assert ssim == pytest.approx(metric.ssim(sr, hr, border=4).item(), abs=1e-9)
