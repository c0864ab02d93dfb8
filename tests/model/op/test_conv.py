"""A convolution with what follows it: bias, LeakyReLU, the sum with another map."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.convolution import Conv2d
from model.layer import Layers, lrelu
from model.op import conv, convolution
from tests.model.op.triton_tools import assert_compiles, assert_trains_alone, compiled, usage

STRIDE, PADDING = (2, 1), (1, 1)
FOLLOWED = [{}, {"slope": 0.1}, {"scale": 0.2}, {"scale": 1.0}]  # with a scale, by a sum


@pytest.fixture(params=[False, True], ids=["plain", "kernel"])
def kernel(request, monkeypatch):
    """Switches the operator on or off; without a GPU it computes its reference."""
    monkeypatch.setattr(conv, "_has_kernel", lambda x: request.param)
    return request.param


def arguments(dtype=torch.float32, channels=4, size=(8, 7)):
    """Return x, weight, bias and the map to add the result to, channels last."""
    torch.manual_seed(0)
    height, width = size
    shapes = (2, channels, height, width), (5, channels, 3, 3), (5,), (2, 5, -(-height // 2), width)
    x, weight, bias, add_to = (torch.randn(shape, dtype=dtype) for shape in shapes)
    x, add_to = (t.contiguous(memory_format=torch.channels_last) for t in (x, add_to))
    return [t.requires_grad_() for t in (x, weight, bias, add_to)]


def ours(x, weight, bias, add_to, scale=None, **followed: Any):
    if scale is not None:
        followed |= {"add_to": add_to, "scale": scale}
    return convolution(x, (weight, bias), stride=STRIDE, padding=PADDING, **followed)


def theirs(x, weight, bias, add_to, scale: Any = None, slope: Any = 1.0):
    y = F.conv2d(x, weight, bias, STRIDE, PADDING)
    return F.leaky_relu(y, slope) if scale is None else add_to + scale * y


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("followed", FOLLOWED, ids=str)
def test_it_is_a_convolution_and_what_follows(followed, autocast, kernel):
    results = []
    for function in (ours, theirs):
        inputs = arguments()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = function(*inputs, **followed)
        assert out.is_contiguous(memory_format=torch.channels_last)
        gradients = torch.autograd.grad(out.float().square().sum(), inputs, allow_unused=True)
        results.append([out, *(g for g in gradients if g is not None)])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        tolerance = 0.03 if autocast else 1e-5  # the operator does not round between two steps
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize("followed", FOLLOWED, ids=str)
def test_its_gradients_are_right(followed, monkeypatch):
    monkeypatch.setattr(conv, "_has_kernel", lambda x: True)
    monkeypatch.setattr(conv.dispatch, "DTYPES", (torch.float64,))
    assert torch.autograd.gradcheck(lambda *inputs: ours(*inputs, **followed), arguments(torch.float64, 2, (3, 2)))


def test_without_kernels_it_computes_as_before_to_the_bit(monkeypatch):
    monkeypatch.setattr(conv, "_has_kernel", lambda x: False)
    for followed in FOLLOWED:
        results = []
        for function in (ours, theirs):
            inputs = arguments()
            out = function(*inputs, **followed)
            results.append([out, *torch.autograd.grad(out.sum(), inputs[:3])])
        if followed != {"scale": 0.2}:  # one operation multiplies and adds
            assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_sum_follows_no_activation():
    x, weight, bias, add_to = arguments()
    with pytest.raises(ValueError, match=r"`slope` 0\.1"):
        convolution(x, (weight, bias), stride=STRIDE, padding=PADDING, slope=0.1, add_to=add_to)


@pytest.mark.parametrize("frozen", range(4))
def test_only_what_is_trained_gets_a_gradient(frozen, kernel):
    assert_trains_alone(partial(ours, scale=0.2), arguments, {frozen})


def test_a_compiler_fuses_what_follows_by_itself(kernel):
    for followed in FOLLOWED[1:]:
        inputs = arguments()[: 4 if "scale" in followed else 3]
        rest = [] if "scale" in followed else [None]
        assert_compiles(lambda *given, followed=followed, rest=rest: ours(*given, *rest, **followed), inputs)


def test_layers_in_a_row_are_those_one_by_one(kernel):
    torch.manual_seed(0)
    layers = [
        Conv2d(3, 4, 3),
        lrelu(),
        Conv2d(4, 4, 1),
        nn.ReLU(),
        Conv2d(4, 2, 3),
        lrelu(),
        lrelu(),
        nn.Conv2d(2, 2, 1),
    ]
    x = torch.randn(2, 3, 9, 8).contiguous(memory_format=torch.channels_last)
    row = nn.Sequential(*layers)
    torch.testing.assert_close(Layers(*layers)(x), row(x))
    assert Layers(*layers).state_dict().keys() == row.state_dict().keys()


@pytest.mark.slow
def test_the_operators_keep_the_rules_of_pytorch():
    y = arguments()[0].detach()
    bias = torch.randn(4)
    for added in (None, torch.randn_like(y)):
        torch.library.opcheck(conv.follow, (y.bfloat16(), bias, added, 0.1, 0.2, torch.empty_like(y)))
    for given in (y, y.contiguous(), torch.cat((y, y), 1)[:, 2:6]):  # channels first, with gaps
        for out in (None, torch.randn_like(y)):
            torch.library.opcheck(conv.precede, (given, out, 0.1, 0.2, torch.bfloat16))


def test_the_self_check_tells_what_is_wrong():
    class Right:
        @staticmethod
        def follow(y, bias, add_to, slope, scale, out):
            out.copy_(conv.plain(y, bias, add_to, slope, scale))

        precede = staticmethod(conv.plain_backward)

    class Wrong(Right):
        precede = staticmethod(lambda d, out, slope, scale, dtype: conv.plain_backward(d, out, slope, 1.01, dtype))

    assert conv.disagreement(Right, torch.device("cpu"), torch.float32) == ""
    assert "gradient after a convolution" in conv.disagreement(Wrong, torch.device("cpu"), torch.float32)


@pytest.mark.slow
def test_the_triton_kernels_give_what_float64_gives(interpret):
    interpret("interpreted_conv.py")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernels_compile_without_spills_and_move_16_bytes_at_once(capability, tmp_path):
    kernels = pytest.importorskip("model.op.conv_triton")
    bf16 = {"y": "*bf16", "bias": "*bf16", "out": "*bf16", "dy": "*bf16", "slope": "fp32", "scale": "fp32"}
    fp32 = {"add_to": "*fp32", "d": "*fp32", "sums": "*fp32"}
    for added in (False, True):
        types = bf16 | fp32 | ({"out": "*fp32"} if added else {})
        made = compiled(
            kernels.follow_kernel, capability, types, {"BLOCK": kernels.BLOCK, "ADD": added}, kernels.OPTIONS
        )
        tile = {"BP": kernels.BP, "BC": kernels.BC, "LRELU": not added}
        also = compiled(kernels.precede_kernel, capability, bf16 | fp32, tile, kernels.OPTIONS)
        for binary in (made, also):
            used = usage(binary, tmp_path)
            assert used["STACK"] == used["LOCAL"] == 0
            assert "ld.global.v4" in binary.asm["ptx"]
            assert ".global.v4" in binary.asm["ptx"].split("st.global", 1)[1] or "st.global.v4" in binary.asm["ptx"]
