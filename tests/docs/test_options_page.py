"""docs/options.md names every flag as option.py has it."""

from __future__ import annotations

import re

import pytest

import main
import published
from flags import flags_of
from option import EvalOptions, TrainOptions
from scripts import options_page


@pytest.mark.parametrize("name", options_page.PAGES)
def test_the_page_is_up_to_date(name):
    found = (options_page.DOCS / name).read_text(encoding="utf-8")
    assert found == options_page.PAGES[name](), "run python scripts/options_page.py"


def test_every_flag_has_a_row():
    rows = re.findall(r"^\| (`--.*?) \|", options_page.flags_page(), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"--(\w+)", row)}
    for options in (TrainOptions, EvalOptions):
        for name, field in flags_of(options).items():
            assert field.metadata["flag"].positional or {name, *field.metadata["flag"].also} <= named


@pytest.mark.parametrize("page", options_page.PAGES.values())
def test_tables_are_complete(page):
    for line in page().splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            assert all(cell.strip() for cell in cells)


def test_an_added_network_with_published_defaults_has_a_column(monkeypatch):
    monkeypatch.setitem(main.NAMES["model"], "MINE", main.NAMES["model"]["EDSR"])
    assert "| MINE |" not in options_page.defaults_page()
    monkeypatch.setitem(published.PUBLISHED, "MINE", {**published.PUBLISHED["CDSR"], "lr_sr": 0.0321})
    page = options_page.defaults_page()
    assert "| MINE |" in page
    assert "0.0321" in page
