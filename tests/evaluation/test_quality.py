"""Learned metrics are optional: without their libraries or weights a test says what to do."""

import sys
from types import ModuleType

import pytest
import torch

from data.images import list_images
from data.protocol import bicubic
from data.testset import Degraded
from evaluation import quality
from evaluation.evaluate import evaluate
from evaluation.report import render, rows

CPU = torch.device("cpu")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(ValueError, match="--lpips alex needs a library: pip install torchmetrics"):
        quality.lpips("alex", CPU)


def test_without_the_weights(monkeypatch):
    library = ModuleType("torchmetrics.image.lpip")

    def offline(**options):
        raise OSError("no route to host")

    library.LearnedPerceptualImagePatchSimilarity = offline  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", library)
    with pytest.raises(ValueError, match=r"could not load the weights of its vgg network.*checkpoints"):
        quality.lpips("vgg", CPU)


def test_it_stands_in_the_scores_and_the_table(photo_folder):
    benchmark = Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), bicubic(2))
    scores = evaluate(
        lambda lr, hr: hr,
        benchmark,
        scale=2,
        metric_protocol="rgb",
        device=CPU,
        lpips=lambda sr, hr: (sr - hr).abs().mean((1, 2, 3)) + 0.25,
    )
    assert [score.lpips for score in scores] == [0.25, 0.25]
    assert "LPIPS" in render(rows(scores))
    assert "0.2500" in render(rows(scores), "markdown")


class Stub(torch.nn.Module):
    """Like pyiqa's: lower is better, (1, 1)."""

    lower_better = True

    def forward(self, image):
        if min(image.shape[2:]) < 16:
            raise AssertionError("too small")
        return image.mean().view(1, 1)


@pytest.fixture
def pyiqa(monkeypatch):
    def create_metric(name, device):
        if name == "musiq":
            raise OSError("no route to host")
        return Stub().to(device)

    library = ModuleType("pyiqa")
    library.list_models = lambda mode: {"NR": ["clipiqa+", "musiq", "niqe"]}[mode]  # pyright: ignore[reportAttributeAccessIssue]
    library.create_metric = create_metric  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "pyiqa", library)


@pytest.mark.usefixtures("pyiqa")
def test_metrics_without_a_reference():
    (niqe,) = quality.no_reference("niqe", CPU)
    assert (niqe.name, niqe.lower_better) == ("niqe", True)
    assert niqe.score(torch.full((3, 20, 30), 0.25)) == 0.25
    assert [metric.name for metric in quality.no_reference("niqe+clipiqa++niqe", CPU)] == [
        "niqe",
        "clipiqa+",
        "niqe",
    ]
    with pytest.raises(ValueError, match=r"--no_reference niqe takes no image of 8 x 30 pixels \(too small\)"):
        niqe.score(torch.zeros(3, 8, 30))
    with pytest.raises(ValueError, match=r"--no_reference niqe\+nique: pyiqa has no nique;.* musiq, niqe"):
        quality.no_reference("niqe+nique", CPU)
    with pytest.raises(ValueError, match=r"--no_reference musiq: .*no route to host.*hub/pyiqa"):
        quality.no_reference("niqe+musiq", CPU)


def test_without_the_library_of_metrics_without_a_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError, match="--no_reference niqe needs a library: pip install pyiqa"):
        quality.no_reference("niqe", CPU)


def test_the_library_itself():
    """On the one of its metrics that needs no weights: the entropy of the grey levels, in bits."""
    pytest.importorskip("pyiqa")
    (entropy,) = quality.no_reference("entropy", CPU)
    assert not entropy.lower_better
    assert entropy.score(torch.full((3, 64, 64), 0.5)) == pytest.approx(0, abs=0.01)
    assert entropy.score(torch.arange(4).div(3).repeat(3, 64, 16)) == pytest.approx(2, abs=0.01)
