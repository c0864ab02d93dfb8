"""The examples in the docstrings give what they say."""

import doctest
import importlib

import pytest

MODULES = ["cost", "evaluate", "metric", "niqe", "photo_scores", "photographs", "report", "results", "statistics"]


@pytest.mark.parametrize("module", [*MODULES, "strips", "tables"])
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"evaluation.{module}"))
    assert results.attempted > 0
    assert results.failed == 0
