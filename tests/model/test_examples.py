"""The examples in the docstrings of model/ run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import model

MODULES = ["model", *(module.name for module in pkgutil.walk_packages(model.__path__, "model."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name.endswith("_triton"):
        pytest.importorskip("triton")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_network_has_an_example():
    for network in model.NETWORKS.values():
        assert doctest.DocTestFinder(recurse=False).find(network)[0].examples, network
