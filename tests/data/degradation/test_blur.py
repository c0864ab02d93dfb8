from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from data.degradation.blur import blur, blur_separable
from data.degradation.kernel import gaussian_profile
from data.degradation.resize import bicubic, bicubic_matrices
from data.degradation.shrink import blur_and_shrink

DOUBLE = torch.float64


def images(batch: int = 3, height: int = 31, width: int = 44) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


def kernels(batch: int = 3, size: int = 21) -> torch.Tensor:
    """Without any symmetry, so that a flip or a shift shows."""
    kernel = torch.rand(batch, size, size, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    return kernel / kernel.sum((1, 2), keepdim=True)


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_equals_one_convolution_per_sample(padding, stride):
    x, kernel = images(), kernels()
    padded = F.pad(x, (10,) * 4, mode=padding)
    expected = torch.stack(
        [F.conv2d(image[:, None], k[None, None])[:, 0] for image, k in zip(padded, kernel, strict=True)]
    )
    torch.testing.assert_close(blur(x, kernel, padding=padding, stride=stride), expected[..., ::stride, ::stride])


@pytest.mark.parametrize("stride", [1, 3])
def test_float32_is_accurate(stride):
    x, kernel = images(), kernels()
    result = blur(x.float(), kernel, stride=stride)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), blur(x, kernel, stride=stride), rtol=0, atol=1e-6)


def test_parity_in_every_dtype(official_numbers):
    numbers = official_numbers("realesrgan")
    kernel = numbers["aniso/2.0_1.0_0.5"][None]
    for x in (numbers["hr"].float(), numbers["hr"].double()):
        blurred = blur(x / 255, kernel).float()
        torch.testing.assert_close(blurred, numbers["filter2D/aniso_2.0_1.0_0.5"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@pytest.mark.parametrize("stride", [1, 2])
def test_constant_stays(padding, stride):
    x = torch.full((3, 3, 24, 26), 0.3, dtype=DOUBLE)
    result = blur(x, kernels(), padding=padding, stride=stride)
    torch.testing.assert_close(result, torch.full_like(result, 0.3))


def test_separable_equals_blur_then_bicubic():
    x = images(height=32, width=44)
    profile = torch.rand(3, 2, 21, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    profile /= profile.sum(2, keepdim=True)
    kernel = profile[:, 1, :, None] * profile[:, 0, None, :]
    result = blur_separable(x, profile, *bicubic_matrices(x, 0.25))
    torch.testing.assert_close(result, bicubic(blur(x, kernel), 0.25))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (17, 40), (15, 20), (8, 33)])
@pytest.mark.parametrize("taps", [3, 21])
def test_blurring_and_shrinking_at_once(scale, size, taps):
    """Also at the edges and corners, and for images too small to have a middle."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, *(scale * side for side in size), generator=generator)
    kernel = torch.rand(2, taps, taps, generator=generator)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    exact = bicubic(blur(x.double(), kernel.double()), 1 / scale)
    together = blur_and_shrink(x, kernel, *bicubic_matrices(x, 1 / scale))
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.double(), exact, rtol=0, atol=3e-6)
    exactly = blur_and_shrink(x.double(), kernel, *bicubic_matrices(x.double(), 1 / scale))
    torch.testing.assert_close(exactly, exact, rtol=0, atol=1e-9)


def test_gaussian_blurs_compose():
    x = images(height=64, width=64)
    width = torch.tensor([[1.5, 2.0]], dtype=DOUBLE).expand(3, 2)

    def at_once(image: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
        return blur_separable(image, gaussian_profile(widths, 31), *bicubic_matrices(image, 1))

    twice = at_once(at_once(x, width), width)
    once = at_once(x, width * 2**0.5)
    torch.testing.assert_close(twice[..., 20:-20, 20:-20], once[..., 20:-20, 20:-20], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 21, 21), (3, 20, 20), (3, 21, 19), (21, 21)])
def test_wrong_kernels(shape):
    for work in (blur, lambda x, kernel: blur_and_shrink(x, kernel, *bicubic_matrices(x, 1 / 4))):
        with pytest.raises(ValueError, match="`kernel`: expected"):
            work(images(height=64, width=96).float(), torch.ones(shape))


def test_wrong_profiles():
    with pytest.raises(ValueError, match="`profile`: expected"):
        blur_separable(images(), torch.ones(3, 21), *bicubic_matrices(images(), 1))


def test_image_too_small_to_reflect():
    with pytest.raises(ValueError, match="sides above 10"):
        blur(images(height=10), kernels())
    x = images(height=32, width=64).float()
    with pytest.raises(ValueError, match="sides above 32"):
        blur_and_shrink(x, kernels(size=65), *bicubic_matrices(x, 1 / 2))


def test_many_images_are_blurred_as_each_alone():
    x, kernel = images(6 * torch.get_num_threads(), 72, 96).float(), kernels(6 * torch.get_num_threads(), 5).float()
    rows, columns = bicubic_matrices(x, 1 / 4)
    expected = torch.cat([blur_and_shrink(a[None], k[None], rows, columns) for a, k in zip(x, kernel, strict=True)])
    torch.testing.assert_close(blur_and_shrink(x, kernel, rows, columns), expected, rtol=0, atol=1e-6)
    expected = torch.cat([blur(a[None], k[None]) for a, k in zip(x, kernel, strict=True)])
    torch.testing.assert_close(blur(x, kernel), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("height", [11, 23, 40])
@pytest.mark.parametrize("channels", [1, 3, 20])
def test_kernels_of_several_sizes_in_one_window(height, channels):
    """Zeros around a kernel change nothing, a kernel of one pixel included, nor does where strips begin and end."""
    x = torch.rand(4, channels, height, 26, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    kernel = torch.zeros(4, 21, 21, dtype=DOUBLE)
    for own, margin in zip(kernel, (10, 7, 1, 0), strict=True):
        inside = slice(margin, 21 - margin)
        own[inside, inside] = kernels(1, 21 - 2 * margin)[0]
    kernel[1, 10:, :] = 0  # what is left is not in the middle
    result = blur(x.float(), kernel)
    torch.testing.assert_close(result.double(), blur(x, kernel), rtol=0, atol=1e-6)


def test_no_kernel_at_all_leaves_black():
    assert not blur(torch.ones(1, 3, 12, 12), torch.zeros(1, 5, 5)).any()
