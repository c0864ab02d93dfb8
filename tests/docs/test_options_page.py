"""docs/options.md names every flag as option.py has it."""

from __future__ import annotations

import re

from option import EvalOptions, TrainOptions, flags_of
from scripts import options_page


def test_the_page_is_up_to_date():
    wanted = options_page.page()
    found = options_page.PAGE.read_text(encoding="utf-8")
    assert found == wanted, "run python scripts/options_page.py"


def test_every_flag_has_a_row():
    rows = re.findall(r"^\| (`--.*?) \|", options_page.page(), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"--(\w+)", row)}
    for options in (TrainOptions, EvalOptions):
        for name, field in flags_of(options).items():
            assert {name, *field.metadata["flag"].also} <= named


def test_tables_are_complete():
    for line in options_page.page().splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            assert all(cell.strip() for cell in cells)
