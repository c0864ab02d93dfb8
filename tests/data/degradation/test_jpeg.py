from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data.degradation.jpeg import jpeg

CODECS = ["realesrgan", "libjpeg"]


@pytest.fixture
def photograph(official_numbers) -> Tensor:
    return official_numbers("realesrgan")["hr"].float() / 255


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * (x - y).square().mean().log10())


@pytest.mark.parametrize("quality", [30.0, 60.0, 95.0])
def test_parity(quality, photograph, official_numbers):
    expected = official_numbers("realesrgan")[f"jpeg/{quality}"]
    difference = (jpeg(photograph, torch.tensor([quality])) - expected).abs()
    assert (difference > 1e-5).float().mean() < 1e-3  # ties of rounding


@pytest.mark.parametrize("codec", CODECS)
def test_batch_equals_one_by_one(codec, photograph):
    x = torch.cat([photograph, photograph.flip(3), photograph.flip(2)])
    quality = torch.tensor([20.0, 55.0, 99.5])
    single = torch.cat([jpeg(x[i : i + 1], quality[i : i + 1], codec=codec) for i in range(3)])
    assert ((jpeg(x, quality, codec=codec) - single).abs() > 1e-5).float().mean() < 1e-3


@pytest.mark.parametrize("codec", CODECS)
def test_better_quality_is_closer(codec, photograph):
    qualities = (1.0, 10.0, 30.0, 75.0, 100.0)
    distances = [psnr(jpeg(photograph, torch.tensor([q]), codec=codec), photograph) for q in qualities]
    assert distances == sorted(distances)
    assert distances[-1] > 38


@pytest.mark.parametrize("codec", CODECS)
def test_highest_quality_is_finite(codec, photograph):
    assert jpeg(photograph, torch.tensor([100.0]), codec=codec).isfinite().all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shape", [(16, 16), (17, 33), (5, 40), (1, 1)])
def test_any_size_stays_near(codec, shape, photograph):
    x = photograph[..., : shape[0], : shape[1]]
    result = jpeg(x, torch.tensor([95.0]), codec=codec)
    assert result.shape == x.shape
    assert psnr(result, x) > 28


@pytest.mark.parametrize("codec", CODECS)
def test_grey_stays_grey(codec, photograph):
    grey = photograph.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    result = jpeg(grey, torch.tensor([50.0]), codec=codec)
    assert (result.amax(1) - result.amin(1)).max() < 1e-5


def libjpeg(x: Tensor, quality: int) -> Tensor:
    file = BytesIO()
    Image.fromarray((255 * x[0]).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255


DISTANCES = {"realesrgan": {30: 34.8, 60: 36.2, 95: 41.3}, "libjpeg": {30: 44.5, 60: 44.4, 95: 45.4}}


@pytest.mark.parametrize("codec", CODECS)
def test_as_close_to_libjpeg_as_documented(codec, photograph):
    for quality, distance in DISTANCES[codec].items():
        ours = jpeg(photograph, torch.tensor([float(quality)]), codec=codec).mul(255).round() / 255
        assert psnr(ours, libjpeg(photograph, quality)) == pytest.approx(distance, abs=0.5)


@pytest.mark.parametrize("quality", [5, 30, 75, 95, 100])
@pytest.mark.parametrize("shape", [(93, 117), (41, 50)])
def test_libjpeg_is_nearer_at_any_size_and_quality(quality, shape, photograph):
    x = photograph[..., : shape[0], : shape[1]]
    near, far = (
        psnr(jpeg(x, torch.tensor([quality]), codec=c), libjpeg(x, quality)) for c in ("libjpeg", "realesrgan")
    )
    assert near > 43
    assert near > far + 3


def test_one_quality_per_image(photograph):
    with pytest.raises(ValueError, match="quality"):
        jpeg(photograph, torch.tensor([50.0, 60.0]))


@pytest.mark.parametrize("codec", CODECS)
def test_images_that_exceed_the_cache_are_compressed_as_together(codec, photograph, monkeypatch):
    x = torch.cat([photograph, photograph.flip(3), 1 - photograph]).double()  # without ties of rounding
    quality = torch.tensor([30.0, 60.0, 95.0])
    together = jpeg(x, quality, codec=codec)
    monkeypatch.setattr("data.degradation.jpeg._CACHED", 1)
    torch.testing.assert_close(jpeg(x, quality, codec=codec), together, rtol=0, atol=1e-12)
