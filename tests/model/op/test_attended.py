"""The end of DASR's degradation-aware convolution."""

import pytest
import torch
import torch.nn.functional as F

from model.autocast import to_autocast
from model.op import attended, attended_pointwise
from tests.model.op.triton_tools import assert_compiles, assert_moves_16_bytes_at_once, assert_trains_alone

SLOPE = 0.1
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def arguments(layout=torch.contiguous_format, dtype=torch.float32, size=(6, 7)):
    """Return y, weight, bias, x and attention; the result has more channels than y."""
    torch.manual_seed(0)
    shapes = (2, 4, *size), (5, 4, 1, 1), (5,), (2, 5, *size), (2, 5, 1, 1)
    y, weight, bias, x, attention = (torch.randn(shape, dtype=dtype) for shape in shapes)
    maps = (t.contiguous(memory_format=layout) for t in (y, x))
    return [t.requires_grad_() for t in (next(maps), weight, bias, next(maps), attention)]


def ours(y, weight, bias, x, attention):
    return attended_pointwise(y, (weight, bias), x, attention, SLOPE)


def theirs(y, weight, bias, x, attention):
    x, attention = to_autocast(x), to_autocast(attention)
    return F.leaky_relu(F.conv2d(y, weight, bias) + x * attention, SLOPE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kernel", [False, True])
def test_it_is_a_convolution_with_an_attention_beside_it(kernel, autocast, layout, monkeypatch):
    monkeypatch.setattr(attended, "_has_kernel", lambda x: kernel)  # without a GPU, the operator runs its reference
    results = []
    for function in (ours, theirs):
        inputs = arguments(layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = function(*inputs)
        assert out.is_contiguous(memory_format=layout)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), inputs)])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        # The operator rounds elsewhere, which may turn the sign of what is nearly 0.
        tolerance = 0.05 if autocast and kernel else 1e-5
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize("kernel", [False, True])
def test_its_gradients_are_right(kernel, monkeypatch):
    monkeypatch.setattr(attended, "_has_kernel", lambda x: kernel)
    assert torch.autograd.gradcheck(ours, arguments(dtype=torch.float64, size=(2, 1)))


@pytest.mark.parametrize("kernel", [False, True])
def test_it_compiles(kernel, monkeypatch):
    monkeypatch.setattr(attended, "_has_kernel", lambda x: kernel)
    assert_compiles(ours, arguments())


@pytest.mark.parametrize("frozen", range(6))
def test_only_what_is_trained_gets_a_gradient(frozen):
    assert_trains_alone(ours, arguments, {frozen})


@pytest.mark.slow
def test_the_operator_keeps_the_rules_of_pytorch():
    for layout in LAYOUTS:
        _, _, bias, x, attention = (t.detach() for t in arguments(layout))
        for given in (x, torch.cat((x, x), 1)[:, 5:]):  # with gaps
            torch.library.opcheck(attended.attend, (torch.randn_like(x), bias, given, attention, SLOPE))


def test_the_self_check_tells_what_is_wrong():
    class Wrong:
        attend = staticmethod(lambda y, bias, x, attention, slope: attended.plain(y, bias, x, attention, 1.01 * slope))

    class Right:
        attend = staticmethod(attended.plain)

    assert "attention" in attended.disagreement(Wrong, torch.device("cpu"), torch.float32)
    assert attended.disagreement(Right, torch.device("cpu"), torch.float32) == ""


@pytest.mark.slow
def test_the_triton_kernel_gives_what_float64_gives(interpret):
    interpret("interpreted_attended.py")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernel_compiles_without_spills_and_moves_16_bytes_at_once(capability, dtype, tmp_path):
    assert_moves_16_bytes_at_once("model.op.attended_triton", "attend_kernel", dtype, capability, tmp_path)
