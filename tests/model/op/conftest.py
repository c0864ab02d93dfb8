"""Triton's interpreter, in which kernels run without a GPU."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.forks import forking
from utility import ROOT


@pytest.fixture(scope="session")
def interpret() -> Iterator[Callable[[str], None]]:
    """Runs a program beside this file in Triton's interpreter, which must be asked for before Triton is imported."""
    pytest.importorskip("triton")
    with forking(["model.op", "tests.model.op.interpreter"], TRITON_INTERPRET="1") as python:

        def run(program: str) -> None:
            command = [python, Path(__file__).with_name(program)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

        yield run
