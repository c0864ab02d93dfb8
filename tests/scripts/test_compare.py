"""The comparison: what it refuses, and its curves over steps and time."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from scripts import compare
from scripts.compare import Point, course, curves, main


@pytest.fixture
def run(tmp_path):
    """The logs of a run of two epochs that was stopped and went on."""
    (tmp_path / "log.txt").write_text(
        "2024-05-01 23:59:30 running on the CPU  |  comparison: 00:12:00 left\n"
        "2024-05-02 00:00:30 epoch 1  Set5  sig 2.6  PSNR 24.0000 dB  SSIM 0.70000  |  comparison: 00:11:00 left\n"
        "2024-05-02 00:00:31 epoch 1  Set14  sig 2.6  PSNR 22.0000 dB  SSIM 0.60000\n"
        "2024-05-02 00:02:00 epoch 2  Set5  sig 2.6  PSNR 25.0000 dB  SSIM 0.72000\n"
    )
    (tmp_path / "psnr_log.csv").write_text(
        "epoch,step,set,protocol,psnr,ssim\n"
        "1,40,Set5,sig 2.6,24.0000,0.70000\n1,40,Set14,sig 2.6,22.0000,0.60000\n2,80,Set5,sig 2.6,25.0000,0.72000\n"
    )
    return tmp_path


def test_the_course_of_a_run_is_read_from_its_logs(run):
    assert course(run, "Set5") == [Point(40, 1.0, 24.0), Point(80, 2.5, 25.0)]
    assert course(run, "Set5", minutes_before=1.6) == [Point(40, 2.6, 24.0), Point(80, 4.1, 25.0)]


def test_curves_are_over_steps_and_over_time(run, tmp_path, monkeypatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, out, dpi: drawn.append(figure))
    courses = {"KDSR": course(run, "Set5", 1.6), "CDSR": course(run, "Set5")}
    curves(courses, "Set5", tmp_path / "curves.png")
    steps, minutes = drawn[0].axes
    assert "step" in steps.get_xlabel()
    assert "minutes" in minutes.get_xlabel()
    assert [np.asarray(line.get_xdata()).tolist() for line in steps.lines] == [[40, 80], [40, 80]]
    assert [np.asarray(line.get_xdata()).tolist() for line in minutes.lines] == [[2.6, 4.1], [1.0, 2.5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dir_data nope", "--dir_data: there is no folder TMP/nope"),
        ("--dir_data PHOTOS --data_train nope", "--data_train nope: there is neither"),
        ("--dir_data . --minutes 0", "0 is not a number above 0"),
        ("--dir_data . --out .", "--out . is there already"),
        ("--dir_data EMPTY", "holds no image"),
        ("--dir_data PHOTOS/train/HR/alone", "none of Set5, Set14, B100 lies in benchmark/"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(
    arguments, message, photo_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "trained", None)
    (tmp_path / "empty").mkdir()
    if "alone" in arguments:
        (tmp_path / "a/b/c").mkdir(parents=True)
        (tmp_path / "a/b/c/0.png").write_bytes((photo_folder / "train/HR/0.png").read_bytes())
        arguments = f"--dir_data {tmp_path}/a/b/c"
    words = arguments.replace("PHOTOS", str(photo_folder)).replace("EMPTY", str(tmp_path / "empty"))
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert message.replace("TMP", str(tmp_path)) in f"{caught.value}{capsys.readouterr().err}"
    assert not (tmp_path / "experiment").exists()
