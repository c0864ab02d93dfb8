"""The depthwise convolution of each sample with its own kernels, with its LeakyReLU."""

import pytest
import torch
import torch.nn.functional as F

from model.op import dynamic_depthwise


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("slope", [1.0, 0.1])
def test_it_is_a_convolution_of_each_channel_with_its_own_kernel(slope):
    x, kernel = torch.randn(2, 3, 9, 11, dtype=torch.float64), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    out = dynamic_depthwise(x, kernel, slope)
    for b in range(2):
        for c in range(3):
            y = F.conv2d(x[b : b + 1, c : c + 1], kernel[b, c][None, None], padding=1)[0, 0]
            torch.testing.assert_close(out[b, c], torch.where(y > 0, y, slope * y))


@pytest.mark.parametrize("slope", [1.0, 0.1])
def test_its_gradients_are_right(slope):
    x, kernel = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    inputs = (x.requires_grad_(), kernel.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, kernel: dynamic_depthwise(x, kernel, slope), inputs)


@pytest.mark.parametrize("autocast", [False, True])
def test_its_gradients_are_those_of_the_activation_after_the_view_to_the_bit(autocast):
    """The order of view and activation costs copies, not values."""

    def after_view(x, kernel):
        maps = F.conv2d(x.reshape(1, 10, 6, 7), kernel.reshape(10, 1, 3, 3), padding=1, groups=10).view(2, 5, 6, 7)
        return F.leaky_relu_(maps, 0.1)

    results = []
    x, kernel, weight = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 3, 3), torch.randn(2, 5, 6, 7)
    for operation in (after_view, lambda x, kernel: dynamic_depthwise(x, kernel, 0.1)):
        inputs = (x.clone().requires_grad_(), kernel.clone().requires_grad_())
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = operation(*inputs)
        (y * weight).sum().backward()
        results.append((y.detach(), inputs[0].grad, inputs[1].grad))
    for before, now in zip(*results, strict=True):
        assert torch.equal(before, now)
