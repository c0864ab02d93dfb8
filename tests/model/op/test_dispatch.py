"""Which GPUs run the Triton kernels."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model.op import dispatch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgotten():
    dispatch._check.cache_clear()
    yield
    dispatch._check.cache_clear()


def test_kernels_that_fail_are_not_used_and_a_warning_says_so_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "model.op.dense_triton", None)  # cannot be imported
    with pytest.warns(UserWarning, match="dense blocks run without Triton's kernels.*fail"):
        assert not dispatch.self_check("dense", CPU, torch.bfloat16)
    assert not dispatch.self_check("dense", CPU, torch.bfloat16)  # a second warning would be an error


@pytest.mark.parametrize("name", dispatch.OPERATORS)
def test_kernels_that_err_are_not_used(name, monkeypatch):
    module = importlib.import_module(f"model.op.{name}")
    monkeypatch.setitem(sys.modules, f"model.op.{name}_triton", SimpleNamespace())
    monkeypatch.setattr(module, "disagreement", lambda kernels, device, dtype: "they err")
    with pytest.warns(UserWarning, match="without Triton's kernels.*they err"):
        assert not dispatch.self_check(name, CPU, torch.float32)


def test_the_kernels_that_a_run_uses_are_checked_once(monkeypatch):
    checked = []
    for name, module in ((name, importlib.import_module(f"model.op.{name}")) for name in dispatch.OPERATORS):
        monkeypatch.setitem(sys.modules, f"model.op.{name}_triton", SimpleNamespace())
        monkeypatch.setattr(
            module, "disagreement", lambda kernels, device, dtype, name=name: checked.append((name, dtype))
        )
    for _ in range(2):
        assert all(dispatch.self_check(name, CPU, torch.bfloat16) for name in dispatch.OPERATORS)
    assert dispatch.self_check("mlp", CPU, torch.float32)
    kinds = dict.fromkeys(dispatch.OPERATORS, torch.bfloat16) | {"outer": torch.float32, "mlp": torch.float32}
    assert checked == list(kinds.items())


class OnGPU:
    is_cuda, device = True, torch.device("cuda", 1)

    def get_device(self):
        return 1


@pytest.mark.parametrize("current", [0, 1])
@pytest.mark.parametrize("right", [True, False])
def test_kernels_run_where_they_are_right_on_and_on_the_current_gpu(right, current, monkeypatch):
    monkeypatch.setattr(dispatch, "_switched_on", set(dispatch.OPERATORS))
    monkeypatch.setattr(dispatch, "self_check", lambda name, device, dtype: right)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    dispatch.switch_off(["outer"])
    run = [name for name in dispatch.OPERATORS if dispatch.runs_kernels(name, OnGPU(), torch.float32)]  # pyright: ignore[reportArgumentType]
    assert run == ([name for name in dispatch.OPERATORS if name != "outer"] if right and current == 1 else [])


def test_the_package_can_be_imported_again():
    """As notebooks do when code has changed, and whoever tries again after an interrupted import."""
    program = """
import importlib, sys, torch
import model.op.attended
importlib.reload(model.op.attended)
for name in [name for name in sys.modules if name.startswith("model")]:
    del sys.modules[name]
from model.op import attended
y = torch.ops.model.attend(*(torch.ones(shape) for shape in ((1, 2, 3, 3), (2,), (1, 2, 3, 3), (1, 2, 1, 1))), 0.1)
assert y.eq(3).all()
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True)
