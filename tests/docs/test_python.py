"""The page about the clone as a library: its program runs."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import load_model
from utility import ROOT


@pytest.mark.slow
def test_degradations_and_metrics_from_another_folder(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (program,) = [program for program in programs if "sys.path" in program and "recipe" in program]
    program = program.replace('"CLONE"', repr(str(ROOT))) + "print(psnr(sr, hr, border=4).shape)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("torch.Size([8])\n", "")


@pytest.mark.slow
def test_images_of_another_method_are_scored(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (program,) = [program for program in programs if "sr_file" in program]
    for folder, level in (("HR", 100), ("SR", 101)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 32), (level, level, level)).save(tmp_path / folder / "a.png")
    program = program.replace('"CLONE"', repr(str(ROOT)))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    name, *scores = done.stdout.split()
    assert (name, done.stderr) == ("a.png", "")
    assert float(scores[0]) == pytest.approx(20 * math.log10(255 / (219 / 255)), abs=0.1)


@pytest.mark.slow
def test_a_photograph_and_a_fine_tuned_network(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (enlarge,) = [program for program in programs if "photo.jpg" in program]
    (tune,) = [program for program in programs if "pairs" in program]
    Image.fromarray(np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "photo.jpg")
    pairs = "pairs = [(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64))]\n"
    program = (enlarge + "import torch\n" + pairs + tune).replace("from blindsr ", "from model ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "photo_x4.png") as enlarged:
        assert enlarged.size == (120, 80)
    assert load_model(tmp_path / "mine.safetensors").scale == 4
