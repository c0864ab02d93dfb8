"""Which GPUs run the Triton kernels."""

import sys

import pytest
import torch

from model.op import dispatch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgotten():
    dispatch.self_check.cache_clear()
    yield
    dispatch.self_check.cache_clear()


def test_kernels_that_fail_are_not_used_and_a_warning_says_so_once(monkeypatch):
    for name in dispatch.OPERATORS:
        monkeypatch.setitem(sys.modules, f"model.op.{name}_triton", None)  # cannot be imported
    with pytest.warns(UserWarning, match="without Triton's kernels.*fail") as caught:
        assert dispatch.self_check(CPU) == set(dispatch.OPERATORS)
    assert len(caught) == len(dispatch.OPERATORS)
    assert dispatch.self_check(CPU) == set(dispatch.OPERATORS)  # further warnings would be errors


@pytest.mark.parametrize("name", dispatch.OPERATORS)
def test_kernels_that_err_are_not_used_but_all_others_are(name, monkeypatch):
    monkeypatch.setattr(dispatch, "_disagreement", lambda other, device: "they err" if other == name else "")
    monkeypatch.setattr(dispatch, "has_kernels", lambda name, x: True)
    with pytest.warns(UserWarning, match=f"without Triton's kernels for {name}.*err"):
        used = [other for other in dispatch.OPERATORS if dispatch.runs_kernels(other, torch.randn(1))]
    assert used == [other for other in dispatch.OPERATORS if other != name]


def test_the_switch_turns_kernels_off(monkeypatch):
    class OnGPU:
        is_cuda = True

    monkeypatch.setattr(dispatch, "_switched_on", set(dispatch.OPERATORS))
    dispatch.switch_off(["outer"])
    on = [name for name in dispatch.OPERATORS if dispatch.has_kernels(name, OnGPU)]  # pyright: ignore[reportArgumentType]
    assert on == ["depthwise", "dense", "attended"]
    assert not any(dispatch.runs_kernels(name, torch.randn(1)) for name in dispatch.OPERATORS)
