"""The U-Net discriminator: shapes, size, spectral norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.discriminator import SpectralConv2d, UNetDiscriminator


def weight_of(layer):
    return layer.normalised_weight() if isinstance(layer, SpectralConv2d) else layer.weight


def test_a_logit_for_every_pixel():
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(n_feats=4)
    assert discriminator(torch.rand(2, 3, 24, 40)).shape == (2, 1, 24, 40)
    assert discriminator(torch.rand(1, 3, 8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("shape", [(1, 3, 24, 20), (1, 3, 30, 32), (1, 4, 32, 32), (3, 32, 32)])
def test_what_does_not_fit(shape):
    with pytest.raises(ValueError, match=r"sides are multiples of 8, got \(" + ", ".join(map(str, shape))):
        UNetDiscriminator(n_feats=4)(torch.rand(shape))


@pytest.mark.parametrize("c", [4, 64])
def test_its_parameters(c):
    head, tail = 3 * c * 9 + c, c * 9 + 1
    down = 16 * (c * 2 * c + 2 * c * 4 * c + 4 * c * 8 * c)
    up = 9 * (8 * c * 4 * c + 4 * c * 2 * c + 2 * c * c)
    fuse = 9 * 2 * c * c
    discriminator = UNetDiscriminator(n_feats=c)
    assert sum(p.numel() for p in discriminator.parameters()) == head + down + up + fuse + tail
    biases = [name for name, _ in discriminator.named_parameters() if name.endswith("bias")]
    assert biases == ["head.bias", "tail.bias"]


def test_a_copy_by_state_dict_is_the_same_in_what_follows():
    torch.manual_seed(0)
    first, second = UNetDiscriminator(n_feats=4), UNetDiscriminator(n_feats=4)
    x = torch.rand(1, 3, 16, 16)
    first(x)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    for _ in range(2):  # each pass takes a power iteration from what was loaded
        assert torch.equal(first(x), second(x))


def test_the_inner_layers_have_a_spectral_norm_of_one():
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(n_feats=4)
    for layer in discriminator.modules():
        if isinstance(layer, SpectralConv2d):
            nn.init.normal_(layer.weight, std=3)
    for _ in range(200):
        discriminator(torch.rand(1, 3, 8, 8))
    discriminator.eval()
    convolutions = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    head, *norms, tail = (torch.linalg.matrix_norm(weight_of(layer).flatten(1), 2).item() for layer in convolutions)
    assert norms == pytest.approx([1] * 8, abs=1e-3)
    assert abs(head - 1) > 0.05
    assert abs(tail - 1) > 0.05


def test_it_is_the_published_arrangement():
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(n_feats=4).eval()
    convolutions = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    x0, *inner, last = (
        lambda x, layer=layer: F.conv2d(x, weight_of(layer), layer.bias, layer.stride, padding=1)
        for layer in convolutions
    )
    act, up = nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2, mode="bilinear")
    x = torch.rand(2, 3, 24, 32)
    first = act(x0(x))
    half = act(inner[0](first))
    quarter = act(inner[1](half))
    eighth = act(inner[2](quarter))
    y = act(inner[3](up(eighth))) + quarter
    y = act(inner[4](up(y))) + half
    y = act(inner[5](up(y))) + first
    expected = last(act(inner[7](act(inner[6](y)))))
    torch.testing.assert_close(discriminator(x), expected)


def test_the_spectral_norm_is_pytorchs_former_one():
    ours = SpectralConv2d(3, 8, 4, stride=2)
    theirs = torch.nn.utils.spectral_norm(nn.Conv2d(3, 8, 4, stride=2, padding=1, bias=False))
    state = {"weight_orig": ours.weight.detach(), "weight_u": ours.u, "weight_v": ours.v}
    theirs.load_state_dict({name: value.clone() for name, value in state.items()})
    for training in (True, True, False):
        x = torch.rand(2, 3, 8, 8)
        ours.train(training)
        theirs.train(training)
        outputs = ours(x), theirs(x)
        torch.testing.assert_close(*outputs)
        for output in outputs:
            output.square().sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight_orig.grad)
    torch.testing.assert_close((ours.u, ours.v), (theirs.weight_u, theirs.weight_v))


def test_two_passes_before_backward():
    layer = SpectralConv2d(3, 4, 3)
    (layer(torch.rand(1, 3, 6, 6)).sum() + layer(torch.rand(1, 3, 6, 6)).sum()).backward()
