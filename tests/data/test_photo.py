"""Photographs come back in the form they came in: depth, channels, profile, EXIF, every frame, rows by rows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image, ImageCms, ImageOps, features
from tifffile import TiffWriter, imwrite

from data.exif import held_exif
from data.images import BadImage, check_image, read_image, upright
from data.outputs import FORMATS
from data.photo import Photo, PhotoFile, open_photo, read_photo
from data.photo_writer import DEEP, SIDE, WITHOUT_ALPHA, Form, check_form, writing

RNG = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
HEIGHT, WIDTH = 21, 28


def pixels(channels: int, bits: int = 8, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return RNG.integers(0, 2**bits, (*size, channels), np.uint8 if bits == 8 else np.uint16)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    tags.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    return tags


def write(path: Path, image: np.ndarray, format: str, about: Photo | None = None) -> Path:
    height, width, channels = image.shape
    profile, tags = (about.profile, about.exif) if about else (None, None)
    form = Form(height, width, channels, 8 * image.itemsize, profile, tags)
    with writing(path, format, form, quality=95) as writer:
        for top in range(0, height, 8):
            writer.write(image[top : top + 8])
    return path


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written_is_read_again(tmp_path: Path, format: str, channels: int, bits: int) -> None:
    if (bits == 16 and format not in DEEP) or (channels % 2 == 0 and format in WITHOUT_ALPHA):
        pytest.skip("this format cannot hold it")
    image = pixels(channels, bits)
    path = write(tmp_path / f"a{FORMATS[format]}", image, format, Photo(image, PROFILE, exif().tobytes()))
    found = read_photo(path)
    if format in DEEP:
        wanted = image[..., [0, 0, 0, 1]] if format == "tiff" and channels == 2 else image
        np.testing.assert_array_equal(found.pixels, wanted)
    assert found.profile == PROFILE
    with Image.open(path) as again:
        again.load()  # with its checksums
        tags = again.getexif()
        date = tags.get_ifd(0x8769).get(0x9003) or tags[0x0132]
        assert (tags[0x010F].rstrip("\0"), date.rstrip("\0")) == ("Maker", "2020:01:02 03:04:05")


@pytest.mark.parametrize("name", ["jpg", "webp"])
def test_lossy_formats_come_near(tmp_path: Path, name: str) -> None:
    image = skimage.data.astronaut()[:64, :64]
    found = read_photo(write(tmp_path / f"a.{name}", image, name)).pixels
    assert np.abs(found.astype(int) - image).mean() < 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(skimage.data.chelsea()[:40, :60]).save(path, exif=exif(orientation))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = read_photo(path)
    np.testing.assert_array_equal(found.pixels, expected)
    again = write(tmp_path / "b.png", found.pixels, "png", found)
    np.testing.assert_array_equal(read_photo(again).pixels, expected)
    with open_photo(path) as file:
        assert file.size == expected.shape[:2]


def test_palette_alpha_and_bilevel(tmp_path: Path) -> None:
    indexed = Image.fromarray(pixels(3)).quantize(16)
    indexed.save(tmp_path / "a.png")
    indexed.save(tmp_path / "b.png", transparency=3)
    assert read_photo(tmp_path / "a.png").pixels.shape[2] == 3
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").pixels[..., 3] == 0, np.asarray(indexed) == 3)
    Image.fromarray(pixels(1)[..., 0] > 127).save(tmp_path / "c.png")
    assert read_photo(tmp_path / "c.png").grey


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_keeps_its_channels(tmp_path: Path, suffix: str) -> None:
    rgb = pixels(3, 16)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), rgb[..., ::-1])
    np.testing.assert_array_equal(read_photo(tmp_path / f"a.{suffix}").pixels, rgb)


def test_cmyk_becomes_rgb_and_its_profile_goes(tmp_path: Path) -> None:
    Image.fromarray(pixels(4), "CMYK").save(tmp_path / "a.jpg", icc_profile=PROFILE)  # a profile that does not fit
    found = read_photo(tmp_path / "a.jpg")
    assert found.pixels.shape == (HEIGHT, WIDTH, 3)
    assert found.profile is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_texts_of_exif_keep_their_bytes(tmp_path: Path, format: str, coding: str) -> None:
    text = "© Jürgen Müller".encode(coding)
    tags = exif()
    tags[ExifTags.Base.Artist] = b"A" * len(text)
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "L" * len(text)
    raw = tags.tobytes().replace(b"A" * len(text), text).replace(b"L" * len(text), text)  # Pillow writes ASCII alone
    Image.fromarray(pixels(3)).save(tmp_path / "a.jpg", exif=raw)
    found = read_photo(tmp_path / "a.jpg")
    path = write(tmp_path / f"b{FORMATS[format]}", found.pixels, format, found)
    with Image.open(path) as again:
        artist = again.getexif()[ExifTags.Base.Artist]
        lens = again.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.LensModel)
    assert artist.encode("latin-1").rstrip(b"\0") == text
    assert format == "tiff" or lens.encode("latin-1") == text


def test_jpeg_holds_less_exif_than_others(tmp_path: Path) -> None:
    tags = exif()
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(70_000)
    long = tags.tobytes()
    assert held_exif("webp", long) is long
    shorter = held_exif("jpg", long)
    assert shorter is not None
    assert held_exif("jpg", shorter) is shorter
    image = pixels(3)
    with Image.open(write(tmp_path / "a.jpg", image, "jpg", Photo(image, exif=shorter))) as again:
        kept = again.getexif().get_ifd(ExifTags.IFD.Exif)
    assert ExifTags.Base.DateTimeOriginal in kept
    assert ExifTags.Base.MakerNote not in kept
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = bytes(70_000)
    assert held_exif("jpg", tags.tobytes()) is None


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_alpha_hides_has_the_colour_beside_it(channels: int, bits: int) -> None:
    image = pixels(channels, bits, (5, 6))
    image[..., -1] = 1
    image[1:, 2:, -1] = 0  # at the left two columns, above one row
    rgb = Photo(image).rgb
    colours = image[..., :-1]
    np.testing.assert_array_equal(rgb[image[..., -1] > 0], np.broadcast_to(colours, rgb.shape)[image[..., -1] > 0])
    np.testing.assert_array_equal(rgb[4, 2], np.broadcast_to(colours[4, 1], 3))
    np.testing.assert_array_equal(rgb[1, 5], np.broadcast_to(colours[0, 5], 3))
    for alpha in (0, 2):  # nothing to be seen, nothing hidden
        image[..., -1] = alpha
        np.testing.assert_array_equal(Photo(image).rgb, np.broadcast_to(colours, rgb.shape))


def test_grey_is_grey_in_any_form() -> None:
    grey = pixels(1)
    assert Photo(grey).neutral
    rgba = np.concatenate((grey, grey, grey, pixels(1)), axis=2)
    assert Photo(rgba).neutral
    rgba[2, 3, 1] ^= 1
    assert not Photo(rgba).neutral


def test_16_bit_tiff_in_other_forms(tmp_path: Path) -> None:
    grey, rgba, cmyk = (pixels(channels, 16) for channels in (1, 4, 4))
    rgba[..., 3] //= 2
    rgba[..., 3] += 2**15  # where alpha is small, few bits of a colour are left
    imwrite(tmp_path / "white.tif", 65535 - grey[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "white.tif").pixels, grey)

    scaled = np.rint(rgba[..., :3] * (rgba[..., 3:] / 65535)).astype(np.uint16)
    rows = np.concatenate((scaled, rgba[..., 3:]), axis=2)
    imwrite(tmp_path / "scaled.tif", rows, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(read_photo(tmp_path / "scaled.tif").pixels.astype(int), rgba, atol=1)

    imwrite(tmp_path / "cmyk.tif", cmyk, photometric="separated")
    with pytest.raises(BadImage, match="CMYK of 16 bits a channel; save it as RGB"):
        read_photo(tmp_path / "cmyk.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_of_any_kind_is_turned_once(tmp_path: Path, orientation: int, channels: int, bits: int) -> None:
    image = pixels(channels, bits)
    path = tmp_path / "a.tif"
    extra = {"photometric": "rgb", "extrasamples": ["unassalpha"]} if channels == 4 else {}
    tag = (274, "H", 1, orientation, True)
    imwrite(path, image[..., 0] if channels == 1 else image, extratags=[tag], metadata=None, **extra)  # pyright: ignore[reportArgumentType]
    expected = upright(image, orientation)
    with open_photo(path) as file:
        assert file.size == expected.shape[:2]
    np.testing.assert_array_equal(read_photo(path).pixels, expected)
    assert check_image(path) == read_image(path).shape[:2]


def test_a_later_page_of_another_depth_is_refused(tmp_path: Path) -> None:
    with TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels(3), photometric="rgb")
        file.write(np.zeros((5, 6), np.float32), photometric="minisblack")
    with open_photo(tmp_path / "a.tif") as file:
        assert file.read().pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(BadImage, match="its pixels are F; 8 or 16 bits"), open_photo(tmp_path / "a.tif") as file:
        frame_of(file, 1)


def test_scans_may_be_larger_than_pillow_allows(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    with open_photo(tmp_path / "a.png") as file:
        assert file.size == (10_000, 20_000)


def test_a_raw_file_is_more_than_its_preview(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.DNG")
    with pytest.raises(BadImage, match=r"a\.DNG cannot .* raw file of a camera; develop it"):
        read_photo(tmp_path / "a.DNG")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_left_behind(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + b"MM\0*" + bytes(range(60)))
    found = read_photo(tmp_path / "a.jpg")
    assert write(tmp_path / "b.png", found.pixels, "png", found).exists()


def frame_of(file: PhotoFile, number: int) -> Photo:
    file.seek(number)
    return file.read()


def test_pages_may_differ_in_size_and_depth(tmp_path: Path) -> None:
    pages = [pixels(3), pixels(1, 16, (40, 9)), pixels(4)]
    kinds = [
        {"photometric": "rgb"},
        {"photometric": "minisblack"},
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    ]
    with TiffWriter(tmp_path / "a.tif") as file:
        for page, kind in zip(pages, kinds, strict=True):
            file.write(page.squeeze(), **kind)  # pyright: ignore[reportArgumentType]
    with open_photo(tmp_path / "a.tif") as file:
        for number in (1, 0, 2):
            file.seek(number)
            assert (file.size, file.bits) == (pages[number].shape[:2], 8 * pages[number].itemsize)
            np.testing.assert_array_equal(file.read().pixels, pages[number])


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "gif"])
def test_every_frame_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8)) for level in (0, 120, 250)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **{"lossless": True})  # pyright: ignore[reportArgumentType]
    with open_photo(tmp_path / f"a.{suffix}") as file:
        assert file.frames == 3
        means = [frame_of(file, frame).rgb.mean() for frame in range(3)]
    assert means == pytest.approx([0, 120, 250], abs=2)
    with pytest.raises(BadImage, match="3 frames or pages"):
        read_photo(tmp_path / f"a.{suffix}")


def test_every_page_of_16_bits_is_read(tmp_path: Path) -> None:
    pages = [pixels(3, 16) for _ in range(2)]
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [page[..., ::-1] for page in pages])
    with open_photo(tmp_path / "a.tif") as file:
        for number, page in enumerate(pages):
            np.testing.assert_array_equal(frame_of(file, number).pixels, page)


def check_as_a_phone_writes_it(path: Path, orientation: int) -> None:
    """Save a photograph that lies on its side, and expect it upright, with what the camera says about it."""
    image = skimage.data.astronaut()[:64, :80]
    Image.fromarray(image).save(path.with_suffix(".jpg"), quality=95, exif=exif(orientation))
    with Image.open(path.with_suffix(".jpg")) as lying:
        expected = np.asarray(ImageOps.exif_transpose(lying)).astype(int)
        lying.save(path, quality=95, exif=lying.info["exif"])  # the turn is now one of the container
    found = read_photo(path)
    assert found.pixels.shape == expected.shape
    assert np.abs(found.pixels - expected).mean() < 4
    with open_photo(path) as file:
        assert file.size == expected.shape[:2]
    tags = Image.Exif()
    tags.load(found.exif or b"")
    assert tags.get(0x0112, 1) == 1
    assert tags[0x010F] == "Maker"
    assert tags.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"


@pytest.mark.skipif(not ("avif" in features.modules and features.check("avif")), reason="Pillow reads no AVIF here")
@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_avif_is_read_where_pillow_has_it(tmp_path: Path, orientation: int) -> None:
    check_as_a_phone_writes_it(tmp_path / "a.avif", orientation)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_heic_is_read_with_its_extra(tmp_path: Path, orientation: int) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    check_as_a_phone_writes_it(tmp_path / "a.heic", orientation)


def test_a_format_that_cannot_be_read_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.photo._formats", lambda: ("PNG",))
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    with pytest.raises(BadImage, match=r"a\.heic .* a HEIC or a video.*pip install pillow-heif"):
        read_photo(tmp_path / "a.heic")


@pytest.mark.parametrize(("format", "side"), [(name, side) for name, side in SIDE.items() if side < 10**6])
def test_what_a_format_cannot_hold_is_refused(format: str, side: int) -> None:
    check_form(format, Form(8, side, 3, 8))
    with pytest.raises(ValueError, match=f"{format.upper()} holds {side} pixels a side at most"):
        check_form(format, Form(8, side + 1, 3, 8))


def test_jpeg_has_no_alpha() -> None:
    with pytest.raises(ValueError, match="JPG holds no alpha"):
        check_form("jpg", Form(8, 8, 4, 8))


def test_sizes_of_the_original_are_left_behind(tmp_path: Path) -> None:
    tags = exif()
    tags[0x0100], tags[0x0101] = 28, 21
    tags.get_ifd(0x8769).update({0xA002: 28, 0xA003: 21})
    Image.fromarray(pixels(3)).save(tmp_path / "a.jpg", exif=tags)
    found = Image.Exif()
    found.load(read_photo(tmp_path / "a.jpg").exif or b"")
    assert found[0x010F] == "Maker"
    assert not {0x0100, 0x0101} & set(found)
    assert set(found.get_ifd(0x8769)) == {0x9003}
