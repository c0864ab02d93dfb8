"""The stages of the upsampler: convolutions, each with a pixel shuffle."""

import pytest
import torch
import torch.nn.functional as F

from model.op import shuffle as operator
from model.op import shuffled_convolutions
from tests.model.op.triton_tools import assert_compiles, assert_trains_alone, carried, compiled, usage

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def arguments(layout=torch.channels_last, dtype=torch.float32, factor=2):
    """Return x, weight and bias."""
    torch.manual_seed(0)
    shapes = (2, 4, 6, 7), (5 * factor**2, 4, 3, 3), (5 * factor**2,)
    x, weight, bias = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [t.requires_grad_() for t in (x.contiguous(memory_format=layout), weight, bias)]


def ours(x, weight, bias):
    return shuffled_convolutions(x, [((weight, bias), int((len(bias) / 5) ** 0.5))])


def theirs(x, weight, bias):
    return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), int((len(bias) / 5) ** 0.5))


@pytest.fixture(params=[False, True], ids=["plain", "operator"])
def has_kernel(request, monkeypatch):
    """Without a GPU, the operator runs its reference."""
    monkeypatch.setattr(operator, "_has_kernel", lambda x, weight: request.param)


@pytest.mark.usefixtures("has_kernel")
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("autocast", [False, True])
def test_it_is_a_convolution_and_a_pixel_shuffle(autocast, layout, factor):
    results = []
    for function in (ours, theirs):
        inputs = arguments(layout, factor=factor)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = function(*inputs)
        assert out.is_contiguous(memory_format=layout)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), inputs)])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        # The operator rounds what the convolution gives before the bias is added.
        tolerance = 0.02 if autocast else 1e-5
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.usefixtures("has_kernel")
def test_stages_follow_each_other():
    x, weight, bias = arguments()
    parameters = weight.new_ones(12, 5, 1, 1), weight.new_ones(12)
    found = shuffled_convolutions(x, [((weight, bias), 2), (parameters, 2)])
    expected = F.pixel_shuffle(F.conv2d(theirs(x, weight, bias), *parameters), 2)
    assert found.shape == (2, 3, 24, 28)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_on_a_cpu_it_keeps_the_bits(layout, autocast):
    inputs = arguments(layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(ours(*inputs), theirs(*inputs))


@pytest.mark.usefixtures("has_kernel")
def test_its_gradients_are_right():
    x, weight, bias = (t.detach() for t in arguments(dtype=torch.float64))
    few = x[:1, :2, :2, :3].contiguous(memory_format=torch.channels_last), weight[:, :2, :1, :1].contiguous(), bias
    assert torch.autograd.gradcheck(ours, [t.requires_grad_() for t in few])


@pytest.mark.usefixtures("has_kernel")
def test_it_compiles():
    assert_compiles(ours, arguments())


@pytest.mark.usefixtures("has_kernel")
@pytest.mark.parametrize("frozen", range(4))
def test_only_what_is_trained_gets_a_gradient(frozen):
    assert_trains_alone(ours, arguments, {frozen})


def test_a_second_derivative_is_refused(monkeypatch):
    """The kernels have none."""
    monkeypatch.setattr(operator, "_has_kernel", lambda x, weight: True)
    x, weight, bias = arguments()
    (dx,) = torch.autograd.grad(ours(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_operators_keep_the_rules_of_pytorch(layout, factor):
    y = torch.randn(2, 5 * factor**2, 3, 4).contiguous(memory_format=layout)
    torch.library.opcheck(operator.shuffle, (y, torch.randn(5 * factor**2), factor))
    dy = torch.randn(2, 5, 3 * factor, 4 * factor).contiguous(memory_format=layout)
    torch.library.opcheck(operator.unshuffle, (dy, factor))


class Right:
    shuffle = staticmethod(operator.plain)
    unshuffle = staticmethod(operator.plain_backward)


class WrongBias(Right):
    shuffle = staticmethod(lambda y, bias, factor: operator.plain(y, 1.1 * bias, factor))


class WrongOrder(Right):
    unshuffle = staticmethod(lambda dy, factor: operator.plain_backward(dy.mT.contiguous().view_as(dy), factor))


def test_the_self_check_tells_what_is_wrong():
    cpu = torch.device("cpu")
    assert "the result of their shuffle" in operator.disagreement(WrongBias, cpu, torch.float32)
    assert "the dy of their shuffle" in operator.disagreement(WrongOrder, cpu, torch.float32)
    assert operator.disagreement(Right, cpu, torch.float32) == ""


@pytest.mark.slow
def test_the_triton_kernels_give_what_float64_gives(interpret):
    interpret("interpreted_shuffle.py")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["shuffle_kernel", "unshuffle_kernel"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernels_compile_without_spills_and_move_16_bytes_at_once(capability, name, dtype, tmp_path):
    binary = compiled_shuffle(name, capability, dtype)
    used = usage(binary, tmp_path)
    assert used["STACK"] == used["LOCAL"] == 0
    assert used["REG"] <= 80  # so that six programs fit a processor
    for access in ("ld", "st"):
        wide, narrow = (binary.asm["ptx"].count(f"{access}.global.{kind}") for kind in ("v4", "b"))
        assert wide == (2 if dtype == "bf16" else 4)  # 16 values a thread
        assert narrow <= 1  # of the bias, and of sums


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shuffle_kernel", "unshuffle_kernel"])
def test_the_triton_kernels_compile_for_threefold_enlargement(name, tmp_path):
    used = usage(compiled_shuffle(name, 90, "bf16", factor=3), tmp_path)
    assert used["STACK"] == used["LOCAL"] == 0


def test_the_compiler_carries_the_sum_on():
    """Triton drops what it takes to be the same in every turn of a loop; its interpreter cannot show that."""
    assert carried(compiled_shuffle("unshuffle_kernel", 90, "bf16")) == 1


def compiled_shuffle(name, capability, dtype, factor=2):
    pytest.importorskip("triton")
    from model.op import shuffle_triton

    kernel = getattr(shuffle_triton, name)
    types = {name: f"*{dtype}" for name in kernel.arg_names if name.islower()} | {"sums": "*fp32"}
    return compiled(kernel, capability, types, shuffle_triton.sizes(factor), shuffle_triton.OPTIONS)
