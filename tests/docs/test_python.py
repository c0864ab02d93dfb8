"""The page about the clone as a library: its program runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from utility import ROOT


@pytest.mark.slow
def test_degradations_and_metrics_from_another_folder(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (program,) = [program for program in programs if "sys.path" in program]
    program = program.replace('"CLONE"', repr(str(ROOT))) + "print(psnr(sr, hr, border=4).shape)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("torch.Size([8])\n", "")
