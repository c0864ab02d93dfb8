"""Two small layers by one kernel: the weights of CDSR's dynamic convolutions."""

from types import SimpleNamespace

import pytest
import torch

from model.op import mlp, two_layers
from tests.model.op.triton_tools import assert_compiles, compiled, usage

SLOPE = 0.1


def arguments(dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(size, dtype=dtype, requires_grad=True) for size in ((3, 5), (4, 5), (7, 4))]


def layers(x, first, second):
    return two_layers(x, first, second, SLOPE)


@pytest.fixture(params=[False, True], ids=["plain", "operator"])
def has_kernel(request, monkeypatch):
    monkeypatch.setattr(mlp, "_has_kernel", lambda x, first: request.param)


@pytest.mark.usefixtures("has_kernel")
def test_it_is_a_layer_leaky_relu_and_a_layer():
    x, first, second = arguments()
    inner = x @ first.T
    torch.testing.assert_close(layers(x, first, second), torch.where(inner > 0, inner, SLOPE * inner) @ second.T)


@pytest.mark.usefixtures("has_kernel")
def test_its_gradients_are_right():
    assert torch.autograd.gradcheck(layers, arguments())


@pytest.mark.usefixtures("has_kernel")
def test_it_is_in_float32_under_autocast():
    inputs = arguments(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layers(*inputs)
    torch.testing.assert_close(y, layers(*inputs), rtol=0, atol=0)


@pytest.mark.slow
def test_the_operator_keeps_the_rules_of_pytorch(monkeypatch):
    monkeypatch.setattr(mlp, "_has_kernel", lambda x, first: True)
    inputs = arguments(torch.float32)
    torch.library.opcheck(mlp.mlp, (*(t.detach() for t in inputs), SLOPE))
    assert_compiles(layers, inputs)


def test_the_self_check_tells_what_is_wrong():
    right, wrong = (SimpleNamespace(mlp=lambda *args, by=by: [by * t for t in mlp.plain(*args)]) for by in (1, 1.001))
    assert mlp.disagreement(right, torch.device("cpu"), torch.float32) == ""
    assert "do not give what PyTorch's give" in mlp.disagreement(wrong, torch.device("cpu"), torch.float32)


@pytest.mark.slow
def test_the_triton_kernel_gives_what_float64_gives(interpret):
    interpret("interpreted_mlp.py")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernel_compiles_without_spills(capability, tmp_path):
    pytest.importorskip("triton")
    from model.op import mlp_triton

    types = {name: "*fp32" for name in mlp_triton.mlp_kernel.arg_names if name.islower()} | {"slope": "fp32"}
    sizes = {"BC": mlp.LARGEST, "BM": mlp.LARGEST, "BLOCK": mlp_triton.BLOCK}
    used = usage(compiled(mlp_triton.mlp_kernel, capability, types, sizes, mlp_triton.OPTIONS), tmp_path)
    assert used["STACK"] == used["LOCAL"] == 0
