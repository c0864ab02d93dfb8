"""The depthwise convolution of each sample with its own kernels, with its LeakyReLU."""

import pytest
import torch
import torch.nn.functional as F

from model.op import depthwise
from model.op import dynamic_depthwise as beside_depthwise
from tests.model.op.triton_tools import assert_compiles, carried, compiled, usage


def dynamic_depthwise(x, kernel, slope):
    return beside_depthwise(x, kernel, slope)[1]


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


def test_one_sample_stays_laid_out_as_it_is():
    """Copies would cost a CPU more than channels last gains."""
    x, kernel = torch.randn(1, 5, 6, 7), torch.randn(1, 5, 3, 3)
    y = dynamic_depthwise(x.contiguous(memory_format=torch.channels_last), kernel, 0.1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, dynamic_depthwise(x, kernel, 0.1))


# ----------------------------------------------------------------------------------------------- the operator


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_keeps_the_rules_of_pytorch(dtype, memory_format):
    """Its schema, its shapes without data, and both under torch.compile's tracing."""
    x = torch.randn(2, 3, 5, 4, dtype=dtype).contiguous(memory_format=memory_format)
    kernel = torch.randn(2, 3, 3, 3, dtype=dtype)
    torch.library.opcheck(depthwise.correlate, (x, kernel, 0.1, dtype, False))
    torch.library.opcheck(depthwise.correlate, (x, kernel, 0.1, torch.bfloat16, True))
    y, _ = depthwise.correlate(x, kernel, 0.1, dtype, False)
    torch.library.opcheck(depthwise.correlate_backward, (torch.randn_like(y), x, kernel, y, 0.1, dtype, None))
    torch.library.opcheck(depthwise.correlate_backward, (torch.randn_like(y), x, kernel, y, 0.1, dtype, x))


@pytest.fixture
def everywhere(monkeypatch):
    """The operator where the machine has no GPU: its own fallback computes."""
    monkeypatch.setattr(depthwise, "_has_kernel", lambda x, kernel: True)


def test_the_gradients_of_the_operator_are_right(everywhere):
    x, kernel = torch.randn(1, 2, 3, 4, dtype=torch.float64), torch.randn(1, 2, 3, 3, dtype=torch.float64)
    inputs = (x.requires_grad_(), kernel.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, kernel: dynamic_depthwise(x, kernel, 0.1), inputs)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_operator_gives_what_the_grouped_convolution_gives(autocast, monkeypatch):
    results = []
    x, kernel, weight = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 3, 3), torch.randn(2, 5, 6, 7)
    for has in (False, True):
        monkeypatch.setattr(depthwise, "_has_kernel", lambda x, kernel, has=has: has)
        inputs = (x.clone().requires_grad_(), kernel.clone().requires_grad_())
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = dynamic_depthwise(*inputs, 0.1)
        assert y.dtype == (torch.bfloat16 if autocast else torch.float32)
        (y * weight).sum().backward()
        results.append((y.detach(), inputs[0].grad, inputs[1].grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_trunk_beside_it_gets_the_gradient_of_both(autocast, monkeypatch):
    results = []
    x, kernel, weight = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 3, 3), torch.randn(2, 5, 6, 7)
    for has in (False, True):
        monkeypatch.setattr(depthwise, "_has_kernel", lambda x, kernel, has=has: has)
        inputs = (x.clone().requires_grad_(), kernel.clone().requires_grad_())
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            trunk, y = beside_depthwise(*inputs, 0.1)
        assert torch.equal(trunk, x)
        gradients = [torch.autograd.grad((part * weight).sum(), inputs[0], retain_graph=True)[0] for part in (trunk, y)]
        (trunk * weight + y * weight).sum().backward()
        torch.testing.assert_close(inputs[0].grad, sum(gradients))
        results.append((inputs[0].grad, inputs[1].grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_compile_sees_one_graph(everywhere):
    inputs = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 3, 3)
    assert_compiles(lambda x, kernel: dynamic_depthwise(x, kernel, 0.1), inputs)
    assert_compiles(lambda x, kernel: sum(beside_depthwise(x, kernel, 0.1)), inputs)


def test_a_second_derivative_is_refused(everywhere):
    """The kernels have none, and what PyTorch would compute in its place is wrong."""
    x, kernel = torch.randn(1, 2, 3, 4, requires_grad=True), torch.randn(1, 2, 3, 3, requires_grad=True)
    (dx,) = torch.autograd.grad(dynamic_depthwise(x, kernel, 0.1).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_the_self_check_tells_what_is_wrong():
    class Wrong:
        forward = staticmethod(lambda x, kernel, slope, dtype, keep: (depthwise.plain(x, kernel, slope), x))
        backward = staticmethod(lambda dy, x, kernel, y, slope, dtype, add_to: (torch.full_like(x, torch.nan), kernel))

    assert "dx in torch.float32" in depthwise.disagreement(Wrong, torch.device("cpu"), torch.float32)


@pytest.mark.slow
def test_the_triton_kernels_give_what_float64_gives(interpret):
    interpret("interpreted_depthwise.py")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernels_compile_without_spills(capability, tmp_path):
    """For GPUs of these generations, none of which is needed: registers, and bytes of stack and local memory."""
    for kernel in ("forward_kernel", "backward_kernel"):
        for x, y in (("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "bf16"), ("fp16", "fp16")):
            for unit in ("stride_c", "stride_w"):  # channels last, channels first
                used = usage(compiled_depthwise(kernel, capability, x, y, unit, rows=64), tmp_path)
                assert used["STACK"] == used["LOCAL"] == 0, (kernel, x, y, unit)
                most = 128 if y != "fp32" and capability < 100 else 168  # so that 512 threads fit a processor, or 384
                assert used["REG"] <= most, (kernel, x, y, unit)


@pytest.mark.parametrize(("kernel", "values"), [("forward_kernel", 2), ("backward_kernel", 13)])
def test_the_compiler_carries_every_row_and_sum_on(kernel, values):
    """Triton drops what it takes to be the same in every turn of a loop; its interpreter cannot show that."""
    assert carried(compiled_depthwise(kernel, 90, "fp32", "fp32", "stride_c")) == values


def compiled_depthwise(name, capability, x, y, unit, rows=16):
    pytest.importorskip("triton")
    from model.op import depthwise_triton

    kernel = getattr(depthwise_triton, name)
    # The backward reads x as it is kept, and makes the gradient of x as it was.
    types = {
        "x": f"*{y if name == 'backward_kernel' else x}",
        "dx": f"*{x}",
        "y": f"*{y}",
        "dy": f"*{y}",
        "kept": f"*{y}",
    }
    types |= {"kernel": "*fp32", "sums": "*fp32", "slope": "fp32"}
    types["add_to"] = types["dx"]
    constants = {key: depthwise_triton.TILE[key] for key in ("BW", "BC")} | {"ROWS": rows, unit: 1, "ADD": True}
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    constants |= {"KEEP": x != y} if "KEEP" in kernel.arg_names else {}
    return compiled(kernel, capability, types, constants, depthwise_triton.OPTIONS)
