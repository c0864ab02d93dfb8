"""Published tables: the data file, what is measured, and that nothing is passed over in silence."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.images import write_image
from data.protocol import NAMED
from evaluation import quality
from model import NETWORKS, build, checkpoint, official

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("reproduce_program", ROOT / "scripts" / "reproduce.py")
assert spec is not None
assert spec.loader is not None
reproduce_py = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reproduce_py)
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


def test_a_row_is_measured_with_a_file_of_any_name(photo_folder, tmp_path):
    torch.save(checkpoint(build("CDSR", scale=2, n_blocks=1)), tmp_path / "model_best.pt")
    command = ["cdsr2", "--weights", tmp_path / "model_best.pt", "--data", photo_folder]
    result = reproduce(*command, "--row", "CDSR x2")
    assert result.returncode == 0, result.stderr
    assert "differs" in result.stdout
    refused = reproduce(*command)
    assert refused.returncode == 2
    assert "is the file of one row: name it with --row" in refused.stderr


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


@pytest.fixture
def real_pairs(tmp_path):
    """AIM2019 and NTIRE2020 of one image each; of the second the LR image is missing. And weights."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for part, image in (("AIM2019/LR", pixels[:12, :12]), ("AIM2019/HR", pixels), ("NTIRE2020/HR", pixels)):
        (tmp_path / part).mkdir(parents=True)
        write_image(tmp_path / part / "a.png", np.ascontiguousarray(image))
    net = build("KDSR_S", scale=4, n_feats=8, n_blocks=1, n_resblocks=1)
    torch.save({"params_ema": official.write(net)}, tmp_path / "kdsr_gan_x4.pt")
    return tmp_path


def test_real_pairs_are_measured(real_pairs, monkeypatch, capsys):
    monkeypatch.setattr(quality, "lpips", lambda features, device: lambda sr, hr: torch.full((len(sr),), 0.375))
    reproduce_py.main(["kdsr3", *f"--weights {real_pairs} --data {real_pairs} --cpu --out {real_pairs}/o.json".split()])
    aim, ntire = json.loads((real_pairs / "o.json").read_text())["lines"]
    assert aim["published"] == [24.22, 0.7038, 0.3758]
    assert aim["measured"][2] == 0.375
    assert aim["verdict"] == "differs"
    assert (ntire["measured"], ntire["verdict"]) == (None, "images missing: NTIRE2020 with LR and HR")
    assert "24.22 / 0.7038 / 0.3758" in capsys.readouterr().out


def test_real_pairs_without_lpips(real_pairs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    reproduce_py.main(["kdsr3", *f"--weights {real_pairs} --data {real_pairs} --cpu".split()])
    assert "differs; no LPIPS: --lpips vgg needs a library" in capsys.readouterr().out


def test_an_unknown_row_is_told_the_known_ones(tmp_path):
    result = reproduce("kdsr1", "--row", "KDSR-S", "--weights", tmp_path, "--data", tmp_path)
    assert result.returncode == 2
    assert "KDSR-M" in result.stderr
