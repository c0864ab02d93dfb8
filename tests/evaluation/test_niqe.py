"""NIQE against what BasicSR 1.4.2 and pyiqa 0.1.16 compute with the same model, and what it must do."""

import numpy as np
import pytest
import skimage.data
import torch

from evaluation import metric
from evaluation.evaluate import score_image
from evaluation.niqe import niqe

CPU = torch.device("cpu")


def tensor(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def score(pixels):
    return metric.make("niqe", device=CPU)(tensor(pixels)).item()


def noisy(pixels):
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    return (pixels + noise).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "basicsr", "pyiqa"),  # basicsr.metrics.niqe; pyiqa.archs.niqe_arch, color_space="ycbcr"
    [
        (skimage.data.coffee(), 4.115242, 4.114348),
        (skimage.data.chelsea(), 2.625536, 2.625518),
        (noisy(skimage.data.astronaut()), 6.300425, 6.300566),
        (skimage.data.astronaut()[10:107, 20:320], 5.686765, 5.686841),
    ],
    ids=["coffee", "chelsea", "noisy", "three blocks"],
)
def test_the_libraries_say_the_same(pixels, basicsr, pyiqa):
    assert score(pixels) == pytest.approx(basicsr, abs=1e-3)
    assert score(pixels) == pytest.approx(pyiqa, abs=1e-3)


def test_black_areas():
    """BasicSR has 3.0646: in clipped areas rounding errors decide the sign."""
    assert score(skimage.data.astronaut()) == pytest.approx(3.123575, abs=1e-3)  # pyiqa's


def test_worse_images_score_higher():
    photo = skimage.data.chelsea()
    blurred = np.stack([photo[i // 4 * 4, :, :] for i in range(len(photo))])[:, np.arange(photo.shape[1]) // 4 * 4]
    assert score(photo) < score(noisy(photo)) < score(np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8))
    assert score(photo) + 1 < score(blurred)


def test_what_is_left_beyond_whole_blocks_plays_no_part():
    photo = skimage.data.chelsea()
    changed = photo.copy()
    changed[288:], changed[:, 384:] = 0, 255
    assert score(changed[:288, :384]) == score(photo[:288, :384])
    assert score(photo) == score(photo[:288, :384])


def test_a_batch_is_its_images_one_by_one():
    images = torch.cat([tensor(skimage.data.chelsea()[:192, i : i + 192]) for i in (0, 100)])
    luma = metric.PLANES["matlab"].psnr(images).round()
    torch.testing.assert_close(niqe(luma), torch.cat([niqe(image[None]) for image in luma]), rtol=1e-9, atol=0)


def test_flat_and_small_images():
    assert niqe(torch.full((1, 1, 192, 192), 16.0)).isnan().all()
    with pytest.raises(ValueError, match="niqe needs two blocks of 96 x 96 pixels at least; the image has 190 x 100"):
        score_image(torch.rand(3, 190, 100), [metric.make("niqe", device=CPU)])
