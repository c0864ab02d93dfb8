"""The published rows at toy size: every script parses, one of each family runs its whole chain."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import LATER, forking

ROOT = Path(__file__).parents[2]
ROWS = sorted(path for path in (ROOT / "scripts" / "rows").glob("*.sh") if path.name != "row.sh")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")


@pytest.fixture(scope="module")
def python():
    with forking(["main", "test", *LATER]) as program:
        yield str(program)


def call(row, tmp_path, data, *stages, **environment):
    """The script of a row, at toy size."""
    env = {**os.environ, "DATA": str(data), "TRAIN": "train", "QUICK": "1", "OUT": str(tmp_path)}
    env |= {"FLAGS": "--cpu --n_threads 0", **environment}
    script = ROOT / "scripts" / "rows" / f"{row}.sh"
    return subprocess.run(["bash", script, *stages], env=env, cwd=tmp_path, capture_output=True, text=True)


def run(row, tmp_path, data, *stages, python):
    result = call(row, tmp_path, data, *stages, PYTHON=python)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


@pytest.mark.parametrize("script", ROWS, ids=lambda path: path.stem)
def test_every_row_parses(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["cdsr_x2", "dasr_x4_iso", "ikc_x2", "kdsr_real_x4"])
def test_the_whole_chain(row, tmp_path, photo_folder, python):
    # Of one row every program is started as by a user; the others' are forked from one that has imported PyTorch.
    out = run(row, tmp_path, photo_folder, python=sys.executable if row == "cdsr_x2" else python)
    assert "== test of" in out
    assert out.rstrip().splitlines()[-1].startswith("written to")


@pytest.mark.slow
def test_stages_start_alone_and_go_on(tmp_path, photo_folder, python):
    script = "kdsr_m_x4_aniso_noise"
    run(script, tmp_path, photo_folder, "teacher", python=python)
    assert (tmp_path / "quick/kdsr_m_noise_teacher_x4_bicubic_aniso/model/model_latest.pt").exists()
    assert "continuing" in run(script, tmp_path, photo_folder, "teacher", python=python)
    out = run(script, tmp_path, photo_folder, "student", "test", python=python)
    assert "aniso9 noise 20" in out
    assert "kl" in out.split("step 2/8")[1].split("\n")[0]


@pytest.mark.parametrize(
    ("row", "levels"),
    [("dasr_x4_aniso_noise", "0 5 10"), ("kdsr_m_x4_aniso_noise", "0 10 20"), ("cdsr_x4_noise15", "15")],
)
def test_noise_is_that_of_the_published_tests(row, levels, tmp_path):
    (tmp_path / "images").mkdir()
    out = call(row, tmp_path, "images", "test", PYTHON="echo").stdout  # of a folder beside the working directory
    assert [
        line.partition("--noise ")[2].split()[0] for line in out.splitlines() if "--noise" in line
    ] == levels.split()
    assert f"--dir_data {tmp_path}/images" in out


@pytest.mark.parametrize("row", ["cdsr_x2", "kdsr_l_x2_iso", "kdsrgan_s_v2"])
def test_an_unknown_stage_is_refused(row, tmp_path, photo_folder):
    result = call(row, tmp_path, photo_folder, "studnet", PYTHON="echo")
    assert result.returncode == 2
    assert "there is no stage studnet, but " in result.stderr


@pytest.mark.parametrize("row", ["kdsr_m_x4_iso", "cdsr_x2", "ikc_x4", "kdsr_real_x4", "kdsrgan_s_v2"])
def test_tables_and_students_take_last_weights(row, tmp_path):
    """Validation chooses nothing that a table reports."""
    (tmp_path / "images" / "benchmark").mkdir(parents=True)
    out = call(row, tmp_path, "images", PYTHON="echo").stdout
    taken = re.findall(r"--pre_train(?:_TA)? (\S+)", out)
    assert {Path(path).name for path in taken} == {"model_latest.pt"}
    tested = [line for line in out.splitlines() if line.startswith("== test of")]
    assert tested
    assert all("last weights" in line for line in tested)


@pytest.mark.slow
def test_a_stage_that_stops_early_ends_the_row(tmp_path, photo_folder, python):
    flags = "--cpu --n_threads 0 --max_minutes 0"
    stopped = call("kdsr_real_x4", tmp_path, photo_folder, PYTHON=python, FLAGS=flags)
    assert stopped.returncode == 75
    assert "stopped after step 1" in stopped.stdout
    assert "kdsrnet_s" not in stopped.stdout
