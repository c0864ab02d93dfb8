"""LPIPS is optional: without its library or its weights a test says what to do."""

import sys
from types import ModuleType

import pytest
import torch

import perceptual
from data.benchmark import Degraded
from data.images import list_images
from data.protocol import bicubic
from evaluation import evaluate
from report import render, rows

CPU = torch.device("cpu")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(ValueError, match="--lpips alex needs a library: pip install torchmetrics"):
        perceptual.lpips("alex", CPU)


def test_without_the_weights(monkeypatch):
    library = ModuleType("torchmetrics.image.lpip")

    def offline(**options):
        raise OSError("no route to host")

    library.LearnedPerceptualImagePatchSimilarity = offline  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", library)
    with pytest.raises(ValueError, match=r"could not load the weights of its vgg network.*checkpoints"):
        perceptual.lpips("vgg", CPU)


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
