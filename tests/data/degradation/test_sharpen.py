from __future__ import annotations

import pytest
import torch

from data.degradation import sharpen


def photograph(official_numbers) -> torch.Tensor:
    return official_numbers("realesrgan")["hr"].float() / 255


def test_parity(official_numbers):
    usm = official_numbers("realesrgan")["usm"]
    torch.testing.assert_close(sharpen(photograph(official_numbers)), usm, rtol=0, atol=1e-5)


def test_batch_equals_one_by_one(official_numbers):
    x = photograph(official_numbers)
    batch = torch.cat([x, 1 - x, x.flip(3)])
    torch.testing.assert_close(sharpen(batch), torch.cat([sharpen(image[None]) for image in batch]), rtol=0, atol=1e-5)


def test_flips_commute(official_numbers):
    x = photograph(official_numbers)
    torch.testing.assert_close(sharpen(x.flip(2)), sharpen(x).flip(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(sharpen(x.mT), sharpen(x).mT, rtol=0, atol=1e-5)


def test_smooth_images_stay():
    ramp = torch.linspace(0.3, 0.32, 60)[None, None, None].expand(1, 3, 40, 60)
    assert torch.equal(sharpen(ramp), ramp)


def test_an_edge_gets_steeper_within_range():
    x = torch.full((1, 3, 64, 64), 0.3)
    x[..., 32:] = 0.9
    sharp = sharpen(x)
    step = sharp[..., 32] - sharp[..., 31]
    assert (step > 0.7).all()
    assert sharp.max() <= 1
    assert sharp.min() >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype(dtype):
    assert sharpen(torch.rand(1, 3, 26, 30, dtype=dtype)).dtype == dtype


def test_image_too_small_to_reflect():
    with pytest.raises(ValueError, match=r"sides of 26 at least .* \(1, 3, 40, 25\)"):
        sharpen(torch.zeros(1, 3, 40, 25))
