"""The upsampler as one convolution, against its layers."""

import pytest
import torch
from torch import nn

from model import build, upsampler
from model.layer import conv
from model.upsampler import FOLD_FROM, REACH, STRIP, Upsampler, fold, upsample_to_image


def layers(scale: int, n_feats: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Upsampler, nn.Conv2d]:
    torch.manual_seed(0)
    return Upsampler(scale, n_feats).to(dtype), conv(n_feats, 3).to(dtype)


@pytest.fixture
def seen(monkeypatch):
    """Sizes of the maps that go through the layers."""
    sizes, plain = [], upsampler._layers
    monkeypatch.setattr(
        upsampler, "_layers", lambda up, tail, x: sizes.append(tuple(x.shape[2:])) or plain(up, tail, x)
    )
    return sizes


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(3, 3), (3, 8), (6, 5), (33, 32)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_convolution_is_the_layers_up_to_the_border(scale, size, memory_format, monkeypatch, seen):
    monkeypatch.setattr(upsampler, "FOLD_FROM", 3)
    upsample, tail = layers(scale)
    upsample, tail = upsample.to(memory_format=memory_format), tail.to(memory_format=memory_format)
    x = torch.randn(2, 6, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    with torch.no_grad():
        torch.testing.assert_close(upsample_to_image(upsample, tail, x), tail(upsample(x)), rtol=0, atol=1e-13)
    assert seen == [(STRIP, size[1])] * 2 + [(size[0], STRIP)] * 2


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_kernel_reaches_as_far_as_the_layers(scale):
    upsample, tail = layers(scale)
    kernel, bias = fold(upsample, tail)
    side = 2 * REACH + 1
    assert (kernel.shape, bias.shape) == ((3 * scale**2, 6, side, side), (3 * scale**2,))
    x = torch.zeros(1, 6, 9, 9, dtype=torch.float64)
    x[..., 4, 4] = torch.randn(6)
    changed = (tail(upsample(x)) - tail(upsample(0 * x))).abs().amax(1)[0] > 0  # scale·9 pixels a side
    assert changed.any(0).nonzero().min() // scale == changed.any(1).nonzero().min() // scale == 4 - REACH


def test_weights_that_change_are_followed():
    upsample, tail = layers(2)
    x = torch.randn(1, 6, FOLD_FROM, FOLD_FROM, dtype=torch.float64)
    with torch.no_grad():
        before = upsample_to_image(upsample, tail, x)
        upsample.stages[0][0].weight.mul_(2)
        after = upsample_to_image(upsample, tail, x)
        torch.testing.assert_close(after, tail(upsample(x)))
    assert (after - before).abs().max() > 0.1


def test_training_and_small_images_keep_the_bits_of_the_layers(seen):
    upsample, tail = layers(4, dtype=torch.float32)
    x = torch.randn(1, 6, FOLD_FROM, FOLD_FROM + 1)
    assert torch.equal(upsample_to_image(upsample, tail, x), tail(upsample(x)))
    with torch.no_grad():
        x = x[:, :, 1:]
        assert torch.equal(upsample_to_image(upsample, tail, x), tail(upsample(x)))
    assert seen == [(FOLD_FROM, FOLD_FROM + 1), (FOLD_FROM - 1, FOLD_FROM + 1)]


def test_autocast_rounds_the_border_alone(seen):
    upsample, tail = layers(4)
    x = torch.randn(1, 6, 40, 40, dtype=torch.float64)
    with torch.no_grad():
        exact = tail(upsample(x))
        upsample, tail, x = upsample.float(), tail.float(), x.float()
        with torch.autocast("cpu", torch.bfloat16):
            error = (upsample_to_image(upsample, tail, x) - exact).abs()
            in_layers = (upsampler._layers(upsample, tail, x) - exact).abs()
    assert error[..., 4:-4, 4:-4].max() < 1e-5 < 1e-3 < in_layers[..., 4:-4, 4:-4].max()
    assert 1e-3 < error.max() < 2 * in_layers.max()


def test_rounded_weights_stay_with_the_layers(seen):
    """Folded, a kernel would be rounded after every layer."""
    upsample, tail = layers(2, dtype=torch.bfloat16)
    with torch.no_grad():
        upsample_to_image(upsample, tail, torch.randn(1, 6, 40, 40, dtype=torch.bfloat16))
    assert seen == [(40, 40)]


@pytest.mark.parametrize("name", ["KDSR_S", "DASR", "EDSR"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_networks_infer_by_one_convolution(name, scale, seen):
    torch.manual_seed(0)
    net = build(name, scale=scale, n_feats=16, n_blocks=1).eval()
    lr = torch.rand(1, 3, 35, 40)
    trained = net(lr).image
    assert seen == [(35, 40)]
    with torch.inference_mode():
        torch.testing.assert_close(net(lr).image, trained.detach(), rtol=0, atol=2e-6)
    assert max(map(min, seen[1:])) == STRIP
