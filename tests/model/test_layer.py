"""Layers that several networks share."""

import pytest
import torch
from torch import nn

from model.layer import DynamicDepthwise, apply_all, weights_of_all


def mlps():
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Conv2d(5, 6, 1, bias=False), nn.Sigmoid(), nn.Linear(6, 3))
        for _ in range(3)
    ]


def one_by_one(mlps, x):
    results = []
    for mlp, own in zip(mlps, x if x.ndim == 3 else [x] * len(mlps), strict=True):
        for layer in mlp:
            own = layer(own[..., None, None])[..., 0, 0] if isinstance(layer, nn.Conv2d) else layer(own)
        results.append(own)
    return torch.stack(results)


@pytest.mark.parametrize("shape", [(2, 4), (3, 2, 4)])
def test_perceptrons_side_by_side_are_those_one_by_one(shape):
    """With the gradients of x and of each weight."""
    results = []
    x = torch.randn(shape)
    for apply in (apply_all, one_by_one):
        layers, own = mlps(), x.clone().requires_grad_()
        for i, layer in enumerate(layers):
            nn.init.constant_(layer.get_parameter("1.weight"), 0.1 * i)
        y = apply(layers, own)
        y.square().sum().backward()
        results.append([y.detach(), own.grad, *(p.grad for layer in layers for p in layer.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_layers_that_one_product_cannot_apply_are_refused():
    class Adapted(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

    for replaced, kinds in (([0], "Adapted and Linear"), ([0, 1, 2], "Adapted")):
        layers = mlps()
        for i in replaced:
            layers[i][0] = Adapted(layers[i][0])
        with pytest.raises(TypeError, match=f"^{kinds}: such layers cannot be applied for all blocks at once"):
            apply_all(layers, torch.randn(2, 4))
    layers = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)]
    layers[1][1] = nn.Tanh()
    with pytest.raises(TypeError, match=r"^ReLU and Tanh: such layers"):
        apply_all(layers, torch.randn(2, 4))


def test_gradients_of_weights_are_laid_out_as_the_weights():
    """Else each would be copied once more."""
    seen, layers = [], mlps()
    for layer in layers:
        for weight in layer.parameters():
            weight.register_hook(lambda gradient, shape=weight.shape: seen.append(gradient.is_contiguous()))
    apply_all(layers, torch.randn(2, 4)).sum().backward()
    assert len(seen) == 3 * 6
    assert all(seen)


def test_weights_of_dynamic_convolutions_are_those_one_by_one():
    layers, code = [DynamicDepthwise(4) for _ in range(3)], torch.randn(2, 4)
    for layer, weights in zip(layers, weights_of_all(layers, code), strict=True):
        torch.testing.assert_close(weights, layer.weights(code))
