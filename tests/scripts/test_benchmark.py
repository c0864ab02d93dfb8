"""The benchmark: what it compares, in which order, and the page that it writes."""

import re

import pytest
import torch
from PIL import Image

from runtime.precision import Precision
from scripts import benchmark, benchmark_page
from scripts.benchmark_page import Counted, Figure
from utility import environment

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    Precision().prepare()


def test_works_take_turns_and_the_first_round_is_not_counted(monkeypatch):
    done, clock = [], [0.0]
    monkeypatch.setattr(benchmark.time, "process_time", lambda: clock[0])

    def work(name, seconds):
        def run():
            clock[0] += seconds if len(done) >= 4 else 1.0
            done.append(name)

        return run

    row = benchmark.Row("part", "row", {"a": work("a", 0.5), "b": work("b", 0.25)})
    first, second = benchmark.measure(row, rounds=2, runs=2, device=CPU)
    assert done == ["a", "a", "b", "b"] * 3
    assert (first.way, first.milliseconds, first.spread, first.ratio) == ("a", 500, 0, 1)
    assert (second.way, second.milliseconds, second.ratio) == ("b", 250, 2)


@pytest.mark.slow
def test_every_row_is_measured_and_the_page_has_them_all(monkeypatch, capsys, tmp_path):
    small = {"n_feats": 4, "n_blocks": 1}
    networks = {
        "K": ("KDSR_S", small | {"n_resblocks": 1}, 1, 12),
        "KDSR-GAN": ("KDSR_S", small | {"n_resblocks": 1}, 1, 12),
        "C": ("CDSR", {"n_blocks": 1}, 2, 12),
    }
    monkeypatch.setattr(benchmark, "NETWORKS", networks)
    monkeypatch.setattr(benchmark, "STEPS", ["KDSR_S L"])
    monkeypatch.setattr(benchmark, "build", lambda title, build=benchmark.build: build(title.replace("KDSR-M", "K")))
    monkeypatch.setattr(benchmark, "degradations", None)
    page = tmp_path / "folder" / "cpu.md"
    parts = [part for part in benchmark.PARTS if part != "degradations"]
    command = f"--cpu --size 12x14 --patch 12 --rounds 1 --page {page} --parts counts {' '.join(parts)}"
    benchmark.main(command.split())
    out, text = capsys.readouterr().out, page.read_text()
    for row in ("K, LR 12x14", "KDSR-GAN, 2 patches of 12", "C, 2 patches of 12", "loader: 64", "8 kernels, KDSR-M"):
        assert row in out
        assert row in text
    assert out.count("bf16") == text.count("| bf16 |") == 10
    assert "| step: KDSR_S L | released formulation |" in text
    assert all(line in text for line in benchmark.NEEDS_A_GPU)
    Image.open(page.with_suffix(".png")).verify()


@pytest.mark.slow
def test_degradations_are_measured(capsys, monkeypatch):
    monkeypatch.setattr(benchmark.formulation, "sharpen", lambda hr: hr)  # it takes five seconds
    benchmark.main(["--cpu", "--quick", "--rounds", "1", "--parts", "degradations"])
    rows = re.findall(r"^degradation: .* ms .*x$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--size foo", "foo is no size; expected height and width in pixels, like 180x320"),
        ("--size 0x12", "0x12 is no size"),
        ("--rounds 0", "0 is not a whole number of 1 or more"),
        ("--runs x", "x is not a whole number of 1 or more"),
        ("--batch 0", "0 is not a whole number of 1 or more"),
        ("--parts all", "invalid choice: 'all'"),
        ("--cpu --parts inference --network CDSR --size 8x8", "--size 8: CDSR needs 12 LR pixels a side"),
        ("--cpu --parts steps --network CDSR --patch 8", "--patch 8: CDSR needs 12 LR pixels a side"),
        ("--cpu --page cpu.txt", "--page cpu.txt: expected a name that ends in .md"),
    ],
)
def test_nonsense_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(arguments.split())
    assert message in f"{caught.value}{capsys.readouterr().err}"


def test_a_page_says_where_its_figures_come_from(tmp_path):
    figures = [
        Figure("inference", "KDSR-M", "released formulation", 20.0, 0.01, 1.0, 0),
        Figure("inference", "KDSR-M", "fp32", 10.0, 0.02, 2.0, 0),
    ]
    counts = [Counted("CDSR", "released formulation", 30, 2**30, 10**9, None), Counted("CDSR", "bf16", 3, 0, 0, 1.25)]
    where = {**environment(), "commit": "0123456789abcdef", "command": ["scripts/benchmark.py", "--quick"]}
    benchmark_page.write_page(tmp_path / "cpu.md", figures, counts, ["all the rest"], where)
    text = (tmp_path / "cpu.md").read_text()
    assert f"PyTorch {where['versions']['torch']}, " in text
    assert "commit 0123456789ab" in text
    assert "python scripts/benchmark.py --quick" in text
    assert "| inference: KDSR-M | fp32 | 10.0 | 2 | 2.00 |" in text
    assert "| CDSR | released formulation | 30 | 1.00 | 1 |  |" in text
    assert "| CDSR | bf16 | 3 | 0.00 | 0 | 1.2 |" in text
    assert "- all the rest" in text
