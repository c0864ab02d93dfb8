"""Which GPUs run the Triton kernels."""

import sys

import pytest
import torch

from model.op import dispatch


def test_kernels_that_fail_are_not_used(monkeypatch):
    """And the warning says so once."""
    monkeypatch.setitem(sys.modules, "model.op.depthwise_triton", None)  # cannot be imported
    dispatch.self_check.cache_clear()
    with pytest.warns(UserWarning, match="without Triton's kernels.*fail"):
        assert not dispatch.self_check(torch.device("cpu"))
    assert not dispatch.self_check(torch.device("cpu"))  # a second warning would be an error
    dispatch.self_check.cache_clear()


@pytest.mark.parametrize("name", dispatch.OPERATORS)
def test_kernels_that_err_are_not_used(name, monkeypatch):
    def wrong(other, device):
        return "they err" if other == name else ""

    monkeypatch.setattr(dispatch, "_disagreement", wrong)
    dispatch.self_check.cache_clear()
    with pytest.warns(UserWarning, match="without Triton's kernels.*err"):
        assert not dispatch.self_check(torch.device("cpu"))
    dispatch.self_check.cache_clear()


def test_the_switch_turns_the_kernels_off(monkeypatch):
    class OnGPU:
        is_cuda = True

    monkeypatch.setattr(dispatch, "_switch", {"kernels": True})
    assert dispatch.has_kernels(OnGPU)  # pyright: ignore[reportArgumentType]
    dispatch.use_kernels(False)
    assert not dispatch.has_kernels(OnGPU)  # pyright: ignore[reportArgumentType]
    assert not dispatch.runs_kernels(torch.randn(1))
