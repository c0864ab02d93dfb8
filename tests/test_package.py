"""`pip install .` installs model/ as `blindsr`; conftest.py settles which `test` is imported."""

import ast
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from model import zoo

ROOT = Path(__file__).resolve().parents[1]
MODEL = sorted((ROOT / "model").rglob("*.py"))


@pytest.mark.parametrize("path", MODEL, ids=lambda path: str(path.relative_to(ROOT)))
def test_model_stands_alone(path):
    """It imports itself relatively, and else torch, numpy, safetensors and the standard library.

    Files that end in _triton, which only others of the package import where Triton is there, import Triton as well.
    """
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots.add((node.module or "").partition(".")[0])
    optional = {"triton"} if path.stem.endswith("_triton") else set()
    assert roots <= {"torch", "numpy", "safetensors"} | optional | sys.stdlib_module_names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy so that the clone stays clean."""
    pytest.importorskip("setuptools", minversion="77", reason="builds the wheel without network")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("model", "data", "loss", "experiment/zoo"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    program = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {f"blindsr/{path.relative_to(ROOT / 'model')}" for path in MODEL} | {
        "blindsr/py.typed",
        "blindsr/zoo.json",
        *(f"blindsr/weights/{entry.file}" for entry in zoo.entries().values()),
    }


@pytest.mark.slow
def test_another_project_imports_it_beside_its_own_model(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("mine = True\n")
    program = """
import model
from blindsr import build, load_model, save_model
assert model.mine
save_model(build("BICUBIC", scale=2), "net.safetensors")
assert load_model("net.safetensors").scale == 2
assert load_model("kdsr_s_x4_iso").scale == 4
import sys
assert not [name for name in sys.modules if name.startswith("model.")]
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)


def test_ours_is_imported_after_the_standard_librarys(monkeypatch):
    """Where a library has imported the standard library's `test` first."""
    foreign = type(sys)("test")
    foreign.__file__ = os.__file__
    monkeypatch.setitem(sys.modules, "test", foreign)
    monkeypatch.setitem(sys.modules, "test.support", foreign)
    monkeypatch.setattr(sys, "path", sys.path[:])
    runpy.run_path(str(ROOT / "conftest.py"))
    spec = importlib.util.find_spec("test")
    assert spec is not None
    assert spec.origin == str(ROOT / "test.py")
    assert "test.support" not in sys.modules
