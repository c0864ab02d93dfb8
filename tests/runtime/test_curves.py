"""Another run's scores beside one's own."""

from __future__ import annotations

from math import inf, isfinite, nan
from statistics import fmean

import numpy as np
import pytest
from matplotlib.figure import Figure

from runtime.curves import BAND, Reference, draw_curves
from utility import Run, append_rows


def row(step, psnr, name="Set5"):
    return {"epoch": step // 10, "step": step, "set": name, "protocol": "gaussian8", "psnr": psnr, "ssim": 0.8}


@pytest.fixture
def reference(tmp_path):
    append_rows(tmp_path / "zoo_run.csv", [row(10, 28.0), row(20, 30.0), row(40, 31.0)])
    return Reference("zoo_run", [tmp_path / "zoo_run.csv"])


@pytest.mark.parametrize(
    ("step", "psnr"), [(5, None), (10, 28.0), (15, 29.0), (20, 30.0), (30, 30.5), (40, 31.0), (41, None)]
)
def test_between_validations_the_curve_is_a_straight_line(step, psnr, reference):
    assert reference.at("Set5, gaussian8", step) == psnr
    assert reference.at("Set14, gaussian8", step) is None


def test_a_run_is_told_once_where_it_leaves_the_band(reference):
    inside = [row(10, 28 + BAND), row(20, 30 - BAND), row(50, 20.0), row(20, 10.0, "Set14")]
    assert [reference.compare(each) for each in inside] == [None] * 4
    told = reference.compare(row(15, 28.2))
    assert told == (
        "note: Set5, gaussian8: -0.80 dB from zoo_run at step 15, which has 29.00; the band is 0.50 dB on both sides"
    )
    assert reference.compare(row(20, 29.0)) is None  # it is outside still
    assert reference.compare(row(30, 30.5)) is None
    told = reference.compare(row(40, 32.0))
    assert told is not None
    assert "+1.00 dB" in told


def test_a_reference_of_one_validation(tmp_path):
    append_rows(tmp_path / "one.csv", [row(10, 28.0)])
    assert Reference("one", [tmp_path / "one.csv"]).at("Set5, gaussian8", 10) == 28.0


def test_a_file_without_scores_is_refused(tmp_path):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"empty\.csv holds no scores"):
        Reference("empty", [tmp_path / "empty.csv"])


def test_the_band_around_several_seeds_is_where_most_further_ones_fall(tmp_path):
    draw = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        *seeds, further = draw.normal(30, 0.1, (4, 1)).tolist()
        logs = [tmp_path / f"run_seed{i}.csv" for i in range(3)]
        for log, (psnr,) in zip(logs, seeds, strict=True):
            log.unlink(missing_ok=True)
            append_rows(log, [row(10, psnr)])
        reference = Reference("run", logs)
        assert reference.at("Set5, gaussian8", 10) == pytest.approx(fmean(psnr for (psnr,) in seeds))
        inside.append(reference.compare(row(10, *further)) is None)
    assert 0.92 < fmean(inside) < 0.98


def test_seeds_are_compared_at_the_steps_that_all_have(tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    append_rows(first, [row(10, 28.0), row(20, 30.0), row(20, 20.0, "Set14")])
    append_rows(second, [row(10, 29.0), row(30, 31.0)])
    reference = Reference("run", [first, second])
    assert reference.curves == {"Set5, gaussian8": [(10, 28.5)]}
    append_rows(tmp_path / "third.csv", [row(11, 29.0)])
    with pytest.raises(ValueError, match="no validation in common"):
        Reference("run", [first, tmp_path / "third.csv"])


@pytest.fixture
def figures(monkeypatch) -> dict[str, Figure]:
    """The figures that are saved, by the name of their file."""
    saved: dict[str, Figure] = {}
    save = Figure.savefig

    def spy(figure, path, **options):
        saved[path.name.split(".")[1]] = figure  # of a temporary file
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def test_a_reference_is_drawn_beside_the_curve_of_the_same_name(tmp_path, reference, figures):
    run = Run(tmp_path)
    append_rows(run.psnr_log, [row(10, 28.0), row(20, 29.0), row(20, 25.0, "Set14")])
    draw_curves(run, reference)
    (axes,) = figures["psnr"].axes
    (band,) = axes.collections
    names = [line.get_label() for line in axes.lines]
    assert names == ["Set5, gaussian8", "Set5, gaussian8: zoo_run", "Set14, gaussian8"]
    assert band.get_datalim(axes.transData).extents == pytest.approx([10, 28 - BAND, 40, 31 + BAND])
    assert list(figures) == ["psnr"]  # nothing is drawn without losses


@pytest.mark.parametrize("values", [(3.0,), (3.0, 3.0), (0.0, 1.0), (-2.0, 5.0), (1e-9, 1e9), (inf, 1.0), (nan,)])
def test_curves_of_any_values_are_drawn(values, tmp_path, figures):
    run = Run(tmp_path)
    append_rows(run.psnr_log, [row(10 * i, value) for i, value in enumerate(values)])
    append_rows(run.loss_log, [{"step": i, "part": "l1", "value": value} for i, value in enumerate(values)])
    draw_curves(run)
    for name in ("psnr", "loss"):
        assert (tmp_path / f"{name}.png").exists()
        low, high = figures[name].axes[0].get_ylim()
        assert all(low < value < high for value in values if isfinite(value))
