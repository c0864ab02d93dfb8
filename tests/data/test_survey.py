"""Broken images are named, copies are known again, other photographs are not taken for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from data.survey import ALIKE, copies, leaks, look, survey, unlisted

PHOTOS = ("astronaut", "camera", "cat", "clock", "coffee", "coins", "grass", "moon", "page", "rocket", "text")
Edit = Callable[[Image.Image], Image.Image]


def inner(image: Image.Image, share: float) -> Image.Image:
    """Without `share` of its height and width at the edges."""
    x, y = (round(side * share / 2) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


EDITS: dict[str, tuple[Edit, str, dict[str, int]]] = {
    "half": (lambda image: image.reduce(2), "png", {}),
    "larger": (lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2)), "png", {}),
    "JPEG": (lambda image: image, "jpg", {"quality": 30}),
    "half and JPEG": (lambda image: image.reduce(2), "jpg", {"quality": 30}),
    "quarter and JPEG": (lambda image: image.reduce(4), "jpg", {"quality": 10}),
    "cropped": (lambda image: inner(image, 0.05), "png", {}),
    "darker": (lambda image: image.point(lambda level: level * 0.7), "png", {}),
    "grey": (lambda image: image.convert("L"), "png", {}),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eleven different photographs as PNG."""
    folder = tmp_path_factory.mktemp("different")
    for name in PHOTOS:
        Image.fromarray(getattr(skimage.data, name)()).convert("RGB").save(folder / f"{name}.png", compress_level=1)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_photograph_is_known_again_and_no_other(name: str, photos: list[Path], tmp_path: Path) -> None:
    edit, suffix, options = EDITS[name]
    for path in photos:
        edit(Image.open(path)).save(tmp_path / f"{path.stem}.{suffix}", **options)  # pyright: ignore[reportArgumentType]
    originals, edited = (survey(sorted(paths), 2)[0] for paths in (photos, tmp_path.iterdir()))
    found = leaks(originals, edited)
    assert sorted((leak.train.stem, leak.test.stem) for leak in found) == [(stem, stem) for stem in sorted(PHOTOS)]
    assert [leak.likeness for leak in found] == sorted((leak.likeness for leak in found), reverse=True)


def test_different_photographs_are_far_from_alike(photos: list[Path]) -> None:
    looks, _ = survey(photos, 2)
    assert max(float(a.shows @ b.shows) for a, b in combinations(looks, 2)) < ALIKE - 0.2


def test_a_photograph_turned_by_its_exif_is_known_again(photos: list[Path], tmp_path: Path) -> None:
    image, exif = Image.open(photos[0]), Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    assert float(look(photos[0]).shows @ look(tmp_path / "turned.jpg").shows) > 0.95


def test_images_of_one_colour_are_like_nothing(tmp_path: Path) -> None:
    for name, level in (("a", 0), ("b", 200)):
        Image.new("L", (40, 30), level).save(tmp_path / f"{name}.png")
    looks, _ = survey(sorted(tmp_path.iterdir()), 1)
    assert not leaks(looks, looks)
    assert not leaks(looks, [])


def test_what_is_broken_is_named_and_the_rest_is_looked_at(photos: list[Path], tmp_path: Path) -> None:
    png = photos[0].read_bytes()
    Image.open(photos[0]).save(tmp_path / "whole.jpg")
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "empty.png").touch()
    (tmp_path / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "truncated.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "flipped.png").write_bytes(png[:5000] + bytes([png[5000] ^ 1]) + png[5001:])
    (tmp_path / "text.png").write_text("this is no image")
    looks, bad = survey(sorted(tmp_path.iterdir()), 3)
    assert [one.path.name for one in looks] == ["whole.jpg"]
    broken = ("empty.png", "flipped.png", "text.png", "truncated.jpg", "truncated.png")
    assert [name for name in broken for error in bad if str(tmp_path / name) in str(error)] == list(broken)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(photos: list[Path], tmp_path: Path) -> None:
    locked = tmp_path / "locked.png"
    locked.write_bytes(photos[0].read_bytes())
    locked.chmod(0)
    looks, bad = survey([locked], 1)
    assert not looks
    assert "locked.png" in str(bad[0])


def test_forms_and_sizes(photo: np.ndarray, tmp_path: Path) -> None:
    deep, colour = photo.astype(np.uint16) * 257, Image.fromarray(photo).crop((0, 0, 112, 96))
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "deep grey.png"), deep[..., 0])
    colour.save(tmp_path / "colour.jpg")
    colour.convert("L").save(tmp_path / "grey.jpg")
    colour.convert("LA").save(tmp_path / "grey alpha.png")
    colour.convert("RGBA").save(tmp_path / "alpha.png")
    colour.convert("P").save(tmp_path / "palette.png")
    looks, bad = survey(sorted(tmp_path.iterdir()), 2)
    assert not bad
    assert {one.path.stem: one.form for one in looks} == {
        "deep": {"16-bit"},
        "deep grey": {"16-bit", "grey"},
        "colour": set(),
        "grey": {"grey"},
        "grey alpha": {"grey", "alpha"},
        "alpha": {"alpha"},
        "palette": set(),
    }
    assert {one.size for one in looks if "deep" not in one.path.stem} == {(96, 112)}


def test_copies_under_another_name(photos: list[Path], tmp_path: Path) -> None:
    paths = [*photos[:3], tmp_path / "again.png"]
    paths[3].write_bytes(photos[1].read_bytes())
    assert copies(survey(paths, 2)[0]) == [[photos[1], paths[3]]]


def test_folders_and_broken_links_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "image.png").touch()
    try:
        (tmp_path / "gone.JPG").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("links need rights here")
    assert [path.name for path in unlisted(tmp_path)] == ["folder.png", "gone.JPG"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        assert [path.name for path in unlisted(tmp_path)] == ["folder.png", "gone.JPG", "pipe.png"]
