from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.degradation.jpeg import jpeg

PARITY = np.load(Path(__file__).parents[2] / "parity" / "realesrgan.npz")


def photograph() -> torch.Tensor:
    return torch.from_numpy(PARITY["hr"]).float() / 255


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(-10 * (x - y).square().mean().log10())


@pytest.mark.parametrize("quality", [30.0, 60.0, 95.0])
def test_parity(quality):
    difference = (jpeg(photograph(), torch.tensor([quality])) - torch.from_numpy(PARITY[f"jpeg/{quality}"])).abs()
    assert (difference > 1e-5).float().mean() < 1e-3  # ties of rounding


def test_batch_equals_one_by_one():
    x = torch.cat([photograph(), photograph().flip(3), photograph().flip(2)])
    quality = torch.tensor([20.0, 55.0, 99.5])
    single = torch.cat([jpeg(x[i : i + 1], quality[i : i + 1]) for i in range(3)])
    assert ((jpeg(x, quality) - single).abs() > 1e-5).float().mean() < 1e-3


def test_better_quality_is_closer():
    distances = [psnr(jpeg(photograph(), torch.tensor([q])), photograph()) for q in (1.0, 10.0, 30.0, 75.0, 100.0)]
    assert distances == sorted(distances)
    assert distances[-1] > 38


def test_highest_quality_is_finite():
    assert jpeg(photograph(), torch.tensor([100.0])).isfinite().all()


@pytest.mark.parametrize("shape", [(16, 16), (17, 33), (5, 40)])
def test_any_size_stays_near(shape):
    x = photograph()[..., : shape[0], : shape[1]]
    result = jpeg(x, torch.tensor([95.0]))
    assert result.shape == x.shape
    assert psnr(result, x) > 28


def test_grey_stays_grey():
    grey = photograph().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    result = jpeg(grey, torch.tensor([50.0]))
    assert (result.amax(1) - result.amin(1)).max() < 1e-5


def test_as_close_to_libjpeg_as_documented():
    for quality, distance in ((30, 34.8), (60, 36.2), (95, 41.3)):
        file = BytesIO()
        Image.fromarray(PARITY["hr"][0].transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        codec = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255
        ours = (jpeg(photograph(), torch.tensor([float(quality)])) * 255).round() / 255
        assert psnr(ours, codec) == pytest.approx(distance, abs=0.5)


def test_one_quality_per_image():
    with pytest.raises(ValueError, match="quality"):
        jpeg(photograph(), torch.tensor([50.0, 60.0]))
