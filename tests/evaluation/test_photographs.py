"""Photographs: their precision `auto`, bf16 where the hardware has it and the result is close; their edges."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
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
    seen: list[Path] = []
    assert enlarger(jobs, seen.append) == []
    assert seen == [job.out for job in jobs]
    assert said == [
        f"{jobs[0].source}: another program has written {jobs[0].out} meanwhile, which stays",
        f"{jobs[1].source}: {jobs[1].out} is there already; `overwrite` replaces it",
    ]
    assert [job.out.read_text() for job in jobs] == ["precious"] * 2
    assert not list(tmp_path.glob(".*"))


def test_the_log_names_the_arithmetic_that_was_used(tmp_path, photo):
    assert precision_of(Bicubic(scale=2), tmp_path, photo, asked="tf32") == "fp32"


def enlarged(net: BlindSR, path: Path, out: Path) -> list[str]:
    """Enlarge a photograph; return what is logged."""
    said: list[str] = []
    enlarger = Enlarger(net=net, device=torch.device("cpu"), log=said.append, precision="fp32")
    assert enlarger([Job(path, out, {".jpg": "jpg"}.get(out.suffix, "png"))]) == []
    return said


def test_a_scan_without_colour_gets_none(tmp_path, photo):
    grey = np.ascontiguousarray(photo[100:140, 100:150, :1])
    rgb = grey.repeat(3, axis=2)
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    write_image(tmp_path / "rgb.png", rgb)
    net = load_model("kdsr_s_x4_light")
    assert np.ptp(net.upscale(rgb).astype(int), axis=2).max() > 0  # the network itself would tint it
    for name in ("grey", "rgb"):
        enlarged(net, tmp_path / f"{name}.png", tmp_path / f"{name}_x4.png")
    found = [np.asarray(Image.open(tmp_path / f"{name}_x4.png")) for name in ("grey", "rgb")]
    assert [x.ndim for x in found] == [2, 3]  # each in the form it came in
    np.testing.assert_array_equal(found[1], found[0][..., None].repeat(3, axis=2))


def test_a_logo_has_no_dark_outline(tmp_path):
    rows, columns = np.mgrid[:40, :40] - 19.5
    alpha = np.clip(14.5 - np.hypot(rows, columns), 0, 1)[..., None]
    red = np.where(alpha > 0, [220, 30, 30], 0)  # black where it cannot be seen
    Image.fromarray(np.concatenate((red, 255 * alpha), axis=2).astype(np.uint8)).save(tmp_path / "logo.png")
    enlarged(load_model("kdsr_s_x4_light"), tmp_path / "logo.png", tmp_path / "logo_x4.png")
    result = np.asarray(Image.open(tmp_path / "logo_x4.png")).astype(int)
    seen = result[result[..., 3] > 0]
    assert np.abs(seen[:, :3] - [220, 30, 30]).max() <= 6  # up to 170 with the black


def test_long_exif_does_not_end_the_call(tmp_path, photo):
    """A JPEG holds 64 kB of it; other formats hold more."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(70_000)
    Image.fromarray(photo[:24, :32]).save(tmp_path / "a.webp", exif=exif.tobytes())
    (said,) = enlarged(Bicubic(scale=2), tmp_path / "a.webp", tmp_path / "b.jpg")
    assert "a part of its EXIF" in said
    with Image.open(tmp_path / "b.jpg") as result:
        assert result.getexif()[ExifTags.Base.Make] == "Maker"


def test_the_bar_ends_at_its_end_though_a_photograph_fails(tmp_path, photo, monkeypatch):
    jobs = jobs_of(tmp_path, photo, "ab")
    whole = jobs[0].source.read_bytes()
    jobs[0].source.write_bytes(whole[: len(whole) // 2])
    reached: list[float] = []
    closed = photographs.tqdm.close
    monkeypatch.setattr(photographs.tqdm, "close", lambda bar: reached.append(bar.n / bar.total) or closed(bar))
    enlarger = Enlarger(net=Bicubic(scale=2), device=torch.device("cpu"), log=lambda line: None, precision="fp32")
    assert len(enlarger(jobs)) == 1
    assert reached[0] == 1
