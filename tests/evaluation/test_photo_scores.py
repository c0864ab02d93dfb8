"""Scores of photographs: under which names, by which metrics, and what cannot be scored."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data.images import write_image
from evaluation.photo_scores import PhotoScores, by_file

CPU = torch.device("cpu")


def test_files_of_one_stem_keep_their_folder():
    found = [(Path(file), {"niqe": value}) for file, value in (("b/x.png", 1.0), ("a/x.png", 2.0), ("a/y.png", 3.0))]
    assert [(score.image, score.values["niqe"]) for score in by_file(found)] == [("a/x", 2.0), ("y", 3.0), ("b/x", 1.0)]


def test_results_are_scored_or_named(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for name, image in (("large", pixels), ("small", pixels[:9, :9])):
        write_image(tmp_path / f"{name}.png", np.ascontiguousarray(image))
    scores, none = PhotoScores(["niqe"], CPU), PhotoScores([], CPU)
    for name in ("large", "small"):
        scores(tmp_path / f"{name}.png")
        none(tmp_path / f"{name}.png")
    assert [(path.name, list(values)) for path, values in scores.found] == [("large.png", ["niqe"])]
    (failure,) = scores.failures
    assert failure.startswith(f"{tmp_path}/small.png: ")
    assert none.found == none.failures == []


def test_metrics_that_compare_are_refused():
    with pytest.raises(ValueError, match="psnr and ssim compare with HR images"):
        PhotoScores(["psnr", "niqe", "ssim"], CPU)
