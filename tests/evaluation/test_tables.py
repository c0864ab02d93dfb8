"""Means and spreads, and the forms of a table."""

import html
import math
import re
import statistics

import pytest

from evaluation.evaluate import Score
from evaluation.tables import FORMS, render, render_images, rows

VALUES = {
    ("Set_5", "gaussian8"): {
        ("a", "1.80"): (30.0, 0.80),
        ("a", "2.00"): (32.0, 0.90),
        ("b", "1.80"): (20.0, 0.50),
        ("b", "2.00"): (22.0, 0.60),
    },
    ("B100", "bicubic"): {("c", "bicubic"): (25.0, 0.70)},
}
SCORES = [
    Score(*of_set, *of_image, {"psnr": psnr, "ssim": ssim})
    for of_set, images in VALUES.items()
    for of_image, (psnr, ssim) in images.items()
]
HOSTILE = [r"a|b", r"a\b", r"a\|b", "a_b_", "*a*", "a & b", "&amp;", "100 %", "#1", "{a}", "<b>", "a`b", "0801", "1e5"]


def test_means_over_images_and_kernels():
    table = rows(SCORES)
    assert [(row.set, row.case, row.images) for row in table] == [
        ("Set_5", "all", 2),
        ("Set_5", "1.80", 2),
        ("Set_5", "2.00", 2),
        ("B100", "bicubic", 1),
    ]
    assert table[0].means["psnr"] == 26.0
    assert table[0].spreads["psnr"] == statistics.stdev([31.0, 21.0])
    assert table[1].means["psnr"] == 25.0
    assert table[3].spreads["psnr"] == 0


def test_all_forms_hold_the_same_numbers():
    table = rows(SCORES)
    text, markdown, latex = (render(table, form) for form in ("text", "markdown", "latex"))
    for form in (text, markdown, latex):
        assert form.count("26.000") == 1
        assert form.count("0.7000") == 2
    assert len({len(line) for line in text.split("\n")}) == 1
    assert {line.count("|") for line in markdown.split("\n")} == {9}
    assert r"Set\_5 & gaussian8 & all & 2 & 26.000 & 7.07" in re.sub(r" +", " ", latex)
    assert latex.startswith(r"\begin{tabular}{lllrrrrr}")


def test_a_metric_that_some_sets_lack_has_a_column():
    scores = [*SCORES[:4], SCORES[4]._replace(values={"niqe": 5.0})]
    *_, last = render(rows(scores)).splitlines()
    assert last.split() == ["B100", "bicubic", "bicubic", "1", "–", "–", "–", "–", "5.0000", "0.000"]


def test_columns_stand_two_spaces_apart():
    header, first, *_ = render(rows(SCORES)).split("\n")
    assert re.split(r"  +", header) == ["set", "protocol", "kernel", "images", "PSNR (dB) ↑", "±", "SSIM ↑", "±"]
    assert first.startswith("Set_5  gaussian8  all ")


def test_learned_metrics_are_shown_with_their_direction():
    scores = [Score("a", "p", "i", "k", {"psnr": 30.0, "lpips_vgg": 0.12344, "niqe": 4.0})]
    header, line = render(rows(scores)).split("\n")
    assert re.split(r"  +", header)[4:] == ["PSNR (dB) ↑", "±", "LPIPS vgg ↓", "±", "NIQE ↓", "±"]
    assert line.split()[4:] == ["30.000", "0.00", "0.1234", "0.000", "4.0000", "0.000"]


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_gives_every_name_back(name):
    lines = render_images({name: {"niqe": 4.0}}, "markdown").split("\n")
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", line) for line in lines]
    assert {len(line) for line in cells} == {4}  # nothing, two cells, nothing
    shown = lines[-1][2 : lines[-1].rindex("4.0000")].rstrip(" |")
    assert re.sub(r"\\([^a-z0-9 ])", r"\1", html.unescape(shown)) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_has_no_bare_special_characters(name):
    line = render_images({name: {"niqe": 4.0}}, "latex").split("\n")[-3]
    assert line.endswith(r"4.0000 \\")
    cell = re.sub(r"\\text\w+\{\}|\\\^\{\}|\\ensuremath\{[<>]\}|\\[&%$#_{}]", "", line.partition(" & ")[0])
    assert not set(cell) & set("&%$#_^{}~\\<>")


def test_names_of_several_lines_stay_in_their_row():
    for form in FORMS:
        assert "a b" in render_images({"a\n b": {"niqe": 4.0}}, form)


def test_equal_images_have_no_spread_to_speak_of():
    row = rows([Score("a", "p", str(i), "k", {"psnr": psnr}) for i, psnr in enumerate((30.0, math.inf))])[0]
    assert row.means["psnr"] == math.inf
    assert math.isnan(row.spreads["psnr"])


def test_single_images_and_their_means():
    scores = {"a_1": {"niqe": 4.0, "musiq": 60.0}, "b": {"niqe": 5.0, "musiq": 50.0}}
    text, latex = (render_images(scores, form) for form in ("text", "latex"))
    assert [line.split() for line in text.split("\n")] == [
        ["image", "NIQE", "↓", "MUSIQ", "↑"],
        ["mean", "4.5000", "55.0000"],
        ["a_1", "4.0000", "60.0000"],
        ["b", "5.0000", "50.0000"],
    ]
    latex = re.sub(r" +", " ", latex)
    assert r"image & NIQE $\downarrow$ & MUSIQ $\uparrow$ \\" in latex
    assert r"a\_1 & 4.0000" in latex
