"""torch.hub finds the networks of a local clone, whatever the calling program has loaded."""

import inspect
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model import NETWORKS, build, save_model

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"n_feats": 4, "n_blocks": 1, "n_resblocks": 1}
ENTRIES = {
    "kdsr_t": SIZES,
    "kdsr_s": SIZES,
    "cdsr": {"n_feats": 8, "n_blocks": 1},
    "dasr": {"n_feats": 4, "n_blocks": 1},
    "ikc": {"n_feats": 4, "n_blocks": 1},
    "edsr": {"n_feats": 4, "n_blocks": 1},
    "rrdb": {"n_feats": 4, "n_blocks": 1},
    "bicubic": {},
}


def load(entry: str, **given: Any) -> Any:
    return torch.hub.load(str(ROOT), entry, source="local", **given)


def test_every_network_is_an_entry_point():
    hubconf = runpy.run_path(str(ROOT / "hubconf.py"))
    public = {name for name, value in hubconf.items() if inspect.isfunction(value) and not name.startswith("_")}
    assert public == {name.lower() for name in NETWORKS} >= set(ENTRIES)
    for entry, sizes in ENTRIES.items():
        net = load(entry, scale=3, **sizes)
        assert net.config == {"scale": 3, **sizes}
        assert not net.training
        assert load(entry, **sizes).scale == 4
        assert type(net).__module__.startswith("blindsr.")


def test_a_network_of_ones_own_is_an_entry_point(monkeypatch):
    networks = sys.modules[type(load("bicubic")).__module__.partition(".")[0]].NETWORKS
    monkeypatch.setitem(networks, "MINE", networks["EDSR"])
    assert load("mine", scale=2, n_feats=4, n_blocks=1).config == {"scale": 2, "n_feats": 4, "n_blocks": 1}
    entry = runpy.run_path(str(ROOT / "hubconf.py"))["mine"]
    assert "Return MINE in eval mode. Sizes: n_feats, n_blocks." in entry.__doc__


def test_weights(tmp_path):
    net = build("KDSR_S", scale=2, **SIZES)
    path = tmp_path / "net.safetensors"
    save_model(net, path)
    for given in ({}, {"scale": 2}, SIZES):
        loaded = load("kdsr_s", weights=str(path), **given)
        assert all(torch.equal(value, net.state_dict()[name]) for name, value in loaded.state_dict().items())
    for entry, given in (("kdsr_s", {"scale": 4}), ("kdsr_s", {"n_feats": 8}), ("kdsr_t", {})):
        with pytest.raises(ValueError, match=r"`weights`: .* holds KDSR_S"):
            load(entry, weights=str(path), **given)


def test_what_a_network_does_not_take_is_named():
    with pytest.raises(ValueError, match="KDSR_S takes no device; its sizes are n_feats, n_blocks, n_resblocks"):
        load("kdsr_s", device="cpu", weights="kdsr_s_x4_iso")


@pytest.mark.slow
def test_beside_a_model_of_the_calling_program(tmp_path):
    (tmp_path / "model.py").write_text("mine = True\n")
    program = f"""
import model, torch
net = torch.hub.load({str(ROOT)!r}, "edsr", source="local", scale=2, n_feats=4, n_blocks=1)
assert net.upscale(torch.rand(3, 5, 6)).shape == (3, 10, 12)
import model as again
assert again is model and model.mine and not hasattr(model, "NETWORKS")
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
