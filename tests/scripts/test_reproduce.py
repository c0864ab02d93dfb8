"""Published tables: the data file, what is measured, and that nothing is passed over in silence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data.protocol import NAMED
from model import NETWORKS, build, checkpoint

ROOT = Path(__file__).parents[2]
TABLES = json.loads((ROOT / "scripts" / "published.json").read_text())


def reproduce(*arguments):
    command = [sys.executable, ROOT / "scripts" / "reproduce.py", *map(str, arguments), "--cpu"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", TABLES)
def test_the_data_file_names_what_there_is(name):
    table = TABLES[name]
    assert table["protocol"] in (*NAMED, "paired")
    assert len({row["row"] for row in table["rows"]}) == len(table["rows"])
    for row in table["rows"]:
        assert row.get("network", "BICUBIC") in NETWORKS
        assert ("weights" in row) == (row.get("network", "BICUBIC") != "BICUBIC")
        for numbers in row.get("scores", {}).values():
            assert 15 < numbers[0] < 45
            assert 0.5 < numbers[1] < 1
        for numbers in row.get("kernels", {}).values():
            assert len(numbers) == 9


def test_a_row_is_measured_and_judged(photo_folder, tmp_path):
    torch.save(checkpoint(build("CDSR", scale=2, n_blocks=1)), tmp_path / "cdsr_x2_aniso.pt")
    result = reproduce(
        "cdsr2", "--row", "CDSR x2", "--weights", tmp_path, "--data", photo_folder, "--out", tmp_path / "o.json"
    )
    assert result.returncode == 0, result.stderr
    lines = json.loads((tmp_path / "o.json").read_text())["lines"]
    assert [line["what"] for line in lines] == ["Set5", "Set14", "B100", "Urban100"]
    assert lines[0]["verdict"] == "differs"  # untrained
    assert lines[0]["published"] == [36.17, 0.9428]
    assert 0 < lines[0]["measured"][0] < 30
    assert {line["verdict"] for line in lines[1:]} == {
        "images missing: Set14",
        "images missing: B100",
        "images missing: Urban100",
    }
    assert "36.17 / 0.9428" in result.stdout


def test_every_line_of_a_table_is_listed_with_its_reason(photo_folder, tmp_path):
    result = reproduce("cdsr2", "--weights", tmp_path, "--data", photo_folder)
    rows = [line for line in result.stdout.splitlines() if "Set5" in line]
    assert len(rows) == len(TABLES["cdsr2"]["rows"])
    assert sum("no such network" in line for line in rows) == 4  # MANet three times, IKC once
    assert sum("weights missing" in line for line in rows) == 8


def test_the_tolerance_decides(photo_folder, tmp_path):
    arguments = ("kdsr1", "--row", "bicubic", "--weights", tmp_path, "--data", photo_folder)
    strict, lax = reproduce(*arguments), reproduce(*arguments, "--tolerance", 50, "--tolerance_ssim", 1)
    assert "differs" in strict.stdout
    assert "reproduced" in lax.stdout


def test_an_unknown_row_is_told_the_known_ones(tmp_path):
    result = reproduce("kdsr1", "--row", "KDSR-S", "--weights", tmp_path, "--data", tmp_path)
    assert result.returncode == 2
    assert "KDSR-M" in result.stderr
