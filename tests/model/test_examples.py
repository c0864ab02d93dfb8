"""The examples in the docstrings of model/ run and give what they say."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import evaluation
import model
from data import degradation

MODULES = ["model", *(module.name for module in pkgutil.walk_packages(model.__path__, "model."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name.endswith("_triton"):
        pytest.importorskip("triton")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_network_has_an_example():
    ours = ("KDSR_T", "KDSR_S", "CDSR", "DASR", "IKC", "EDSR", "RRDB", "BICUBIC")  # not those that users add
    assert [name for name in ours if ">>>" not in (model.NETWORKS[name].__doc__ or "")] == []


@pytest.mark.parametrize("package", [model, evaluation, degradation], ids=lambda package: package.__name__)
def test_every_public_function_has_an_example(package):
    functions = [
        item for item in vars(package).values() if inspect.isfunction(item) and item.__name__ in package.__all__
    ]
    assert [function.__name__ for function in functions if ">>>" not in (function.__doc__ or "")] == []
