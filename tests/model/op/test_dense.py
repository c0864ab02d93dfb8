"""The growing maps of a dense block."""

import pytest
import torch
import torch.nn.functional as F

from model.autocast import to_autocast
from model.layer import RDB
from model.op import dense, dense_maps
from tests.model.op.triton_tools import (
    assert_compiles,
    assert_moves_16_bytes_at_once,
    assert_trains_alone,
    compiled,
    usage,
)

SLOPE = 0.2
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def layers(n_in, growths, k=3, dtype=torch.float64):
    torch.manual_seed(0)
    found = []
    for growth in growths:
        shapes = (growth, n_in, k, k), (growth,)
        found.append(tuple((0.3 * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes))
        n_in += growth
    return found


FLAT = [torch.rand(2, 4, 5, 6), *(t for layer in layers(4, (3, 2), dtype=torch.float32) for t in layer)]


def in_channels_last(t):
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


@pytest.fixture
def everywhere(monkeypatch):
    """The operators where the machine has no GPU: their references compute."""
    monkeypatch.setattr(dense, "_has_kernel", lambda *_: True)


def of_flat(x, weight1, bias1, weight2, bias2):
    return dense_maps(x, [(weight1, bias1), (weight2, bias2)], SLOPE)


def one_by_one(x, layers, slope):
    x = to_autocast(x)
    for weight, bias in layers:
        x = torch.cat((x, F.leaky_relu(F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2), slope)), 1)
    return x


def results(function, x, layers, autocast=False):
    parameters = [t for layer in layers for t in layer]
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = function(x, layers, SLOPE)
    return [y, *torch.autograd.grad(y.float().square().sum(), [x, *parameters])]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kernel", [False, True])
def test_each_layer_sees_all_maps_before_it(kernel, autocast, layout, monkeypatch):
    monkeypatch.setattr(dense, "_has_kernel", lambda *_: kernel)  # without a GPU, the operator runs its reference
    x = torch.randn(2, 5, 7, 6).contiguous(memory_format=layout)
    wanted = layers(5, (3, 3, 4), dtype=torch.float32)
    ours, theirs = (results(function, x, wanted, autocast) for function in (dense_maps, one_by_one))
    assert ours[0].is_contiguous(memory_format=layout)
    for found, expected in zip(ours, theirs, strict=True):
        assert found.dtype == expected.dtype
        # The operator rounds before it adds the bias, too.
        tolerance = 0.05 if autocast and kernel else 1e-5
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("growths", [(3, 1), (2,), (1, 2, 3)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_its_gradients_are_right(k, growths, kernel, monkeypatch):
    monkeypatch.setattr(dense, "_has_kernel", lambda *_: kernel)
    wanted = layers(2, growths, k)
    x = in_channels_last(torch.randn(2, 2, 3, 4, dtype=torch.float64)).requires_grad_()
    flat = [t for layer in wanted for t in layer]
    pairs = lambda flat: list(zip(flat[::2], flat[1::2], strict=True))  # noqa: E731
    assert torch.autograd.gradcheck(lambda x, *flat: dense_maps(x, pairs(flat), SLOPE), (x, *flat))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_backward_in_channels_last_gives_what_the_plain_one_gives(dtype, everywhere, monkeypatch):
    x = in_channels_last(torch.randn(2, 8, 5, 6, dtype=dtype))
    wanted = layers(8, (4, 4, 4, 4), dtype=dtype)
    found = []
    for layout in (dense.dispatch.layout, lambda x: torch.contiguous_format):
        monkeypatch.setattr(dense.dispatch, "layout", layout)
        found.append(results(dense_maps, x, wanted))
    assert not found[1][0].is_contiguous(memory_format=torch.channels_last)  # so it was the plain one
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * theirs.abs().max().item())


def test_the_backward_leaves_the_gradient_that_it_is_given_alone(everywhere):
    x = in_channels_last(torch.randn(2, 8, 5, 6)).requires_grad_()
    y = dense_maps(x, layers(8, (4, 4), dtype=torch.float32), SLOPE)
    given = torch.randn_like(y)
    before = given.clone()
    y.backward(given)
    assert torch.equal(given, before)


def test_gradients_are_laid_out_as_what_they_are_of(everywhere):
    """One weight's gradient with gaps, and autocast would convert those of all weights one by one."""
    x = in_channels_last(torch.randn(2, 8, 5, 6)).requires_grad_()
    flat = [
        in_channels_last(t.detach()).requires_grad_() for pair in layers(8, (4, 4), dtype=torch.float32) for t in pair
    ]
    found = torch.autograd.grad(of_flat(x, *flat).square().sum(), [x, *flat])
    assert [t.stride() for t in found] == [t.stride() for t in (x, *flat)]


def test_a_second_derivative_in_channels_last_is_refused(everywhere):
    """The kernels have none, and what PyTorch would compute in its place is wrong."""
    inputs = [in_channels_last(t.detach()).requires_grad_() for t in FLAT]
    (dx,) = torch.autograd.grad(of_flat(*inputs).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_each_map_is_kept_once():
    kept = []

    def note(t):
        kept.append(t)
        return t

    x, wanted = torch.randn(1, 8, 9, 9, requires_grad=True), layers(8, (4, 4, 4, 4), dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        y = dense_maps(x, wanted, SLOPE)
    maps = [t for t in kept if t.shape[2:] == x.shape[2:]]
    assert [t.data_ptr() for t in maps] == [y.data_ptr()]


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("lay_out", [torch.Tensor.contiguous, in_channels_last])
def test_it_compiles(lay_out, kernel, monkeypatch):
    monkeypatch.setattr(dense, "_has_kernel", lambda *_: kernel)
    assert_compiles(of_flat, [lay_out(t.detach()) for t in FLAT])


def test_a_whole_block_compiles_in_bf16():
    block = RDB(8).to(memory_format=torch.channels_last)

    def run(x):
        with torch.autocast("cpu", torch.bfloat16):
            return block(x)

    assert_compiles(run, [torch.rand(2, 8, 6, 7).contiguous(memory_format=torch.channels_last)])


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("frozen", [0, 1, 2, 4])
def test_only_what_is_trained_gets_a_gradient(frozen, kernel, monkeypatch):
    """x, then weight and bias of both layers; the others' gradients stay the same."""
    monkeypatch.setattr(dense, "_has_kernel", lambda *_: kernel)
    assert_trains_alone(of_flat, lambda: map(in_channels_last, FLAT), set(range(frozen)))


@pytest.mark.parametrize("trained", [0, 1, 2, 3, 4])
def test_what_alone_is_trained_gets_its_gradient_in_channels_last(trained, everywhere):
    found = []
    for alone in (False, True):
        tensors = [in_channels_last(t.detach()).requires_grad_(not alone or i == trained) for i, t in enumerate(FLAT)]
        of_flat(*tensors).square().sum().backward()
        found.append([t.grad for t in tensors])
    assert [i for i, t in enumerate(found[1]) if t is not None] == [trained]
    assert torch.equal(found[0][trained], found[1][trained])


@pytest.mark.parametrize("n", [8, 9])
def test_maps_that_the_kernel_cannot_address_are_left_to_pytorch(n, monkeypatch):
    monkeypatch.setattr(dense.dispatch, "has_kernels", lambda name, x: True)
    monkeypatch.setattr(dense.dispatch, "INDEX", 6 * 6 * (n + 32))
    assert dense._has_kernel(torch.rand(1, 8, 6, 6), torch.rand(32, 8, 3, 3)) == (n > 8)


@pytest.mark.slow
def test_the_operator_keeps_the_rules_of_pytorch():
    for layout in LAYOUTS:
        seen, y = (torch.randn(2, c, 4, 5).contiguous(memory_format=layout) for c in (6, 3))
        for given in (seen, torch.cat((seen, seen), 1)[:, 6:]):  # with gaps
            torch.library.opcheck(dense.append, (given, y, torch.randn(3), SLOPE))
    gradient, more, seen, dys = (in_channels_last(torch.randn(2, c, 4, 5)) for c in (11, 9, 11, 7))
    for added in (None, more):
        given = gradient[:, :9], added, seen[:, 6:9], dys[:, 2:5], torch.empty(1, 7)[:, 2:5]
        torch.library.opcheck(dense.peel, (*given, SLOPE))


def test_the_self_check_tells_what_is_wrong():
    class Right:
        append = staticmethod(dense.plain)
        peel = staticmethod(dense.plain_peel)

    class AppendsWrongly(Right):
        append = staticmethod(lambda seen, y, bias, slope: dense.plain(seen, y, bias, 0.101))

    class PeelsWrongly(Right):
        @staticmethod
        def peel(gradient, more, seen, dys, sums, slope):
            return dense.plain_peel(gradient, more, seen, dys, sums, 0.101)

    class SumsNothing(Right):
        @staticmethod
        def peel(gradient, more, seen, dys, sums, slope):
            return dense.plain_peel(gradient, more, seen, dys, torch.empty_like(sums), slope)

    class KeepsNoCopy(Right):
        @staticmethod
        def peel(gradient, more, seen, dys, sums, slope):
            return dense.plain_peel(gradient, more, seen, torch.empty_like(dys), sums, slope)

    cpu = torch.device("cpu")
    assert dense.disagreement(Right, cpu, torch.float32) == ""
    assert "append" in dense.disagreement(AppendsWrongly, cpu, torch.float32)
    assert "the dy that they peel off in torch.float32" in dense.disagreement(PeelsWrongly, cpu, torch.float32)
    assert "the db" in dense.disagreement(SumsNothing, cpu, torch.float32)
    assert "the copy of dy" in dense.disagreement(KeepsNoCopy, cpu, torch.float32)


@pytest.mark.slow
def test_the_triton_kernels_give_what_float64_gives(interpret):
    interpret("interpreted_dense.py")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernel_compiles_without_spills_and_moves_16_bytes_at_once(capability, dtype, tmp_path):
    assert_moves_16_bytes_at_once("model.op.dense_triton", "append_kernel", dtype, capability, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernel_of_the_backward_does_so_too(capability, dtype, adds, tmp_path):
    pytest.importorskip("triton")
    from model.op import dense_triton as kernels

    kernel = kernels.peel_kernel
    types = {name: f"*{dtype}" for name in kernel.arg_names if name.islower()} | {"slope": "fp32", "sums": "*fp32"}
    constants = {"ADDS": adds, "ROWS": kernels.ROWS, "CHANNELS": kernels.CHANNELS}
    binary = compiled(kernel, capability, types, constants, kernels.OPTIONS)
    used = usage(binary, tmp_path)
    assert used["STACK"] == used["LOCAL"] == 0
    assert used["REG"] <= 64  # so that 1024 threads fit a processor
    maps = [line for line in binary.asm["ptx"].splitlines() if "ld.global" in line or "st.global" in line]
    narrow = [line for line in maps if ".v4" not in line]
    assert len(narrow) == 1  # sums of channels, four bytes for a thread
