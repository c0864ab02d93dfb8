"""The last convolution, of rounded maps in float32."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from model.layer import conv
from model.op import last, last_convolution
from tests.model.op.triton_tools import assert_compiles, assert_trains_alone, carried, compiled, usage

LAYOUTS = [torch.contiguous_format, torch.channels_last]
CPU = torch.device("cpu")


def arguments(dtype=torch.bfloat16, layout=torch.channels_last):
    """Return maps x, weight and bias of a convolution."""
    torch.manual_seed(0)
    x = torch.randn(3, 6, 4, 5).to(dtype, memory_format=layout)
    weight = torch.randn(3, 6, 3, 3, dtype=torch.promote_types(dtype, torch.float32))
    weight = weight.contiguous(memory_format=layout)
    return [t.requires_grad_() for t in (x, weight, torch.randn(3, dtype=weight.dtype))]


class Layer(NamedTuple):
    weight: torch.Tensor
    bias: torch.Tensor


def last_of(x, weight, bias):
    with torch.autocast("cpu", torch.bfloat16):
        return last_convolution(Layer(weight, bias), x)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def everywhere(monkeypatch):
    """The operator where the machine has no GPU: its own fallback computes."""
    monkeypatch.setattr(last, "_has_kernel", lambda x, weight: True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("at_once", [1, 40, 2**18])  # pixels: samples one by one, two by two, all together
def test_the_operator_gives_what_pytorch_gives(at_once, dtype, layout, monkeypatch):
    monkeypatch.setattr("model.autocast.AT_ONCE", at_once)
    x, weight, bias = arguments(dtype, layout)
    layer = conv(6, 3).to(memory_format=layout)
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    results = []
    for kernel in (False, True):
        monkeypatch.setattr(last, "_has_kernel", lambda x, weight, kernel=kernel: kernel)
        with torch.autocast("cpu", dtype):
            y = last_convolution(layer, x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, layer.weight, layer.bias])])
    for expected, found in zip(*results, strict=True):
        assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())
        torch.testing.assert_close(found, expected, rtol=1e-5 if found.dtype == torch.float32 else 1e-2, atol=1e-4)


def test_its_gradients_are_right():
    x, weight, bias = (t.detach() for t in arguments(torch.float64))
    inputs = x[:2, :2, :3].clone(), weight[:, :2].clone(), bias
    assert torch.autograd.gradcheck(last._LastConvolution.apply, [t.requires_grad_() for t in inputs])


@pytest.mark.usefixtures("everywhere")
def test_what_is_not_rounded_is_left_to_pytorch():
    layer, x = conv(6, 3), torch.randn(1, 6, 4, 5)
    expected = layer(x)
    assert torch.equal(last_convolution(layer, x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(last_convolution(layer, x), expected)
    layer, x = layer.bfloat16(), x.bfloat16()
    assert torch.equal(last_convolution(layer, x), layer(x))


@pytest.mark.parametrize("frozen", [{0}, {1}, {2}, {1, 2}, {0, 1}])
@pytest.mark.usefixtures("everywhere")
def test_only_what_is_trained_gets_a_gradient(frozen):
    assert_trains_alone(last_of, arguments, frozen)


@pytest.mark.usefixtures("everywhere")
def test_it_keeps_nothing_but_the_maps_and_the_weight():
    kept, inputs = [], arguments()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        last_of(*inputs)
    assert kept == [t.data_ptr() for t in inputs[:2]]


@pytest.mark.usefixtures("everywhere")
def test_it_compiles():
    assert_compiles(last_of, arguments())


@pytest.mark.usefixtures("everywhere")
def test_a_second_derivative_is_refused():
    x, weight, bias = arguments()
    (dx,) = torch.autograd.grad(last_of(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_other_convolutions_have_no_kernel(monkeypatch):
    monkeypatch.setattr(last.dispatch, "has_kernels", lambda name, x: True)

    def has(n=3, c=6, size=3, dtype=torch.float16, layout=torch.channels_last):
        return last._has_kernel(torch.rand(2, c, 4, 5).to(dtype, memory_format=layout), torch.rand(n, c, size, size))

    assert has()
    assert has(c=128)
    assert not has(c=129)
    assert not has(n=4)
    assert not has(size=9)
    assert not has(dtype=torch.float32)
    assert not has(layout=torch.contiguous_format)
    monkeypatch.setattr(last.dispatch, "INDEX", 6 * 4 * 5)
    assert not has()


@pytest.mark.parametrize(("precision", "runs"), [("tf32", True), ("ieee", False)])
def test_kernels_run_where_convolutions_may_multiply_in_tf32(precision, runs, monkeypatch):
    monkeypatch.setattr(last.dispatch, "runs_kernels", lambda name, x, dtype: True)
    monkeypatch.setattr(torch.backends.cudnn, "conv", SimpleNamespace(fp32_precision=precision))
    assert last._runs_kernels(torch.rand(1)) == runs


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_operator_keeps_the_rules_of_pytorch(layout):
    x, weight, bias = (t.detach() for t in arguments(layout=layout))
    for given in (x, torch.cat((x, x), 1)[:, 6:]):  # with gaps
        torch.library.opcheck(last.convolve, (given, weight, bias))
        torch.library.opcheck(last.convolve_backward, (torch.randn(3, 3, 4, 5), given, weight))


def test_the_self_check_tells_what_is_wrong():
    right = SimpleNamespace(forward=last.plain, backward=last.plain_backward)
    assert last.disagreement(right, CPU, torch.bfloat16) == ""
    right.forward = lambda *args: 1.003 * last.plain(*args)
    assert "result of maps in torch.bfloat16" in last.disagreement(right, CPU, torch.bfloat16)
    for i, name in enumerate(("dx", "dw")):
        factors = [1.02 if i == j else 1 for j in range(2)]
        wrong = lambda *args, by=factors: [f * t for f, t in zip(by, last.plain_backward(*args), strict=True)]  # noqa: E731
        assert f"their {name} of maps" in last.disagreement(
            SimpleNamespace(forward=last.plain, backward=wrong), CPU, torch.float16
        )


@pytest.mark.slow
def test_the_triton_kernels_give_what_float64_gives(interpret):
    interpret("interpreted_last.py")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernels_compile_without_spills_and_move_16_bytes_at_once(capability, tmp_path):
    for name in ("forward_kernel", "backward_kernel"):
        for dtype in ("bf16", "fp16"):
            for c in (64, 128):
                binary = compiled_last(name, capability, dtype, c)
                used = usage(binary, tmp_path)
                assert used["STACK"] == used["LOCAL"] == 0, (name, dtype, c)
                assert used["REG"] <= (168 if c == 64 else 208), (name, dtype, c)
                code = binary.asm["ptx"]
                if name == "backward_kernel":
                    assert "st.global.v4" in code
                assert "ld.global.v4" in code or "cp.async.cg.shared.global" in code


def test_the_compiler_carries_the_products_of_two_rows_on():
    """Triton drops what it takes to be the same in every turn of a loop; its interpreter cannot show that."""
    assert carried(compiled_last("forward_kernel", 90, "bf16", 64)) == 2


def compiled_last(name, capability, dtype, c):
    pytest.importorskip("triton")
    from model.op import last_triton

    kernel = getattr(last_triton, name)
    types = {key: "*fp32" for key in ("weight", "bias", "y", "dy", "sums")} | {"x": f"*{dtype}", "dx": f"*{dtype}"}
    constants = {"N": 3, "BC": c, "ROWS": last_triton.ROWS, "BW": last_triton.BW, "BP": last_triton.BP, "stride_n": 1}
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    return compiled(kernel, capability, types, constants, last_triton.OPTIONS)
