"""The examples in docstrings are true, and every public function of `data.degradation` has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import data.degradation
import data.factory
import data.protocol
import data.protocol_file
import data.protocol_flags

MODULES = [
    *(
        importlib.import_module(f"data.degradation.{found.name}")
        for found in pkgutil.iter_modules(data.degradation.__path__)
    ),
    data.factory,
    data.protocol,
    data.protocol_file,
    data.protocol_flags,
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("module", [m for m in MODULES if m is not data.factory], ids=lambda module: module.__name__)
def test_every_public_function_has_an_example(module: ModuleType) -> None:
    functions = [thing for name, thing in inspect.getmembers(module, inspect.isfunction) if not name.startswith("_")]
    own = [thing for thing in functions if thing.__module__ == module.__name__]
    assert [thing.__name__ for thing in own if ">>>" not in (thing.__doc__ or "")] == []
