"""Photographs: their precision `auto`, bf16 where the hardware has it and the result is close; their edges."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from data.images import read_image, write_image
from data.outputs import Job
from evaluation import photographs
from evaluation.photographs import Enlarger
from model import BlindSR, load_model
from model.bicubic import Bicubic


class Shifted(Bicubic):
    """Bicubic that bf16 makes brighter, by so many grey levels."""

    levels = 0.0

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        shift = self.levels / 255 if torch.is_autocast_enabled("cpu") else 0.0
        return super().restore(lr, code) + shift


def precision_of(net: BlindSR, folder: Path, photo: np.ndarray, *, asked: str = "auto") -> str:
    """Enlarge a photograph and return the precision that it says."""
    write_image(folder / "a.png", np.ascontiguousarray(photo[100:150, 100:160] // 2))
    said: list[str] = []
    enlarger = Enlarger(net=net, device=torch.device("cpu"), log=said.append, precision=asked, overwrite=True)
    assert enlarger([Job(folder / "a.png", folder / "b.png", "png")]) == []
    return said[-1].rpartition(", ")[2].rstrip(")")


@pytest.mark.parametrize(
    ("units", "levels", "asked", "expected"),
    [
        (True, 0.4, "auto", "bf16"),
        (True, 0.6, "auto", "fp32"),
        (True, float("nan"), "auto", "fp32"),
        (False, 0.0, "auto", "fp32"),
        (True, 0.0, "fp32", "fp32"),
        (False, 9.0, "bf16", "bf16"),
    ],
)
def test_bf16_is_taken_where_it_is_fast_and_close(units, levels, asked, expected, tmp_path, photo, monkeypatch):
    monkeypatch.setattr(photographs, "has_bf16", lambda device: units)
    net = Shifted(scale=2)
    net.levels = levels
    assert precision_of(net, tmp_path, photo, asked=asked) == expected


def test_a_bundled_network_is_close_enough(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(photographs, "has_bf16", lambda device: True)
    assert precision_of(load_model("kdsr_s_x4_light"), tmp_path, photo) == "bf16"


@pytest.mark.parametrize("name", ["kdsr_s_x4_light", "cdsr_x4_iso"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (40, 30)])
def test_a_flat_picture_stays_flat_to_its_corners(name, size, tmp_path):
    colour = np.array([200, 60, 40], np.uint8)
    write_image(tmp_path / "a.png", np.tile(colour, (*size, 1)))
    enlarger = Enlarger(net=load_model(name), device=torch.device("cpu"), log=lambda text: None, precision="fp32")
    assert enlarger([Job(tmp_path / "a.png", tmp_path / "b.png", "png")]) == []
    result = read_image(tmp_path / "b.png")
    assert result.shape == (4 * size[0], 4 * size[1], 3)
    inside = result[result.shape[0] // 2, result.shape[1] // 2].astype(int)
    assert np.abs(result - inside).max() <= 6  # 30 to 50 at the corners without the edge
    assert np.abs(inside - colour).max() <= 6


def test_the_edge_is_cut_off_again(tmp_path, photo):
    """Away from it, a network that is bicubic gives bicubic."""
    write_image(tmp_path / "a.png", np.ascontiguousarray(photo[100:133, 100:160]))
    net = Bicubic(scale=2)
    for tile in (None, 16):
        enlarger = Enlarger(net=net, device=torch.device("cpu"), log=lambda text: None, precision="fp32", tile=tile)
        assert enlarger([Job(tmp_path / "a.png", tmp_path / f"{tile}.png", "png")]) == []
        result, expected = read_image(tmp_path / f"{tile}.png"), net.upscale(read_image(tmp_path / "a.png"))
        assert result.shape == expected.shape
        assert np.abs(result[8:-8, 8:-8].astype(int) - expected[8:-8, 8:-8]).max() <= 1


def jobs_of(folder: Path, photo: np.ndarray, names: str) -> list[Job]:
    for name in names:
        write_image(folder / f"{name}.png", np.ascontiguousarray(photo[:24, :32]))
    return [Job(folder / f"{name}.png", folder / f"{name}_x2.png", "png") for name in names]


def test_results_that_are_there_are_handed_on_too(tmp_path, photo):
    """So that the scores of a call that goes on are those of all photographs."""
    jobs = jobs_of(tmp_path, photo, "abc")
    enlarger = Enlarger(net=Bicubic(scale=2), device=torch.device("cpu"), log=lambda line: None, precision="fp32")
    enlarger(jobs[1:2])
    for _ in range(2):
        seen: list[Path] = []
        assert enlarger(jobs, seen.append) == []
        assert sorted(seen) == [job.out for job in jobs]


@pytest.mark.parametrize("links", [True, False])
def test_a_result_that_appears_meanwhile_is_kept(links, tmp_path, photo, monkeypatch):
    """That of the photograph at work, and of one that is still to come."""
    jobs, said = jobs_of(tmp_path, photo, "ab"), list[str]()
    if not links:
        monkeypatch.setattr("os.link", mock.Mock(side_effect=OSError))

    class Watched(Bicubic):
        def restore(self, lr: Tensor, code: Tensor) -> Tensor:
            for job in jobs:
                job.out.write_text("precious")
            return super().restore(lr, code)

    enlarger = Enlarger(net=Watched(scale=2), device=torch.device("cpu"), log=said.append, precision="fp32")
    (failure,) = enlarger(jobs)
    assert "File exists" in failure
    assert said == [f"{jobs[1].source}: {jobs[1].out} is there already; `overwrite` replaces it"]
    assert [job.out.read_text() for job in jobs] == ["precious"] * 2
    assert not list(tmp_path.glob(".*"))


def test_the_log_names_the_arithmetic_that_was_used(tmp_path, photo):
    assert precision_of(Bicubic(scale=2), tmp_path, photo, asked="tf32") == "fp32"
