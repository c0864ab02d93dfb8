"""The scoring loop: what it asks of a test set, a network and its metrics."""

import pytest
import torch

from data.images import list_images
from data.protocol import bicubic
from data.testset import Degraded
from evaluation import metric
from evaluation.evaluate import evaluate, grouped, mean
from evaluation.metric import Measure
from evaluation.tables import render, rows

CPU = torch.device("cpu")


@pytest.fixture
def set5(photo_folder):
    return Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), bicubic(2))


def score(set5, **options):
    return evaluate(lambda lr, hr: hr, set5, scale=2, planes="rgb", device=CPU, **options)


def test_names_and_made_metrics_stand_side_by_side(set5):
    constant = Measure("lpips_alex", lambda sr, hr: (sr - hr).abs().mean((1, 2, 3)) + 0.25, needs_reference=True)
    scores = score(set5, metrics=["ssim", constant])
    assert [found.values for found in scores] == [{"ssim": 1.0, "lpips_alex": 0.25}] * 2
    assert "LPIPS" in render(rows(scores))
    assert "0.2500" in render(rows(scores), "markdown")


def test_a_new_metric_is_one_entry_of_the_table(set5, monkeypatch):
    def create(*, device, planes, border):
        return lambda sr, hr: (sr - hr).abs().amax((1, 2, 3)) + border

    monkeypatch.setitem(metric.METRICS, "worst", metric.Metric("worst pixel", create, digits=2, lower_is_better=True))
    scores = score(set5, metrics=["worst"])
    assert mean(scores) == {"worst": 2.0}
    assert "worst pixel ↓" in render(rows(scores))


def test_weights_are_loaded_once_for_several_sets(set5, monkeypatch):
    made = []

    def create(**options):
        made.append(options)
        return lambda sr, hr: torch.zeros(len(sr))

    monkeypatch.setitem(metric.METRICS, "lpips_vgg", metric.Metric("LPIPS", create))
    measure = metric.make("lpips_vgg", device=CPU)
    for _ in range(2):
        score(set5, metrics=["psnr", measure])
    assert len(made) == 1


def test_sr_images_are_clamped_and_handed_out(set5):
    seen = []
    scores = evaluate(
        lambda lr, hr: hr + 2,
        set5,
        scale=2,
        planes="rgb",
        device=CPU,
        first=1,
        on_image=lambda sample, sr: seen.append((sample.image, sr.amin().item(), sr.amax().item())),
    )
    assert seen == [("0", 1.0, 1.0)]
    assert [(found.set, found.image, found.case) for found in scores] == [("Set5", "0", "bicubic")]


def test_groups_keep_the_order(set5):
    scores = score(set5)
    assert list(grouped(scores, "image")) == [("0",), ("1",)]
    assert [found for group in grouped(scores, "set", "case").values() for found in group] == scores


def test_no_images_no_scores(set5):
    assert score(set5.part(5, 6)) == []


@pytest.mark.parametrize("digits", [0, 1, 3])
def test_tables_round_as_a_metric_asks(digits, set5, monkeypatch):
    """Its spread has a digit at least."""

    def create(*, device, planes, border):
        return lambda sr, hr: sr.mean((1, 2, 3))

    monkeypatch.setitem(metric.METRICS, "light", metric.Metric("light", create, digits=digits))
    values, spread = render(rows(score(set5, metrics=["light"]))).splitlines()[1].split()[-2:]
    assert (len(values.partition(".")[2]), len(spread.partition(".")[2])) == (digits, max(digits - 1, 1))


def test_an_image_that_a_metric_does_not_take_is_named(set5):
    with pytest.raises(ValueError, match=r"Set5, \w+: niqe needs two blocks"):
        score(set5, metrics=["niqe"])
