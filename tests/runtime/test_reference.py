"""Another run's scores beside one's own."""

from __future__ import annotations

import pytest

from runtime.reference import BAND, Reference
from utility import append_rows


def row(step, psnr, name="Set5"):
    return {"epoch": step // 10, "step": step, "set": name, "protocol": "gaussian8", "psnr": psnr, "ssim": 0.8}


@pytest.fixture
def reference(tmp_path):
    append_rows(tmp_path / "zoo_run.csv", [row(10, 28.0), row(20, 30.0), row(40, 31.0)])
    return Reference(tmp_path / "zoo_run.csv")


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
        "note: Set5, gaussian8: -0.80 dB from zoo_run at step 15, which has 29.00; the band is 0.5 dB on both sides"
    )
    assert reference.compare(row(20, 29.0)) is None  # it is outside still
    assert reference.compare(row(30, 30.5)) is None
    told = reference.compare(row(40, 32.0))
    assert told is not None
    assert "+1.00 dB" in told


def test_a_reference_of_one_validation(tmp_path):
    append_rows(tmp_path / "one.csv", [row(10, 28.0)])
    assert Reference(tmp_path / "one.csv").at("Set5, gaussian8", 10) == 28.0


def test_a_file_without_scores_is_refused(tmp_path):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"empty\.csv holds no scores"):
        Reference(tmp_path / "empty.csv")
