"""Attention between two vectors, the content query of CDSR's DQA."""

import pytest
import torch

from model.op import outer, outer_attention
from tests.model.op.triton_tools import compiled, usage


def arguments(b=2, c=5, dtype=torch.float64):
    torch.manual_seed(0)
    mean, key, value, code = torch.randn(4, b, c, dtype=dtype).unbind()
    weight, bias, gamma = (torch.randn(size, dtype=dtype) for size in ((c, c), (c,), (1,)))
    return [t.requires_grad_() for t in (mean, weight, bias, key, value, code, gamma)]


def attend(mean, weight, bias, *others):
    return outer_attention(mean, (weight, bias), *others)


def test_it_is_the_code_and_the_mean_of_values_by_the_softmax_of_an_outer_product():
    mean, weight, bias, key, value, code, gamma = arguments()
    out = attend(mean, weight, bias, key, value, code, gamma)
    query = mean @ weight.T + bias
    for b in range(2):
        for i in range(5):
            weights = torch.softmax(query[b, i] * key[b], 0)
            torch.testing.assert_close(out[b, i], code[b, i] + gamma[0] * (weights * value[b]).sum())


@pytest.mark.parametrize("has", [False, True])
def test_its_gradients_are_right(has, monkeypatch):
    monkeypatch.setattr(outer, "_has_kernel", lambda mean: has)
    assert torch.autograd.gradcheck(attend, arguments())


@pytest.mark.slow
def test_the_operator_keeps_the_rules_of_pytorch():
    mean, weight, bias, key, value, code, gamma = (t.detach() for t in arguments(dtype=torch.float32))
    torch.library.opcheck(outer.attention, (mean, weight, bias, key, value, code, gamma))
    torch.library.opcheck(outer.attention_backward, (torch.randn_like(code), mean, weight, bias, key, value, gamma))


@pytest.mark.parametrize("autocast", [False, True])
def test_the_operator_gives_what_products_give(autocast, monkeypatch):
    results = []
    for has in (False, True):
        monkeypatch.setattr(outer, "_has_kernel", lambda mean, has=has: has)
        inputs = arguments(dtype=torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = attend(*inputs)
        assert y.dtype == torch.float32
        y.square().sum().backward()
        results.append((y.detach(), *(t.grad for t in inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_self_check_tells_what_is_wrong():
    class Wrong:
        forward = staticmethod(outer.plain)
        backward = staticmethod(lambda *args: (torch.zeros(3, 64),) * 5)

    assert "the gradient of the mean" in outer.disagreement(Wrong, torch.device("cpu"), torch.float32)


@pytest.mark.slow
def test_the_triton_kernels_give_what_float64_gives(interpret):
    interpret("interpreted_outer.py")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_triton_kernels_compile_without_spills(capability, tmp_path):
    pytest.importorskip("triton")
    from model.op import outer_triton

    for kernel in (outer_triton.forward_kernel, outer_triton.backward_kernel):
        types = {name: "*fp32" for name in kernel.arg_names if name != "C"}
        binary = compiled(kernel, capability, types, {"BC": outer.LARGEST}, outer_triton.OPTIONS)
        used = usage(binary, tmp_path)
        assert used["STACK"] == used["LOCAL"] == 0, kernel
