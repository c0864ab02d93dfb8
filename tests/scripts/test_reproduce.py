"""Published tables: the data file, what is measured, and that nothing is passed over in silence."""

import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from data.images import write_image
from data.protocol import NAMED
from evaluation import learned
from model import NETWORKS, build, checkpoint, foreign
from scripts import reproduce as program

ROOT = Path(__file__).parents[2]
TABLES = json.loads((ROOT / "scripts" / "published.json").read_text())


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def reproduce(capsys):
    """Runs the command; returns how it ended and what it printed."""

    def call(*arguments):
        code = None
        try:
            program.main([*map(str, arguments), "--cpu"])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return Result(code if isinstance(code, int) else int(code is not None), out, f"{err}{code}")

    return call


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


def test_a_row_is_measured_with_a_file_of_any_name(photo_folder, tmp_path, reproduce):
    torch.save(checkpoint(build("CDSR", scale=2, n_blocks=1)), tmp_path / "model_best.pt")
    command = ["cdsr2", "--weights", tmp_path / "model_best.pt", "--data", photo_folder]
    result = reproduce(*command, "--row", "CDSR x2")
    assert result.returncode == 2, result.stderr
    assert "3 of 4 lines were not measured" in result.stdout  # Set5 alone is there
    assert "differs" in result.stdout
    refused = reproduce(*command)
    assert refused.returncode == 2
    assert "is the file of one row: name it with --row" in refused.stderr


def test_a_row_is_measured_and_judged(photo_folder, tmp_path, reproduce):
    torch.save(checkpoint(build("CDSR", scale=2, n_blocks=1)), tmp_path / "cdsr_x2_aniso.pt")
    result = reproduce(
        "cdsr2", "--row", "CDSR x2", "--weights", tmp_path, "--data", photo_folder, "--out", tmp_path / "o.json"
    )
    assert result.returncode == 2, result.stderr
    lines = json.loads((tmp_path / "o.json").read_text())["lines"]
    assert [line["what"] for line in lines] == ["Set5", "Set14", "B100", "Urban100"]
    assert lines[0]["verdict"] == "differs; weights of another size: n_blocks 1 instead of 10"  # and untrained
    assert lines[0]["published"] == [36.17, 0.9428]
    assert 0 < lines[0]["measured"][0] < 30
    assert {line["verdict"] for line in lines[1:]} == {
        "images missing: Set14",
        "images missing: B100",
        "images missing: Urban100",
    }
    assert "36.17 / 0.9428" in result.stdout


def test_every_line_of_a_table_is_listed_with_its_reason(photo_folder, tmp_path, reproduce):
    result = reproduce("cdsr2", "--weights", tmp_path, "--data", photo_folder)
    rows = [line for line in result.stdout.splitlines() if "Set5" in line]
    assert len(rows) == len(TABLES["cdsr2"]["rows"])
    assert sum("no such network" in line for line in rows) == 3  # MANet
    assert sum("weights missing" in line for line in rows) == 9


def test_other_kernels_than_the_published_give_no_verdict(photo_folder, tmp_path, reproduce):
    torch.save(checkpoint(build("KDSR_S", scale=4, n_feats=8, n_blocks=1, n_resblocks=1)), tmp_path / "net.pt")
    root = tmp_path / "root"
    shutil.copytree(photo_folder / "benchmark/Set5", root / "benchmark/Set14")
    row = ("kdsr2", "--row", "KDSR-M noise 10", "--weights", tmp_path / "net.pt", "--dir_data", root)
    result = reproduce(*row)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("not comparable: the published kernels are not known") == 9
    assert "tolerance: 0.05 dB, SSIM 0.002, LPIPS 0.002" in result.stdout


def test_rows_of_ikc_give_no_verdict_since_the_best_step_is_published(photo_folder, tmp_path, reproduce):
    torch.save(checkpoint(build("IKC", scale=4, n_feats=8, n_blocks=1)), tmp_path / "net.pt")
    shutil.copytree(photo_folder / "benchmark/Set5", tmp_path / "root/benchmark/Set5")
    row = ("kdsr1", "--row", "IKC", "--weights", tmp_path / "net.pt", "--dir_data", tmp_path / "root")
    (line,) = [line for line in reproduce(*row).stdout.splitlines() if line.startswith("IKC") and "Set5" in line]
    assert "not comparable: the best of seven steps is published; weights of another size: n_feats 8" in line


def test_the_tolerance_decides(photo_folder, tmp_path, reproduce):
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
    torch.save({"params_ema": foreign.write(net)}, tmp_path / "kdsr_gan_x4.pt")
    return tmp_path


def test_real_pairs_are_measured(real_pairs, monkeypatch, capsys):
    monkeypatch.setattr(learned, "lpips", lambda features, device: lambda sr, hr: torch.full((len(sr),), 0.375))
    with pytest.raises(SystemExit, match=r"^2$"):
        program.main(["kdsr3", *f"--weights {real_pairs} --data {real_pairs} --cpu --out {real_pairs}/o.json".split()])
    aim, ntire = json.loads((real_pairs / "o.json").read_text())["lines"]
    assert aim["published"] == [24.22, 0.7038, 0.3758]
    assert aim["measured"][2] == 0.375
    assert aim["verdict"].startswith("differs; weights of another size: n_feats 8 instead of 128, ")
    assert (ntire["measured"], ntire["verdict"]) == (None, "images missing: NTIRE2020 with LR and HR")
    assert "24.22 / 0.7038 / 0.3758" in capsys.readouterr().out


def test_real_pairs_without_lpips(real_pairs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(SystemExit, match=r"^2$"):
        program.main(["kdsr3", *f"--weights {real_pairs} --data {real_pairs} --cpu".split()])
    assert "differs; no LPIPS: " in capsys.readouterr().out


def test_an_unknown_row_is_told_the_known_ones(tmp_path, reproduce):
    result = reproduce("kdsr1", "--row", "KDSR-S", "--weights", tmp_path, "--data", tmp_path)
    assert result.returncode == 2
    assert "KDSR-M" in result.stderr


def test_all_measured_is_code_0_whatever_the_verdict(real_pairs, monkeypatch, reproduce):
    monkeypatch.setattr(learned, "lpips", lambda features, device: lambda sr, hr: torch.full((len(sr),), 0.375))
    (real_pairs / "NTIRE2020/LR").symlink_to(real_pairs / "AIM2019/LR")
    result = reproduce("kdsr3", "--weights", real_pairs, "--data", real_pairs)
    assert (result.returncode, result.stdout.count("differs")) == (0, 2)


def test_a_row_of_a_foreign_network_alone_is_code_2(tmp_path, reproduce):
    result = reproduce("kdsr1", "--row", "DCLS", "--weights", tmp_path, "--data", tmp_path)
    assert result.returncode == 2
    assert "no such network in this project" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--weights nowhere --data .", "--weights: there is no nowhere"),
        ("--weights . --data nowhere", "--data: there is no nowhere"),
        ("--weights . --data . --out nowhere/o.json", "--out: there is no nowhere"),
        ("--weights . --data . --out .", "--out . is a folder"),
        ("--weights . --data . --tolerance nan", "nan is not a number from 0"),
    ],
)
def test_nonsense_is_refused_at_once(arguments, message, reproduce):
    result = reproduce("kdsr1", *arguments.split())
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stdout == ""
