"""`main.py` as its users call it: every model, and every kind of bad input."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import main
import option
import test
from data.images import write_image
from data.pairs import Batch
from loss import OBJECTIVES, Objective, Phase
from model import NETWORKS, BlindSR, build, checkpoint, foreign, load_model, zoo
from model.kdsr import KDSRStudent
from runtime.curves import draw_curves
from runtime.signals import INTERRUPTED, STOPPED
from utility import ROOT, Run, append_rows, listing

TINY = "--patch_size 12 --batch_size 2 --test_every 2 --epochs_sr 2 --n_threads 0 --cpu --print_every 1"
KDSR = "--n_feats 8 --n_blocks 2 --n_resblocks 1"


pytestmark = pytest.mark.usefixtures("no_curves")  # those of whole runs: test_resume.py and test_trainer.py


@pytest.fixture
def run_main(photo_folder, tmp_path):
    """Runs main.py on the small photographs with the run directory in tmp_path; returns it."""

    def call(arguments, root=None):
        argv = f"--dir_data {root or photo_folder} --data_train train --dir_experiment {tmp_path} --scale 2 {TINY}"
        argv = [*argv.split(), *arguments.split()]
        with pytest.raises(SystemExit, match=f"^{STOPPED}$") if "--max_minutes" in argv else nullcontext():
            main.main(argv)
        return option.train_options(argv, main.NAMES)[1].run_dir

    return call


@pytest.fixture
def refused(run_main, capsys):
    """The message with which main.py refuses these arguments, before it has written anything."""

    def call(arguments, root=None):
        with pytest.raises(SystemExit) as caught:
            run_main(arguments, root)
        message = str(caught.value) if isinstance(caught.value.code, str) else capsys.readouterr().err
        assert "error" in message
        return message

    return call


@pytest.mark.slow
def test_teacher_then_student(run_main):
    teacher = run_main(f"--model KDSR_T --save teacher {KDSR}")
    assert teacher.name == "teacher_x2_bicubic_iso"
    file = teacher / "model" / "model_best.pt"
    student = run_main(f"--model KDSR_S --save student {KDSR} --pre_train_TA {file} --lr_sr 1e-30")
    trained, source = (load_model(path) for path in (student / "model" / "model_latest.pt", file))
    # At such a rate the student is still what it started as: the teacher's SR network and an estimator of its own.
    for name, value in trained.get_submodule("restoration").state_dict().items():
        expected = source.get_submodule("restoration").state_dict()[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-20)
    assert trained.state_dict()["estimator.features.0.weight"].shape[1] == 3
    config = json.loads((student / "config.json").read_text())
    assert config["model"] == "KDSR_S"
    assert torch.__version__.startswith(config["versions"]["torch"])


class Mimicry(Objective[BlindSR]):
    """The student's code alone, then its image too, against the teacher's."""

    takes_teacher = needs_teacher = warms_up = True

    def __init__(self, teacher: BlindSR, *, warmup_steps: int) -> None:
        super().__init__()
        self.teacher, self.warmup_steps = teacher.requires_grad_(False), warmup_steps

    def phases(self, net: BlindSR, batch: Batch, step: int) -> Iterator[Phase]:
        goal = self.teacher(batch.lr, batch.hr)
        code = F.l1_loss(net.embed(batch.lr).code, goal.embedding.code)
        if step < self.warmup_steps:
            yield Phase({"code": code}, code)
        else:
            image = F.l1_loss(net(batch.lr).image, goal.image)
            yield Phase({"code": code, "image": image}, code + image)


class Pupil(KDSRStudent):
    """A network of one's own with KDSR's teacher."""


def test_an_objective_and_a_network_of_ones_own_have_teacher_and_warm_up(run_main, refused, monkeypatch, tmp_path):
    monkeypatch.setitem(OBJECTIVES, "mimicry", Mimicry)
    for networks in (NETWORKS, main.NAMES["model"]):
        monkeypatch.setitem(networks, "PUPIL", Pupil)
    torch.save(checkpoint(build("KDSR_T", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / "TA.pt")
    mimicry = "--model PUPIL --save m --objective mimicry"
    assert "name its checkpoint with --pre_train_TA (train one with --model KDSR_T)" in refused(mimicry)
    taught = f"{mimicry} --pre_train_TA {tmp_path / 'TA.pt'}"
    assert "a student learns from a teacher, --model KDSR_S or PUPIL, not EDSR" in refused(f"{taught} --model EDSR")
    assert "--compile takes an --objective whose steps are alike" in refused(f"{taught} --compile")
    run = run_main(f"{taught} --epochs_encoder 1 --epochs_sr 1")
    log = (run / "log.txt").read_text()
    assert "the student starts with its teacher's SR network" in log
    assert "has no effect" not in log
    run_main(f"{taught} --epochs_encoder 1 --epochs_sr 1 --resume")
    assert (run / "log.txt").read_text().count("the student starts with") == 1  # and not once more
    assert "step 2/4  lr 0.0002  code" in log  # the estimator alone; its epochs come before the others
    assert re.search(r"step 3/4  lr 0.0001  code \S+  image", log)


def test_student_with_warm_up_and_aniso_kernels(run_main, tmp_path):
    torch.save(foreign.write(build("KDSR_T", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / "TA.pt")
    run = run_main(
        f"--model KDSR_S --save s {KDSR} --blur_type aniso_gaussian --noise 10 --epochs_encoder 1 --resume 0 "
        f"--pre_train_TA {tmp_path / 'TA.pt'} --pre_train_ST {tmp_path / 'TA.pt'} --protocol gaussian8"
    )
    assert run.name == "s_x2_bicubic_aniso"
    log = (run / "log.txt").read_text()
    assert "step 2/4  lr 0.0002  kl" in log  # the estimator alone
    assert "step 3/4  lr 0.0001  l1" in log  # everything


@pytest.mark.slow
def test_cdsr_resumed(run_main):
    arguments = (
        "--model CDSR --save c --n_feats 8 --n_blocks 1 --blur_type aniso_gaussian --noise 5 "
        "--freeze_epoch 1 --c_weight 0.5"
    )
    run = run_main(f"{arguments} --max_minutes 0")
    assert torch.load(run / "model" / "state.pt", weights_only=True)["step"] == 1
    run_main(f"{arguments} --resume")
    assert torch.load(run / "model" / "state.pt", weights_only=True)["step"] == 4
    log = (run / "log.txt").read_text()
    assert "step 2/4  lr 0.0001  l1" in log
    assert "contrast" in log.split("step 2/4")[1].split("\n")[0]
    assert "contrast" not in log.split("step 3/4")[1].split("\n")[0]  # frozen
    assert "manet9 noise 5" in log


@pytest.mark.parametrize("model", ["DASR", "EDSR", "RRDB"])
def test_baselines(model, run_main):
    run = run_main(f"--model {model} --save b --n_feats 16 --n_blocks 1 --epochs_encoder -1 --epochs_sr 1")
    assert load_model(run / "model" / "model_best.pt").config["n_blocks"] == 1


def test_both_stages_of_ikc(run_main):
    size = "--model IKC --n_feats 8 --n_blocks 1 --patch_size 16"
    first = run_main(f"{size} --save first --epochs_sr 1")
    assert first.name == "first_x2_ikc"
    assert (
        "--objective sftmd trains a part of the network, which is not validated yet" in (first / "log.txt").read_text()
    )
    assert not (first / "psnr_log.csv").exists()
    latest = first / "model" / "model_latest.pt"
    second = run_main(f"{size} --save second --epochs_sr 1 --objective correction --pre_train {latest}")
    log = (second / "log.txt").read_text()
    assert "predictor" in log
    assert "corrector_7" in log
    assert "gaussian8  PSNR" in log
    before, after = load_model(latest), load_model(second / "model" / "model_latest.pt")
    fixed = [name for name, value in before.state_dict().items() if torch.equal(value, after.state_dict()[name])]
    assert fixed == [name for name in before.state_dict() if name.startswith("restoration")]


def test_sizes_come_from_the_weights_that_a_run_starts_from(run_main, refused, tmp_path):
    sizes = {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1}
    for name, scale in (("KDSR_S", 4), ("KDSR_T", 2)):
        torch.save(checkpoint(build(name, scale=scale, **sizes)), tmp_path / f"{name}.pt")
    real = "--model KDSR_S --objective pixel --scale 4 --degradation second_order --recipe light --crop_size 20"
    real += f" --pool_size 4 --save real --pre_train {tmp_path / 'KDSR_S.pt'}"
    taught = f"--model KDSR_S --save taught --pre_train_TA {tmp_path / 'KDSR_T.pt'}"
    runs = run_main(real), run_main(taught)
    epochs = [[row["epoch"] for row in csv.DictReader((run / "psnr_log.csv").open())] for run in runs]
    assert epochs == [["0", "1", "2"], ["1", "2"]]  # whoever starts from weights wants to know whether they improve
    assert not list(runs[0].glob("model/model_0_*"))
    for run in runs:
        config = load_model(run / "model" / "model_latest.pt").config
        assert {name: config[name] for name in sizes} == sizes
    message = refused(f"{real} --save other --n_feats 16 --n_blocks 3")
    assert "holds n_feats 8, n_blocks 2, and --n_feats 16, --n_blocks 3 were asked for" in message


def test_a_resumed_run_knows_its_sizes_and_its_first_score(run_main, refused, tmp_path):
    """Also without the files that they came from, and after a stop before the first step."""
    sizes = {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1}
    for name in ("KDSR_S", "KDSR_T"):
        torch.save(checkpoint(build(name, scale=2, **sizes)), tmp_path / f"{name}.pt")
    for start in (
        f"--pre_train {tmp_path / 'KDSR_S.pt'} --objective pixel",
        f"--pre_train_TA {tmp_path / 'KDSR_T.pt'}",
    ):
        save = f"--model KDSR_S --save s{len(start)}"
        run = run_main(f"{save} {start} --max_minutes 0")
        (tmp_path / "KDSR_S.pt").unlink(missing_ok=True)
        again = f"{save} --resume{' --objective pixel' if 'pixel' in start else ''}"
        assert "--n_feats 8 (now 16)" in refused(f"{again} --n_feats 16")
        main.main(f"--resume --config {run} --max_minutes 9".split())  # which names the weights that are gone
        assert load_model(run / "model" / "model_latest.pt").config == {"scale": 2, **sizes}
        rows = [row["epoch"] for row in csv.DictReader((run / "psnr_log.csv").open())]
        assert rows == (["0", "1", "2"] if "pixel" in start else ["1", "2"])
        assert not list(run.glob("model/model_0_*"))


def test_the_weights_that_a_run_starts_from_are_never_its_best(run_main, tmp_path):
    torch.manual_seed(0)
    torch.save(checkpoint(build("KDSR_S", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / "net.pt")
    start = f"--model KDSR_S --objective pixel --save b --pre_train {tmp_path / 'net.pt'} --lr_sr 0.5 --collapse 0"
    run = run_main(start)
    psnr = [float(row["psnr"]) for row in csv.DictReader((run / "psnr_log.csv").open())]
    best = load_model(run / "model" / "model_best.pt").state_dict()
    assert psnr[0] > max(psnr[1:])
    assert any(
        not torch.equal(value, best[name]) for name, value in load_model(tmp_path / "net.pt").state_dict().items()
    )


def test_any_layers_that_fit_start_a_run(run_main, refused, tmp_path):
    source = build("KDSR_S", scale=2, n_feats=8, n_blocks=3, n_resblocks=2)
    torch.save(checkpoint(source), tmp_path / "source.pt")
    start = f"--pre_train {tmp_path / 'source.pt'} --warm_start --lr_sr 1e-30"
    run = run_main(f"--model KDSR_T --save w {KDSR} {start}")  # a teacher from a student of other sizes
    trained = load_model(run / "model" / "model_latest.pt").state_dict()
    assert torch.equal(trained["restoration.head.weight"], source.state_dict()["restoration.head.weight"])
    log = (run / "log.txt").read_text()
    assert "these start afresh: estimator.features.0" in log
    assert "of which nothing fits EDSR" in refused(f"--model EDSR --n_feats 16 --n_blocks 1 --save e {start}")


def test_layers_of_a_network_that_has_changed_since_start_a_run(run_main, refused, tmp_path):
    """And those of any file of weights, which `load_model` does not know."""
    source = build("KDSR_S", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)
    contents = checkpoint(source)
    contents["params"] = dict(list(contents["params"].items())[:-2]) | {"new.weight": torch.ones(1)}
    torch.save(contents, tmp_path / "changed.pt")
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, tmp_path / "bare.pt")
    for name in ("changed", "bare"):
        run = run_main(
            f"--model KDSR_T --save {name} {KDSR} --pre_train {tmp_path}/{name}.pt --warm_start --lr_sr 1e-30"
        )
        trained = load_model(run / "model" / "model_latest.pt").state_dict()
        assert torch.equal(trained["restoration.head.weight"], source.state_dict()["restoration.head.weight"])
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    message = refused(f"--model KDSR_T --save o {KDSR} --pre_train {tmp_path}/other.pt --warm_start")
    assert "holds tensors such as a, of which nothing fits KDSR_T" in message
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    assert "--pre_train" in refused(f"--model KDSR_T --save o {KDSR} --pre_train {tmp_path}/broken.pt --warm_start")


def test_a_resumed_run_tells_that_it_is_tested_otherwise(run_main, tmp_path):
    rule, edsr = tmp_path / "rule.json", "--model EDSR --n_feats 8 --n_blocks 1"
    rule.write_text(json.dumps({"recipe": "gaussian", "kernels": [[3.0, 3.0, 0]]}))
    arguments = f"{edsr} --save p --protocol {rule}"
    run = run_main(f"{arguments} --epochs_sr 1")
    run_main(f"{arguments} --epochs_sr 2 --resume")
    told = "the protocol or the images of Set5 have changed"
    assert told not in (run / "log.txt").read_text()
    state = load_state(run)
    rule.write_text(json.dumps({"recipe": "gaussian", "kernels": [[0.2, 0.2, 0]]}))
    run_main(f"{arguments} --epochs_sr 3 --resume")
    assert told in (run / "log.txt").read_text()
    assert load_state(run)["tests"] != state["tests"]
    scores = [float(row["psnr"]) for row in csv.DictReader((run / "psnr_log.csv").open())]
    assert load_state(run)["best"] == pytest.approx(scores[-1], abs=1e-3)


def load_state(run):
    return torch.load(run / "model" / "state.pt", weights_only=True)


def test_a_run_takes_the_flags_of_another(run_main, refused, tmp_path):
    first = run_main(f"--model KDSR_T --save one {KDSR} --seed 7 --noise 5 --loss 1*MSE")
    second = run_main(f"--config {first / 'config.json'} --save two --seed 8")
    one, two = (json.loads((run / "config.json").read_text()) for run in (first, second))
    changed = {name for name in one if one[name] != two[name]}
    assert changed <= {"save", "seed", "config", "command", "threads"}
    assert "mse" in (second / "log.txt").read_text()
    third = run_main(f"--config {first} --save three")  # the folder will do
    assert json.loads((third / "config.json").read_text())["seed"] == 7
    assert "parameters" in (third / "log.txt").read_text()
    config = json.loads((first / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"degradation": "of another clone"}))
    run_main(f"--config {tmp_path} --save four --degradation gaussian")
    assert "invalid choice: 'of another clone'" in refused(f"--config {tmp_path} --save five")
    for text in ("[]", "{}", '{"model": "KDSR_T", "scale": 7}', "no JSON"):
        (tmp_path / "c.json").write_text(text)
        assert "--config" in refused(f"--config {tmp_path / 'c.json'} --save four")
    assert "--config" in refused("--config nowhere.json --save four")
    assert refused(f"--config {first}") == "main.py: error: --save must be given\n"


def test_a_reference_that_is_not_there_is_told_the_others(refused):
    found = refused(f"--model KDSR_T --save r {KDSR} --reference nobody")
    assert all(name in found for name in zoo.entries())


def test_runs_that_differ_in_their_seed_are_one_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "CLONE", tmp_path)
    for name, psnr in (("small_seed1", 27.0), ("small_seed2", 28.0), ("seed1", 20.0)):
        row = {"epoch": 1, "step": 10, "set": "Set5", "protocol": "gaussian8", "psnr": psnr, "ssim": 0.8}
        append_rows(tmp_path / f"{name}.csv", [row])
    small = main.reference("small")
    assert small is not None
    assert (small.name, small.at("Set5, gaussian8", 10)) == ("small", 27.5)
    with pytest.raises(FileNotFoundError, match=r"there are seed1, small$"):
        main.reference("small_seed1")


def test_a_student_resumes_without_its_teacher_file(run_main, tmp_path):
    torch.save(checkpoint(build("KDSR_T", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / "TA.pt")
    arguments = f"--model KDSR_S --save s {KDSR}"
    run = run_main(f"{arguments} --pre_train_TA {tmp_path / 'TA.pt'} --max_minutes 0")
    (tmp_path / "TA.pt").rename(tmp_path / "moved.pt")
    run_main(f"{arguments} --resume")
    assert torch.load(run / "model" / "state.pt", weights_only=True)["step"] == 4


def test_a_student_is_not_continued_with_another_teacher(run_main, tmp_path):
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(checkpoint(build("KDSR_T", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / f"{seed}.pt")
    arguments = f"--model KDSR_S --save s {KDSR} --pre_train_TA {tmp_path}"
    run_main(f"{arguments}/1.pt --max_minutes 0")
    with pytest.raises(SystemExit, match=r"2\.pt is not the teacher that this run began with"):
        run_main(f"{arguments}/2.pt --resume")
    run_main(f"{arguments}/1.pt --resume")


def test_jpeg_s_fold_and_one_kernel(run_main):
    run = run_main(f"--model KDSR_T --save j {KDSR} --jpeg_low 50 --sample_mode s-fold --draw_per image --sig 1.2")
    assert run.name == "j_x2_s-fold_iso"
    assert "sig 1.2 s-fold  PSNR" in (run / "log.txt").read_text()


def test_packed_cache(run_main, tmp_path):
    run_main(f"--model KDSR_T --save a {KDSR} --data_cache {tmp_path / 'packed'}")
    assert (tmp_path / "packed.u8").stat().st_size == 5 * 96 * 112 * 3


def test_runs_of_other_seeds_are_validated_on_the_same_images(run_main, photo_folder):
    """Noise and all, so that a spread over seeds is one of trainings."""
    common = f"--model KDSR_T {KDSR} --noise 10 --max_minutes 0"
    runs = [run_main(f"{common} --seed {seed} --save s{seed}", photo_folder) for seed in (1, 2)]
    first, second = (torch.load(Run(run).state, weights_only=True)["tests"] for run in runs)
    assert first == second


def test_images_are_held_out_where_there_is_no_test_set(run_main, photo_folder, tmp_path):
    shutil.copytree(photo_folder / "train", tmp_path / "data" / "train")
    run = run_main(f"--model KDSR_T --save h {KDSR}", root=tmp_path / "data")
    log = (run / "log.txt").read_text()
    assert "held out for validation and not trained on: 0.png, 2.png" in log
    assert "held-out  gaussian8  PSNR" in log


def test_a_test_set_that_is_gone_is_what_a_resumed_run_speaks_of(run_main, refused, photo_folder, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(photo_folder, root)
    words = f"--model KDSR_T --save g {KDSR}"
    run_main(f"{words} --max_minutes 0", root)
    (root / "benchmark").rename(root / "elsewhere")
    assert "--data_test: this run validates on Set5, which is not found any more" in refused(f"{words} --resume", root)


def test_test_images_that_are_trained_on_are_noted(run_main):
    run = run_main(f"--model KDSR_T --save n {KDSR} --max_minutes 0 --data_train benchmark/Set5")
    assert "note: the images of Set5 are trained on, too: its scores say nothing" in (run / "log.txt").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_names_that_are_no_utf8(run_main, photo_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("evaluation.report.draw_curves", draw_curves)
    root, odd = tmp_path / "data", os.fsdecode(b"caf\xe9")
    shutil.copytree(photo_folder, root)
    for folder in (root / "train/HR", root / "benchmark/Set5/HR"):
        (folder / "0.png").rename(folder / f"{odd}.png")
    (root / "benchmark/Set5").rename(root / f"benchmark/{odd}")
    (root / f"train/HR/{odd}2.png").write_bytes(b"no image")
    arguments = f"--model EDSR --n_feats 8 --n_blocks 1 --save odd --data_test {odd} --skip_bad_images"
    run = run_main(f"{arguments} --data_cache {tmp_path}/{odd}", root=root)
    assert "left out: " in capsys.readouterr().out
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert "HR/caf\\udce92.png cannot be read" in log
    assert "without tensorboard" not in log
    assert {row["set"] for row in csv.DictReader((run / "psnr_log.csv").open(encoding="utf-8"))} == {"caf\\udce9"}
    assert "<td>caf\\udce9</td>" in (run / "report.html").read_text(encoding="utf-8")
    assert (run / "psnr.png").exists()


def test_a_dry_run_writes_nothing(run_main, capsys, tmp_path):
    run_main(f"--model KDSR_T --save d {KDSR} --dry_run")
    assert "forecast" in capsys.readouterr().out
    run_main(f"--model KDSR_T --save d {KDSR} --dry_run --data_cache {tmp_path / 'cache'}")
    assert "note: the images are not packed yet" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(run_main, refused):
    run = run_main(f"--model KDSR_T --save t {KDSR}")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    message = refused(f"--model KDSR_T --save t {KDSR}")
    assert "--resume" in message
    assert "--save t" in message
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_is_continued_as_what_it_is(run_main, refused):
    run = run_main(f"--model KDSR_T --save t {KDSR} --noise 5 --max_minutes 0")
    before = json.loads((run / "config.json").read_text())
    assert before["cpu"] is True  # the flag
    assert "--noise 5.0 (now left out)" in refused(f"--model KDSR_T --save t {KDSR} --resume")
    renamed = run.rename(run.with_name("u_x2_bicubic_iso"))
    assert f"continue it with --resume --config {renamed}, or" in refused(
        f"--model KDSR_T --save u {KDSR} --noise 5 --resume"
    )
    renamed.rename(run)
    assert json.loads((run / "config.json").read_text()) == before
    run_main(f"--model KDSR_T --save t {KDSR} --noise 5 --resume --n_threads 1")
    assert json.loads((run / "config.json").read_text()) == before | {"n_threads": 1, "max_minutes": None}
    assert "from here on: --n_threads 1 (was 0), --max_minutes None (was 0.0)" in (run / "log.txt").read_text()


def test_what_a_network_of_another_scale_keeps(run_main, tmp_path):
    torch.manual_seed(7)
    source = build("KDSR_S", scale=4, n_feats=8, n_blocks=2, n_resblocks=1)
    torch.save(checkpoint(source), tmp_path / "x4.pt")
    arguments = f"--model KDSR_S --objective pixel --scale 3 {KDSR} --pre_train {tmp_path}/x4.pt --lr_sr 1e-30 --save w"
    run = run_main(f"{arguments} --epochs_sr 1")  # at such a rate the network is still what it started as
    trained, fresh = load_model(run / "model/model_latest.pt").state_dict(), []
    for name, value in trained.items():
        if value.shape == source.state_dict()[name].shape and torch.allclose(
            value, source.state_dict()[name], atol=1e-20
        ):
            continue
        fresh.append(name)
    assert fresh
    assert all("upsample" in name for name in fresh)
    assert trained.keys() == source.state_dict().keys() - {n for n in source.state_dict() if "upsample.2" in n}
    told = (run / "log.txt").read_text()
    assert f"{tmp_path}/x4.pt is a network for x4; at x3 these start afresh: {listing(fresh, 8)}" in told


@pytest.mark.parametrize("change", ["one less", "another size", "another name"])
def test_a_run_is_continued_with_its_images(change, run_main, refused, photo_folder, tmp_path):
    root = shutil.copytree(photo_folder, tmp_path / "data")
    arguments = f"--model KDSR_T --save t {KDSR}"
    run_main(f"{arguments} --max_minutes 0", root)
    (root / "train/HR/3.png").rename(root / "4.png")
    if change != "one less":
        shutil.copy(root / "4.png", root / f"train/HR/{'3' if change == 'another size' else '33'}.png")
    if change == "another size":
        write_image(root / "train/HR/3.png", np.zeros((97, 112, 3), np.uint8))
    message = refused(f"{arguments} --resume", root)
    assert "is of a run on 5 training images" in message
    assert f"--dir_data now holds other images ({4 if change == 'one less' else 5})" in message


def test_a_run_is_continued_from_a_cache_of_its_images(run_main, tmp_path):
    arguments = f"--model KDSR_T --save t {KDSR}"
    run = run_main(f"{arguments} --max_minutes 0")
    run_main(f"{arguments} --resume --data_cache {tmp_path / 'cache'}")
    assert torch.load(run / "model/state.pt", weights_only=True)["step"] == 4


def test_a_run_that_died_before_its_first_checkpoint_can_start_again(run_main):
    run = run_main(f"--model KDSR_T --save t {KDSR}")
    for file in run.glob("model/*.pt"):
        file.unlink()
    run_main(f"--model KDSR_T --save t {KDSR}")
    assert len((run / "psnr_log.csv").read_text().splitlines()) == 3


def test_ctrl_c_before_the_first_step(run_main, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "prepare", interrupt)
    with pytest.raises(SystemExit, match=f"^{INTERRUPTED}$"):
        run_main(f"--model KDSR_T --save t {KDSR}")
    assert capsys.readouterr().err.startswith("main.py: interrupted; ")


def test_patches_that_are_too_small(refused):
    assert "--patch_size 8: 12 LR pixels" in refused("--model CDSR --save s --patch_size 8")
    assert "--patch_size 4: 6 LR pixels" in refused(f"--model KDSR_T --save s {KDSR} --patch_size 4")


def test_s_fold_is_validated_as_s_fold(run_main):
    run = run_main(f"--model KDSR_T --save f {KDSR} --sample_mode s-fold")
    assert "Set5  gaussian8 s-fold  PSNR" in (run / "log.txt").read_text()


def test_a_training_set_that_is_not_there(refused, photo_folder):
    assert "--data_train nowhere: there is neither" in refused("--model CDSR --save s --data_train nowhere")


def test_nothing_to_resume(refused):
    assert "there is nothing to continue" in refused(f"--model KDSR_T --save t {KDSR} --resume")


def test_a_folder_that_is_missing_or_empty(refused, tmp_path):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    assert "--dir_data: there is no folder" in refused("--model CDSR --save s", root=tmp_path / "missing")
    assert "holds no image" in refused("--model CDSR --save s", root=tmp_path / "empty")


@pytest.fixture
def data_with_a_bad_file(photo_folder, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(photo_folder, root)
    return root


@pytest.mark.parametrize("kind", ["truncated", "text", "small"])
def test_bad_images_are_named_and_can_be_skipped(kind, refused, run_main, data_with_a_bad_file):
    folder = data_with_a_bad_file / "train" / "HR"
    whole = (folder / "0.png").read_bytes()
    if kind == "small":
        write_image(folder / "odd.png", np.zeros((20, 30, 3), np.uint8))
    else:
        (folder / "odd.png").write_bytes(whole[: len(whole) // 2] if kind == "truncated" else b"this is no image")
    message = refused(f"--model KDSR_T --save s {KDSR}", root=data_with_a_bad_file)
    assert "odd.png" in message
    assert "--skip_bad_images" in message
    run_main(f"--model KDSR_T --save s {KDSR} --skip_bad_images", root=data_with_a_bad_file)


def test_checkpoints_that_do_not_fit(refused, tmp_path):
    torch.save(checkpoint(build("KDSR_S", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / "student.pt")
    torch.save(checkpoint(build("KDSR_T", scale=3, n_feats=8, n_blocks=2, n_resblocks=1)), tmp_path / "teacher3.pt")
    assert "holds model KDSR_S" in refused(f"--model KDSR_S --save s {KDSR} --pre_train_TA {tmp_path / 'student.pt'}")
    assert "holds scale 3" in refused(f"--model KDSR_S --save s {KDSR} --pre_train_TA {tmp_path / 'teacher3.pt'}")
    assert "holds model KDSR_S" in refused(f"--model KDSR_T --save s {KDSR} --pre_train {tmp_path / 'student.pt'}")
    assert "there is no file" in refused("--model CDSR --save s --pre_train nowhere.pt")
    assert "n_resblocks means nothing to CDSR" in refused("--model CDSR --save s --n_resblocks 1")


def test_what_a_flag_contradicts_is_named(refused):
    assert "--pre_train_TA" in refused("--model KDSR_S --save s")
    assert "--sig_min 3 is more than --sig_max 2" in refused("--model KDSR_T --save s --sig_min 3")
    assert "--noise -1.0 must be in" in refused("--model KDSR_T --save s --noise -1")
    assert "did you mean --batch_size?" in refused("--model KDSR_T --save s --batchsize 3")


REAL = (
    "--scale 4 --degradation second_order --patch_size 12 --crop_size 20 --batch_size 2 --pool_size 4 --test_every 4 "
    "--n_feats 8 --n_blocks 1 --n_resblocks 1 --save_minutes 0"
)


@pytest.mark.slow
def test_the_three_stages_of_the_real_world(run_main, tmp_path):
    teacher = run_main(f"--model KDSR_T --save t {REAL}")
    assert teacher.name == "t_x4_second_order"
    student = run_main(f"--model KDSR_S --save s {REAL} --pre_train_TA {teacher / 'model/model_latest.pt'}")
    file = torch.load(student / "model/model_latest.pt", weights_only=True)
    assert any(not torch.equal(file["params"][name], value) for name, value in file["params_ema"].items())
    gan = (
        f"--model KDSR_S {REAL} --objective adversarial --d_feats 4 --perceptual_weight 0 --sharpen "
        f"--pre_train {student / 'model/model_latest.pt'}"
    )
    taught = f"{gan} --pre_train_TA {teacher / 'model/model_latest.pt'}"
    whole = run_main(f"{taught} --save whole")
    log = (whole / "log.txt").read_text()
    for part in ("l1", "gan", "kl", "d_real", "d_fake", "second_order  PSNR"):
        assert part in log
    assert (student / "model/model_best.pt").exists()
    assert not (whole / "model/model_best.pt").exists()  # the PSNR of a GAN falls while its images get better
    config = json.loads((whole / "config.json").read_text())
    assert (config["ema"], config["beta2"], config["augment"], config["lr_sr"]) == (0.999, 0.99, "mirror", 1e-4)

    # Stopped after each of three steps: before the pool is full, and after.
    broken = [run_main(f"{taught} --save broken --max_minutes 0 --resume auto") for _ in range(3)][-1]
    run_main(f"{gan} --save broken --resume auto")  # the teacher comes with the run
    one, other = (torch.load(run / "model/state.pt", weights_only=True) for run in (whole, broken))
    assert one["step"] == other["step"] == 8
    for part in ("net", "objective", "optimizer", "pairs"):
        assert same(one[part], other[part]), part
    assert len(one["optimizer"]["param_groups"]) == 2  # both players
    assert one["pairs"]["pool.lr"].shape == (4, 3, 12, 12)
    for name in ("psnr_log.csv", "loss_log.csv"):
        assert (whole / name).read_text() == (broken / name).read_text()


@pytest.mark.slow
def test_a_recipe_of_ones_own_is_kept_with_the_run(run_main, refused, tmp_path, photo_folder, capsys):
    file = tmp_path / "phone.json"
    content = {"first": {"share": 0}, "second": {"jpeg": {"quality": [60, 95]}}}
    file.write_text(json.dumps(content))
    command = f"--model EDSR {REAL.replace('--n_resblocks 1', '')} --save own --recipe {file}"
    run = run_main(command)
    assert json.loads((run / "config.json").read_text())["recipe"] == {"name": "phone", **content}
    assert "second_order phone  PSNR" in (run / "log.txt").read_text()
    for name in ("model_latest.pt", "model_best.pt"):
        held = torch.load(run / "model" / name, weights_only=True)["degradation"]
        assert held["recipe"]["name"] == "phone"
        assert held["recipe"]["second"]["jpeg"]["quality"] == (60, 95)
        assert load_model(run / "model" / name).scale == 4
    run_main(f"{command} --epochs_sr 3 --resume")
    file.write_text(json.dumps({"first": {"share": 0.5}}))
    assert "--recipe" in refused(f"{command} --resume")  # the file changed: it would be another run

    file.write_text(json.dumps(content))
    weights = f"--pre_train {run / 'model/model_latest.pt'} --dir_data {photo_folder} --data_test Set5"
    scores = []
    for words in (f"--protocol {file}", f"--protocol second_order --recipe {file}"):
        test.main(f"{weights} {words} --save own --dir_experiment {tmp_path}".split())
        (found,) = (tmp_path / "own").rglob("scores*.json")
        scores.append(json.loads(found.read_text()))
    assert scores[0]["digest"] == scores[1]["digest"]
    assert scores[0]["psnr"] == scores[1]["psnr"]
    capsys.readouterr()
    test.main(f"{weights} --save own --dir_experiment {tmp_path}".split())
    assert "trained with --degradation second_order --recipe phone" in capsys.readouterr().out


def same(a, b):
    """Return True if two states are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (f"--model KDSR_T {REAL} --crop_size 18", ["--crop_size 18", "19 LR pixels"]),
        (f"--model KDSR_T {REAL} --crop_size 11", ["--crop_size 11", "--patch_size 12"]),
        (f"--model KDSR_T {REAL} --crop_size 30", ["120 HR pixels a side", "--crop_size"]),
        (f"--model KDSR_T {REAL} --pool_size 1", ["--pool_size 1", "--batch_size 2"]),
        (f"--model KDSR_T --objective adversarial {REAL} --patch_size 13", ["--patch_size 13", "multiples of 8"]),
        (f"--model KDSR_T {REAL} --objective adversarial --vgg nowhere.pth", ["--vgg", "nowhere.pth"]),
        (f"--model KDSR_T {REAL} --objective adversarial --patch_size 2", ["--patch_size 2", "--perceptual_weight"]),
        (f"--model KDSR_T {REAL} --objective adversarial --patch_size 6 --sharpen", ["--patch_size 6", "--sharpen"]),
        (f"--model KDSR_T {REAL} --objective adversarial --lr_sr 0", ["--lr_sr 0", "nothing would be learned"]),
        (f"--model KDSR_T {REAL} --accumulate 3", ["--batch_size 2", "--accumulate 3"]),
        (f"--model KDSR_T {REAL} --recipe ligth", ["--recipe: ligth is neither a file", "did you mean light?"]),
        (f"--model CDSR {REAL}", ["--objective contrast", "--pool_size"]),
        (
            f"--model KDSR_T {REAL} --protocol second_order --noise 5",
            ["--degradation second_order takes no --noise"],
        ),
    ],
)
def test_bad_input_of_the_real_world(arguments, words, refused):
    message = refused(f"{arguments} --save x")
    for word in words:
        assert word in message


# -------------------------------------------------------------------------------------- what misleads nobody


@pytest.mark.parametrize("sets", ["Nope", "Set5+Nope", "train/HR+nope"])
@pytest.mark.parametrize("check", [False, True])
def test_a_test_set_that_was_asked_for_must_be_there(sets, check, refused, run_main, capsys, tmp_path):
    words = f"--model KDSR_T --save s {KDSR} --data_test {sets}"
    if check:
        with pytest.raises(SystemExit, match=r"^1$"):
            run_main(f"{words} --check")
        message = capsys.readouterr().out
    else:
        message = refused(words)
    missing = sets if sets == "Nope" else sets.split("+")[1]
    assert re.search(rf"--data_test: there is no test set (train/HR, )?{missing}: no folder of this name", message)
    assert not list(tmp_path.glob("*/model"))


def test_a_run_goes_on_at_another_rate(run_main):
    arguments = f"--model KDSR_T --save t {KDSR}"
    run = run_main(f"{arguments} --max_minutes 0")
    run_main(f"{arguments} --resume --lr_sr 1e-5 --max_minutes 0")
    assert "from here on: --lr_sr 1e-05 (was 0.0001)" in (run / "log.txt").read_text()
    assert json.loads((run / "config.json").read_text())["lr_sr"] == 1e-5
    run_main(f"{arguments} --resume")
    log = (run / "log.txt").read_text()
    assert log.count("from here on: --lr_sr") == 1
    rates = re.findall(r"step (\d)/4  lr (\S+)", log)
    assert rates == [("1", "0.0001"), ("2", "1e-05"), ("3", "1e-05"), ("4", "1e-05")]
    run_main(f"{arguments} --resume --lr_sr 1e-6")  # which would act on nothing
    assert "nothing is left to do; a larger --epochs_sr goes on" in (run / "log.txt").read_text()
    assert json.loads((run / "config.json").read_text())["lr_sr"] == 1e-5


def test_the_rates_of_both_players_are_those_that_are_given(run_main):
    arguments = f"--model KDSR_T {REAL} --objective adversarial --d_feats 4 --perceptual_weight 0 --save g"
    run = run_main(f"{arguments} --max_minutes 0")
    run_main(f"{arguments} --resume --lr_sr 1e-5")
    groups = torch.load(run / "model/state.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [1e-5, pytest.approx(1e-4)]  # --lr_d is as it was


def test_more_gpus_than_there_are(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = "--model CDSR --save s --n_GPUs 9 --batch_size 9 --cpu False"
    assert "--n_GPUs 9: PyTorch finds 0 CUDA devices here" in refused(words)


def test_a_file_in_the_place_of_a_folder(refused, photo_folder):
    message = refused("--model CDSR --save s", root=photo_folder / "train/HR/0.png")
    assert "--dir_data: " in message
    assert "0.png is a file; name the folder" in message


def test_a_root_of_other_sets_is_told_of_data_train(photo_folder, tmp_path):
    shutil.copytree(photo_folder / "train", tmp_path / "root/BSD400")
    argv = ["--dir_data", str(tmp_path / "root"), "--model", "CDSR", "--save", "s", "--cpu"]
    with pytest.raises(SystemExit, match=r"--dir_data: .* holds no image .*; --data_train chooses .*: BSD400"):
        main.main([*argv, "--dir_experiment", str(tmp_path)])


def test_a_run_is_not_its_weights(run_main, refused):
    run = run_main(f"--model KDSR_T --save t {KDSR} --epochs_sr 1")
    for path in (run, run / "model/state.pt"):
        message = refused(f"--model KDSR_T --save other {KDSR} --pre_train {path}")
        assert f"--pre_train: {path} is the" in message
        assert f"its weights are {run}/model/model_latest.pt" in message


def test_test_only_is_test_py(photo_folder, tmp_path, capsys):
    torch.save(checkpoint(build("KDSR_S", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)), tmp_path / "s.pt")
    words = f"--test_only --resume 0 --model blindsr --scale 2 --dir_data {photo_folder} --pre_train_ST {tmp_path}/s.pt"
    main.main(
        f"{words} --data_test Set5 --save_results False --epochs_sr 3 --dir_experiment {tmp_path} --save t".split()
    )
    assert "Set5  gaussian8" in capsys.readouterr().out
    assert (tmp_path / "t/results/s/gaussian8/Set5/scores_kdsr.csv").exists()


FULL = "import resource, sys, main; resource.setrlimit(resource.RLIMIT_FSIZE, (60000,) * 2); main.main(sys.argv[1:])"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_full_disk_leaves_the_last_good_state(run_main, photo_folder, tmp_path):
    run = run_main(f"--model KDSR_T --save disk {KDSR} --epochs_sr 1")
    before = (run / "model/state.pt").read_bytes()
    assert len(before) > 60000
    more = f"--model KDSR_T --save disk {KDSR} --epochs_sr 2 --resume"
    argv = f"--dir_data {photo_folder} --data_train train --dir_experiment {tmp_path} --scale 2 {TINY} {more}"
    done = subprocess.run([sys.executable, "-c", FULL, *argv.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "File too large; the file that was there is untouched" in done.stderr
    assert str(run / "model") in done.stderr
    assert (run / "model/state.pt").read_bytes() == before
    assert not list(run.rglob("*.tmp"))
    run_main(more)
    whole = run_main(f"--model KDSR_T --save whole {KDSR} --epochs_sr 2")
    for name in ("model/model_latest.pt", "psnr_log.csv", "loss_log.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("hostile_was_here"),)


def test_a_hostile_state_runs_no_code(run_main, refused, tmp_path, monkeypatch):
    run = run_main(f"--model KDSR_T --save h {KDSR}")
    for name in ("state.pt", "state_previous.pt"):
        torch.save({"format": 2, "step": Hostile()}, run / "model" / name)
    monkeypatch.chdir(tmp_path)
    assert "cannot be read as a checkpoint" in refused(f"--model KDSR_T --save h {KDSR} --resume")
    assert not (tmp_path / "hostile_was_here").exists()


def test_a_damaged_state_gives_way_to_the_one_before(run_main, tmp_path, monkeypatch):
    run = run_main(f"--model KDSR_T --save d {KDSR}")
    assert (run / "model/state_previous.pt").exists()
    monkeypatch.chdir(tmp_path)
    (run / "model/state.pt").unlink()
    run_main(f"--model KDSR_T --save d {KDSR} --resume auto")
    assert "state.pt; going on from" in (run / "log.txt").read_text()
    torch.save({"format": 2, "step": Hostile()}, run / "model/state.pt")
    run_main(f"--model KDSR_T --save d {KDSR} --resume")
    assert not (tmp_path / "hostile_was_here").exists()
    assert (run / "log.txt").read_text().count("going on from") == 2
    assert torch.load(run / "model/state.pt", weights_only=True)["step"] == 4


def test_a_state_of_an_older_version_says_so(run_main, refused):
    run = run_main(f"--model KDSR_T --save o {KDSR}")
    torch.save({"format": 1}, run / "model/state.pt")
    message = refused(f"--model KDSR_T --save o {KDSR} --resume")
    assert "has format 1 (version 0.1 reads that), this version reads" in message
    assert "model_latest.pt" in message


def test_auto_starts_and_goes_on(run_main):
    run = run_main(f"--model KDSR_T --save a {KDSR} --resume auto --epochs_sr 1")
    run_main(f"--model KDSR_T --save a {KDSR} --resume auto --epochs_sr 2")
    assert torch.load(run / "model/state.pt", weights_only=True)["step"] == 4


def test_check_finds_what_is_wrong_and_writes_nothing(run_main, tmp_path, capsys):
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        run_main(f"--model KDSR_T --save c {KDSR} --check")
    out = capsys.readouterr().out
    assert caught.value.code == 0, out
    assert "5 training images" in out
    assert set(tmp_path.rglob("*")) == before
    with pytest.raises(SystemExit) as caught:
        run_main(f"--model KDSR_T --save c {KDSR} --check --patch_size 100")
    assert caught.value.code == 1
    assert "200 HR pixels a side" in capsys.readouterr().out


# ------------------------------------------------------------------------------- given pairs, several folders


@pytest.fixture
def paired_root(tmp_path, photo_folder, photo):
    """A root with the training images of the others in train/HR, and pairs for scale 2 in real/HR and real/LR."""
    root = tmp_path / "root"
    shutil.copytree(photo_folder, root)
    for part in ("HR", "LR"):
        (root / "real" / part).mkdir(parents=True)
    for i in range(4):
        hr = photo[90 * i : 90 * i + 64, 200:260]
        write_image(root / f"real/HR/{i}_HR.png", np.ascontiguousarray(hr))
        write_image(root / f"real/LR/{i}_LR2.png", hr.reshape(32, 2, 30, 2, 3).mean((1, 3)).astype(np.uint8))
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        f"--model KDSR_T {KDSR} --mix 0.4 --batch_size 3",
        f"--model KDSR_T {KDSR} --mix 0.5 --batch_size 4 --data_weights 3+1 --pool_size 8 --data_cache",
        "--model DASR --n_feats 16 --n_blocks 1 --mix 0.5 --epochs_encoder 1 --freeze_epoch 2",
        f"--model KDSR_S {KDSR} --mix 0.5 --objective adversarial --kd_weight 0 --perceptual_weight 0 --d_feats 4",
    ],
)
def test_a_run_on_given_and_degraded_pairs_goes_on_to_the_bit(arguments, run_main, paired_root):
    places = f"--data_train real+train --dir_lr {paired_root}/real/LR"
    whole = run_main(f"{arguments} {places} --save whole", paired_root)
    log = (whole / "log.txt").read_text()
    assert "given pairs: 4 in" in log
    assert "shifted" not in log
    broken = f"{arguments} {places} --save broken --resume auto"
    run_main(f"{broken} --max_minutes 0", paired_root)
    run_main(f"{broken} --max_minutes 0", paired_root)
    again = run_main(broken, paired_root)
    for name in ("model/model_latest.pt", "loss_log.csv"):
        assert (whole / name).read_bytes() == (again / name).read_bytes(), name


def test_a_run_on_given_pairs_alone_takes_no_heed_of_the_degradation(run_main, paired_root):
    common = f"--model KDSR_T {KDSR} --data_train real --dir_lr {paired_root}/real/LR"
    runs = [run_main(f"{common} --save {name} {more}", paired_root) for name, more in (("a", ""), ("b", "--sig_max 1"))]
    assert len({(run / "loss_log.csv").read_text() for run in runs}) == 1
    log = (runs[0] / "log.txt").read_text()
    assert "pairs held out for validation and not trained on: 0_HR.png, 2_HR.png" in log
    assert "held-out  paired  PSNR" in log
    assert "degradation" not in torch.load(runs[0] / "model/model_latest.pt", weights_only=True)


def test_a_resumed_run_must_have_its_pairs(run_main, refused, paired_root):
    common = f"--model KDSR_T {KDSR} --save s --data_train real+train --mix 0.5"
    run_main(f"{common} --dir_lr {paired_root}/real/LR --max_minutes 0", paired_root)
    again = f"{common} --resume --dir_lr {paired_root}/real/LR"
    assert "--mix 0.5 (now 0.25)" in refused(f"{again} --mix 0.25", paired_root)
    assert "--data_weights None (now 1+2)" in refused(f"{again} --data_weights 1+2", paired_root)
    (paired_root / "real/LR/0_LR2.png").rename(paired_root / "real/LR/0.png")
    assert "but --dir_data now holds other images (9): names or sizes differ" in refused(again, paired_root)


def test_wrong_words_about_pairs_and_folders(refused, paired_root):
    lr = f"--dir_lr {paired_root}/real/LR"
    kdsr = f"--model KDSR_T {KDSR} --save s --data_train"
    for arguments, words in {
        f"{kdsr} real+train {lr}": "--dir_lr: there are no LR images for .*train/HR; say with --mix",
        f"{kdsr} train {lr} --mix 0.5": "--dir_lr: among .* LR and 5 HR images, .* have no partner of their name",
        f"{kdsr} real {lr} --mix 0": "--mix 0: no batch has given pairs; leave out --dir_lr and --mix",
        f"{kdsr} real {lr} --mix 1.5": "--mix 1.5 must be in 0..1",
        f"{kdsr} real+train --data_weights 2": "--data_weights 2: 1 weights for 2 training folders",
        f"--model IKC --save s --data_train real {lr}": "which given pairs do not tell: leave out --dir_lr",
        f"--model IKC --objective correction --save s --data_train real {lr}": "leave out --dir_lr",
    }.items():
        assert re.search(words, refused(arguments, paired_root)), arguments
