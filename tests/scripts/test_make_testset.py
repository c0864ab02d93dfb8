"""Prepared test sets: their layout, their manifest, and that scoring them is scoring on the fly."""

import hashlib
import json

import numpy as np
import pytest
import torch

from data import folders
from data.find_testsets import find
from data.images import BadImage, list_images, read_image, write_image
from data.protocol import gaussian8, manet9, manet_sv
from data.protocol_flags import build_protocol
from data.testset import Degraded, Prepared
from scripts import make_testset


@pytest.fixture
def make(photo_folder, tmp_path):
    """Runs the command on the two small test photographs; returns the folder."""

    def call(arguments, out="Set5_x2", hr=photo_folder / "benchmark/Set5/HR"):
        make_testset.main(["--hr", str(hr), "--out", str(tmp_path / out), "--scale", "2", *arguments.split()])
        return tmp_path / out

    return call


def test_the_published_layout(make):
    out = make("--protocol manet9 --noise 15")
    names = sorted(path.name for path in (out / "LR_mode0_noise15").iterdir())
    assert names == sorted(path.name for path in (out / "HR_si").iterdir())
    assert len(names) == 2 * 9
    assert "0_5.0_1.0_0.8.png" in names
    entry = json.loads((out / "manifest.json").read_text())["LR_mode0_noise15"]
    assert entry["protocol"] == "manet9 noise 15"
    for image in entry["images"]:
        for part, key in (("LR_mode0_noise15", "lr_sha256"), ("HR_si", "hr_sha256")):
            pixels = read_image(out / part / f"{image['name']}.png")
            assert hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest() == image[key]


def test_flags_without_effect_are_noted_and_no_others(make, capsys):
    make("--protocol manet9 --noise 15 --seed 3")
    assert "note:" not in capsys.readouterr().out
    make("--protocol manet9 --theta 30", out="again")
    assert "note: --theta has no effect here" in capsys.readouterr().out


def test_same_seed_same_pixels_other_seed_others(make):
    first, again, other = (
        json.loads((make(f"--protocol manet9 --noise 15 --seed {seed}", out) / "manifest.json").read_text())
        for out, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    hashes = [[image["lr_sha256"] for image in m["LR_mode0_noise15"]["images"]] for m in (first, other)]
    assert not set(hashes[0]) & set(hashes[1])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ("--protocol manet9", manet9(2)),
        ("--protocol gaussian8", gaussian8(2)),
        ("--sv_mode 5", manet_sv(2, 5)),
        ("--sv_mode 6", manet_sv(2, 6)),
        (
            "--sig 1.2 --sample_mode s-fold --noise 5 --jpeg_quality 60",
            build_protocol("flags", scale=2, sig=1.2, sample_mode="s-fold", noise=5, jpeg_quality=60),
        ),
        ("--protocol second_order --recipe light", build_protocol("second_order", scale=2, recipe="light")),
    ],
    ids=["manet9", "gaussian8", "sv5", "sv6", "flags", "light"],
)
def test_a_prepared_set_is_what_is_made_on_the_fly(arguments, rule, make, photo_folder):
    out = make(arguments)
    prepared = find(str(out), [], rule, seed=1)
    with pytest.raises(ValueError, match=r"none of them is .* with `seed` 2"):
        find(str(out), [], rule, seed=2)
    assert isinstance(prepared, Prepared)
    assert prepared.digest == rule.digest
    assert prepared.name == "Set5"
    prepared.check(at_least=1)
    found = {(s.image, s.cases[0]): (s.lr[0], s.hr) for s in prepared.samples(torch.device("cpu"))}
    fresh = Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), rule)
    count = 0
    for sample in fresh.samples(torch.device("cpu")):
        for case, lr in zip(sample.cases, sample.lr, strict=True):
            assert torch.equal(found[sample.image, case][0], lr)
            assert torch.equal(found[sample.image, case][1], sample.hr)
            count += 1
    assert count == len(found)
    assert prepared.images == fresh.images  # or their scores could not be compared


def test_noise_levels_and_modes_share_a_folder(make):
    make("--protocol manet9")
    make("--protocol manet9 --noise 15")
    out = make("--sv_mode 2")
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        *("HR_si", "HR_sv", "LR_mode0_noise0", "LR_mode0_noise15", "LR_mode2_noise0")
    }
    make("--protocol manet9")  # the same again


@pytest.mark.parametrize("arguments", ["--protocol gaussian8", "--protocol manet9 --seed 2"])
def test_a_different_set_is_not_written_over(arguments, make):
    out = make("--protocol manet9")
    before = (out / "manifest.json").read_text()
    with pytest.raises(SystemExit, match="LR_mode0_noise0 holds manet9"):
        make(arguments)
    assert (out / "manifest.json").read_text() == before


def test_a_folder_of_other_images_or_unknown_origin(make, photo_folder):
    out = make("--protocol manet9")
    with pytest.raises(SystemExit, match="made of other HR images"):
        make("--protocol manet9 --noise 5", hr=photo_folder / "train/HR")
    (out / "LR_mode0_noise7").mkdir()
    with pytest.raises(SystemExit, match="LR_mode0_noise7 is there already"):
        make("--protocol manet9 --noise 7")


def test_a_set_of_another_protocol_is_not_used(make):
    out = make("--protocol gaussian8")
    with pytest.raises(ValueError, match="none of them is manet9"):
        find(str(out), [], manet9(2), seed=1)


@pytest.mark.parametrize("part", ["LR_mode0_noise0", "HR_si"])
def test_images_that_were_changed_are_not_scored(part, make):
    out = make("--protocol manet9")
    path = sorted((out / part).iterdir())[3]
    write_image(path, np.ascontiguousarray(read_image(path)[::-1]))
    with pytest.raises(BadImage, match=f"{path.name} is not the image that manifest.json tells of"):
        list(folders.prepared(out, manet9(2), 1).samples(torch.device("cpu")))


def test_an_interrupted_call_leaves_nothing_half_done(make, monkeypatch, capsys):
    written = []

    def write(path, pixels):
        written.append(path)
        if len(written) == 7:
            raise KeyboardInterrupt
        write_image(path, pixels)

    monkeypatch.setattr(make_testset, "write_image", write)
    with pytest.raises(SystemExit):
        make("--protocol manet9")
    monkeypatch.undo()
    assert capsys.readouterr().err == "make_testset.py: interrupted\n"
    out = written[0].parent.parent
    assert [path.name for path in out.iterdir()] == ["HR_si"]
    assert find(str(make("--protocol manet9")), [], manet9(2), seed=1) is not None


def test_names_that_some_systems_refuse(make, tmp_path, photo):
    for name in ("12:30", "a"):
        (tmp_path / "HR").mkdir(exist_ok=True)
        write_image(tmp_path / "HR" / f"{name}.png", np.ascontiguousarray(photo[:40, :48]))
    out = make("--protocol gaussian8", hr=tmp_path / "HR")
    prepared = folders.prepared(out, gaussian8(2), 1)
    assert {sample.image for sample in prepared.samples(torch.device("cpu"))} == {"12:30", "a"}
    assert not [path for path in out.rglob("*") if ":" in path.name]
    write_image(tmp_path / "HR" / "12_30.png", np.ascontiguousarray(photo[:40, :48]))
    with pytest.raises(SystemExit, match="--hr: two images would be written as 12_30_"):
        make("--protocol gaussian8", out="other", hr=tmp_path / "HR")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--protocol nothing", "--protocol nothing is none of bicubic"),
        ("--protocol manet9 --noise 300", "--noise 300.0 must be in 0..255"),
        ("--protocol second_order --noise 5", "second_order takes no --noise"),
        ("--protocol manet9 --sv_mode 2", "--sv_mode 2 has its own kernels"),
        ("--protocol manet9 --hr nowhere", "--hr: there is no folder nowhere"),
    ],
)
def test_nonsense_is_refused(arguments, message, photo_folder, tmp_path, capsys):
    hr = str(photo_folder / "benchmark/Set5/HR")
    with pytest.raises(SystemExit) as caught:
        make_testset.main(["--hr", hr, "--out", str(tmp_path / "out"), "--scale", "2", *arguments.split()])
    assert message in f"{caught.value}{capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()
