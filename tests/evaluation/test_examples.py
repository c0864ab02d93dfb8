"""The examples in the docstrings give what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    ["cost", "evaluate", "metric", "niqe", "photo_scores", "photographs", "report", "results", "statistics", "tables"],
)
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"evaluation.{module}"))
    assert results.attempted > 0
    assert results.failed == 0
