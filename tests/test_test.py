"""`test.py` as its users call it: scores, prepared sets, pictures of one's own."""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

import main
import test
from data.degradation import quantize
from data.degradation.resize import bicubic
from data.find_testsets import find
from data.images import list_images, read_image, write_image
from data.photo import read_photo
from data.photo_writer import Form, writing
from data.protocol import manet9
from evaluation import evaluate, learned, metric
from model import BlindSR, build, checkpoint, foreign, load_model, save_folder

NAMES_OF_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")


@pytest.fixture
def model_file(tmp_path):
    """Writes a small network's file into a run directory of tmp_path."""

    def write(name, network, theirs=False, **config):
        path = tmp_path / "run" / "model" / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        net = build(network, **config)
        torch.save(foreign.write(net) if theirs else checkpoint(net), path)
        return path

    return write


@pytest.fixture
def student(model_file):
    return model_file("student", "KDSR_S", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)


def refused(arguments):
    with pytest.raises(SystemExit) as caught:
        test.main(arguments.split())
    return str(caught.value)


def test_scores_of_the_sets_that_are_there(student, photo_folder, tmp_path, capsys):
    test.main(f"--pre_train {student} --dir_data {photo_folder} --save_results".split())
    out = capsys.readouterr().out
    assert "not found: Set14, B100, Urban100" in out
    folder = tmp_path / "run" / "results" / "student" / "gaussian8" / "Set5"
    rows = list(csv.DictReader((folder / "scores_kdsr.csv").open()))
    assert len(rows) == 2 * 8
    assert len(list(folder.glob("*.png"))) == 2 * 8
    summary = json.loads((folder / "scores_kdsr.json").read_text())
    mean = np.mean([float(row["psnr"]) for row in rows])
    assert summary["psnr"] == pytest.approx(mean)
    assert f"{mean:.3f}" in out
    assert summary["protocol"] == "gaussian8"
    assert len(summary["sha256"]) == 64


def test_sets_that_are_done_stay_when_a_later_one_fails(student, photo_folder, tmp_path, monkeypatch, capsys):
    done = []

    def failing(restore, test_set, **arguments):
        if done:
            raise KeyboardInterrupt
        done.append(test_set.name)
        return evaluate(restore, test_set, **arguments)

    shutil.copytree(photo_folder / "benchmark/Set5", tmp_path / "other")
    monkeypatch.setattr(test, "evaluate", failing)
    with pytest.raises(SystemExit):
        test.main(f"--pre_train {student} --dir_data {photo_folder} --data_test Set5+{tmp_path}/other --sig 2".split())
    assert "photographs and test sets that are done stay" in capsys.readouterr().err
    folder = tmp_path / "run/results/student/sig_2"
    assert (folder / "Set5/scores_kdsr.csv").exists()
    assert not (folder / "other").exists()


def test_the_table_is_printed_if_the_scores_cannot_be_written(student, photo_folder, tmp_path, capsys):
    (tmp_path / "run/results/student").mkdir(parents=True)
    (tmp_path / "run/results/student/sig_2").write_text("in the way")
    message = refused(f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 --sig 2")
    assert "sig_2" in message
    assert "Set5  sig 2" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_scored(
    student, photo_folder, monkeypatch, capsys
):
    monkeypatch.setattr("utility.tempfile.TemporaryFile", mock.Mock(side_effect=OSError(30, "Read-only file system")))
    monkeypatch.setattr(test, "score", None)
    message = refused(f"--pre_train {student} --dir_data {photo_folder} --data_test Set5")
    assert "(Read-only file system): name another place with --save and --dir_experiment" in message
    assert "written to" not in capsys.readouterr().out


def test_another_seed_does_not_replace_the_scores(student, photo_folder, tmp_path):
    command = f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 --sig 2 --noise 20"
    for more in ("", " --seed 3"):
        test.main((command + more).split())
    found = {
        path.name: json.loads(path.read_text())
        for path in (tmp_path / "run/results/student/sig_2_noise_20/Set5").glob("scores_*.json")
    }
    assert {name: told["seed"] for name, told in found.items()} == {"scores_kdsr.json": 1, "scores_kdsr_seed3.json": 3}
    assert len({told["psnr"] for told in found.values()}) == 2


def test_a_later_metric_stands_beside_the_earlier_ones(student, photo_folder, tmp_path, capsys):
    for name in ("Set5", "Set14"):
        shutil.copytree(photo_folder / "benchmark/Set5", tmp_path / "benchmark" / name)
    command = f"--pre_train {student} --dir_data {tmp_path} --protocol bicubic"
    test.main(f"{command} --data_test Set5".split())
    capsys.readouterr()
    test.main(f"{command} --data_test Set5+Set14 --score ssim_rgb".split())
    scores = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "run").rglob("scores_kdsr.json")}
    assert {"psnr", "ssim", "ssim_rgb"} <= scores["Set5"].keys()
    assert "psnr" not in scores["Set14"]
    assert "–" in capsys.readouterr().out


def test_the_published_cdsr_command(model_file, photo_folder, capsys):
    file = model_file("model_492_psnr_36.17", "CDSR", theirs=True, scale=2, n_blocks=1)
    test.main(
        f"--dir_data={photo_folder} --model=CDSR --scale=2 --blur_type=aniso_gaussian --noise=0 --pre_train {file} "
        "--sv_mode 0 --n_GPUs=1".split()
    )
    out = capsys.readouterr().out
    assert "CDSR x2, matlab" in out
    assert "Set5  manet9" in out
    assert "5.0_3.0_0.8" in out


def test_spatially_variant_and_noise(model_file, photo_folder, tmp_path):
    file = model_file("c", "CDSR", scale=2, n_blocks=1)
    command = f"--pre_train {file} --dir_data {photo_folder} --sv_mode 3 --noise 15 --data_test Set5"
    test.main(command.split())  # the published kernels of the mode
    assert (tmp_path / "run" / "results" / "c" / "manet_sv3_noise_15" / "Set5" / "scores_matlab.csv").exists()
    # With isotropic kernels every block gets that of --sig.
    iso = f"{command} --blur_type iso_gaussian"
    assert "--sv_mode with --blur_type iso_gaussian gives every block the kernel of --sig" in refused(iso)
    test.main(f"{iso} --sig 1.5".split())


def test_ikcs_best_step_is_marked_as_an_oracle(model_file, photo_folder, tmp_path, capsys):
    file = model_file("i", "IKC", scale=2, n_feats=8, n_blocks=1)
    command = f"--pre_train {file} --dir_data {photo_folder} --data_test Set5 --protocol bicubic --metric rgb"
    test.main(command.split())
    assert "oracle" not in capsys.readouterr().out
    test.main(f"{command} --oracle".split())
    assert "IKC x2, rgb, the best of seven steps, chosen by the HR image: an oracle" in capsys.readouterr().out
    folder = tmp_path / "run" / "results" / "i" / "bicubic" / "Set5"
    plain, best = (json.loads((folder / f"scores_rgb{name}.json").read_text()) for name in ("", "_oracle"))
    assert (plain["oracle"], best["oracle"]) == (False, True)
    assert best["psnr"] >= plain["psnr"]


def test_only_ikc_has_steps_to_choose_from(student, model_file, photo_folder):
    assert "KDSR_S has no steps to choose from" in refused(f"--pre_train {student} --dir_data {photo_folder} --oracle")
    file = model_file("i", "IKC", scale=2, n_feats=8, n_blocks=1)
    told = refused(f"--pre_train {file} --dir_data {photo_folder} --oracle --tile 16")
    assert "--oracle takes whole images as they are" in told


def test_the_teacher_is_scored_with_its_hr_image(model_file, photo_folder, capsys):
    file = model_file("t", "KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    test.main(f"--pre_train {file} --dir_data {photo_folder} --data_test Set5 --sig 1.3".split())
    out = capsys.readouterr().out
    assert "Set5  sig 1.3" in out
    assert "KDSR_T x2, kdsr, a teacher, which sees the HR image" in out


def test_what_is_measured_is_the_network(photo_folder, tmp_path, capsys):
    """A network that repeats pixels scores what repeating pixels scores."""
    net = build("KDSR_S", scale=2, n_feats=12, n_blocks=1, n_resblocks=0)
    weights = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    for c in range(3):  # RGB through head, upsampler and tail
        weights["restoration.head.weight"][c, c, 1, 1] = 1
        weights["restoration.upsample.0.weight"][4 * c : 4 * c + 4, c, 1, 1] = 1
        weights["restoration.tail.weight"][c, c, 1, 1] = 1
    net.load_state_dict(weights)
    torch.save(checkpoint(net), tmp_path / "repeat.pt")
    arguments = f"--pre_train {tmp_path / 'repeat.pt'} --dir_data {photo_folder} --data_test Set5 --protocol bicubic"
    test.main([*arguments.split(), "--dir_experiment", str(tmp_path), "--save", "nearest"])
    results = tmp_path / "nearest" / "results" / "repeat" / "bicubic" / "Set5"
    scores = json.loads((results / "scores_kdsr.json").read_text())
    expected = []
    for path in list_images(photo_folder / "benchmark/Set5/HR"):
        hr = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None] / 255
        sr = quantize(bicubic(hr, 0.5)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected.append(metric.psnr(sr, hr, border=2, planes="kdsr").item())
    assert scores["psnr"] == pytest.approx(np.mean(expected), abs=0.01)


def test_prepared_sets_give_what_is_made_on_the_fly(model_file, photo_folder, tmp_path):
    file = model_file("c", "CDSR", scale=2, n_blocks=1)
    source = find("Set5", [photo_folder], manet9(2), seed=1)
    assert source is not None
    for sample in source.samples(torch.device("cpu")):
        for case, lr in zip(sample.cases, sample.lr, strict=True):
            for part, image in (("HR_si", sample.hr), ("LR_mode0_noise0", lr)):
                folder = tmp_path / "Set5_x2" / part
                folder.mkdir(parents=True, exist_ok=True)
                pixels = (255 * image).round().byte().permute(1, 2, 0)
                write_image(folder / f"{sample.image}_{case}.png", pixels.numpy())
    scores = []
    for name, directory in (("Set5", photo_folder), (f"{tmp_path}/Set5_x2", photo_folder)):
        test.main(f"--pre_train {file} --dir_data {directory} --data_test {name}".split())
    for folder in ("manet9/Set5", "manet9_prepared/Set5"):
        rows = csv.DictReader((tmp_path / "run" / "results" / "c" / folder / "scores_matlab.csv").open())
        scores.append({(row["image"], row["case"]): float(row["psnr"]) for row in rows})
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)  # nine images at once round otherwise than one by one


def write_picture(path, height, width, *, alpha=False, grey=False, bits=8):
    channels = (1 if grey else 3) + alpha
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = np.random.default_rng(0).integers(0, 2**bits, (height, width, channels), dtype)
    with writing(path, "png", Form(height, width, channels, bits), quality=95) as writer:
        writer.write(pixels)


def test_own_images_of_every_form(student, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    forms = {"grey": {"grey": True}, "rgba": {"alpha": True}, "deep": {"bits": 16}, "rgb": {}}
    for name, form in forms.items():
        write_picture(folder / f"{name}.png", 16, 20, **form)
    test.main(f"--pre_train {student} --dir_demo {folder}".split())
    for name, form in forms.items():
        out = read_photo(tmp_path / "run" / "results" / "student" / "Demo" / f"{name}_x2.png")
        assert out.pixels.shape == (32, 40, (1 if "grey" in form else 3) + ("alpha" in form))
        assert 8 * out.pixels.itemsize == form.get("bits", 8)


@pytest.fixture
def pairs(photo_folder, tmp_path):
    """Real pairs, as it were: pairs/low/0_x2.png and pairs/high/0.png."""
    for path in list_images(photo_folder / "benchmark/Set5/HR"):
        pixels = read_image(path)
        for part, image in (("low", pixels[::2, ::2]), ("high", pixels)):
            (tmp_path / "pairs" / part).mkdir(parents=True, exist_ok=True)
            name = path.stem + "_x2" * (part == "low")
            write_image(tmp_path / "pairs" / part / f"{name}.png", np.ascontiguousarray(image))
    return tmp_path / "pairs"


def test_real_pairs(student, pairs, tmp_path, capsys):
    command = f"--pre_train {student} --data_test {pairs}/low --hr_dir {pairs}/high --save_results"
    scores = {}
    for extra, name in (("--noise 5", "matlab"), ("--tile 16", "matlab_tile16"), ("--metric kdsr", "kdsr")):
        test.main([*command.split(), *extra.split()])
        folder = tmp_path / "run" / "results" / "student" / "paired" / "low"
        scores[name] = json.loads((folder / f"scores_{name}.json").read_text())
    assert "note: --noise has no effect" in capsys.readouterr().out
    assert {path.name for path in folder.glob("*.png")} == {
        *("0_paired.png", "1_paired.png", "0_paired_tile16.png", "1_paired_tile16.png")
    }
    assert (scores["matlab"]["protocol"], len(scores["matlab"]["digest"])) == ("paired", 16)
    assert scores["matlab"]["metric"] == "matlab, border 2"
    assert scores["matlab"]["psnr"] == pytest.approx(scores["matlab_tile16"]["psnr"], abs=1e-4)
    expected = []
    for path in list_images(pairs / "high"):
        sr, hr = (
            torch.from_numpy(read_image(p)).permute(2, 0, 1)[None] / 255
            for p in (folder / f"{path.stem}_paired.png", path)
        )
        expected.append(metric.psnr(sr, hr, border=2, planes="matlab").item())
    assert scores["matlab"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-4)


def test_a_protocol_file_makes_no_real_pairs_by_its_name(student, photo_folder, tmp_path, capsys):
    rule = tmp_path / "paired_kernels.json"
    rule.write_text(json.dumps({"recipe": "gaussian", "kernels": [[2.0, 2.0, 0]]}))
    test.main(f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 --protocol {rule}".split())
    assert "real pairs" not in capsys.readouterr().out
    assert (tmp_path / "run/results/student/paired_kernels/Set5/scores_kdsr.json").exists()


@pytest.mark.parametrize("recipe", ["gaussian", "manet"])
def test_a_recipe_as_a_protocol_draws_from_the_ranges_of_training(recipe, student, photo_folder, tmp_path):
    """Without a run, from the published ones."""
    data = f"--dir_data {photo_folder} --data_test Set5 --dir_experiment {tmp_path}/runs"
    test.main(f"--model BICUBIC --scale 2 --protocol {recipe} --save b {data}".split())
    (published,) = (tmp_path / "runs").glob(f"b/results/*/{recipe}_*/Set5/scores_*.json")
    size = "--n_feats 8 --n_blocks 1 --patch_size 16 --batch_size 1 --test_every 1 --epochs_sr 1 --cpu --n_threads 0"
    narrow = f"--model EDSR --scale 2 --degradation {recipe} --sig_max 1.5 --protocol {recipe} --save r"
    main.main(f"{narrow} {size} {data} --data_train train".split())
    (run,) = (tmp_path / "runs").glob("r_x2_*")
    (row,) = csv.DictReader((run / "psnr_log.csv").open())
    test.main(f"--pre_train {run}/model/model_latest.pt --protocol {recipe} {data}".split())
    (tested,) = run.glob(f"results/model_latest/{recipe}_*/Set5/scores_*.json")
    told = json.loads(tested.read_text())
    assert "sig_max_1.5" in tested.parents[1].name
    assert told["psnr"] == pytest.approx(float(row["psnr"]), abs=1e-3)
    assert told["digest"] != json.loads(published.read_text())["digest"]


def test_a_folder_of_weights_is_tested(student, photo_folder, tmp_path):
    save_folder(load_model(student), tmp_path / "hf")
    command = f"--pre_train {tmp_path}/hf --dir_data {photo_folder} --data_test Set5 --sig 1.2"
    test.main([*command.split(), "--dir_experiment", str(tmp_path)])
    (told,) = tmp_path.glob("test_hf_*/results/hf/sig_1.2/Set5/scores_kdsr.json")
    sha256 = hashlib.sha256((tmp_path / "hf/model.safetensors").read_bytes()).hexdigest()
    assert json.loads(told.read_text())["sha256"] == sha256
    assert sha256.startswith(told.parents[4].name.removeprefix("test_hf_"))


@pytest.mark.parametrize("extra", ["", "--tile 16"])
def test_a_teacher_sees_the_hr_image_of_a_pair(extra, model_file, pairs, capsys):
    file = model_file("t", "KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    test.main(f"--pre_train {file} --data_test {pairs}/low --hr_dir {pairs}/high {extra}".split())
    assert "low  paired" in capsys.readouterr().out


def test_which_weights_are_scored(pairs, tmp_path):
    """The average where there is one, and each in a folder of its own."""
    sizes = {"scale": 2, "n_feats": 8, "n_blocks": 1, "n_resblocks": 1}
    net, average = build("KDSR_S", **sizes), build("KDSR_S", **sizes)
    torch.save(checkpoint(net, average), tmp_path / "both.pt")
    torch.save({"params_ema": foreign.write(average)}, tmp_path / "average.pt")
    psnr = {}
    for run in ("both", "both_params", "both_params_ema", "average"):
        name, _, weights = run.partition("_")
        command = f"--pre_train {tmp_path}/{name}.pt --data_test {pairs}/low --hr_dir {pairs}/high --save w"
        test.main(f"{command} --dir_experiment {tmp_path} --weights {weights or 'auto'}".split())
        psnr[run] = json.loads((tmp_path / "w" / "results" / run / "paired/low/scores_matlab.json").read_text())["psnr"]
    assert psnr["both"] == psnr["both_params_ema"] == psnr["average"] != psnr["both_params"]


def test_scores_without_a_reference(student, tmp_path, monkeypatch, capsys):
    def brightness(name, device):
        return lambda images: images.mean(dim=(1, 2, 3))

    monkeypatch.setattr(learned, "no_reference", brightness)
    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        write_picture(tmp_path / "mine" / f"{name}.png", 16, 20, alpha=name == "a")
    test.main(f"--pre_train {student} --dir_demo {tmp_path}/mine --score musiq+clipiqa".split())
    folder = tmp_path / "run" / "results" / "student" / "Demo"
    rows = list(csv.DictReader((folder / "no_reference.csv").open()))
    expected = [read_image(folder / f"{name}_x2.png").mean() / 255 for name in ("a", "b")]
    assert [row["image"] for row in rows] == ["a_x2", "b_x2"]
    assert [float(row["clipiqa"]) for row in rows] == pytest.approx(expected)
    said = json.loads((folder / "no_reference.json").read_text())
    assert said["musiq"] == pytest.approx(np.mean(expected))
    assert said["network"] == "KDSR_S"
    assert "CLIP-IQA ↑" in capsys.readouterr().out


def test_a_photograph_whose_result_cannot_be_scored_is_super_resolved(student, tmp_path):
    write_picture(tmp_path / "small.png", 16, 20)
    photo = f"{tmp_path}/small.png --pre_train {student} --out {tmp_path}/out"
    assert "--score: psnr and ssim compare with HR images" in refused(f"{photo} --score psnr+ssim+niqe")
    assert not (tmp_path / "out").exists()
    message = refused(f"{photo} --score niqe")
    assert "not super-resolved" not in message
    assert f"not scored:\n  {tmp_path}/out/small_x2.png: " in message
    assert (tmp_path / "out/small_x2.png").exists()


def test_a_folder_that_cannot_be_written_is_not_blamed_on_the_photograph(student, tmp_path):
    write_picture(tmp_path / "small.png", 16, 20)
    message = refused(f"{tmp_path}/small.png --pre_train {student} --out {tmp_path}/small.png/out")
    assert "cannot be read" not in message
    assert "small.png" in message


def test_errors_of_pairs_name_the_flag(student, pairs, tmp_path):
    command = f"--pre_train {student} --hr_dir {pairs}/high"
    assert "names one folder, that of the LR images" in refused(command)
    assert "names one folder" in refused(f"{command} --data_test {pairs}/low+{pairs}/high")
    (pairs / "high" / "0.png").rename(pairs / "high" / "7.png")
    assert f"{pairs}/low/0_x2.png, {pairs}/high/7.png" in refused(f"{command} --data_test {pairs}/low")
    assert "--hr_dir: there is no folder" in refused(
        f"--pre_train {student} --data_test {pairs}/low --hr_dir {tmp_path}/none"
    )


def test_errors_name_the_flag(student, model_file, photo_folder, tmp_path):
    assert "--pre_train: there is no file" in refused("--pre_train nowhere.pt")
    assert "weights of this name. Did you mean kdsr_m_x4_iso?" in refused("--pre_train kdsr_m_x4_is")
    assert "name photographs or folders to enlarge, or --data_test" in refused("")
    assert "--scale 4 was asked for" in refused(f"--pre_train {student} --scale 4 --dir_data {photo_folder}")
    assert "--model CDSR was asked for" in refused(f"--pre_train {student} --model CDSR --dir_data {photo_folder}")
    twice = f"{photo_folder}/train/HR+{photo_folder}/train"
    assert "two sets are called train" in refused(f"--pre_train {student} --data_test {twice}")
    none = refused(f"--pre_train {student} --dir_data {tmp_path}")
    assert "--data_test: there is no test set Set5, Set14, B100, Urban100: no folder of this name, and no" in none
    assert f"in --dir_data {tmp_path}, beside it or above" in none
    assert "--dir_data: there is no folder none" in refused("--model BICUBIC --dir_data none --data_test Set5")
    assert "--dir_data: a++b: expected names of folders joined by +" in refused("--model BICUBIC --dir_data a++b")
    assert "and no --dir_data to look for" in refused(f"--pre_train {student}")
    assert "--dir_demo" in refused(f"--pre_train {student} --data_test Demo")
    assert "holds no params_ema" in refused(f"--pre_train {student} --weights params_ema --dir_data {photo_folder}")
    teacher = model_file("t", "KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    assert "needs the HR image" in refused(f"--pre_train {teacher} --data_test Demo --dir_demo {tmp_path}")


def test_complexity(student, capsys):
    test.main(f"--pre_train {student} --complexity --precision bf16 --cpu".split())
    out = capsys.readouterr().out
    assert "multiply-adds" in out
    assert "bf16 on the CPU" in out


def test_bicubic_needs_no_checkpoint(photo_folder, tmp_path, capsys):
    test.main(
        f"--model BICUBIC --scale 2 --dir_data {photo_folder} --data_test Set5 --dir_experiment {tmp_path}".split()
    )
    assert "BICUBIC x2" in capsys.readouterr().out
    assert "--pre_train: name the checkpoint" in refused(f"--model CDSR --dir_data {photo_folder}")


def test_tiles_and_ensemble(student, photo_folder, tmp_path):
    arguments = (
        f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 --sig 1.2 --dir_experiment {tmp_path}"
    )
    scores = []
    for name, extra in (("kdsr", ""), ("kdsr_tile16", "--tile 16"), ("kdsr_ensemble", "--self_ensemble")):
        test.main([*arguments.split(), "--save", "t", *extra.split()])
        results = tmp_path / "t" / "results" / "student" / "sig_1.2" / "Set5" / f"scores_{name}.json"
        scores.append(json.loads(results.read_text())["psnr"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)  # tiles of KDSR are exact
    assert scores[0] != pytest.approx(scores[2], abs=1e-4)


@pytest.mark.parametrize("extra", ["", " --tile 16"])
def test_a_result_says_at_which_precision(extra, student, photo_folder, tmp_path):
    scores, suffix = {}, extra.replace(" --tile ", "_tile")
    for precision in ("fp32", "bf16"):
        name = f"kdsr{suffix}" + ("" if precision == "fp32" else f"_{precision}")
        command = f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 --sig 1.2 --precision {precision}"
        test.main([*f"{command}{extra} --cpu".split()])
        file = tmp_path / "run" / "results" / "student" / "sig_1.2" / "Set5" / f"scores_{name}.json"
        scores[precision] = json.loads(file.read_text())
        assert scores[precision]["precision"] == precision
    assert scores["fp32"]["psnr"] != scores["bf16"]["psnr"] == pytest.approx(scores["fp32"]["psnr"], abs=0.02)


def test_own_images_at_reduced_precision(student, tmp_path):
    (tmp_path / "mine").mkdir()
    write_picture(tmp_path / "mine" / "a.png", 16, 20, bits=16)
    images = []
    for precision in ("fp32", "bf16"):
        test.main(f"--pre_train {student} --dir_demo {tmp_path}/mine --precision {precision} --cpu --overwrite".split())
        images.append(read_photo(tmp_path / "run" / "results" / "student" / "Demo" / "a_x2.png").pixels / 65535)
    assert 0 < np.abs(images[0] - images[1]).max() < 0.02


def test_photographs_are_computed_in_the_layout_for_inference(photographs, monkeypatch):
    strides, upscale_rows = [], BlindSR.upscale_rows

    def spy(net, *args, **kwargs):
        strides.extend(p.stride(1) for p in net.parameters() if p.ndim == 4 and p.shape[1] > 1)
        upscale_rows(net, *args, **kwargs)

    monkeypatch.setattr(BlindSR, "upscale_rows", spy)
    test.main(f"{photographs}/a.jpg --cpu --pre_train kdsr_s_x4_iso".split())
    assert set(strides) == {1}  # channels last, half as fast again on a CPU


def test_real_pairs_are_measured_alike_however_they_are_named(student, pairs, tmp_path):

    for part, folder in (("LR", "low"), ("HR", "high")):
        shutil.copytree(pairs / folder, tmp_path / "real" / part)
    found = []
    for command in (
        f"--pre_train {student} --data_test {pairs}/low --hr_dir {pairs}/high",
        f"--pre_train {student} --data_test {tmp_path}/real",
        f"--model BICUBIC --scale 2 --data_test {tmp_path}/real",
    ):
        test.main(f"{command} --save alike --dir_experiment {tmp_path}".split())
    for path in (tmp_path / "alike").rglob("scores_*.json"):
        found.append(json.loads(path.read_text()))
        assert found[-1]["metric"] == "matlab, border 2"
    assert len(found) == 3
    same = [(score["psnr"], score["ssim"]) for score in found if score["network"] == "KDSR_S"]
    assert same[0] == same[1]


def test_the_centre_of_real_pairs(student, photo, tmp_path, capsys):
    for folder, pixels in (("LR", photo[::2, ::2]), ("HR", photo)):
        (tmp_path / "real" / folder).mkdir(parents=True)
        write_image(tmp_path / "real" / folder / "a.png", np.ascontiguousarray(pixels))
    command = f"--pre_train {student} --protocol crop128 --metric all --score psnr+niqe"
    rows = []
    for source in (f"--data_test {tmp_path}/real", f"--data_test {tmp_path}/real/LR --hr_dir {tmp_path}/real/HR"):
        test.main(f"{command} {source}".split())
        out = capsys.readouterr().out
        assert "no effect" not in out
        assert "paired crop128" in out
        assert "PSNR matlab (dB) ↑" in out
        (path,) = (tmp_path / "run/results/student/paired_crop128/real").glob("scores_all.csv")
        rows.append(next(csv.DictReader(path.open())))
    assert rows[0] == rows[1]
    assert list(rows[0])[4:] == ["psnr_matlab", "psnr_kdsr", "psnr_rgb", "niqe"]
    assert float(rows[0]["psnr_kdsr"]) == pytest.approx(float(rows[0]["psnr_matlab"]), abs=1e-4)


def test_real_pairs_beside_images_that_are_measured_otherwise(student, pairs, photo_folder, tmp_path):
    for part, folder in (("LR", "low"), ("HR", "high")):
        shutil.copytree(pairs / folder, tmp_path / "real" / part)
    command = f"--pre_train {student} --dir_data {photo_folder} --data_test {tmp_path}/real+Set5"
    assert "real pairs are measured by --metric matlab" in refused(command)
    test.main(f"{command} --metric kdsr".split())


def test_results_of_different_networks_lie_in_different_folders(photo_folder, tmp_path):
    common = f"--dir_data {photo_folder} --data_test Set5 --protocol bicubic --dir_experiment {tmp_path}/runs"
    for seed in (1, 2):
        torch.manual_seed(seed)
        (tmp_path / str(seed)).mkdir()
        net = build("KDSR_S", scale=2, n_feats=4, n_blocks=1, n_resblocks=0)
        torch.save(checkpoint(net), tmp_path / str(seed) / "model_best.pt")
        test.main(f"--pre_train {tmp_path}/{seed}/model_best.pt {common}".split())
    for scale in (2, 3):
        test.main(f"--model BICUBIC --scale {scale} {common}".split())
    assert len(list((tmp_path / "runs").rglob("scores_kdsr.csv"))) == 4


def test_own_images_whose_names_are_alike(student, tmp_path):
    for name in ("a.b.png", "a.b.bmp", "a_b.png", "a_b.bmp", "c.png", "c_png.bmp"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        write_picture(tmp_path / "mine" / name, 16, 20)
    test.main(f"--pre_train {student} --dir_demo {tmp_path}/mine".split())
    assert len(list((tmp_path / "run" / "results" / "student" / "Demo").glob("*_x2.png"))) == 6


@pytest.mark.parametrize(
    ("trained", "flags", "expected"),
    [
        (
            {"blur_type": "aniso_gaussian", "noise": 25.0},
            "",
            "trained with --blur_type aniso_gaussian --noise 25.0, which",
        ),
        ({"degradation": "second_order"}, "", "trained with --degradation second_order, which"),
        ({"blur_type": "aniso_gaussian"}, "--blur_type aniso_gaussian", None),
        ({"degradation": "second_order"}, "--sig 2.6", "trained with --degradation second_order, which"),
        ({"degradation": "second_order"}, "--protocol gaussian8", None),
        ({"degradation": "gaussian", "blur_type": "iso_gaussian", "noise": 0.0}, "", None),
        ({"dir_lr": "LR", "mix": 0.5}, "", None),
    ],
)
def test_a_test_of_something_else_than_training_is_remarked(trained, flags, expected, student, photo_folder, capsys):
    (student.parents[1] / "config.json").write_text(json.dumps({**trained, "versions": {}}))
    test.main(f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 {flags}".split())
    out = capsys.readouterr().out
    assert (f"note: the network was {expected} is not what this tests" in out) if expected else ("note" not in out)


def test_a_network_of_given_pairs_is_remarked(student, photo_folder, capsys):
    trained = {"dir_lr": "LR", "mix": 1.0, "degradation": "gaussian", "versions": {}}
    (student.parents[1] / "config.json").write_text(json.dumps(trained))
    test.main(f"--pre_train {student} --dir_data {photo_folder} --data_test Set5".split())
    assert "note: the network was trained on given pairs, and not on images that are" in capsys.readouterr().out


def test_images_of_other_settings_lie_beside_those_of_the_usual_ones(student, photo_folder, tmp_path):
    command = f"--pre_train {student} --dir_data {photo_folder} --data_test Set5 --sig 2 --save_results"
    for more in ("", "--self_ensemble"):
        test.main([*command.split(), *more.split()])
    folder = tmp_path / "run/results/student/sig_2/Set5"
    names = {path.name for path in folder.glob("*.png")}
    assert names == {f"{i}_sig_2{variant}.png" for i in (0, 1) for variant in ("", "_ensemble")}
    plain, averaged = (read_image(folder / f"0_sig_2{variant}.png") for variant in ("", "_ensemble"))
    assert (plain != averaged).any()


def test_what_real_pairs_leave_out_is_remarked(student, pairs, tmp_path, capsys):
    for part, folder in (("LR", "low"), ("HR", "high")):
        shutil.copytree(pairs / folder, tmp_path / "real" / part)
    test.main(f"--pre_train {student} --data_test {tmp_path}/real --noise 5 --sig 2".split())
    assert "note: real pairs are scored as they are: --noise, --sig has no effect" in capsys.readouterr().out
    test.main(f"--pre_train {student} --data_test {tmp_path}/real/LR".split())
    assert f"note: the images of {tmp_path}/real/LR are degraded; --hr_dir names" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sets", "missing"), [("Nope", "Nope"), ("Set5+nope", "nope"), ("nope+Set5+Set14", "nope, Set14")]
)
def test_a_test_set_that_was_asked_for_must_be_there(sets, missing, student, photo_folder, tmp_path):
    message = refused(f"--pre_train {student} --dir_data {photo_folder} --data_test {sets}")
    assert f"--data_test: there is no test set {missing}: no folder of this name" in message
    assert message.endswith("; there are Set5")
    assert not (tmp_path / "run" / "results").exists()


def test_a_run_is_not_its_weights(student):
    student.with_name("model_latest.pt").write_bytes(student.read_bytes())
    student.with_name("state.pt").touch()
    for path in (student.parents[1], student.with_name("state.pt")):
        assert f"its weights are {student.with_name('model_latest.pt')}" in refused(f"--pre_train {path}")


def test_what_the_device_says_speaks_of_flags(student, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    write_picture(tmp_path / "mine" / "a.png", 16, 20)
    test.main(f"--pre_train {student} --dir_demo {tmp_path}/mine --precision tf32 --cpu".split())
    assert "note: --precision tf32 has no effect on the CPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--test_only --resume 0 --noise 0", "--noise 0"),
        ("--epochs_sr=3 --cpu --save s", "--cpu --save s"),
        ("--resume --lr_sr 1e-4 --pre_train_ST f", "--pre_train_ST f"),
        ("--cpu True --check --theta -30", "--cpu True --theta -30"),
    ],
)
def test_what_only_training_reads_is_left_out(words, expected):
    assert test.released_words(words.split()) == expected.split()


# ------------------------------------------------------------------------------------- nothing is lost silently


@pytest.fixture
def photographs(tmp_path, photo):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "a.png.png"):
        Image.fromarray(photo[:24, :30]).save(folder / name)
    return folder


def test_photographs_of_one_name_do_not_share_a_result(photographs, tmp_path):
    command = f"--model BICUBIC --scale 2 --dir_demo {photographs} --dir_experiment {tmp_path} --save own"
    test.main(command.split())
    results = sorted(path.name for path in (tmp_path / "own").rglob("*.png"))
    assert results == ["a.jpg_x2.png", "a.png.png_x2.png", "a.png_x2.png"]


def test_a_result_that_is_there_stays_unless_it_may_go(photographs, tmp_path, capsys):
    command = f"--model BICUBIC --scale 2 --dir_demo {photographs} --dir_experiment {tmp_path} --save own"
    test.main(command.split())
    (result,) = (tmp_path / "own").rglob("a.jpg_x2.png")
    result.write_bytes(b"mine")
    capsys.readouterr()
    test.main(command.split())
    assert result.read_bytes() == b"mine"
    assert f"{result} is there already; --overwrite replaces it" in capsys.readouterr().out
    test.main([*command.split(), "--overwrite"])
    assert result.read_bytes() != b"mine"


def test_a_damaged_photograph_does_not_stop_the_others(photographs, tmp_path, capsys):
    whole = (photographs / "a.jpg").read_bytes()
    (photographs / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (photographs / "phone.heic").write_bytes(b"....ftypheic")
    command = f"--model BICUBIC --scale 2 --dir_demo {photographs} --dir_experiment {tmp_path} --save own"
    with pytest.raises(SystemExit, match=r"(?s)not super-resolved:\n  \S+a\.jpg cannot be read.*phone\.heic"):
        test.main(command.split())
    assert len(list((tmp_path / "own").rglob("*.png"))) == 2


def test_a_result_that_cannot_be_written_does_not_stop_the_others(photo, student, tmp_path):
    names = ["a.png", "b.png", f"{'long' * 62}.png"]  # too long with its ending
    (tmp_path / "in").mkdir()
    (tmp_path / "out/a_x2.png").mkdir(parents=True)
    for name in names:
        Image.fromarray(photo[:24, :30]).save(tmp_path / "in" / name)
    message = refused(f"{tmp_path}/in --out {tmp_path}/out --overwrite --pre_train {student}")
    assert message.startswith("test.py: error: 2 not super-resolved:\n")
    for name, why in ((names[0], "directory"), (names[2], "File name too long")):
        assert re.search(rf"/in/{name}: its result cannot be written: .*{why}", message)
    assert "cannot be read" not in message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x2.png", "b_x2.png"]


def test_a_full_disk_ends_photographs_at_once(photographs, student, tmp_path, monkeypatch):
    def full(*about, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("evaluation.photographs.writing", full)
    message = refused(f"{photographs} --out {tmp_path}/out --pre_train {student}")
    assert message.count("No space left on device") == message.count("x2.png") == 1


@NAMES_OF_BYTES
def test_names_that_are_no_utf8(photo, photo_folder, student, tmp_path, capsys):
    """Files keep their names, texts show an escape."""
    for root in ("in", "data/HR"):
        (tmp_path / root).mkdir(parents=True)
        Image.fromarray(photo[:96, :112]).save(tmp_path / root / os.fsdecode(b"caf\xe9.png"))
    test.main(f"--pre_train {student} {tmp_path}/in".split())
    assert "/in/caf\\udce9.png -> " in capsys.readouterr().out
    assert os.listdir(os.fsencode(tmp_path / "in_x2")) == [b"caf\xe9_x2.png"]  # noqa: PTH208
    test.main(f"--pre_train {student} --data_test {tmp_path}/data --sig 2 --save_results".split())
    folder = tmp_path / "run/results/student/sig_2"
    assert os.fsdecode(b"caf\xe9_sig_2.png") in os.listdir(folder / "data")  # noqa: PTH208
    (row,) = csv.DictReader((folder / "data/scores_kdsr.csv").open(encoding="utf-8"))
    assert row["image"] == "caf\\udce9"
    assert "caf\\udce9, sig 2" in (folder / "report.html").read_text(encoding="utf-8")


def test_photographs_go_where_they_belong_and_a_second_call_goes_on(photo, tmp_path, capsys):
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.webp"):
        Image.fromarray(photo[:24, :30]).save(tmp_path / "in" / name)
    command = f"--model BICUBIC --scale 2 --cpu {tmp_path}/in --recursive"
    test.main(command.split())
    results = sorted(path.relative_to(tmp_path / "in_x2").as_posix() for path in (tmp_path / "in_x2").rglob("*.png"))
    assert results == ["a_x2.png", "sub/b_x2.png"]
    (tmp_path / "in_x2/sub/b_x2.png").unlink()
    capsys.readouterr()
    test.main(command.split())
    out = capsys.readouterr().out
    assert "a_x2.png is there already" in out
    assert f"{tmp_path}/in/sub/b.webp -> " in out


@pytest.mark.parametrize(("flag", "size"), [("--outscale 2.5", (75, 60)), ("--scale_to 300x90", (112, 90))])
def test_the_size_of_the_results(flag, size, photographs, tmp_path):
    out = tmp_path / "o.webp"
    test.main(f"--model BICUBIC --scale 2 {photographs}/a.jpg --cpu {flag} --out {out}".split())
    with Image.open(out) as image:
        assert (image.format, image.size) == ("WEBP", size)


def test_the_zoo_serves_where_no_checkpoint_is_named(photographs, capsys):
    test.main(["--zoo"])
    assert "kdsr_s_x4_iso" in capsys.readouterr().out
    test.main(f"{photographs}/a.jpg --cpu --outscale 2".split())
    assert "weights: kdsr_s_x4_light" in capsys.readouterr().out  # the weights for photographs
    assert "the zoo has no weights RRDB x4" in refused("--model RRDB --data_test Set5")
    assert "--model BICUBIC --scale 3 needs none" in refused(f"{photographs}/a.jpg --scale 3")
    assert "is a file in no format that is written" in refused(f"{photographs}/a.jpg --out {photographs}/b.gif")


def test_what_contradicts_photographs(photographs):
    assert "leave it out with photographs" in refused(f"--model BICUBIC --dir_demo {photographs} --data_test Set5")
    assert f"{photographs} is taken for a photograph" in refused(f"--model BICUBIC {photographs} --data_test Set5")
    assert "contradict" in refused(f"--model BICUBIC --scale 2 {photographs} --outscale 2 --scale_to 9x9")
    assert "is for photographs" in refused("--model BICUBIC --scale 2 --precision auto --data_test Set5")


def test_what_is_no_photograph_is_named_before_anything_is_loaded():
    assert "no file or folder Set5; --data_test names" in refused("Set5 --pre_train none.pt")
    assert "--pre_train takes one network" in refused("--pre_train kdsr_s_x4_iso cdsr_x4_iso --data_test Set5")
    assert refused("a.jpgg --pre_train none.pt").endswith("no file or folder a.jpgg")


def test_a_note_says_what_weights_of_the_zoo_were_trained_for(photo_folder, tmp_path, capsys):
    told = "the network was trained with --degradation second_order, which is not what this tests"
    data = f"--dir_data {photo_folder} --data_test Set5 --dir_experiment {tmp_path} --cpu"
    for given, noted in (("kdsr_s_x4_light", True), ("kdsr_s_x4_light --sig 2", True), ("kdsr_s_x4_iso", False)):
        test.main(f"--pre_train {given} {data}".split())
        assert (told in capsys.readouterr().out) == noted, given
