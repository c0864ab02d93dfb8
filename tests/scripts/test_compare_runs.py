"""Two tested networks: the table, what makes them incomparable, the curves and the crops."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import list_images, read_image, write_image
from data.protocol import gaussian8
from data.testset import Degraded
from evaluation import evaluate, results
from scripts import compare_runs
from scripts.compare_runs import main, paired, place
from utility import append_rows

CPU = torch.device("cpu")


@pytest.fixture
def tested(photo_folder, tmp_path):
    """Scores an HR image that is made brighter, as the result of a run; returns the run."""
    test_set = Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), gaussian8(2))

    def write(
        name, brighter, *, checkpoint="model_best", metrics=("psnr", "ssim"), images=True, metric="rgb, border 2"
    ):
        folder = tmp_path / name / "results" / checkpoint
        keep = results.set_folder(folder, test_set)
        scores = evaluate(
            lambda lr, hr: hr + torch.linspace(0, brighter, hr.shape[3]),
            test_set,
            scale=2,
            planes="rgb",
            device=CPU,
            metrics=metrics,
            on_image=(lambda sample, sr: results.save_images(keep, sample, sr)) if images else None,
        )
        made = {"scale": 2, "checkpoint": f"{name}/model/{checkpoint}.pt", "sha256": "0"}
        results.write_test_set(folder, test_set, scores, name="scores_rgb", metric=metric, made=made)
        return tmp_path / name

    return write


def test_table_curves_and_crops(tested, photo_folder, tmp_path, capsys):
    old, new = tested("old", 0.2), tested("new", 0.1)
    for run, psnr in ((old, 20), (new, 26)):
        log = [{"epoch": i, "step": 10 * i, "set": "Set5", "protocol": "gaussian8", "psnr": psnr + i} for i in (1, 2)]
        append_rows(run / "psnr_log.csv", log)
    main(f"{old} {new} --hr {photo_folder}/benchmark/Set5/HR --out {tmp_path}/out".split())
    said = capsys.readouterr().out
    assert "PSNR (dB) ↑" in said
    tables = {"table.md", "table.csv", "table.tex"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*tables, "curves.png", "crops.png"}
    first, second, *_ = csv.DictReader((tmp_path / "out/table.csv").open(encoding="utf-8"))
    assert [first[key] for key in ("set", "protocol", "metric", "network", "difference")] == [
        *("Set5", "gaussian8", "psnr", "old", "")
    ]
    gain = float(second["mean"]) - float(first["mean"])
    assert float(second["difference"]) == pytest.approx(gain)
    assert 0 < float(second["difference_low"]) <= gain <= float(second["difference_high"])
    assert (second["network"], second["p"], second["images"], second["better"]) == ("new", "0.5", "2", "2")
    assert r"PSNR (dB) $\uparrow$" in (tmp_path / "out/table.tex").read_text(encoding="utf-8")
    assert "older weights" not in said
    table = (tmp_path / "out/table.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[3].strip() for line in table[2:4]] == ["PSNR (dB) ↑", "SSIM ↑"]
    cells = [cell.strip() for cell in table[2].split("|")[1:-1]]
    assert cells[-4:] == ["0.5000", "2", "2", "0"]  # two images cannot tell more
    assert cells[5].startswith("+")
    with Image.open(tmp_path / "out/crops.png") as sheet:
        assert sheet.width > 3 * compare_runs.CROP * compare_runs.ENLARGED


def test_scores_of_older_weights_are_noted(tested, tmp_path, capsys):
    old, new = tested("old", 0.2, images=False), tested("new", 0.1, images=False)
    (new / "model").mkdir()
    (new / "model/model_best.pt").write_bytes(b"trained further")
    main(f"{old} {new} --out {tmp_path}/out".split())
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert "new/results/model_best: " in note
    assert "scores of older weights" in note
    assert note in (tmp_path / "out/table.md").read_text(encoding="utf-8")


def test_the_interval_stands_in_the_json(tested):
    run = tested("old", 0.2, images=False)
    (path,) = run.rglob("scores_rgb.json")
    about = json.loads(path.read_text())
    low, high = about["interval_95"]["psnr"]
    assert low <= about["psnr"] <= high


def test_lower_is_better_where_it_is(tested):
    both = compare_runs.common(
        *(results.read(results.of_checkpoint(tested(name, x, images=False))) for name, x in (("a", 0.2), ("b", 0.1)))
    )
    for a, b in both.values():
        for tested_set in (a, b):
            tested_set.scores[:] = [
                score._replace(values={"niqe": score.values["psnr"]}) for score in tested_set.scores
            ]
    (row,) = paired(both)
    assert (row.better, row.worse) == (0, 2)  # a higher NIQE is worse


def test_the_crop_is_where_it_shows_most():
    hr = torch.zeros(3, 200, 300)
    a, b = hr.clone(), hr.clone()
    a[:, 100:164, 150:214] = 0.5  # the first is wrong here
    b[:, :64, :64] = 0.5
    assert place(a, b, hr, gain=True, border=4) == (100, 150)
    assert place(a, b, hr, gain=False, border=0) == (0, 0)
    assert place(a, b, hr, gain=False, border=4) == (4, 4)  # what was not scored is not shown


def test_the_crop_of_a_small_image_is_all_of_it():
    hr = torch.zeros(3, 66, 40)
    assert place(hr, hr + 0.5, hr, gain=False, border=4)[1] == 0


def test_what_cannot_be_compared_is_named(tested, photo_folder, tmp_path, capsys):
    old, new = tested("old", 0.2), tested("new", 0.1, metric="kdsr, border 2", images=False)

    def refused(words):
        with pytest.raises(SystemExit) as caught:
            main(f"{words} --out {tmp_path}/out".split())
        return str(caught.value)

    other = tmp_path / "other/results/model_best/gaussian8/Set5"
    shutil.copytree(old / "results/model_best/gaussian8/Set5", other)
    for path in other.glob("scores_rgb.*"):
        path.rename(path.with_name(path.name.replace("rgb", "matlab")))
    assert "nothing was tested with both: one has gaussian8/Set5/scores_rgb.csv" in (
        said := refused(f"{old} {tmp_path}/other")
    )
    assert "--protocol PROTOCOL --metric METRIC`" in said
    assert "was measured otherwise: metric rgb, border 2 and kdsr, border 2" in refused(f"{old} {new}")
    tested("old", 0.1, checkpoint="model_latest", images=False)
    assert "has scores of 2 checkpoints: name one of" in refused(f"{old} {new}")
    assert "there is no folder nowhere" in refused(f"{new} nowhere")
    (tmp_path / "empty/results").mkdir(parents=True)
    assert "scores of 0 checkpoints: name a run that test.py has scored" in refused(f"{tmp_path}/empty {new}")
    assert "scores of 0 checkpoints" in refused(f"{new} {photo_folder}")
    (tmp_path / "bare/results/model_best").mkdir(parents=True)
    assert "model_best holds no scores" in refused(f"{new} {tmp_path}/bare/results/model_best")
    assert f"RUN {new}: name at least two" in refused(f"{new}")
    other = tested("other", 0.1, images=False, metrics=("psnr",))
    (path,) = other.rglob("scores_rgb.csv")
    path.rename(path.with_name("scores_matlab.csv"))
    path.with_suffix(".json").rename(path.with_name("scores_matlab.json"))
    assert "nothing was tested with both" in refused(f"{new} {other}")
    psnr, ssim = (tested(name, 0.1, images=False, metrics=(name,)) for name in ("psnr", "ssim"))
    assert "no metric was measured of both" in refused(f"{psnr} {ssim}")
    assert "a run is named twice" in refused(f"{psnr} {psnr}")
    also = tested("also", 0.2, metrics=("ssim",))
    main(f"{ssim} {also} --hr {photo_folder}/benchmark/Set5/HR --out {tmp_path}/out".split())
    assert "no crops: both tests need --save_results and PSNR" in capsys.readouterr().out
    # Two checkpoints of one run have no curves to lay over each other, and no crops without images.
    best, latest = (old / "results" / name for name in ("model_best", "model_latest"))
    assert "--names a: expected 2 different names, for model_best, model_latest" in refused(
        f"{best} {latest} --names a"
    )
    main(f"{best} {latest} --hr {photo_folder}/benchmark/Set5/HR --out {tmp_path}/out".split())
    assert "no crops: both tests need --save_results" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "table.csv", "table.tex"}
    small = tmp_path / "small"
    small.mkdir()
    for path in list_images(photo_folder / "benchmark/Set5/HR"):
        write_image(small / path.name, np.ascontiguousarray(read_image(path)[:50]))
    again = tested("again", 0.1)
    assert "--hr: " in refused(f"{best} {again} --hr {small}")
