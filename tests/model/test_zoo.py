"""Trained weights by name: those that ship load and score as their card says; damage and absence are told."""

import functools
import hashlib
import http.server
import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from model import build, load_model, name_of, save_model, zoo

SIZES = {"scale": 4, "n_feats": 4, "n_blocks": 1, "n_resblocks": 1}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A zoo of one network, in a clone and with a cache of their own."""
    clone, home = tmp_path / "clone", tmp_path / "home"
    clone.mkdir()
    save_model(build("KDSR_S", **SIZES), clone / "toy.safetensors")
    entry = {
        "file": "toy.safetensors",
        "sha256": hashlib.sha256((clone / "toy.safetensors").read_bytes()).hexdigest(),
        "network": "KDSR_S",
        "config": SIZES,
        "degradation": "gaussian",
        "blur_type": "iso_gaussian",
        "protocol": "gaussian8",
        "scores": {"Set5": 12.0},
        "note": "a toy",
        "urls": [],
    }
    (tmp_path / "zoo.json").write_text(json.dumps({"toy_x4": entry}))
    monkeypatch.setattr(zoo, "LIST", tmp_path / "zoo.json")
    monkeypatch.setattr(zoo, "CLONE", clone)
    monkeypatch.setenv("BLINDSR_HOME", str(home))
    zoo.entries.cache_clear()
    yield clone, home
    zoo.entries.cache_clear()


def test_a_file_is_known_by_its_place_however_that_is_named(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (
        tmp_path / "clone/toy.safetensors",
        Path("clone/toy.safetensors"),
        Path("home/../clone/toy.safetensors"),
    ):
        found = zoo.entry_of(path)
        assert found is not None, path
        assert found.name == "toy_x4"
    assert zoo.entry_of(tmp_path / "toy.safetensors") is None


def test_a_name_loads_where_a_file_does(toy):
    net = load_model("toy_x4")
    assert name_of(net) == "KDSR_S"
    assert net.config == SIZES


def test_a_file_of_that_name_goes_first(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy_x4").write_bytes(b"something else")
    with pytest.raises(ValueError, match="toy_x4 cannot be read as a checkpoint"):
        load_model("toy_x4")


def test_a_folder_of_results_does_not(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy_x4").mkdir()
    assert name_of(load_model("toy_x4")) == "KDSR_S"


def test_the_cache_serves_the_installed_package(toy):
    clone, home = toy
    home.mkdir()
    (clone / "toy.safetensors").rename(home / "toy.safetensors")
    assert load_model("toy_x4").config == SIZES


@pytest.fixture
def serving():
    """serving(handler) starts a server on this machine and returns its address."""
    with ExitStack() as stack:

        def start(handler):
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


def test_the_first_address_that_has_the_file_fills_the_cache(toy, serving, tmp_path):
    clone, home = toy
    (tmp_path / "served").mkdir()
    address = serving(functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served"))
    entry = json.loads(zoo.LIST.read_text())["toy_x4"]
    whole = (clone / "toy.safetensors").read_bytes()
    (clone / "toy.safetensors").unlink()
    (tmp_path / "served/damaged.safetensors").write_bytes(whole[:-1])
    (tmp_path / "served/toy.safetensors").write_bytes(whole)
    urls = [f"{address}/{name}.safetensors" for name in ("missing", "damaged", "toy")]

    def serve(urls):
        zoo.LIST.write_text(json.dumps({"toy_x4": {**entry, "urls": urls}}))
        zoo.entries.cache_clear()

    serve(urls[:2])
    with pytest.raises(FileNotFoundError, match=r"tried \S+missing\S+ \(.*404.*\), \S+damaged\S+ \(its SHA-256 is"):
        load_model("toy_x4")
    assert list(home.iterdir()) == []
    serve(urls)
    assert load_model("toy_x4").config == SIZES
    assert (home / "toy.safetensors").read_bytes() == whole
    serve([])
    assert load_model("toy_x4").config == SIZES


class Ranges(http.server.BaseHTTPRequestHandler):
    """Serves `whole` from the byte asked for, breaks off after `most` bytes, and notes what was asked."""

    whole: ClassVar[bytes]
    most: ClassVar[int]
    asked: ClassVar[list[int]]

    def do_GET(self):
        begin = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.asked.append(begin)
        if begin >= len(self.whole):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.whole) - begin))
        self.end_headers()
        self.wfile.write(self.whole[begin : begin + self.most])

    def log_message(self, format, *args):
        pass


@pytest.mark.parametrize("ends", ["between calls", "before the file got its name"])
def test_an_interrupted_download_goes_on(ends, toy, serving):
    clone, home = toy
    Ranges.whole, Ranges.asked = (clone / "toy.safetensors").read_bytes(), []
    (clone / "toy.safetensors").unlink()
    entry = json.loads(zoo.LIST.read_text())["toy_x4"]
    zoo.LIST.write_text(json.dumps({"toy_x4": {**entry, "urls": [serving(Ranges)]}}))
    zoo.entries.cache_clear()
    if ends == "between calls":
        Ranges.most = 1000
        with pytest.raises(FileNotFoundError, match=r"ended \d+ bytes early; call again"):
            load_model("toy_x4")
        Ranges.most, begun = len(Ranges.whole), [0, 1000]
    else:
        home.mkdir()
        (home / "toy.safetensors.part").write_bytes(Ranges.whole)
        begun = [len(Ranges.whole)]
    assert load_model("toy_x4").config == SIZES
    assert Ranges.asked == begun


def test_damaged_or_missing_weights_are_named(toy):
    clone, _ = toy
    file = clone / "toy.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"toy\.safetensors is damaged: its SHA-256 is \w{64}, that of toy_x4 is"):
        load_model("toy_x4")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"toy_x4 is in the zoo, but toy\.safetensors is neither in"):
        load_model("toy_x4")


def test_a_test_gets_the_weights_that_were_trained_for_it_or_none(toy):
    assert zoo.choose(scale=2, degradation="gaussian", blur_type="iso_gaussian") is None
    assert zoo.choose(scale=4, degradation="second_order") is None
    assert zoo.choose(scale=4, protocol="aniso9") is None
    assert zoo.choose(scale=4, network="CDSR") is None
    for asked in ({"degradation": "gaussian", "blur_type": "iso_gaussian"}, {"protocol": "gaussian8"}):
        found = zoo.choose(scale=4, **asked)
        assert found is not None
        assert found.name == "toy_x4"


def test_of_several_that_fit_a_test_gets_the_best(toy):
    plain = json.loads(zoo.LIST.read_text())["toy_x4"]
    better = {**plain, "scores": {"Set5": plain["scores"]["Set5"] + 0.5}}
    for listed in ({"plain": plain, "better": better}, {"better": better, "plain": plain}):
        zoo.LIST.write_text(json.dumps(listed))
        zoo.entries.cache_clear()
        found = zoo.choose(scale=4, protocol="gaussian8")
        assert found is not None
        assert found.name == "better"


def test_photographs_get_the_real_world_weights_and_never_a_teacher(toy):
    def chosen(entries, scale=None):
        zoo.LIST.write_text(json.dumps(entries))
        zoo.entries.cache_clear()
        return getattr(zoo.choose_for_photographs(scale=scale), "name", None)

    plain = json.loads(zoo.LIST.read_text())["toy_x4"]
    real = {**plain, "config": {**SIZES, "scale": 2}, "degradation": "second_order"}
    assert chosen({"teacher": {**plain, "network": "KDSR_T", "degradation": "second_order"}, "plain": plain}) == "plain"
    assert chosen({"plain": plain}, scale=2) is None
    assert chosen({"plain": plain, "real_x2": real}) == "real_x2"
    assert chosen({"plain": plain, "real_x2": real}, scale=4) == "plain"
    off_centre = {**plain, "degradation": "manet", "scores": {"Set5": 99.0}}
    assert chosen({"off_centre": off_centre, "plain": plain}) == "plain"
    assert chosen({"off_centre": off_centre}) is None
    better = {**plain, "scores": {"Set5": plain["scores"]["Set5"] + 1}}
    assert chosen({"plain": plain, "better": better}) == "better"
    assert chosen({"real_x2": real, "real_x4": {**real, "config": SIZES}}) == "real_x4"


@pytest.mark.parametrize("entry", list(zoo.entries().values()), ids=lambda entry: entry.name)
def test_what_ships_loads_and_is_what_its_entry_says(entry):
    net = load_model(entry.name)
    assert (name_of(net), net.config) == (entry.network, entry.config)
    with torch.inference_mode():
        side = 24 * net.scale
        sr = net(torch.full((1, 3, 24, 24), 0.5), torch.full((1, 3, side, side), 0.5)).image
    assert (sr - 0.5).abs().mean() < 0.05
    assert (zoo.CLONE / entry.file).with_suffix(".md").is_file()


def test_without_a_home_folder_what_is_here_is_found(toy, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BLINDSR_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    assert zoo.resolve("toy_x4") == toy[0] / "toy.safetensors"
