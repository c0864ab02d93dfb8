"""Files from anywhere: every reader answers damage and malice with a clear error, and writes nothing."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.folders import prepared, read_manifest
from data.images import check_image, read_image
from data.packed import PackedImages, pack, read_index
from data.photo import read_photo
from data.protocol import gaussian8
from data.protocol_file import read_protocol
from model import build, load_model, read_file, save_model
from runtime import state
from utility import Run, forget_after, read_rows

CLEAR = (ValueError, OSError)  # what main and test print as one line
FUZZ = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])  # pyright: ignore

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner))


def survives(read, *arguments):
    """Call a reader; anything but a clear error is a failure of the test."""
    try:
        return read(*arguments)
    except CLEAR as error:
        return error


def files_of(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.pt"
    save_model(build("KDSR_S", scale=2, n_feats=4, n_blocks=1, n_resblocks=1), path)
    return path


# ------------------------------------------------------------------------------------------------ JSON and CSV


def edited(entry, name, value):
    return {**entry, name: value}


@FUZZ
@given(content=values, name=st.sampled_from(["recipe", "kernels", "noise", "jpeg", "more"]))
def test_protocol_files(content, name, tmp_path_factory):
    path = tmp_path_factory.mktemp("protocol") / "own.json"
    good = {"recipe": "gaussian", "kernels": [[2.0, 2.0, 0]], "noise": 10, "jpeg": 75}
    for text in (json.dumps(content), json.dumps(edited(good, name, content))):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        survives(read_protocol, path, 4)
    assert files_of(path.parent) == {path}


@FUZZ
@given(content=values, name=st.sampled_from(["name", "image", "case", "lr_sha256", "digest", "seed", "images"]))
def test_manifests(content, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    (folder / "LR_mode0_noise0").mkdir()
    (folder / "HR_si").mkdir()
    made = {"digest": gaussian8(4).digest, "seed": 1, "images": [{"name": "a", "image": "a", "case": "1.80"}]}
    if name in made:
        made[name] = content
    else:
        made["images"][0][name] = content
    for manifest in (content, {"LR_mode0_noise0": content}, {"LR_mode0_noise0": made}):
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8", errors="surrogatepass")
        survives(read_manifest, folder)
        survives(prepared, folder, gaussian8(4), 1)


@FUZZ
@given(content=values, name=st.sampled_from(["name", "bytes", "mtime_ns", "height", "width", "offset"]))
def test_indices_of_packed_images(content, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(folder / "a.png")
    pack(folder, folder / "cache")
    index = folder / "cache.json"
    good = json.loads(index.read_text())
    for changed in (
        content,
        edited(good, "images", content),
        edited(good, "images", [{**good["images"][0], name: content}]),
    ):
        index.write_text(json.dumps(changed), encoding="utf-8", errors="surrogatepass")
        survives(read_index, folder / "cache")
        store = survives(PackedImages, folder / "cache")
        if isinstance(store, PackedImages):
            survives(store.crop, 0, 0, 0, 4, 4)


@pytest.mark.parametrize("place", ["manifest.json", "own.json", "config.json"])
def test_json_that_is_nested_without_end(place, tmp_path):
    (tmp_path / place).write_text("[" * 100_000)
    for read in (lambda: read_manifest(tmp_path), lambda: read_protocol(tmp_path / place, 4), Run(tmp_path).config):
        survives(read)


@FUZZ
@given(content=st.binary(max_size=200))
def test_config_of_a_run(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_bytes(content)
    survives(Run(folder).config)


@FUZZ
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore")))
def test_logs_of_a_run(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "loss_log.csv"
    for head in (b"", b"step,part,value\n1,l1,0.5\n", b"part,value\n"):
        path.write_bytes(head + content)
        survives(read_rows, path)
        survives(forget_after, path, 1)


def test_a_huge_field_of_a_log(tmp_path):
    path = tmp_path / "loss_log.csv"
    path.write_text(f"step,part,value\n1,{'x' * 200_000},0.5\n2,l1,0.5\n")
    survives(forget_after, path, 2)


# -------------------------------------------------------------------------------------------------- checkpoints


@FUZZ
@given(content=values, name=st.sampled_from(["format", "network", "config", "params", "params_ema", "digest"]))
def test_checkpoints_of_anything(content, name, network_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "net.pt"
    good = torch.load(network_file, weights_only=True)
    for contents in (
        content,
        {**good, name: content},
        {k: v for k, v in good.items() if k != "digest"} | {name: content},
    ):
        try:
            torch.save(contents, path)
        except (UnicodeEncodeError, OverflowError):
            return  # what PyTorch cannot write, nobody can send
        survives(load_model, path)
        survives(read_file, path)


@pytest.mark.parametrize("size", [1, 4096])
def test_bytes_that_change_on_the_disk(size, network_file, tmp_path):
    original, path, rng = network_file.read_bytes(), tmp_path / "net.pt", random.Random(7)
    expected = load_model(network_file).state_dict()
    for _ in range(60):
        at = rng.randrange(len(original))
        damaged = bytearray(original)
        for i in range(at, min(at + size, len(original))):
            damaged[i] = 0 if size > 1 else original[i] ^ (1 << rng.randrange(8))
        path.write_bytes(damaged)
        found = survives(load_model, path)
        if not isinstance(found, Exception):
            assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


@FUZZ
@given(content=values, name=st.sampled_from(["format", "step", "epoch", "images"]))
def test_states_of_anything(content, name):
    good = {"format": state.FORMAT, "step": 1, "epoch": 0, "images": (1, "x")}
    survives(lambda: state.check({**good, name: content}, Path("state.pt"), images=(1, "x"), steps=5))


# ------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_damaged_images(kind, photo, tmp_path):
    rng, buffer = random.Random(5), io.BytesIO()
    Image.fromarray(photo[:40, :50]).save(buffer, kind)
    original, path = buffer.getvalue(), tmp_path / "image.png"
    for _ in range(40):
        damaged = bytearray(original[: rng.randrange(1, len(original) + 1)])
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        for read in (read_image, read_photo, check_image):
            survives(read, path)


def test_an_image_that_is_a_program(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(owned) print\nshowpage\n")
    error = survives(read_image, path)
    assert isinstance(error, ValueError)
