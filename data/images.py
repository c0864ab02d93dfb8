"""Image files: list, read, write and check them. `photo.py` reads users' own photographs.

PNG, JPEG, WebP, BMP and TIFF are read, whatever the file is called: Pillow tells them by their content, and tries no
other format. It is strict about truncated files. OpenCV reads those of 16 bits a channel, which Pillow narrows
to 8 where there is colour.

An animation or a file of several pages is no training or test image: one of its frames would be an arbitrary choice.
JPEG files that carry a preview or a gain map beside their image (MPO, Ultra HDR) are read as that image.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import EXTRASAMPLES as EXTRA_SAMPLES
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as PHOTOMETRIC
from PIL.TiffImagePlugin import TiffImageFile

from utility import listing

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
WANTED = "PNG, JPEG, WebP, BMP and TIFF are read"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".tif", ".tiff")
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2")  # of cameras
OTHER_SUFFIXES = (
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".tga", ".eps", ".svg", ".psd", ".xcf"),
    *RAW_SUFFIXES,
)
Image.MAX_IMAGE_PIXELS = None  # scans are larger than Pillow allows; test.py checks the memory before it decodes one

ENDS = {"PNG": b"\0\0\0\0IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}  # the last bytes of a file that was not cut off
ORIENTATION = ExifTags.Base.Orientation
WHITE_IS_ZERO, PREMULTIPLIED = 0, 1  # values of PHOTOMETRIC and EXTRA_SAMPLES

Size = tuple[int, int]  # (height, width)
Log = Callable[[str], None]


class BadImage(ValueError):  # noqa: N818
    """Raised for a file that is not an image, is damaged, or cannot be used; the message names the file."""


# ---------------------------------------------------------------------------------------------------- listing


def list_images(folder: str | Path, *, log: Log | None = None) -> list[Path]:
    """List the images directly inside `folder`: by suffix (`IMAGE_SUFFIXES`, any case), sorted, no hidden files.

    Files in other image formats, and folders in it that hold images, are named in the log. Raises FileNotFoundError or
    NotADirectoryError if there is no such folder or no image in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; name the folder that holds the images")
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))  # macOS leaves `._IMG.jpg`
    paths = [path for path in visible if _is_image(path)]
    others = [path.name for path in visible if path.suffix.lower() in OTHER_SUFFIXES and path.is_file()]
    skipped = listing(others)
    told = log is not None or not paths
    below = [path.name for path in visible if told and path.is_dir() and _holds_images(path)]
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no image ({', '.join(s[1:] for s in IMAGE_SUFFIXES)})"
            + (f"; these are in other formats: {skipped}" if others else "")
            + (f"; in it, these folders do: {listing(below)}" if below else "")
        )
    if others and log is not None:
        log(f"{folder}: not read, as {WANTED}: {skipped}")
    if below and log is not None:
        log(f"{folder}: the images in its folders are not read: {listing(below)}")
    return paths


def _holds_images(folder: Path) -> bool:
    try:
        return any(map(_is_image, folder.iterdir()))
    except OSError:  # nobody may read it, as lost+found
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


# ---------------------------------------------------------------------------------------------------- reading


def read_image(path: str | Path) -> np.ndarray:
    """Read (H, W, 3) uint8 RGB, upright: grey is repeated, alpha dropped, 16 bits rounded to 8. Raises BadImage."""
    with _single(path) as image:
        pixels = decode(path, image)
    pixels = to_8_bits(pixels)
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Round uint16 pixels to uint8, 65535 to 255; uint8 stays.

    Examples:
        >>> to_8_bits(np.array([0, 128, 129, 65535], np.uint16)).tolist()
        [0, 0, 1, 255]
    """
    if pixels.dtype != np.uint16:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # round(value / 257)


def check_image(path: str | Path, *, all_bytes: bool = True) -> Size:
    """Return (height, width) of a file that is whole; raise BadImage otherwise. The cheapest check that is reliable.

    all_bytes: read the file to its end; without it, a PNG or JPEG that begins and ends as it should passes.
    """
    with _single(path) as image:
        size = upright_size(image)
        if not all_bytes and image.format in ENDS and _ends_with(path, ENDS[image.format]):
            return size
        if image.format == "PNG":
            image.verify()  # the checksum of every chunk, without inflating
        else:
            image.draft(None, (1, 1))  # JPEG: all of the file, at an eighth of the size
            image.load()
    return size


def _ends_with(path: str | Path, end: bytes) -> bool:
    with Path(path).open("rb") as file:
        file.seek(-len(end), os.SEEK_END)
        return file.read() == end


@contextmanager
def opened(path: str | Path, formats: tuple[str, ...] = FORMATS, wanted: str = WANTED) -> Iterator[ImageFile]:
    """Open an image in one of these formats; errors in the block that a bad file causes become BadImage.

    wanted: what is read, for the message about a file in another format.
    """
    try:
        if not (place := Path(path)).is_file() and place.exists():  # opening a pipe would wait for its other end
            raise ValueError("it is no file, but a folder, a pipe, a socket or a device")
        if Path(path).suffix.lower() in RAW_SUFFIXES:  # of which Pillow would read a preview
            raise ValueError("it is a raw file of a camera; develop it, to a TIFF of 16 bits or a JPEG")
        # From a handle: a turned TIFF that Pillow maps by its name comes out scrambled.
        with Path(path).open("rb") as file, Image.open(file, formats=formats) as image:
            _check_depth(image)
            yield image
    except UnidentifiedImageError:
        raise BadImage(f"{path} cannot be read as an image: {_foreign(path)}; {wanted}") from None
    except BadImage:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise BadImage(f"{path} cannot be read as an image: {error}") from error


def _check_depth(image: ImageFile) -> None:
    if image.mode[0] in "IF" and not is_deep(image):
        raise ValueError(f"its pixels are {image.mode}; 8 or 16 bits a channel are read")


@contextmanager
def _single(path: str | Path) -> Iterator[ImageFile]:
    with opened(path) as image:
        if (count := frame_count(image)) > 1:
            raise ValueError(f"it holds {count} frames or pages; keep the one that is meant as a file of its own")
        yield image


def frame_count(image: ImageFile) -> int:
    """Return the number of frames or pages; previews and gain maps of a JPEG do not count."""
    return 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)


def _foreign(path: str | Path) -> str:
    """Say what kind of file this is, whose format is not read."""
    with Path(path).open("rb") as file:
        start = file.read(12)
    if not start:
        return "it is empty"
    kind = {b"GIF8": "a GIF", b"%!PS": "PostScript"}.get(start[:4])
    if start[:4] in (b"II*\0", b"MM\0*"):
        kind = "a damaged TIFF, or one of other than 8 or 16 bits; 32-bit floats must be saved with 16 bits"
    if start[4:8] == b"ftyp":
        kind = "an AVIF" if start[8:12] in (b"avif", b"avis") else "a HEIC or a video"
    return f"it is {kind}" if kind else "it is in no format that is read"


def decode(path: str | Path, image: ImageFile) -> np.ndarray:
    """Decode to (H, W, C) uint8 or uint16, upright. C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    Raises ValueError for pages of other depths, too: only the first is known from opening the file.
    """
    _check_depth(image)
    orientation = orientation_of(image)
    # Pillow opens 16-bit grey with alpha as RGBA.
    grey = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B") or "LA;16" in str(image.tile)
    if is_deep(image):
        turned = image.format == "TIFF" and _opencv_turns_tiff()
        image.load()  # OpenCV is not strict about truncated files
        pixels = _decode_deep(path, image, grey)
        return pixels if turned else upright(pixels, orientation)
    mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    pixels = np.array(image.convert(mode))
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # H W -> H W 1
    return pixels if image.format == "TIFF" else upright(pixels, orientation)  # Pillow turns TIFF itself


@cache
def _opencv_turns_tiff() -> bool:
    """Return True if this OpenCV turns a TIFF of 16 bits as its orientation says."""
    file = BytesIO()
    Image.fromarray(np.zeros((1, 2), np.uint16)).save(file, "TIFF", tiffinfo={ORIENTATION: 6})
    found = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    return found is not None and found.shape[:2] == (2, 1)


def _decode_deep(path: str | Path, image: ImageFile, grey: bool) -> np.ndarray:
    if image.mode == "CMYK":
        raise ValueError("it is CMYK of 16 bits a channel; save it as RGB, or with 8 bits")
    page = image.tell()
    read, pages = cv2.imdecodemulti(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED, range=(page, page + 1))
    if not read:
        raise ValueError("16-bit image that OpenCV cannot decode")
    pixels = pages[0]
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # H W -> H W 1
    channels = {1: [0], 2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]  # BGR -> RGB
    if grey and len(channels) > 2:
        channels = [0, *channels[3:]]
    pixels = pixels[..., channels]
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        pixels = np.concatenate((65535 - pixels[..., :1], pixels[..., 1:]), axis=2)
    if pixels.shape[2] % 2 == 0 and PREMULTIPLIED in tags.get(EXTRA_SAMPLES, ()):
        colour, alpha = pixels[..., :-1], pixels[..., -1:]
        colour = np.rint(colour * (65535 / np.maximum(alpha, 1).astype(np.float32))).clip(0, 65535)
        pixels = np.concatenate((colour.astype(np.uint16), alpha), axis=2)
    return pixels


def is_deep(image: ImageFile) -> bool:
    """Return True if the file holds 16 bits a channel; Pillow's mode does not say. Call it before loading."""
    return image.format in ("PNG", "TIFF") and ";16" in str(image.tile)


def orientation_of(image: ImageFile) -> int:
    """Return the EXIF orientation, 1 to 8; call it before the image's EXIF is changed."""
    # The PNG plugin's own getexif would decode the image to look for EXIF behind the pixels.
    return Image.Image.getexif(image).get(ORIENTATION, 1)


def upright_size(image: ImageFile) -> Size:
    """Return (height, width) as the image is seen."""
    width, height = image.size
    turned = orientation_of(image) in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow gives a TIFF's upright size
    return (width, height) if turned else (height, width)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
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
    Path(path).write_bytes(iio.imwrite("<bytes>", pixels, plugin="pillow", extension=".png", compress_level=1))
