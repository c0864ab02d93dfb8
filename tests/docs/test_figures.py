"""The figures of docs/architecture.md name what the code has, and are those that the script draws."""

from __future__ import annotations

import importlib
import re
from html import unescape

import pytest

from scripts import figures
from utility import ROOT

NAMED = re.compile(r'<text class="code"[^>]*data-of="([\w.]+)"[^>]*>([^<]*)</text>')


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_name_in_a_figure_exists_in_the_code(name):
    text = (figures.IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    found = NAMED.findall(text)
    assert len(found) == text.count('class="code"') > 5
    for path, shown in found:
        module, _, attribute = path.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__name__ == unescape(shown)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_is_up_to_date(name):
    found = (figures.IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert found == figures.FIGURES[name](), "run python scripts/figures.py"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_boxes_of_a_figure_lie_inside_it_and_apart(name):
    text = figures.FIGURES[name]()
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', text)[0])
    pattern = r'<rect class="box" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    boxes = [tuple(map(float, box)) for box in re.findall(pattern, text)]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x + w <= width
        assert y + h <= height
        for a, b, c, d in boxes[:i]:
            assert x >= a + c or a >= x + w or y >= b + d or b >= y + h, ((x, y), (a, b))


def test_text_that_is_wider_than_its_box_is_refused():
    with pytest.raises(ValueError, match="is wider than its box"):
        figures.Figure(100, 100, "a figure").box(0, 0, 50, "far too many words")


def test_classes_of_the_page_exist_in_the_code():
    """Look for those in the text of docs/architecture.md, too."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py") if ".venv" not in path.parts)
    for name in set(re.findall(r"`([A-Z]\w+)(?:\.\w+)?`", page)):
        assert re.search(rf"^(class {name}\b|{name}\b)", code, re.MULTILINE), name
