from __future__ import annotations

from typing import cast
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import model
from model import winograd
from model.layer import RDB

SIDE = 70  # of images that are large enough, in pixels; no multiple of the tiles' four


def maps(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def layer(after: int, before: int) -> tuple[Tensor, Tensor]:
    return maps(after, before, 3, 3, seed=1) / (9 * before) ** 0.5, maps(after, seed=2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 4, 4), (1, 5, 9), (3, 18, 7)])
@pytest.mark.parametrize("channels", [(1, 1), (5, 3), (64, 96)])
def test_equals_the_convolution_in_float64(layout, size, channels):
    b, h, w = size
    x = maps(b, channels[0], h, w).to(memory_format=layout)
    weight, bias = layer(channels[1], channels[0])
    for offset in (bias, None):
        found = winograd.convolve(x, weight, offset)
        exact = F.conv2d(x.double(), weight.double(), None if offset is None else offset.double(), padding=1)
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * max(1.0, float(exact.abs().max())))


@pytest.mark.parametrize("height", [1, 4, 11, 16, 17])
@pytest.mark.parametrize("tiles", [1, 13])
def test_rows_that_are_computed_apart(height, tiles, monkeypatch):
    monkeypatch.setattr(winograd, "TILES", tiles)
    x, (weight, bias) = maps(2, 6, height, 10), layer(5, 6)
    found = winograd.convolve(x, weight, bias)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=3e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_dense_block_equals_one_that_joins_the_maps():
    x = maps(2, 8, 13, 22)
    layers = [layer(4, 8 + 4 * i) for i in range(3)] + [layer(6, 20)]
    seen = x.double()
    for weight, bias in layers[:-1]:
        new = F.leaky_relu(F.conv2d(seen, weight.double(), bias.double(), padding=1), 0.2)
        seen = torch.cat((seen, new), 1)
    exact = F.conv2d(seen, layers[-1][0].double(), layers[-1][1].double(), padding=1)
    given = x.clone()
    torch.testing.assert_close(winograd.dense_block(given, layers, 0.2).double(), exact, rtol=0, atol=3e-5)
    assert torch.equal(given, x)


@torch.no_grad()
def test_images_of_a_batch_do_not_meet():
    x, (weight, bias) = maps(3, 16, 9, 10), layer(16, 16)
    together = winograd.convolve(x, weight, bias)
    alone = torch.cat([winograd.convolve(image, weight, bias) for image in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_another_default_dtype_plays_no_part():
    x, (weight, bias) = maps(1, 8, 9, 10), layer(4, 8)
    expected = winograd.convolve(x, weight, bias)
    torch.set_default_dtype(torch.float64)
    try:
        found = winograd.convolve(x, weight, bias)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@torch.no_grad()
def test_where_it_suits():
    x, (weight, _) = maps(1, 96, SIDE, SIDE), layer(96, 96)
    assert winograd.suits(x, weight)
    assert winograd.suits_dense(x[:, :64], layer(64, 192)[0])
    assert not winograd.suits_dense(x[:, :32], layer(32, 160)[0])
    assert not winograd.suits(x[:, :64], layer(96, 64)[0])
    assert not winograd.suits(x[..., :58], weight)  # 4060 pixels
    assert not winograd.suits(x.double(), weight.double())
    assert not winograd.suits(x.to("meta"), weight.to("meta"))
    assert not winograd.suits(x, weight[..., 1:2, 1:2])
    with torch.enable_grad():
        assert not winograd.suits(x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.suits(x, weight)
    with mock.patch("torch.get_float32_matmul_precision", return_value="high"):
        assert not winograd.suits(x, weight)


def counted(net: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Return the result, and how many convolutions and dense blocks were computed by tiles."""
    with (
        mock.patch.object(winograd, "convolve", side_effect=winograd.convolve) as convolve,
        mock.patch.object(winograd, "dense_block", side_effect=winograd.dense_block) as dense_block,
    ):
        result = net(x)
    return (result if isinstance(result, Tensor) else result.image), convolve.call_count + dense_block.call_count


NETWORKS = {
    "KDSR_S": ({"n_feats": 96, "n_blocks": 2, "n_resblocks": 1}, 8),
    "CDSR": ({"n_blocks": 1}, 3),
    "RRDB": ({"n_blocks": 1}, 3),
    "EDSR": ({"n_feats": 96, "n_blocks": 2}, 5),
    "DASR": ({"n_blocks": 1}, 0),
}


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_what_they_give_without_it(name, monkeypatch):
    config, expected = NETWORKS[name]
    torch.manual_seed(0)
    net = model.build(name, scale=2, **config).eval()
    x = torch.rand(1, 3, SIDE, SIDE + 5)
    found, calls = counted(net, x)
    assert calls == expected
    monkeypatch.setattr(winograd, "PIXELS", SIDE * (SIDE + 5))
    plain, calls = counted(net, x)
    assert not calls
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def test_training_and_bf16_do_without_it():
    block, x = RDB(64), maps(1, 64, SIDE, SIDE)
    result, calls = counted(block, x)
    result.sum().backward()
    assert not calls
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not counted(block, x)[1]
    with torch.no_grad():
        found, calls = counted(block, x)
    assert calls == 1
    torch.testing.assert_close(found, result.detach(), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_traced_networks_take_any_size():
    torch.manual_seed(0)
    net, x = RDB(64), maps(1, 64, SIDE, SIDE)
    traced = cast(nn.Module, torch.jit.trace(net, (x,)))
    smaller = maps(1, 64, 12, 15)
    torch.testing.assert_close(traced(smaller), net(smaller), rtol=0, atol=1e-5)


@torch.no_grad()
def test_compilers_and_exporters_see_convolutions(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not counted(RDB(64), maps(1, 64, SIDE, SIDE))[1]
