"""The baseline of the degradations' benchmark computes what ours does."""

from __future__ import annotations

import re

import pytest
import torch

from scripts.benchmark_degradation import main, works


@pytest.mark.slow
def test_both_formulations_give_the_same_images():
    for name, (theirs, ours) in works().items():
        if not name.startswith("JPEG"):  # whose baseline has one table, which costs what two cost
            difference = (theirs() - ours()).abs()
            assert (difference > 0.5 / 255).float().mean() < 1e-3, name  # ties of rounding


@pytest.mark.slow
def test_a_line_for_each_row(capsys):
    threads = torch.get_num_threads()
    try:
        main(["--rounds", "1", "--runs", "1"])
    finally:
        torch.set_num_threads(threads)
    rows = re.findall(r"^  \w.* ms .* ms .*x$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == len(works())
