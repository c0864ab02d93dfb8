"""Weights there and back through the command."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from model import build, checkpoint, foreign, load_model, save_folder, save_model
from scripts import convert_weights
from utility import ROOT


@pytest.fixture
def convert(capsys):
    """Runs the command; returns what it prints."""

    def call(source, out, *more):
        convert_weights.main([str(source), str(out), *more])
        return capsys.readouterr().out

    return call


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("KDSR_S", {"scale": 3, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
        ("CDSR", {"scale": 2, "n_feats": 8, "n_blocks": 1}),
        ("DASR", {"scale": 2, "n_feats": 8, "n_blocks": 1}),
        ("IKC", {"scale": 2, "n_feats": 8, "n_blocks": 1}),
    ],
)
def test_there_and_back(name, config, tmp_path, convert):
    net = build(name, **config)
    torch.save({"params_ema": foreign.write(net)}, tmp_path / "theirs.pt")
    first = convert(tmp_path / "theirs.pt", tmp_path / "ours.pt")
    assert f"{name} {net.config}, our key names" in first
    second = convert(tmp_path / "ours.pt", tmp_path / "again.pt")
    assert "official key names" in second
    ours = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert ours.keys() == {*checkpoint(net), "digest"}
    again = foreign.join(torch.load(tmp_path / "again.pt", weights_only=True))
    expected = foreign.write(net)
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[key], expected[key]) for key in again)


def test_both_the_weights_and_their_average(tmp_path, convert):
    config = {"scale": 4, "n_feats": 8, "n_blocks": 1, "n_resblocks": 1}
    net, average = build("KDSR_S", **config), build("KDSR_S", **config)
    torch.save(checkpoint(net, average), tmp_path / "ours.pt")
    assert "official key names" in convert(tmp_path / "ours.pt", tmp_path / "theirs.pt")
    theirs = torch.load(tmp_path / "theirs.pt", weights_only=True)
    assert theirs.keys() == {"params", "params_ema"}
    assert "our key names" in convert(tmp_path / "theirs.pt", tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    for part, expected in (("params", net), ("params_ema", average)):
        assert theirs[part].keys() == foreign.write(expected).keys()
        assert all(torch.equal(value, again[part][key]) for key, value in expected.state_dict().items())


def test_three_files_become_one_and_three_again(tmp_path, convert):
    net = build("IKC", scale=3, n_feats=8, n_blocks=2)
    parts = foreign.split(foreign.write(net))
    names = ["SFTMD", "Predictor", "Corrector"]
    files = [tmp_path / f"{name}.pth" for name in names]
    for name, file in zip(names, files, strict=True):
        torch.save({f"module.{key}": value for key, value in parts[name].items()}, file)
    convert_weights.main([*map(str, files), str(tmp_path / "ours.safetensors")])
    assert same(load_model(tmp_path / "ours.safetensors").state_dict(), net.state_dict())
    convert_weights.main([*map(str, files), str(tmp_path / "one.pth"), "--to", "published"])
    assert torch.load(tmp_path / "one.pth", weights_only=True).keys() == set(names)
    assert same(load_model(tmp_path / "one.pth").state_dict(), net.state_dict())
    convert(tmp_path / "ours.safetensors", tmp_path / "again.pth", "--to", "parts")
    for name in names:
        assert same(torch.load(tmp_path / f"again_{name}.pth", weights_only=True), parts[name])


def test_parts_that_do_not_fit_together_are_refused(tmp_path, convert):
    parts = foreign.split(foreign.write(build("IKC", scale=2, n_feats=8, n_blocks=1)))
    files = []
    for name in ("SFTMD", "Corrector", "Predictor"):
        files.append(str(tmp_path / f"{name}.pth"))
        torch.save(parts[name], files[-1])
    out = str(tmp_path / "ours.pt")
    with pytest.raises(SystemExit, match=r"fits no network.*lacks, or has otherwise, Corrector\.ConvNet"):
        convert_weights.main([*files, out])
    with pytest.raises(SystemExit, match="2 files; IKC is published in 3: SFTMD, Predictor, Corrector"):
        convert_weights.main([*files[:2], out])
    save_model(build("EDSR", scale=2, n_feats=8, n_blocks=1), out)
    with pytest.raises(SystemExit, match="EDSR is published in one file, not in parts"):
        convert(out, tmp_path / "edsr.pth", "--to", "parts")


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_rrdb_loads_in_spandrel(scale, averaged, tmp_path, convert):
    spandrel = pytest.importorskip("spandrel")
    config = {"scale": scale, "n_feats": 16, "n_blocks": 2}
    net, average = build("RRDB", **config), build("RRDB", **config)
    torch.save(checkpoint(net, average if averaged else None), tmp_path / "ours.pt")
    assert "knows it as ESRGAN" in convert(tmp_path / "ours.pt", tmp_path / "theirs.pth")
    loaded = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "theirs.pth")
    assert (loaded.architecture.id, loaded.scale) == ("ESRGAN", scale)
    lr = torch.rand(1, 3, 11, 13)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(lr), (average if averaged else net)(lr).image.clamp(0, 1))


@pytest.mark.parametrize("name", ["KDSR_S", "CDSR", "DASR", "EDSR"])
def test_the_others_are_unknown_to_spandrel(name, tmp_path):
    spandrel = pytest.importorskip("spandrel")
    torch.save(foreign.write(build(name, scale=2, n_blocks=1)), tmp_path / "theirs.pth")
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "theirs.pth")


@pytest.mark.parametrize("averaged", [False, True])
def test_from_one_container_to_the_other_and_back(averaged, tmp_path, convert):
    config = {"scale": 4, "n_feats": 8, "n_blocks": 1, "n_resblocks": 1}
    net, average = build("KDSR_S", **config), build("KDSR_S", **config)
    save_model(net, tmp_path / "a.pt", ema=average if averaged else None)
    assert "our key names" in convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert "our key names" in convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    for name in ("b.safetensors", "c.pt"):
        for weights, expected in (("params", net), ("params_ema", average))[: 1 + averaged]:
            assert same(load_model(tmp_path / name, weights=weights).state_dict(), expected.state_dict())


def test_a_folder_is_read_too(tmp_path, convert):
    net = build("DASR", scale=2, n_feats=8, n_blocks=1)
    save_folder(net, tmp_path / "folder")
    convert(tmp_path / "folder", tmp_path / "theirs.pth", "--to", "published")
    assert same(torch.load(tmp_path / "theirs.pth", weights_only=True), foreign.write(net))


def test_published_weights_in_either_container(tmp_path, convert):
    net = build("RRDB", scale=4, n_feats=8, n_blocks=1)
    save_model(net, tmp_path / "ours.pt")
    convert(tmp_path / "ours.pt", tmp_path / "theirs.safetensors", "--to", "published")
    assert same(load_file(tmp_path / "theirs.safetensors"), foreign.write(net))
    convert(tmp_path / "theirs.safetensors", tmp_path / "again.safetensors", "--to", "ours")
    assert same(load_model(tmp_path / "again.safetensors").state_dict(), net.state_dict())


def test_two_sets_of_published_weights_need_pytorchs_container(tmp_path, convert):
    net = build("RRDB", scale=4, n_feats=8, n_blocks=1)
    save_model(net, tmp_path / "ours.pt", ema=net)
    with pytest.raises(SystemExit, match=r"hold one set of weights, IN has two; name a \.pth"):
        convert(tmp_path / "ours.pt", tmp_path / "theirs.safetensors", "--to", "published")
    assert not (tmp_path / "theirs.safetensors").exists()


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("none.pt", "out.pt", "there is no file .*none.pt"),
        ("in.pt", "out.bin", "its suffix must be one of .pt, .pth, .safetensors"),
        ("in.pt", "nowhere/out.pt", "there is no folder .*nowhere"),
        ("in.pt", "in.pt", "in.pt is there already"),
        ("in.pt", "out.pt", "cannot be read as a checkpoint"),
    ],
)
def test_what_is_refused(source, out, message, tmp_path, convert):
    (tmp_path / "in.pt").write_bytes(b"x")
    with pytest.raises(SystemExit, match=message):
        convert(tmp_path / source, tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == ["in.pt"]


def test_nothing_is_overwritten_from_the_command_line(tmp_path):
    (tmp_path / "in.pt").write_bytes(b"x")
    (tmp_path / "out.pt").write_bytes(b"precious")
    command = [sys.executable, ROOT / "scripts" / "convert_weights.py", tmp_path / "in.pt", tmp_path / "out.pt"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "convert_weights.py: error: OUT: " in result.stderr
    assert "out.pt is there already" in result.stderr
    assert (tmp_path / "out.pt").read_bytes() == b"precious"
