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


def test_both_the_weights_and_their_average(tmp_path):
    config = {"scale": 4, "n_feats": 8, "n_blocks": 1, "n_resblocks": 1}
    net, average = build("KDSR_S", **config), build("KDSR_S", **config)
    torch.save(checkpoint(net, average), tmp_path / "ours.pt")
    assert "official key names" in convert(tmp_path / "ours.pt", tmp_path / "theirs.pt").stdout
    theirs = torch.load(tmp_path / "theirs.pt", weights_only=True)
    assert theirs.keys() == {"params", "params_ema"}
    assert "our key names" in convert(tmp_path / "theirs.pt", tmp_path / "again.pt").stdout
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    for part, expected in (("params", net), ("params_ema", average)):
        assert theirs[part].keys() == official.write(expected).keys()
        assert all(torch.equal(value, again[part][key]) for key, value in expected.state_dict().items())


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_rrdb_loads_in_spandrel(scale, averaged, tmp_path):
    spandrel = pytest.importorskip("spandrel")
    config = {"scale": scale, "n_feats": 16, "n_blocks": 2}
    net, average = build("RRDB", **config), build("RRDB", **config)
    torch.save(checkpoint(net, average if averaged else None), tmp_path / "ours.pt")
    assert "knows it as ESRGAN" in convert(tmp_path / "ours.pt", tmp_path / "theirs.pth").stdout
    loaded = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "theirs.pth")
    assert (loaded.architecture.id, loaded.scale) == ("ESRGAN", scale)
    lr = torch.rand(1, 3, 11, 13)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(lr), (average if averaged else net)(lr).image.clamp(0, 1))


@pytest.mark.parametrize("name", ["KDSR_S", "CDSR", "DASR"])
def test_the_others_are_unknown_to_spandrel(name, tmp_path):
    spandrel = pytest.importorskip("spandrel")
    torch.save(official.write(build(name, scale=2, n_blocks=1)), tmp_path / "theirs.pth")
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "theirs.pth")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "in.pt").write_bytes(b"x")
    (tmp_path / "out.pt").write_bytes(b"precious")
    result = convert(tmp_path / "in.pt", tmp_path / "out.pt")
    assert result.returncode != 0
    assert "out.pt is there already" in result.stderr
    assert (tmp_path / "out.pt").read_bytes() == b"precious"
