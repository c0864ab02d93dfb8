"""The examples in docstrings are true, and every public function of degradations and protocols has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import data

MODULES = [importlib.import_module(found.name) for found in pkgutil.walk_packages(data.__path__, "data.")]
COMPLETE = [module for module in MODULES if module.__name__.startswith(("data.degradation.", "data.protocol"))]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("module", COMPLETE, ids=lambda module: module.__name__)
def test_every_public_function_has_an_example(module: ModuleType) -> None:
    functions = [thing for name, thing in inspect.getmembers(module, inspect.isfunction) if not name.startswith("_")]
    own = [thing for thing in functions if thing.__module__ == module.__name__]
    assert [thing.__name__ for thing in own if ">>>" not in (thing.__doc__ or "")] == []
