"""The files of a test: what they hold, and what they leave alone."""

import csv
import errno
import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from data.images import list_images, read_image
from data.protocol import bicubic
from data.testset import Degraded, Sample
from evaluation import results
from evaluation.evaluate import Score
from evaluation.tables import FORMS
from model import build, save_model
from model.checkpoint import checkpoint, write_file

SCORES = [
    Score("Set5", "bicubic", image, "bicubic", {"psnr": psnr, "niqe": -1.5})
    for image, psnr in (("0", 30.0), ("1", 20.0))
]


@pytest.fixture
def write(photo_folder, tmp_path):
    """Writes scores of Set5; returns the stem of the files."""
    test_set = Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), bicubic(2))

    def call(scores=SCORES, sha256="1"):
        made = {"network": "EDSR", "sha256": sha256}
        results.write_test_set(tmp_path, test_set, scores, name="scores_rgb", metric="rgb, border 2", made=made)
        return tmp_path / "bicubic/Set5/scores_rgb"

    return call


def test_the_files_of_a_test_set(write):
    stem = write()
    about = json.loads(stem.with_suffix(".json").read_text())
    assert (about["psnr"], about["niqe"], about["network"], about["metric"]) == (25.0, -1.5, "EDSR", "rgb, border 2")
    assert len(about["digest"]) == len(about["images"]) == 16
    found = list(csv.DictReader(stem.with_suffix(".csv").open(encoding="utf-8")))
    assert [(row["image"], float(row["psnr"]), row["niqe"]) for row in found] == [
        ("0", 30.0, "-1.5"),
        ("1", 20.0, "-1.5"),
    ]
    for suffix in FORMS.values():
        assert "25.000" in stem.with_suffix(suffix).read_text(encoding="utf-8")


def test_other_metrics_of_the_same_weights_and_images_stay(write):
    def held(metric, **how):
        stem = write([score._replace(values={metric: 1.0}) for score in SCORES], **how)
        (row, _) = csv.DictReader(stem.with_suffix(".csv").open(encoding="utf-8"))
        return [name for name in row if name not in results.LABELS]

    write()
    assert held("lpips_alex") == ["psnr", "niqe", "lpips_alex"]
    assert held("psnr") == ["psnr", "niqe", "lpips_alex"]
    about = json.loads(write().with_suffix(".json").read_text())
    assert (about["psnr"], about["lpips_alex"]) == (25.0, 1.0)
    assert held("ssim", sha256="2") == ["ssim"]  # of other weights
    stem = write([SCORES[0]])  # of fewer images
    assert len(list(csv.DictReader(stem.with_suffix(".csv").open(encoding="utf-8")))) == 1
    stem.with_suffix(".json").unlink()
    assert held("ssim") == ["ssim"]
    stem.with_suffix(".json").write_text("[1]")
    assert held("niqe") == ["niqe"]


def test_scores_of_older_weights_are_told(write, tmp_path):
    run = tmp_path / "run"
    save_model(build("BICUBIC", scale=2), run.mkdir() or (run / "model").mkdir() or run / "model/model_latest.pt")
    checkpoint = run / "model/model_latest.pt"
    tested = {
        key: results.Tested(run, {"checkpoint": f"elsewhere/{checkpoint.name}", "sha256": sha}, [])
        for key, sha in (("Set5", results.sha256(checkpoint)), ("Set14", "0" * 64))
    }
    assert "Set14: scores of older weights" in results.outdated(run / "results/model_latest", tested)
    assert results.outdated(run / "results/model_latest", {"Set5": tested["Set5"]}) == ""
    checkpoint.unlink()
    assert results.outdated(run / "results/model_latest", tested) == ""
    bicubic = {"Set5": results.Tested(run, {"checkpoint": None, "sha256": None}, [])}
    assert results.outdated(run / "results/bicubic_x2", bicubic) == ""


@pytest.mark.parametrize("name", ["=cmd", "+1", "-1", "@a", "\ta"])
def test_no_cell_is_a_formula(name, write):
    stem = write([SCORES[0]._replace(image=name)])
    (row,) = csv.DictReader(stem.with_suffix(".csv").open(encoding="utf-8", newline=""))
    assert row["image"] == f"'{name}"


def test_links_are_replaced_and_not_followed(write, tmp_path):
    stem = write()
    for path in stem.parent.iterdir():
        kept = tmp_path / f"kept{path.suffix}"
        kept.write_text("kept")
        path.unlink()
        path.symlink_to(kept)
    write()
    for path in stem.parent.iterdir():
        assert not path.is_symlink()
        assert (tmp_path / f"kept{path.suffix}").read_text() == "kept"


def test_a_full_disk_leaves_what_was_there_and_names_the_file(write, monkeypatch):
    stem = write()
    before = stem.with_suffix(".json").read_text()

    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left on device.*scores_rgb\.txt"):
        write()
    assert stem.with_suffix(".json").read_text() == before
    assert not list(stem.parent.glob(".*"))


def test_scores_of_single_images(tmp_path):
    scores = [Score("Demo", "", name, "", {"niqe": value}) for name, value in (("a", 4.0), ("b", 5.0))]
    results.write_images_scores(tmp_path / "Demo/no_reference", scores, made={"network": "EDSR"})
    assert json.loads((tmp_path / "Demo/no_reference.json").read_text()) == {"niqe": 4.5, "network": "EDSR"}
    assert (tmp_path / "Demo/no_reference.txt").read_text(encoding="utf-8").split("\n")[0] == "image  NIQE ↓"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_json_files_hold_what_json_knows(value, tmp_path):
    scores = [Score("Demo", "", "a", "", {"psnr": value, "ssim": 1.0})]
    results.write_images_scores(tmp_path / "scores", scores, made={"network": "EDSR"})
    text = (tmp_path / "scores.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"psnr": None, "ssim": 1.0, "network": "EDSR"}


def test_images_replace_links(tmp_path):
    sample = Sample("a", ["k (1)", "k2"], torch.zeros(2, 3, 2, 2), torch.zeros(3, 4, 4))
    (tmp_path / "a_k2.png").symlink_to(tmp_path / "elsewhere")
    results.save_images(tmp_path, sample, torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4))
    assert [read_image(tmp_path / f"a_{case}.png").mean() for case in ("k_1", "k2")] == [0, 255]
    assert not (tmp_path / "elsewhere").exists()


def test_files_of_one_name_lie_apart(tmp_path):
    folders = set()
    for name in ("a", "b"):
        path = tmp_path / name / "model_best.pt"
        path.parent.mkdir()
        path.write_bytes(name.encode())
        folders.add(results.Setup(pre_train=path).folder(tmp_path, scale=4))
    assert len(folders) == 2
    shutil.copy(path, tmp_path / "model_best.pt")
    folders.add(results.Setup(pre_train=tmp_path / "model_best.pt").folder(tmp_path, scale=4))
    assert len(folders) == 2  # the same bytes are the same network


def test_a_checkpoint_tells_the_training_behind_it_where_it_can(tmp_path):
    net = build("EDSR", scale=2, n_feats=4, n_blocks=1)
    path = tmp_path / "run/model/model_latest.pt"
    path.parent.mkdir(parents=True)
    write_file(checkpoint(net, degradation={"name": "Gaussian", "width": (0.2, 4.0)}), path)
    config = {"seed": 3, "lr_sr": 1e-3, "objective": "pixel", "save": "run", "versions": {}}
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    told = results.Setup(pre_train=path).about(net)
    assert told["seed"] == 1  # of the test
    degradation = {"name": "Gaussian", "width": [0.2, 4.0]}
    expected = {"seed": 3, "lr_sr": 1e-3, "objective": "pixel", "degradation": degradation}
    assert told["training"] == json.loads(json.dumps(told["training"])) == expected
    elsewhere = tmp_path / "net.pt"
    shutil.copy(path, elsewhere)
    assert results.training_of(elsewhere) == {"degradation": degradation}
    save_model(net, tmp_path / "bare.safetensors")
    assert results.training_of(tmp_path / "bare.safetensors") == results.Setup().about(net)["training"] == {}


@pytest.mark.parametrize("config", ["no JSON", "[1]", '{"seed": 1}', '{"versions": {}}'])
def test_a_config_of_something_else_and_odd_values_stop_no_test(config, tmp_path):
    path = tmp_path / "any/model/file.pt"
    path.parent.mkdir(parents=True)
    (tmp_path / "any/config.json").write_text(config)
    write_file({"degradation": {"mean": torch.ones(2), "width": math.nan, (1, 2): 3}}, path)
    assert results.training_of(path) == {"degradation": {"mean": "tensor([1., 1.])", "width": None}}


def test_scores_are_read_as_they_were_written(write, tmp_path):
    stem = write()
    name = "bicubic/Set5/scores_rgb.csv"
    for gone in (None, "training"):  # older files lack it
        about = json.loads(stem.with_suffix(".json").read_text())
        about.pop(gone, None)
        stem.with_suffix(".json").write_text(json.dumps(about))
        assert results.read(tmp_path) == {name: (stem.parent, about, SCORES, "")}
    for suffix in (".csv", ".json"):
        shutil.copy(stem.with_suffix(suffix), stem.with_name(f"scores_rgb_ensemble_bf16{suffix}"))
    assert {each.variant for each in results.read(tmp_path).values()} == {"", "ensemble_bf16"}
    for suffix in (".csv", ".json"):
        stem.with_name(f"scores_rgb_ensemble_bf16{suffix}").unlink()
    text = stem.with_suffix(".csv").read_text()
    for damaged in (text.replace("30.0", "much"), text.replace("image", "picture"), text.splitlines()[0] + "\n"):
        stem.with_suffix(".csv").write_text(damaged)
        with pytest.raises(ValueError, match=r"scores_rgb\.csv .*test again"):
            results.read(tmp_path)
    stem.with_suffix(".csv").unlink()
    with pytest.raises(ValueError, match="holds no scores"):
        results.read(tmp_path)


def test_scores_of_other_images_are_kept(tmp_path):
    scores = [Score("Demo", "", "a", "", {"niqe": 4.0})]
    paths = [results.write_images_scores(tmp_path / "no_reference", scores, made={}) for _ in range(3)]
    assert [path.name for path in paths] == ["no_reference", "no_reference_2", "no_reference_3"]
    assert all(path.with_suffix(suffix).exists() for path in paths for suffix in (".csv", ".json", ".txt"))
