from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.images import BadImage, check_image, list_images, read_image, write_image
from data.photo import read_photo
from data.store import ImageFolder, Selection, check_images

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 20, 28
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def pixels(channels: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype=dtype, endpoint=True)


def save_png16(path: Path, values: np.ndarray) -> None:
    """A plain writer of 16-bit PNG, independent of the libraries under test; it knows grey with alpha too."""
    height, width, channels = values.shape
    rows = np.zeros((height, 1 + 2 * width * channels), np.uint8)
    rows[:, 1:] = values.astype(">u2").reshape(height, -1).view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def save(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), **options: object) -> Path:
    Image.effect_noise(size, 60).convert("RGB").save(path, **options)  # pyright: ignore[reportArgumentType]
    return path


# ------------------------------------------------------------------------------------------------ listing


def test_list_is_sorted_and_takes_any_case_of_suffix(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.WebP", "notes.txt", "d.tif", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.WebP", "d.tif"]


def test_hidden_files_are_not_listed(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".b.jpg"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_list_errors_name_the_folder(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "file":
        folder.touch()
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(OSError, match=re.escape(str(folder))):
        list_images(folder)


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_colour_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    rgb = pixels(3)
    Image.fromarray(rgb).save(tmp_path / f"a.{suffix}", lossless=True)  # which only WebP knows
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), rgb)


def test_jpeg_equals_its_decoder(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", quality=90)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path), np.asarray(image))


@pytest.mark.parametrize(("mode", "channels"), [("L", [0, 0, 0]), ("LA", [0, 0, 0]), ("RGBA", [0, 1, 2])])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_is_repeated_and_alpha_dropped(tmp_path: Path, mode: str, channels: list[int], bits: int) -> None:
    stored = pixels(CHANNELS[mode])
    if bits == 8:
        Image.fromarray(stored.squeeze(-1) if mode == "L" else stored).save(tmp_path / "a.png")
    else:
        save_png16(tmp_path / "a.png", stored.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), stored[..., channels])


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    indexed = Image.fromarray(pixels(3)).quantize(16)
    expected = np.asarray(indexed.convert("RGB"))
    indexed.save(tmp_path / "a.png")
    indexed.save(tmp_path / "b.png", transparency=3)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), expected)


def test_bilevel_is_black_and_white(tmp_path: Path) -> None:
    bits = pixels(1)[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 1], 255 * bits)


def test_16_bits_are_rounded_to_8(tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    save_png16(tmp_path / "a.png", ramp)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.round(ramp / 257))


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(pixels(1)[..., 0].astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadImage, match=r"a\.tif.*8 or 16 bits"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(path), expected)
    assert check_image(path) == expected.shape[:2]


# ------------------------------------------------------------------------------------------------ writing


def test_written_image_is_read_back_and_others_are_refused(tmp_path: Path) -> None:
    rgb = pixels(3)
    write_image(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8, got .*float64"):
        write_image(tmp_path / "b.png", rgb / 255)


# ------------------------------------------------------------------------------------------------ checking


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("jpg", {}), ("jpg", {"progressive": True}), ("webp", {}), ("bmp", {}), ("tif", {})],
)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_file_is_named(tmp_path: Path, suffix: str, options: dict[str, bool], kept: float) -> None:
    path = save(tmp_path / f"whole.{suffix}", (300, 200), **options)
    assert check_image(path) == (200, 300)
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    for read in (check_image, read_image):
        with pytest.raises(BadImage, match=re.escape(str(broken))):
            read(broken)


def test_truncated_16_bit_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_png16(path, pixels(3, np.uint16))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadImage, match=r"a\.png"):
        read_image(path)


def test_flipped_byte_in_png_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadImage, match=r"a\.png"):
        check_image(path)


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("jpg", {}), ("jpg", {"progressive": True})])
def test_a_quick_check_reads_both_ends_alone(
    suffix: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 256, (400, 600, 3), dtype=np.uint8)).save(path, **options)
    whole, content = check_image(path), path.read_bytes()
    with monkeypatch.context() as patch:
        for name in ("load", "verify"):
            patch.setattr(f"PIL.ImageFile.ImageFile.{name}", None)
        assert check_image(path, all_bytes=False) == whole == (400, 600)
    path.write_bytes(content + b"more")  # as some programs leave it: read to the end, and fine
    assert check_image(path, all_bytes=False) == whole
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadImage, match=re.escape(str(path))):
        check_image(path, all_bytes=False)


@pytest.mark.parametrize("content", [b"", b"not an image at all"])
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (check_image, read_image):
        with pytest.raises(BadImage, match=r"a\.jpg"):
            read(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("read", [read_image, check_image, read_photo])
def test_a_pipe_is_told_and_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    os.mkfifo(tmp_path / "c.png")
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.png"]
    with pytest.raises(BadImage, match=r"c\.png cannot be read as an image: it is no file, but .* a pipe"):
        read(tmp_path / "c.png")


def test_bad_and_small_images_stop_or_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "good.png", (40, 30))
    save(tmp_path / "small.png", (40, 29))
    (tmp_path / "text.png").write_text("not an image")
    paths, log = list_images(tmp_path), []

    with pytest.raises(BadImage, match=r"(?s)`skip_bad_images`.*small\.png is 29 x 40.*`patch_size`.*text\.png"):
        check_images(paths, at_least=30, skip_bad=False)
    assert check_images(paths, at_least=30, skip_bad=True, log=log.append) == [(tmp_path / "good.png", (30, 40))]
    assert len(log) == 2
    assert "small.png" in log[0]
    assert "text.png" in log[1]
    with pytest.raises(BadImage, match="all 3 images are unusable"):
        check_images(paths, at_least=31, skip_bad=True, log=log.append)


# ------------------------------------------------------------------------------------------------ folder


def test_folder_cuts_crops(tmp_path: Path) -> None:
    rgb = pixels(3)
    write_image(tmp_path / "a.png", rgb)
    folder = ImageFolder([tmp_path / "a.png"], [(HEIGHT, WIDTH)])
    assert folder.names == ["a.png"]
    np.testing.assert_array_equal(folder.crop(0, 3, 5, 8, 10), rgb[3:11, 5:15])


def test_folder_names_an_image_that_changed_or_broke(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    folder = ImageFolder([path], [check_image(path)])
    save(path, (50, 50))
    with pytest.raises(BadImage, match=r"a\.png was \(20, 28\) and is now \(50, 50\)"):
        folder.crop(0, 0, 0, 8, 8)
    path.unlink()
    with pytest.raises(BadImage, match=r"a\.png"):
        folder.crop(0, 0, 0, 8, 8)


def test_selection_is_a_store_of_some_images(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.png", (30 + n, 20)) for n in range(4)]
    folder = ImageFolder(paths, [check_image(path) for path in paths])
    some = Selection(folder, [3, 1])
    assert some.names == ["3.png", "1.png"]
    assert some.sizes == [(20, 33), (20, 31)]
    np.testing.assert_array_equal(some.crop(1, 2, 3, 8, 9), folder.crop(1, 2, 3, 8, 9))


# ------------------------------------------------------------------------------------------------ other formats


def several(path: Path, **options: object) -> Path:
    """Save two different frames."""
    frames = [Image.fromarray(pixels(3)) for _ in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)  # pyright: ignore[reportArgumentType]
    return path


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    path = several(tmp_path / f"a.{suffix}")
    for read in (check_image, read_image):
        with pytest.raises(BadImage, match=rf"a\.{suffix} .*2 frames or pages"):
            read(path)


def test_the_previews_of_a_photograph_do_not_count(tmp_path: Path) -> None:
    path = several(tmp_path / "a.jpg", format="MPO")
    with Image.open(path) as image:
        first = np.asarray(image)
    assert check_image(path) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read_image(path), first)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n", "PostScript"),
        (b"GIF89a" + bytes(20), "a GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "a HEIC"),
        (b"II*\0" + bytes(20), "a damaged TIFF, or one of other than 8 or 16 bits"),
        (b"\0\0\0\x18ftypavif" + bytes(20), "an AVIF"),
    ],
)
def test_another_format_under_the_name_of_a_png_is_told(
    tmp_path: Path, content: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above all no file may start the interpreter of PostScript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    (tmp_path / "a.png").write_bytes(content)
    for read in (check_image, read_image):
        with pytest.raises(BadImage, match=rf"a\.png cannot be read as an image: it is {what}"):
            read(tmp_path / "a.png")


def test_files_in_other_formats_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.gif", "c.HEIC", "notes.txt"):
        (tmp_path / name).touch()
    log: list[str] = []
    assert [path.name for path in list_images(tmp_path, log=log.append)] == ["a.png"]
    assert len(log) == 1
    assert log[0].endswith("b.gif, c.HEIC")
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no image .*in other formats: b\.gif, c\.HEIC$"):
        list_images(tmp_path)
    for name in ("HR", "LR"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"in it, these folders do: HR, LR$"):
        list_images(tmp_path)
    (tmp_path / "a.png").touch()
    list_images(tmp_path, log=log.append)
    assert log[-1] == f"{tmp_path}: the images in its folders are not read: HR, LR"


def test_a_folder_that_nobody_may_read_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "lost+found").mkdir()
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "lost+found":
            raise PermissionError(path)
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [path.name for path in list_images(tmp_path, log=print)] == ["a.png"]
