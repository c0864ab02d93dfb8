"""PSNR and SSIM against the official numbers, scikit-image, and their own definition."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from evaluation import metric


@pytest.mark.parametrize("distortion", ["noise6", "box3"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_official_numbers(distortion, scale, official_numbers):
    numbers = official_numbers("metric")
    sr, hr = numbers[distortion] / 255, numbers["hr"] / 255

    def value(function, planes):
        return function(sr, hr, border=scale, planes=planes).item()

    key = f"{distortion}_x{scale}"
    cdsr = [value(metric.psnr, "kdsr"), value(metric.psnr, "matlab"), value(metric.ssim, "matlab")]
    assert cdsr == pytest.approx(numbers[f"cdsr/{key}"].tolist(), abs=1e-5)
    kdsr = [value(metric.psnr, "kdsr"), value(metric.ssim, "kdsr")]
    assert kdsr == pytest.approx(numbers[f"kdsr/{key}"].tolist(), abs=1e-5)
    assert [value(metric.psnr, "matlab")] == pytest.approx(numbers[f"kdsr_matlab/{key}"].tolist(), abs=1e-5)


def test_the_table_makes_the_functions():
    sr, hr = torch.rand(2, 2, 3, 24, 24)
    for name, function in (("psnr", metric.psnr), ("ssim", metric.ssim)):
        measure = metric.make(name, device=sr.device, planes="kdsr", border=3)
        assert torch.equal(measure(sr, hr), function(sr, hr, border=3, planes="kdsr"))


@pytest.mark.parametrize("name", metric.METRICS)
def test_an_arrow_points_to_the_better_end(name):
    kind = metric.find(name)
    assert kind.heading.endswith("↓" if kind.lower_is_better else "↑")
    if name in ("psnr", "ssim", "musiq", "maniqa", "clipiqa"):
        assert not kind.lower_is_better
    if name in ("lpips_alex", "lpips_vgg", "dists", "niqe"):
        assert kind.lower_is_better
    assert kind.needs_reference == (name not in ("niqe", "musiq", "maniqa", "clipiqa"))


def test_planes_side_by_side():
    sr, hr = torch.rand(2, 1, 3, 24, 24)
    for name in metric.side_by_side(["psnr", "ssim"]):
        kind, planes = name.split("_")
        measure = metric.make(name, device=sr.device, border=3)
        assert torch.equal(measure(sr, hr), getattr(metric, kind)(sr, hr, border=3, planes=planes))


def test_a_metric_that_compares_needs_an_image_to_compare_with():
    measure = metric.make("psnr", device=torch.device("cpu"))
    with pytest.raises(ValueError, match="psnr compares with an HR image"):
        measure(torch.rand(1, 3, 24, 24))


def test_known_values():
    hr = torch.zeros(1, 3, 40, 40)
    grey = torch.full((1, 3, 40, 40), 1 / 255)
    step = (65.481 + 128.553 + 24.966) / 255  # of luma, for one grey level
    assert metric.psnr(grey, hr, border=4).item() == pytest.approx(20 * math.log10(255 / step))
    assert metric.psnr(hr, hr, border=4).item() == math.inf
    assert metric.ssim(hr, hr, border=4).item() == 1


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_border_does_not_count_and_the_inside_does():
    hr = torch.rand(1, 3, 48, 40)
    sr = hr.clone()
    sr[..., :4, :] = 0
    sr[..., :, -4:] = 1
    assert metric.psnr(sr, hr, border=4).item() == math.inf
    assert metric.psnr(sr, hr, border=3).item() < math.inf


def test_images_are_rounded_to_8_bits():
    hr = torch.full((1, 3, 32, 32), 100 / 255)
    assert metric.psnr(hr + 0.4 / 255, hr, border=2).item() == math.inf


def test_a_batch_is_its_images_one_by_one(photo):
    hr = torch.from_numpy(photo[:96, :80]).permute(2, 0, 1)[None] / 255
    sr = torch.cat([(hr + sigma * torch.randn(hr.shape)).clamp(0, 1) for sigma in (0.01, 0.05, 0.1)])
    for function in (metric.psnr, metric.ssim):
        together = function(sr, hr.expand_as(sr), border=4)
        alone = torch.cat([function(image[None], hr, border=4) for image in sr])
        torch.testing.assert_close(together, alone)
        assert (together.diff() < 0).all()  # more noise, less likeness


def test_ssim_is_that_of_scikit_image(photo):
    hr = torch.from_numpy(photo[:96, :80]).permute(2, 0, 1)[None] / 255
    sr = (hr + 0.05 * torch.randn(hr.shape)).clamp(0, 1)
    luma = metric.PLANES["matlab"].ssim
    x, y = (luma(image)[0, 0].numpy() for image in (sr, hr))
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    similarity = structural_similarity(x, y, full=True, **options)[1]
    expected = similarity[5:-5, 5:-5].mean()  # scikit-image pads; its inside is the valid region
    assert metric.ssim(sr, hr, border=0).item() == pytest.approx(expected, abs=1e-6)


def test_shapes_are_checked():
    image = torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="must both be"):
        metric.psnr(image, image[..., :30], border=2)
    with pytest.raises(ValueError, match="too small"):
        metric.ssim(image, image, border=12)


@pytest.mark.parametrize("compare", [metric.psnr, metric.ssim])
def test_other_images_borders_and_planes_are_refused(compare):
    image = torch.rand(1, 3, 32, 32)
    for levels in ((255 * image).byte(), image.numpy()):
        with pytest.raises(ValueError, match=r"must be float tensors in .*divide levels of 8 bits by 255"):
            compare(image, levels, border=2)
    with pytest.raises(ValueError, match="`border` -1: expected 0 or more"):
        compare(image, image, border=-1)
    with pytest.raises(ValueError, match="`planes` y is none of matlab, kdsr, rgb"):
        compare(image, image, border=2, planes="y")


def test_rgb_is_the_definition_and_scikit_image(photo):
    hr = torch.from_numpy(photo[:96, :80].copy()).permute(2, 0, 1)[None] / 255
    sr = (hr + 0.05 * torch.randn(hr.shape)).clamp(0, 1)
    x, y = ((255 * image).round()[..., 4:-4, 4:-4] for image in (sr, hr))
    expected = 10 * math.log10(255**2 / (x - y).square().mean().item())
    assert metric.psnr(sr, hr, border=4, planes="rgb").item() == pytest.approx(expected, rel=1e-6)
    channels = [
        structural_similarity(
            *(image[0, c].double().numpy() for image in (x, y)),
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1][5:-5, 5:-5].mean()
        for c in range(3)
    ]
    assert metric.ssim(sr, hr, border=4, planes="rgb").item() == pytest.approx(sum(channels) / 3, abs=1e-6)


@pytest.mark.parametrize("planes", metric.PLANES)
def test_one_hr_image_expanded_is_scored_as_its_copies(planes):
    torch.manual_seed(0)
    sr, hr = torch.rand(3, 3, 24, 26), torch.rand(1, 3, 24, 26)
    for measure in (metric.psnr, metric.ssim):
        expanded = measure(sr, hr.expand(3, -1, -1, -1), border=4, planes=planes)
        assert torch.equal(expanded, measure(sr, hr.repeat(3, 1, 1, 1), border=4, planes=planes))


def test_measuring_leaves_the_images_as_they_are():
    images = [2 * torch.rand(1, 3, 24, 26, dtype=torch.float64) for _ in range(2)]
    before = [image.clone() for image in images]
    for measure in (metric.psnr, metric.ssim):
        measure(*images, border=4)
    assert all(map(torch.equal, images, before))


def test_names_are_not_joined_by_commas():
    with pytest.raises(ValueError, match=r"psnr,ssim: names are joined by \+"):
        metric.split_names("psnr,ssim")


def test_a_metric_gives_a_number_for_each_image():
    measure = metric.Measure("mine", lambda sr: sr.mean(), needs_reference=False)
    with pytest.raises(ValueError, match=r"mine: expected \(2,\) values, one an image, got \(\)"):
        measure(torch.zeros(2, 3, 8, 8))
