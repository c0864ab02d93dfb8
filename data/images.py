"""Image files: list, read, write and check them.

PNG, JPEG, WebP, BMP and TIFF are read, whatever the file is called: Pillow tells them by their content, and is given no
other format to try. It is strict about truncated files. imageio writes images of 8 bits a channel through it; OpenCV
reads and writes those of 16 bits, which Pillow narrows to 8 where there is colour.

An animation or a file of several pages is no training or test image: one of its frames would be an arbitrary choice.
JPEG files that carry a preview or a gain map beside their image (MPO, Ultra HDR) are read as that image.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
OTHER_SUFFIXES = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".tga", ".eps", ".svg")

HEADER = 33  # bytes of a PNG up to the end of its first chunk; others may follow there
ORIENTATION = ExifTags.Base.Orientation
# A TIFF keeps its layout among these tags; only what describes the photograph is carried over to another file.
DESCRIPTIVE = {
    *(ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software, ExifTags.Base.DateTime),
    *(ExifTags.Base.Artist, ExifTags.Base.Copyright, ExifTags.Base.ImageDescription, ORIENTATION),
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
}

Size = tuple[int, int]  # (height, width)
Log = Callable[[str], None]


class BadImage(ValueError):  # noqa: N818
    """Raised for a file that is not an image, is damaged, or cannot be used; the message names the file."""


class Photo(NamedTuple):
    """An image, and what is needed to write it back in the form it came in."""

    rgb: np.ndarray  # (H, W, 3) float32 in [0, 1]; a grey image has three equal channels
    alpha: np.ndarray | None  # (H, W) float32 in [0, 1]
    grey: bool
    bits: int  # per channel: 8 or 16
    profile: bytes | None = None  # ICC profile
    exif: bytes | None = None  # as PNG and JPEG writers take it; its orientation is the upright one


# ---------------------------------------------------------------------------------------------------- listing


def list_images(folder: str | Path, *, log: Log | None = None) -> list[Path]:
    """List the images directly inside `folder`: by suffix (`IMAGE_SUFFIXES`, any case), sorted, no hidden files.

    Files in other image formats are named in the log. Raises FileNotFoundError or NotADirectoryError if there is no
    such folder or no image in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; name the folder that holds the images")
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))  # macOS leaves `._IMG.jpg`
    paths = [path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    others = [path.name for path in visible if path.suffix.lower() in OTHER_SUFFIXES and path.is_file()]
    skipped = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no image ({', '.join(s[1:] for s in IMAGE_SUFFIXES)})"
            + (f"; these are in other formats: {skipped}" if others else "")
        )
    if others and log is not None:
        log(f"{folder}: not read, because PNG, JPEG, WebP, BMP and TIFF alone are: {skipped}")
    return paths


# ---------------------------------------------------------------------------------------------------- reading


def read_image(path: str | Path) -> np.ndarray:
    """Read (H, W, 3) uint8 RGB, upright: grey is repeated, alpha dropped, 16 bits rounded to 8. Raises BadImage."""
    with _opened(path) as image:
        pixels = _decode(path, image)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # round(value / 257): 65535 -> 255
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def read_photo(path: str | Path, *, log: Log | None = None) -> Photo:
    """Read an image at full precision, upright, with alpha, ICC profile and EXIF.

    Of several frames or pages the first is read, and the log says so; without a log they raise BadImage, as does a file
    that cannot be read.
    """
    with _opened(path, log=log) as image:
        # Colours that are converted to RGB are no longer those that the profile describes.
        profile = None if image.mode in ("CMYK", "LAB", "YCbCr") else image.info.get("icc_profile")
        exif = _exif(image)
        pixels = _decode(path, image)
    bits, channels = 8 * pixels.itemsize, pixels.shape[2]
    levels = pixels.astype(np.float32) / (2**bits - 1)
    grey, alpha = channels < 3, channels % 2 == 0
    return Photo(
        rgb=np.repeat(levels[..., :1], 3, axis=2) if grey else np.ascontiguousarray(levels[..., :3]),
        alpha=np.ascontiguousarray(levels[..., -1]) if alpha else None,
        grey=grey,
        bits=bits,
        profile=profile,
        exif=exif,
    )


def check_image(path: str | Path, *, log: Log | None = None) -> Size:
    """Return (height, width) of a file that is whole; raise BadImage otherwise. The cheapest check that is reliable.

    With a log, several frames or pages are named there instead of raising BadImage.
    """
    with _opened(path, log=log) as image:
        size = _upright_size(image)
        if image.format == "PNG":
            image.verify()  # the checksum of every chunk, without inflating
        else:
            image.draft(None, (1, 1))  # JPEG: all of the file, at an eighth of the size
            image.load()
    return size


@contextmanager
def _opened(path: str | Path, *, log: Log | None = None) -> Iterator[ImageFile]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode[0] in "IF" and not _is_deep(image):
                raise ValueError(f"its pixels are {image.mode}; 8 or 16 bits a channel are read")
            frames = _frames(image)
            if frames > 1 and log is None:
                raise ValueError(f"it holds {frames} frames or pages; keep the one that is meant as a file of its own")
            if frames > 1 and log is not None:
                log(f"{path} holds {frames} frames or pages: only the first is read")
            yield image
    except UnidentifiedImageError:
        raise BadImage(f"{path} cannot be read as an image: {_foreign(path)}") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise BadImage(f"{path} cannot be read as an image: {error}") from error


def _frames(image: ImageFile) -> int:
    return 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)


def _foreign(path: str | Path) -> str:
    """Say what a file is that none of `FORMATS` takes."""
    with Path(path).open("rb") as file:
        start = file.read(12)
    kind = {b"GIF8": "a GIF", b"%!PS": "PostScript"}.get(start[:4])
    if start[4:8] == b"ftyp":
        kind = "an AVIF" if start[8:12] in (b"avif", b"avis") else "a HEIC or a video"
    wanted = "PNG, JPEG, WebP, BMP and TIFF are read"
    return f"it is {kind}; {wanted}" if kind else f"it is none of those that are read; {wanted}"


def _decode(path: str | Path, image: ImageFile) -> np.ndarray:
    """Decode to (H, W, C) uint8 or uint16, upright. C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    orientation = _orientation(image)
    # Pillow opens 16-bit grey with alpha as RGBA.
    grey = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B") or "LA;16" in str(image.tile)
    if _is_deep(image):
        image.load()  # OpenCV is not strict about truncated files
        return _upright(_decode_deep(path, grey), orientation)
    mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    pixels = np.array(image.convert(mode))
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # H W -> H W 1
    return pixels if image.format == "TIFF" else _upright(pixels, orientation)  # Pillow turns TIFF itself


def _decode_deep(path: str | Path, grey: bool) -> np.ndarray:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("16-bit image that OpenCV cannot decode")
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # H W -> H W 1
    channels = {1: [0], 2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]  # BGR -> RGB
    if grey and len(channels) > 2:
        channels = [0, *channels[3:]]
    return pixels[..., channels]


def _is_deep(image: ImageFile) -> bool:
    """Tell whether the file holds 16 bits a channel; Pillow's mode does not say. Ask before loading."""
    return image.format in ("PNG", "TIFF") and ";16" in str(image.tile)


def _exif(image: ImageFile) -> bytes | None:
    """Return the EXIF data for a copy that stands upright."""
    try:
        exif = Image.Image.getexif(image)
        for tag in list(exif):
            if image.format == "TIFF" and tag not in DESCRIPTIVE:
                del exif[tag]
        if ORIENTATION in exif:
            exif[ORIENTATION] = 1
        return exif.tobytes() if len(exif) else None
    except Exception:  # cameras write all kinds of broken EXIF, and no photograph should fail for it
        return None


def _orientation(image: ImageFile) -> int:
    # The PNG plugin's own getexif would decode the image to look for EXIF behind the pixels.
    return Image.Image.getexif(image).get(ORIENTATION, 1)


def _upright_size(image: ImageFile) -> Size:
    width, height = image.size
    turned = _orientation(image) in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow gives a TIFF's upright size
    return (width, height) if turned else (height, width)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo EXIF orientation 1..8 of (H, W, C): a transposition, then flips."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


# ---------------------------------------------------------------------------------------------------- writing


def write_image(path: str | Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG. Raises ValueError for other arrays."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"`pixels`: expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    _write_png(path, pixels)


def write_photo(path: str | Path, photo: Photo) -> None:
    """Write a photo as PNG in its own form: grey as grey, with alpha, profile and EXIF, 8 or 16 bits.

    Values are clipped to [0, 1]. No library writes 16-bit grey with alpha: that one form becomes 16-bit RGBA.
    """
    planes = [photo.rgb.mean(axis=2, keepdims=True) if photo.grey else photo.rgb]
    if photo.alpha is not None:
        planes.append(photo.alpha[..., None])
    peak = 2**photo.bits - 1
    levels = np.round(np.clip(np.concatenate(planes, axis=2), 0, 1) * peak)
    _write_png(path, levels.astype(np.uint8 if photo.bits == 8 else np.uint16), photo.profile, photo.exif)


def _write_png(path: str | Path, pixels: np.ndarray, profile: bytes | None = None, exif: bytes | None = None) -> None:
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8:
        image = pixels[..., 0] if channels == 1 else pixels
        about: dict[str, Any] = {"icc_profile": profile} if profile else {}
        about |= {"exif": exif} if exif else {}
        Path(path).write_bytes(
            iio.imwrite("<bytes>", image, plugin="pillow", extension=".png", compress_level=1, **about)
        )
        return
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # RGB -> BGR
    png = cv2.imencode(".png", pixels[..., order])[1].tobytes()
    # OpenCV writes neither profile nor EXIF.
    chunks = _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)) if profile else b""
    chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")) if exif else b""
    Path(path).write_bytes(png[:HEADER] + chunks + png[HEADER:])


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
