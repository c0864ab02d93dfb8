"""Runs as variants with several seeds: what groups them, the table, the notes, the curves, the program."""

import csv
import json
from math import inf, nan, sqrt

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_ind

from data.images import list_images
from data.protocol import gaussian8
from data.testset import Degraded
from evaluation import Score, results
from flags import flags_of
from option import TrainOptions
from scripts import variants
from scripts.compare_runs import main
from scripts.variants import Trained, curves, grouped, names, notes, table, with_deviation
from utility import ENVIRONMENT, append_rows


@pytest.fixture
def run(tmp_path):
    """Writes the config.json and the validations of a run; returns its folder."""

    def write(save, *, seed=1, steps=(10, 20), psnr=25.0, commit="abc", **flags):
        folder = tmp_path / save
        (folder / "results/model_latest").mkdir(parents=True)
        config = {"model": "EDSR", "lr_sr": 1e-3, "save": save, "seed": seed, "keep": seed, "commit": commit}
        (folder / "config.json").write_text(json.dumps({**config, **flags, "versions": {"python": save}}))
        rows = [
            {"epoch": i, "step": step, "set": "Set5", "protocol": "p", "psnr": psnr} for i, step in enumerate(steps)
        ]
        append_rows(folder / "psnr_log.csv", rows)
        return folder

    return write


def trained(folder, **psnr):
    """A run of this folder whose tests gave these means, by set."""
    scored = {
        f"p/{name}/scores_kdsr.csv": results.Tested(folder, {}, [Score(name, "p", "a", "k", {"psnr": value})])
        for name, value in psnr.items()
    }
    path = folder / "config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    return Trained(folder / "results/model_latest", config, scored)


def named(*runs):
    found = grouped(runs)
    return dict(zip(names(found), found, strict=True))


def test_runs_that_differ_in_their_seed_alone_are_one_variant(run):
    base = [trained(run(f"base_{seed}", seed=seed)) for seed in (1, 2, 10)]
    fast = [trained(run(f"fast_seed{seed}", seed=seed, lr_sr=1e-2, noise=5.0)) for seed in (1, 2)]
    found = named(base[0], fast[0], base[1], fast[1], base[2])
    assert {name: [run.config["seed"] for run in one.runs] for name, one in found.items()} == {
        "base": [1, 2, 10],
        "fast": [1, 2],
    }
    assert table(found) == [["lr_sr", "0.001", "0.01"], ["noise", "–", "5.0"], ["seeds", "1, 2, 10", "1, 2"]]


def test_a_checkpoint_and_a_run_without_options_are_variants_of_their_own(run, tmp_path):
    latest = trained(run("a_1"))
    best = latest._replace(results=tmp_path / "a_1/results/model_best")
    bare = [trained(tmp_path / name) for name in ("test_bicubic_x4", "test_zoo")]
    found = named(latest, best, *bare)
    assert [*found] == ["a_1 model_latest", "a_1 model_best", "test_bicubic_x4 model_latest", "test_zoo model_latest"]
    assert table(found) == [["checkpoint", "model_latest", "model_best", "–", "–"], ["seeds", "1", "1", "–", "–"]]


def test_each_seed_may_have_its_own_teacher(run, tmp_path):
    teachers = {seed: run(f"t_{seed}", seed=seed) for seed in (1, 2)}
    files = {seed: str(folder / "model/model_latest.pt") for seed, folder in teachers.items()}
    students = [trained(run(f"s_{seed}", seed=seed, pre_train_TA=file)) for seed, file in files.items()]
    larger = trained(run("l_1", pre_train_TA=str(run("larger", n_feats=64) / "model/model_latest.pt")))
    loose = trained(run("o_1", pre_train_TA="KDSR.pt"))
    found = named(*students, larger, loose)
    assert [len(one.runs) for one in found.values()] == [2, 1, 1]
    assert table(found)[0] == ["pre_train_TA", "t_1 model_latest", "larger model_latest", "KDSR.pt"]


def test_weights_that_lead_back_to_a_run_end(run, tmp_path):
    file = {name: str(tmp_path / name / "model/model_latest.pt") for name in "ab"}
    a, b = run("a", pre_train=file["b"]), run("b", pre_train=file["a"])
    assert variants.settings(a)["pre_train"]["pre_train"] == file["a"]
    assert variants.settings(b)["pre_train"]["pre_train"] == file["b"]


def test_the_same_run_twice_is_refused(run):
    runs = [trained(run(name)) for name in ("a", "b", "c")]
    with pytest.raises(ValueError, match=r"a and .*b have the same options and the same seed, 1: leave one out"):
        grouped(runs)


def test_mean_and_deviation_of_known_numbers(run):
    base = [trained(run(f"base_{i}", seed=i), Set5=x) for i, x in ((1, 28.0), (2, 29.0), (3, 30.0))]
    fast = [trained(run(f"fast_{i}", seed=i, lr_sr=1e-2), Set5=x) for i, x in ((1, 31.0), (2, 31.0), (3, 34.0))]
    score, difference = table(named(*base, *fast))[-2:]
    assert score == ["Set5, p: PSNR (dB) ↑", "29.000 ± 1.000", f"32.000 ± {sqrt(3):.3f}"]
    low, high = ttest_ind([31, 31, 34], [28, 29, 30], equal_var=False).confidence_interval()
    assert difference[1:] == ["", f"+3.000 [{low:+.3f}, {high:+.3f}]"]
    assert with_deviation([28.0], 1, 2) == "28.00"
    assert with_deviation([28.0, 30.0], 3, 1) == "29.0 ± 1.4 (2 of 3)"
    assert with_deviation([inf, 30.0], 2, 1) == "inf"
    assert with_deviation([nan, 30.0], 2, 1) == "nan"
    assert with_deviation([], 2, 1) == "–"


def test_a_run_that_misses_a_set_counts_where_it_has_one(run, tmp_path):
    runs = [
        trained(run("a_1"), Set5=28.0, Set14=26.0),
        trained(run("a_2", seed=2), Set5=29.0),
        trained(run("b_1", lr_sr=1.0), Set5=30.0),
        trained(tmp_path / "test_bicubic", Set14=25.0),
    ]
    found = named(*runs)
    lines = {line[0]: line[1:] for line in table(found)}
    assert lines["Set5, p: PSNR (dB) ↑"] == ["28.500 ± 0.707", "30.000", "–"]
    assert lines["Set14, p: PSNR (dB) ↑"] == ["26.000 (1 of 2)", "–", "25.000"]
    assert table(found)[-1] == ["– difference from the first", "", "–", "-1.000"]
    assert notes(found) == ["Set5, p: no scores of test_bicubic", "Set14, p: no scores of a_2, b_1"]


def test_two_tests_of_one_set_are_told_apart(run):
    plain = trained(run("a"), Set5=28.0)
    (scored,) = plain.tested.values()
    both = plain._replace(tested={**plain.tested, "p/Set5/scores_kdsr_oracle.csv": scored})
    assert [line[0] for line in table(named(both))[-2:]] == [
        "Set5, p (scores_kdsr): PSNR (dB) ↑",
        "Set5, p (scores_kdsr_oracle): PSNR (dB) ↑",
    ]


def test_other_lengths_and_other_code_are_noted(run):
    runs = [run("a_1"), run("a_2", seed=2, steps=(10, 20, 30)), run("b_1", lr_sr=1.0, commit="def")]
    found = named(*(trained(folder) for folder in runs))
    assert notes(found) == [
        "the last validations are of different steps: 20 of a_1, b_1; 30 of a_2",
        "the code differs between the runs: commits abc, def",
    ]


def test_a_curve_is_the_mean_where_all_seeds_are_and_its_band_their_range(run):
    low, high = run("a_1", psnr=20.0, steps=(10, 20)), run("a_2", psnr=24.0, steps=(10, 20, 30))
    figure = curves({"a": [low, high], "b": [run("b", psnr=30.0, steps=(10, 20, 30))]})
    assert figure is not None
    (axes,) = figure.axes
    found = [(list(np.asarray(line.get_xdata())), list(np.asarray(line.get_ydata()))) for line in axes.lines]
    assert found == [([10, 20], [22, 22]), ([10, 20, 30], [30, 30, 30])]
    (band,) = axes.collections
    corners = band.get_paths()[0].get_extents()
    assert (corners.x0, corners.y0, corners.x1, corners.y1) == (10, 20, 20, 24)


def test_without_validations_there_is_no_curve(run):
    assert curves({"a": [run("a", steps=())]}) is None


def test_what_is_left_out_are_flags_and_the_machine():
    assert set(flags_of(TrainOptions)) | set(ENVIRONMENT) >= variants.UNSEEN
    assert set(flags_of(TrainOptions)) >= set(variants.WEIGHTS)


def test_the_page_of_an_ablation(run, photo_folder, tmp_path, capsys, monkeypatch):
    test_set = Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), gaussian8(2))

    def scored(save, psnr, **flags):
        folder = run(save, psnr=psnr, **flags)
        found = [Score("Set5", "gaussian8", str(i), "k", {"psnr": psnr + i}) for i in (0, 1)]
        where = folder / "results/model_latest"
        results.write_test_set(where, test_set, found, name="scores_rgb", metric="rgb, border 2", made={})
        return save

    saves = [scored(f"a_{seed}", 20.0 + seed, seed=seed) for seed in (1, 2, 3)]
    saves += [scored(f"b_{seed}", 25.0 + seed, seed=seed, lr_sr=1e-2) for seed in (1, 2)]
    monkeypatch.chdir(tmp_path)
    main([*saves, "--out", "page"])
    said = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"table.md", "table.csv", "table.tex", "curves.png"}
    text = (tmp_path / "page/table.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert cells[0] == ["", "a", "b"]
    assert cells[2:5] == [
        ["lr\\_sr", "0.001", "0.01"],
        ["seeds", "1, 2, 3", "1, 2"],
        ["Set5, gaussian8: PSNR (dB) ↑", "22.500 ± 1.000", "27.000 ± 0.707"],
    ]
    assert cells[5][2].startswith("+4.500 \\[")
    assert "22.500 ± 1.000" in said
    assert "](curves.png)" in text
    first, second = csv.DictReader((tmp_path / "page/table.csv").open(encoding="utf-8"))
    shared = {"set": "Set5", "protocol": "gaussian8", "scores": "scores_rgb", "metric": "psnr"}
    assert {name: first[name] for name in shared} == shared
    assert [first[name] for name in ("network", "setting_lr_sr", "seeds", "mean", "deviation", "difference")] == [
        *("a", "0.001", "3", "22.5", "1.0", "")
    ]
    assert [second[name] for name in ("network", "setting_lr_sr", "seeds", "mean", "difference")] == [
        *("b", "0.01", "2", "27.0", "4.5")
    ]
    assert float(second["difference_low"]) < 4.5 < float(second["difference_high"])
    with Image.open(tmp_path / "page/curves.png") as picture:
        assert picture.width > picture.height

    def refused(*words):
        with pytest.raises(SystemExit) as caught:
            main([*saves, *words, "--out", "again"])
        return str(caught.value)

    assert "--names x: expected 2 different names, for a, b" in refused("--names", "x")
    assert "crops are drawn of two runs, not of 5" in refused("--hr", ".")
    assert "RUN: there is no folder nowhere" in refused("nowhere")
    assert "scores of 0 checkpoints" in refused("page")
    assert not (tmp_path / "again").exists()
    main([*saves, "--names", "slow", "fast", "--out", "again"])
    assert "slow" in (tmp_path / "again/table.md").read_text(encoding="utf-8").splitlines()[0]


def test_a_number_that_is_no_seed_stays_in_the_name(run):
    sizes = [trained(run(f"blocks_{n}", n_blocks=n)) for n in (1, 2, 4)]  # all of seed 1
    assert names(grouped(sizes)) == ["blocks_1", "blocks_2", "blocks_4"]
    seeds = [trained(run(f"kd_{seed}", seed=seed, lr_sr=1.0)) for seed in (1, 2)]
    assert names(grouped([*seeds, trained(run("base_seed1"))])) == ["kd", "base"]
