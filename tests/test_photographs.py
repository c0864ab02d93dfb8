"""`test.py FOLDER` in real processes: interrupted, called again, and shared among several."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import build, save_model
from runtime.signals import INTERRUPTED
from utility import ROOT

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Photographs a, b and c, of which b takes seconds by small tiles, beside the file of a network."""
    (tmp_path / "in").mkdir()
    for name, side in (("a", 24), ("b", 512), ("c", 32)):
        Image.fromarray(photo[:side, :side]).save(tmp_path / f"in/{name}.png")
    torch.manual_seed(0)
    save_model(build("KDSR_S", scale=2, n_feats=4, n_blocks=1, n_resblocks=1), tmp_path / "net.pt")
    return tmp_path


def start(folder: Path, *words: str, under: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start test.py on the photographs, in a process group of its own as a terminal does."""
    command = [sys.executable, *under, str(ROOT / "test.py"), str(folder / "in"), "--cpu", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, start_new_session=True, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def results(folder: Path) -> list[str]:
    """Return all names beside the results, hidden ones too."""
    return sorted(path.name for path in (folder / "in_x2").iterdir()) if (folder / "in_x2").exists() else []


def interrupt_in_b(process: subprocess.Popen[str], folder: Path) -> None:
    """Press Ctrl-C while the result of b is being written and that of a is there."""
    end = time.monotonic() + 240
    while not any(name.startswith(".b_x2.png") for name in results(folder)) or "a_x2.png" not in results(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C of a process group")
@pytest.mark.parametrize("under", [(), TORCHRUN], ids=["alone", "torchrun"])
def test_ctrl_c_keeps_what_is_done_and_a_second_call_goes_on(folder, under):
    words = ("--pre_train", "net.pt")
    process = start(folder, *words, "--tile", "16", under=under)
    interrupt_in_b(process, folder)
    code, _, err = finish(process)
    assert code != 0
    if not under:
        assert code == INTERRUPTED
        assert "test.py: interrupted; photographs and test sets that are done stay" in err
        assert "Traceback" not in err
    kept = {name: (folder / "in_x2" / name).read_bytes() for name in results(folder)}
    assert set(kept) <= {"a_x2.png", "c_x2.png"}
    assert "a_x2.png" in kept
    code, out, err = finish(start(folder, *words))
    assert code == 0, err
    assert results(folder) == ["a_x2.png", "b_x2.png", "c_x2.png"]
    for name in kept:
        assert (folder / "in_x2" / name).read_bytes() == kept[name]
        assert f"in_x2/{name} is there already" in out
    with Image.open(folder / "in_x2/b_x2.png") as image:
        image.load()
        assert image.size == (1024, 1024)


@pytest.mark.slow
def test_two_processes_share_the_photographs_and_sum_up_all(folder, photo):
    names = ["0.png", "1.png", "2.png", "sub/1.png", "sub/3.png"]
    for path in (folder / "in").iterdir():
        path.unlink()
    (folder / "in/sub").mkdir()
    for i, name in enumerate(names):
        Image.fromarray(photo[40 * i : 40 * i + 100, :100]).save(folder / "in" / name)
    (folder / "in/0bad.png").write_bytes(b"no image")
    found = {}
    for run, under in (("one", ()), ("two", TORCHRUN)):
        words = ("--pre_train", "net.pt", "--score", "niqe", "--recursive", "--noise", "5", "--dir_experiment", run)
        code, out, err = finish(start(folder, *words, under=under))
        assert code == 1
        assert err.count("not super-resolved:\n") == err.count("0bad.png cannot be read") == 1
        assert sorted(re.findall(r"in/(\S+) -> ", out + err)) == names
        assert out.count("note: --noise has no effect") == 1
        (summary,) = (folder / run).rglob("no_reference.json")
        rows = summary.with_suffix(".csv").read_text()
        assert [name in rows for name in ("images,0_x2", "in_x2/1_x2", "2_x2", "in_x2/sub/1_x2", "3_x2")] == [True] * 5
        table = [line for line in summary.with_suffix(".md").read_text().splitlines() if "_x2" in line]
        assert len(table) == len(names)
        images = {path: path.read_bytes() for path in (folder / "in_x2").rglob("*.png")}
        found[run] = json.loads(summary.read_text())["niqe"], rows, table, images
        shutil.rmtree(folder / "in_x2")
    assert found["one"] == found["two"]
