"""The demo from end to end, with a few seconds of training; its test, cut short."""

import math
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from data.degradation.resize import bicubic
from data.images import list_images
from scripts import demo
from utility import ROOT


@pytest.mark.slow
def test_the_demo_ends_with_its_table_pictures_and_next_command(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, ROOT / "scripts" / "demo.py", "--minutes", "0.6", "--out", out]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line[:6] for line in result.stdout.splitlines() if "left of the demo" in line] == [
        "1 of 3",
        "2 of 3",
        "3 of 3",
    ]
    assert "|  demo: 00:" in result.stdout  # lines of training tell what is left of it all
    text = result.stdout.split("photographs not trained on")[1]
    assert "\n    2.60" in text  # on a machine that is busy perhaps no others
    assert "\n    mean" in text
    assert "astronaut" not in str(sorted((out / "photos" / "train").iterdir()))
    assert Image.open(out / "side_by_side.png").width > 800
    for stage in ("teacher", "student"):
        assert (out / f"{stage}_x4_bicubic_iso" / "loss.png").exists()
    assert "of 00:00:36" in text
    assert "--data_test Demo --dir_demo FOLDER" in text


@pytest.fixture
def photos(photo_folder):
    return list_images(photo_folder / "benchmark" / "Set5" / "HR")


@pytest.mark.parametrize(("until", "cases"), [(math.inf, 8), (0.0, 1)])
def test_the_test_takes_as_many_kernels_as_there_is_time_for(until, cases, photos, monkeypatch, capsys):
    monkeypatch.setattr(demo, "EXAMPLE", (photos[1].stem, *demo.EXAMPLE[1:]))
    restores = {name: (lambda lr, hr: bicubic(lr, 4)) for name in ("a", "b")}
    scores, shown = demo.test(restores, photos, until=until and until + time.perf_counter())
    assert list(scores) == ["a", "b"]
    assert len({score.case for score in scores["a"]}) == cases
    assert scores["a"] == scores["b"]
    assert scores["a"][0].case == "2.60"
    assert list(shown) == ["LR", "a", "HR", "b"]
    assert torch.equal(shown["a"], shown["b"])
    text = demo.table(*scores.values())
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*sorted({score.case for score in scores["a"]}), "mean"]
    assert ("are left out of the test" in capsys.readouterr().out) == (cases == 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--minutes 0", "0 is not a number above 0"),
        ("--minutes soon", "soon is not a number above 0"),
        ("--out .", "--out . is there already"),
    ],
)
def test_nonsense_is_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        demo.main()
    assert message in f"{caught.value}{capsys.readouterr().err}"
