"""Means and spreads, and their forms."""

import math
import statistics

from evaluation.evaluate import Score
from evaluation.report import render, render_qualities, rows

SCORES = [
    Score("Set_5", "gaussian8", "a", "1.80", 30.0, 0.80),
    Score("Set_5", "gaussian8", "a", "2.00", 32.0, 0.90),
    Score("Set_5", "gaussian8", "b", "1.80", 20.0, 0.50),
    Score("Set_5", "gaussian8", "b", "2.00", 22.0, 0.60),
    Score("B100", "bicubic", "c", "bicubic", 25.0, 0.70),
]


def test_means_over_images_and_kernels():
    table = rows(SCORES)
    assert [(row.set, row.case, row.images) for row in table] == [
        ("Set_5", "all", 2),
        ("Set_5", "1.80", 2),
        ("Set_5", "2.00", 2),
        ("B100", "bicubic", 1),
    ]
    assert table[0].psnr == 26.0
    assert table[0].psnr_spread == statistics.pstdev([31.0, 21.0])
    assert table[1].psnr == 25.0
    assert table[3].psnr_spread == 0


def test_all_forms_hold_the_same_numbers():
    table = rows(SCORES)
    text, markdown, latex = (render(table, form) for form in ("text", "markdown", "latex"))
    for form in (text, markdown, latex):
        assert form.count("26.000") == 1
        assert form.count("0.7000") == 2
    assert len({len(line) for line in text.split("\n")}) == 1
    assert {line.count("|") for line in markdown.split("\n")} == {9}
    assert r"Set\_5 & gaussian8 & all & 2 & 26.000 & 5.00" in latex
    assert latex.startswith(r"\begin{tabular}{lllrrrrr}")


def test_equal_images_have_no_spread_to_speak_of():
    row = rows([Score("a", "p", str(i), "k", psnr, 1.0) for i, psnr in enumerate((30.0, math.inf))])[0]
    assert row.psnr == math.inf
    assert math.isnan(row.psnr_spread)


def test_qualities_and_their_means():
    scores = {"a_1": (4.0, 60.0), "b": (5.0, 50.0)}
    text, latex = (render_qualities(("niqe ↓", "musiq ↑"), scores, form) for form in ("text", "latex"))
    assert [line.split() for line in text.split("\n")] == [
        ["image", "niqe", "↓", "musiq", "↑"],
        ["mean", "4.5000", "55.0000"],
        ["a_1", "4.0000", "60.0000"],
        ["b", "5.0000", "50.0000"],
    ]
    assert r"image & niqe $\downarrow$ & musiq $\uparrow$ \\" in latex
    assert r"a\_1 & 4.0000" in latex
