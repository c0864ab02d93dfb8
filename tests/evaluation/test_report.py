"""Report pages: complete, self-contained, true to the scores, and no danger to a run."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
import torch

from data.testset import Sample
from evaluation import report
from evaluation.evaluate import Score
from utility import Run, append_rows

HOSTILE = '<script>alert("x")</script> & Söhne'


def sample(name="baby", size=(96, 128), scale=4, cases=("1.80", "2.60", "3.20")):
    random = torch.Generator().manual_seed(len(name))
    lr = torch.rand(len(cases), 3, size[0] // scale, size[1] // scale, generator=random)
    return Sample(name, list(cases), lr, torch.rand(3, *size, generator=random))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with logs of two starts, an hour apart."""
    run = Run(tmp_path / "toy_x4_bicubic_iso")
    run.models.mkdir(parents=True)
    config = {
        "save": HOSTILE,
        "scale": 4,
        "ema": 0.0,
        "cpu": True,
        "processor": "Zilog Z80",
        "versions": {"torch": "2.11"},
        "gpu": None,
    }
    (run.path / "config.json").write_text(json.dumps({**config, "command": ["main.py", "--save", HOSTILE]}))
    run.path.joinpath("log.txt").write_text(
        "2026-01-01 10:00:00 environment\n"
        "2026-01-01 10:30:00 epoch 1  step 5/20  lr 0.1\n"
        "2026-01-01 11:00:00 epoch 1  step 10/20  lr 0.1\n"
        "2026-01-01 11:00:10 stopped after step 10\n"
        "2026-01-01 12:00:00 note: it goes on\n"
        "2026-01-01 12:30:00 epoch 2  step 20/20  lr 0.1\n"
    )
    for step, loss in ((5, 0.5), (10, 0.25), (15, 0.2), (20, 0.1)):
        append_rows(run.loss_log, [{"step": step, "part": part, "value": loss} for part in ("l1", "gradient")])
    for step, psnr in ((10, 28.0), (20, 29.5)):
        row = {"epoch": step // 10, "step": step, "set": "Set5", "protocol": "gaussian8", "psnr": psnr, "ssim": 0.8}
        append_rows(run.psnr_log, [row])
    return run


@pytest.fixture
def page(run: Run) -> report.RunReport:
    page = report.RunReport(run, 4)
    page.scores = [
        Score("Set5", "gaussian8", HOSTILE, case, {"psnr": psnr, "ssim": 0.8})
        for case, psnr in (("1.80", 30.0), ("2.60", 29.0))
    ]
    one = sample(HOSTILE)
    page.crops(one, torch.rand(3, 3, 96, 128))
    return page


def test_the_page_of_a_run_is_complete_and_needs_nothing_else(page, run):
    page.write()
    text = (run.path / report.NAME).read_text(encoding="utf-8")
    for wanted in ("29.500", "1.80", "After step 20 and 01:30:00 of training", "--save", "2.11"):
        assert wanted in text
    assert re.findall(r'class="curves" alt="(.*?)"', text) == ["psnr", "loss"]
    assert text.count('type="range"') == 2
    assert text.count("data:image/png;base64,") == 7
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert "http" not in text
    options, about = text.split("<h2>Environment</h2>")
    assert "<th>cpu</th>" in options
    assert "Zilog Z80" in about


def test_nothing_of_a_name_is_markup(page):
    text = page.html()
    assert "<script" not in text
    assert HOSTILE in unescape(text)


def test_pauses_and_further_lines_of_messages_do_not_count_as_training(run):
    assert report.training_seconds((run.path / "log.txt").read_text()) == 1.5 * 3600
    with (run.path / "log.txt").open("a") as log:
        log.write("of two lines\n2026-01-01 12:40:00 epoch 2  Set5  gaussian8  PSNR 20\n")
    assert report.training_seconds((run.path / "log.txt").read_text()) == 100 * 60


def test_a_page_that_cannot_be_written_is_a_note(page, run, capsys):
    run.psnr_log.write_bytes(b"step\n\xff\n")
    page.write()
    assert "note: report.html was not written" in capsys.readouterr().out
    assert not (run.path / report.NAME).exists()


def test_a_run_without_validations_has_a_page(run):
    run.psnr_log.unlink()
    report.RunReport(run, 4).write()
    text = (run.path / report.NAME).read_text(encoding="utf-8")
    assert re.findall(r'class="curves" alt="(.*?)"', text) == ["loss"]


def test_crops_are_where_sr_and_bicubic_differ_most():
    crops = report.Crops(2)
    lr = torch.full((1, 3, 128, 128), 0.5)
    for name, value in (("little", 0.6), ("much", 1.0)):
        sr = torch.full((1, 3, 256, 256), 0.5)
        sr[..., 130:180, 40:90] = value
        crops(Sample(name, ["x2"], lr, torch.full((3, 256, 256), 0.5)), sr)
    first, second = crops.found
    assert first.caption.startswith("much")
    assert first.difference > second.difference
    assert (first.sr == 255).all(2).sum() == 50 * 50  # all of what differs is in the crop
    assert first.lr.shape == (48, 48, 3)
    assert first.sr.shape == first.bicubic.shape == first.hr.shape == (96, 96, 3)


def test_crops_of_many_images_are_few_and_small_images_have_one():
    crops = report.Crops(3)
    for i in range(report.MOST + 3):
        crops(sample("i" * (i + 1), size=(33, 39), scale=3), torch.rand(3, 3, 33, 39))
    assert crops.failed is None
    assert len(crops.found) == report.MOST
    assert crops.found[0].sr.shape == (33, 33, 3)


def test_a_picture_that_fails_raises_nothing():
    crops = report.Crops(4)
    crops(sample(), torch.rand(3, 3, 5, 5))
    assert crops.found == []
    assert "Crops could not be shown" in crops.html()


def test_a_page_of_results_has_the_table_and_the_way_it_was_made(tmp_path, page):
    made = {"network": "KDSR_S", "scale": 4, "sha256": "abc", "command": ["test.py", "--tile", "64"]}
    report.write_results(tmp_path, page.scores, page.crops, made=made, log=print)
    text = (tmp_path / report.NAME).read_text(encoding="utf-8")
    for wanted in ("29.500", "abc", "python test.py --tile 64", 'type="range"'):
        assert wanted in text


@pytest.mark.slow
def test_a_browser_shows_the_page_and_its_slider_moves(page, run, in_browser):
    page.write()
    moved = """
        const one = document.querySelector(".slider input"), top = one.parentNode.querySelectorAll("img")[1];
        one.value = 20; one.oninput();
        const shown = [...document.images].every(image => image.complete && image.naturalWidth > 0);
        return shown + " " + getComputedStyle(top).clipPath;
    """
    assert in_browser((run.path / report.NAME).read_text(encoding="utf-8"), moved) == "true inset(0px 0px 0px 20%)"
