"""The table of what many images cost."""

from __future__ import annotations

import pytest

from scripts import measure_index


def test_a_row_for_each_count(capsys: pytest.CaptureFixture[str]) -> None:
    measure_index.main(["3", "70"])
    rows = [row.strip("| \n").split(" | ") for row in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["3", "70"]
    assert all(len(row) == 6 for row in rows)
