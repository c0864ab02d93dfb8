"""The published rows at toy size: every script parses, one of each family runs its whole chain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = sorted(path for path in (ROOT / "scripts" / "rows").glob("*.sh") if path.name != "row.sh")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")


def run(script, tmp_path, data, *stages):
    env = {
        **os.environ,
        "DATA": str(data),
        "TRAIN": "train",
        "QUICK": "1",
        "OUT": str(tmp_path),
        "PYTHON": sys.executable,
    }
    env["FLAGS"] = "--cpu --n_threads 0"
    result = subprocess.run(["bash", script, *stages], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


@pytest.mark.parametrize("script", ROWS, ids=lambda path: path.stem)
def test_every_row_parses(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("row", ["cdsr_x2", "dasr_x4_iso", "kdsr_real_x4"])
def test_the_whole_chain(row, tmp_path, photo_folder):
    out = run(ROOT / "scripts" / "rows" / f"{row}.sh", tmp_path, photo_folder)
    assert "== test of" in out
    assert out.rstrip().splitlines()[-1].startswith("written to")


def test_stages_start_alone_and_go_on(tmp_path, photo_folder):
    script = ROOT / "scripts" / "rows" / "kdsr_m_x4_aniso_noise.sh"
    run(script, tmp_path, photo_folder, "teacher")
    assert (tmp_path / "quick/kdsr_m_noise_teacher_x4_bicubic_aniso/model/model_best.pt").exists()
    assert "continuing" in run(script, tmp_path, photo_folder, "teacher")
    out = run(script, tmp_path, photo_folder, "student", "test")
    assert "aniso9 noise 20" in out
    assert "kl" in out.split("step 2/8")[1].split("\n")[0]
