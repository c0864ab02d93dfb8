"""Weights there and back through the command."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model import build, checkpoint, official

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_weights.py"


def convert(source, out):
    return subprocess.run([sys.executable, SCRIPT, source, out], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("KDSR_S", {"scale": 3, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
        ("CDSR", {"scale": 2, "n_blocks": 1}),
        ("DASR", {"scale": 2, "n_feats": 8, "n_blocks": 1}),
    ],
)
def test_there_and_back(name, config, tmp_path):
    net = build(name, **config)
    torch.save({"params_ema": official.write(net)}, tmp_path / "theirs.pt")
    first = convert(tmp_path / "theirs.pt", tmp_path / "ours.pt")
    assert f"{name} {net.config}, our key names" in first.stdout
    second = convert(tmp_path / "ours.pt", tmp_path / "again.pt")
    assert "official key names" in second.stdout
    ours = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert ours.keys() == checkpoint(net).keys()
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    expected = official.write(net)
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[key], expected[key]) for key in again)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "in.pt").write_bytes(b"x")
    (tmp_path / "out.pt").write_bytes(b"precious")
    result = convert(tmp_path / "in.pt", tmp_path / "out.pt")
    assert result.returncode != 0
    assert "out.pt is there already" in result.stderr
    assert (tmp_path / "out.pt").read_bytes() == b"precious"
