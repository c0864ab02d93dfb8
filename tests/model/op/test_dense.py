"""The growing maps of a dense block."""

import pytest
import torch
import torch.nn.functional as F

from model.autocast import to_autocast
from model.layer import RDB
from model.op import dense, dense_maps
from tests.model.op.triton_tools import assert_compiles, assert_moves_16_bytes_at_once, interpret

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


@pytest.mark.parametrize("k", [1, 3, 5])
def test_its_gradients_are_right(k):
    wanted = layers(2, (3, 1), k)
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    flat = [t for layer in wanted for t in layer]
    pairs = lambda flat: list(zip(flat[::2], flat[1::2], strict=True))  # noqa: E731
    assert torch.autograd.gradcheck(lambda x, *flat: dense_maps(x, pairs(flat), SLOPE), (x, *flat))


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
def test_it_compiles(kernel, monkeypatch):
    monkeypatch.setattr(dense, "_has_kernel", lambda *_: kernel)
    assert_compiles(of_flat, FLAT)


def test_a_whole_block_compiles_in_bf16():
    block = RDB(8).to(memory_format=torch.channels_last)

    def run(x):
        with torch.autocast("cpu", torch.bfloat16):
            return block(x)

    assert_compiles(run, [torch.rand(2, 8, 6, 7).contiguous(memory_format=torch.channels_last)])


@pytest.mark.parametrize("frozen", [0, 1, 2, 4])
def test_only_what_is_trained_gets_a_gradient(frozen):
    """x, then weight and bias of both layers; the others' gradients stay the same."""
    found = []
    for frozen_too in (False, True):
        tensors = [t.detach().requires_grad_(not (frozen_too and i < frozen)) for i, t in enumerate(FLAT)]
        of_flat(*tensors).square().sum().backward()
        found.append([t.grad for t in tensors])
    for i, (all_, some) in enumerate(zip(*found, strict=True)):
        assert (some is None) == (i < frozen)
        assert some is None or torch.equal(all_, some)


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


def test_the_self_check_tells_what_is_wrong():
    class Wrong:
        append = staticmethod(lambda seen, y, bias, slope: dense.plain(seen, y, bias, 0.101))

    class Right:
        append = staticmethod(dense.plain)

    assert "append" in dense.disagreement(Wrong, torch.device("cpu"))
    assert dense.disagreement(Right, torch.device("cpu")) == ""


@pytest.mark.slow
def test_the_triton_kernel_gives_what_float64_gives():
    interpret("interpreted_dense.py")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernel_compiles_without_spills_and_moves_16_bytes_at_once(capability, dtype, tmp_path):
    assert_moves_16_bytes_at_once("model.op.dense_triton", "append_kernel", dtype, capability, tmp_path)
