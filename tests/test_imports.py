"""The arrows between the rooms point one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from utility import ROOT

HALLWAY = {
    *("main", "test", "option", "flags", "published", "parts", "trainer", "utility"),
    *("hubconf", "conftest"),
}
ROOMS = {"model", "data", "loss", "runtime", "evaluation"}
BUILT_ON_OPTIONS = {"preflight"}  # a folder at the height of the hallway
ARROWS = {  # what each may import of ours
    "model": set(),
    "utility": set(),
    "published": set(),
    "flags": set(),
    "hubconf": set(),  # loads model/ as the package blindsr
    "conftest": set(),
    "runtime": {"utility"},
    "data": {"runtime", "utility"},
    "loss": {"model", "data", "runtime", "utility"},
    "evaluation": {"model", "data", "runtime", "utility"},
    "trainer": {"loss", "model", "data", "evaluation", "runtime", "utility"},
    "option": {"flags", "published", "utility"},
    "parts": {"option", "flags", "published", "model", "data", "loss", "runtime"},
    "preflight": {"option", "flags", "parts", "trainer", "utility", *ROOMS},
    "main": (HALLWAY | ROOMS | BUILT_ON_OPTIONS) - {"main", "hubconf", "conftest"},
    "test": (HALLWAY | ROOMS) - {"main", "test", "hubconf", "conftest"},
}


def files(name: str) -> list[Path]:
    return sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the modules that a file imports anywhere in it, under TYPE_CHECKING and in functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            (name,) = node.args[:1]
            if isinstance(name, ast.Constant):
                yield str(name.value).partition(".")[0], node.lineno


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_the_arrows(name):
    allowed = ARROWS[name] | {name}
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in files(name)
        for module, line in imported(file)
        if module in (HALLWAY | ROOMS | BUILT_ON_OPTIONS) - allowed
    ]
    assert wrong == []


def test_relative_imports_stay_in_the_package_that_is_installed():
    """model/ is installed under another name: its own imports are relative, and none leaves it."""
    for file in files("model"):
        depth = len(file.relative_to(ROOT / "model").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth, (file, node.lineno)
                assert (node.module or "").partition(".")[0] != "model", (file, node.lineno)
            elif isinstance(node, ast.Import):
                assert all(alias.name.partition(".")[0] != "model" for alias in node.names), (file, node.lineno)


def test_the_root_holds_the_hallway_alone():
    assert {file.stem for file in ROOT.glob("*.py")} == HALLWAY
    rooms = {folder.name for folder in ROOT.iterdir() if folder.is_dir() and any(folder.glob("*.py"))}
    with_tests = {"tests"} if any((ROOT / "tests").glob("*.py")) else set()
    assert rooms - {"build"} == ROOMS | BUILT_ON_OPTIONS | {"scripts"} | with_tests


HEAVY = {"torchvision", "matplotlib", "skimage", "sklearn", "tensorboard", "torchmetrics", "pyiqa", "triton", "scipy"}
PROBE = """
import json, sys
try:
    {statement}
except SystemExit:
    pass
print("\\n" + json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import main; main.main(['--help'])",
        "import main; main.main(['--modle', 'CDSR'])",
        "import test; test.main(['--help'])",
        "import option",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement):
    code = PROBE.format(statement=statement)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert modules & HEAVY == set()
    if statement == "import option":
        assert modules & (ROOMS | BUILT_ON_OPTIONS | {"main", "trainer"}) == set()


def test_the_launcher_is_imported_by_those_who_launch():
    code = "import sys, main; sys.exit('torch.distributed.launcher' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
