"""From flags, names and files to protocols: units, contradictions, missing values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from data.protocol_flags import build_protocol


@pytest.mark.parametrize(
    ("degradation", "blur_type", "flags", "width"),
    [
        ("gaussian", "iso_gaussian", {"sig": 4.0}, (4.0, 4.0)),
        ("gaussian", "aniso_gaussian", {"lambda_1": 4.0, "lambda_2": 1.0}, (4.0, 1.0)),
        ("manet", "iso_gaussian", {"sig": 4.0}, (4.0, 4.0)),
        ("manet", "aniso_gaussian", {"lambda_1": 4.0, "lambda_2": 1.0}, (2.0, 1.0)),
    ],
)
def test_the_kernel_of_flags(
    degradation: str, blur_type: str, flags: dict[str, Any], width: tuple[float, float]
) -> None:
    rule = build_protocol("flags", scale=4, degradation=degradation, blur_type=blur_type, **flags)
    assert rule.cases[0].width == width
    assert rule.recipe == degradation


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("flags", {}, "`protocol` flags with `blur_type` iso_gaussian needs `sig`"),
        ("flags", {"blur_type": "aniso_gaussian", "lambda_1": 1.0}, "needs `lambda_1` and `lambda_2`"),
        ("flags", {"degradation": "second_order", "sig": 1.0}, "second_order draws its own"),
        ("flags", {"degradation": "ikc", "blur_type": "aniso_gaussian"}, "ikc has isotropic kernels"),
        ("ikc8", {"noise": 5.0}, "`protocol` ikc8 takes no `noise`: leave it out"),
        ("nothing", {}, "`protocol` nothing is none of bicubic, gaussian8"),
        ("second_order", {"noise": 5.0}, "`protocol` second_order takes no `noise`: leave it out"),
        (
            "second_order",
            {"jpeg_quality": 50.0, "sample_mode": "s-fold"},
            "takes no `sample_mode` and no `jpeg_quality`: leave them out",
        ),
        ("manet9", {"sample_mode": "s-fold"}, "`sample_mode` s-fold"),
        ("gaussian8", {"noise": 5.0, "noise_var": True}, "`noise_var`"),
        ("", {"sv_mode": 3}, "`sv_mode` with `blur_type` iso_gaussian gives every block the kernel of `sig`"),
        ("", {"sv_mode": 7, "sig": 1.0}, "`sv_mode`: expected 1 to 6, got 7"),
    ],
)
def test_wrong_flags_of_a_protocol(name: str, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        _ = build_protocol(name, scale=4, **flags).smallest


def test_a_protocol_file_says_all_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "gaussian", "kernels": [[1, 1, 0]]}')
    assert build_protocol(str(path), scale=4, blur_type="aniso_gaussian").name == "mine"
    with pytest.raises(ValueError, match=r"mine\.json takes no `noise`: leave it out"):
        build_protocol(str(path), scale=4, noise=5)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"^`protocol`: .*mine\.json is not a protocol"):
        build_protocol(str(path), scale=4)
