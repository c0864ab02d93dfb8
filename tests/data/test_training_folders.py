"""The folders to train on: of one root or several, with weights and LR images."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from data.training_folders import Source, sources, training_folder
from tests.data.random_images import write_all


def test_the_folder_to_train_on(tmp_path: Path) -> None:
    assert training_folder(tmp_path) == tmp_path
    for part in ("HR", "DF2K/HR", "mine", "other/HR"):
        (tmp_path / part).mkdir(parents=True)
    assert training_folder(tmp_path) == tmp_path / "DF2K/HR"
    assert training_folder(tmp_path / "HR") == tmp_path / "HR"
    assert training_folder(tmp_path, "mine") == tmp_path / "mine"
    assert training_folder(tmp_path, "other") == tmp_path / "other/HR"
    with pytest.raises(FileNotFoundError, match=r"`data_train` none: there is neither"):
        training_folder(tmp_path, "none")
    with pytest.raises(FileNotFoundError, match="`dir_data`: there is no folder"):
        training_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="`dir_data`"):
        training_folder(None)


def test_the_folders_of_a_command_line(tmp_path: Path) -> None:
    a, b, plus = (write_all(tmp_path / name / "HR", ["0"], 24) for name in ("a", "b", "c+d"))
    joined = Path(f"{tmp_path}/a+{tmp_path}/b")
    assert sources(joined) == [Source(a), Source(b)]
    assert sources(tmp_path / "c+d") == [Source(plus)]  # a + in the name of one folder
    assert sources(tmp_path, "b+a") == [Source(b), Source(a)]
    assert sources(Path(f"{tmp_path}/a+{tmp_path}"), "b") == [Source(b)]
    twice = sources(tmp_path, "a+a", dir_lr=Path(f"{a}+{b}"))  # other LR images of the same HR images
    assert twice == [Source(a, a), Source(a, b)]
    weighted = sources(joined, data_weights="2+0.5", dir_lr=b, mix=0.25)
    assert weighted == [Source(a, b, Fraction(2)), Source(b, None, Fraction(1, 2))]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"data_weights": "2"}, "`data_weights` 2: 1 weights for 2 training folders"),
        ({"data_weights": "2+-1"}, "`data_weights` 2+-1: expected numbers above 0 joined by +, as in 2+1"),
        ({"data_weights": "2+"}, "expected numbers above 0"),
        ({"data_weights": "nan+1"}, "expected numbers above 0"),
        ({"data_weights": "1/0+1"}, "expected numbers above 0"),
        ({"dir_lr": Path("l+m+n")}, "`dir_lr` names 3 folders of LR images for 2 of HR images"),
        ({"dir_lr": Path("l")}, "`dir_lr`: there are no LR images for {b}; say with `mix`"),
        ({"dir_lr": Path("l+")}, "`dir_lr`: l+: expected names of folders joined by +, and one of them is empty"),
        ({"dir_lr": Path("none/X4"), "mix": 0.5}, f"`dir_lr`: there is no folder {Path.cwd() / 'none/X4'}"),
        ({"dir_data": Path("+l")}, "`dir_data`: +l: expected names of folders"),
        ({"dir_data": Path("{a}+{a}/none")}, "`dir_data`: there is no folder {a}/none"),
        ({"dir_data": Path("none/HR")}, f"`dir_data`: there is no folder {Path.cwd() / 'none/HR'}"),
        ({"data_train": "a+none"}, "`data_train` none: there is neither"),
        ({"data_train": "a+b+a"}, "{a} is named twice; `data_weights` draws more images from one"),
    ],
)
def test_folders_that_do_not_fit(flags: dict[str, Any], words: str, tmp_path: Path) -> None:
    a, b = (write_all(tmp_path / name, ["0"], 24) for name in "ab")
    places = {"a": a, "b": b}
    flags = {name: Path(str(v).format(**places)) if isinstance(v, Path) else v for name, v in flags.items()}
    if "data_train" in flags:
        flags["dir_data"] = tmp_path
    with pytest.raises((ValueError, OSError), match=re.escape(words.format(**places))):
        sources(**{"dir_data": Path(f"{a}+{b}"), **flags})
