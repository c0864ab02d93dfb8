"""Images on disk: listing, reading, writing and checking them, and cutting crops out of a folder of them.

Pillow decodes, because it is strict about truncated files. As it narrows 16-bit colour to 8 bits, OpenCV reads those.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

HEADER = 33  # bytes of a PNG before its first chunk that need not be there

Size = tuple[int, int]  # (height, width)


class BadImage(ValueError):  # noqa: N818
    """A file that is no image, is damaged, or cannot be used; the message names it."""


class Photo(NamedTuple):
    """An image and what is needed to write it back in the form it came in."""

    rgb: np.ndarray  # (H, W, 3) float32 in [0, 1]; a grey image has three equal channels
    alpha: np.ndarray | None  # (H, W) float32 in [0, 1]
    grey: bool
    bits: int  # per channel: 8 or 16
    profile: bytes | None = None  # ICC: what its colours mean


class ImageStore(Protocol):
    """Decoded images that crops are cut from."""

    names: list[str]
    sizes: list[Size]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB, perhaps a read-only view."""
        ...


# ---------------------------------------------------------------------------------------------------- listing


def list_images(folder: str | Path, flag: str = "--dir_data") -> list[Path]:
    """The images directly inside `folder`, by suffix (`IMAGE_SUFFIXES`, any case), sorted by name; no hidden files.

    Raises FileNotFoundError or NotADirectoryError, naming `flag`, if there is no such folder or no image in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{flag}: there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{flag}: {folder} is not a folder; name the folder that holds the images")
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))  # macOS leaves `._IMG.jpg`
    paths = sorted(path for path in shown if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise FileNotFoundError(f"{flag}: {folder} holds no image ({', '.join(s[1:] for s in IMAGE_SUFFIXES)})")
    return paths


# ---------------------------------------------------------------------------------------------------- reading


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright. Grey is repeated, alpha dropped, 16 bits rounded to 8. Raises BadImage."""
    pixels = _decode(path)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # round(value / 257): 65535 -> 255
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def read_photo(path: str | Path) -> Photo:
    """The image at full precision, upright, with its alpha and profile. Raises BadImage."""
    pixels, profile = _decode(path), _profile(path)
    bits, channels = 8 * pixels.itemsize, pixels.shape[2]
    levels = pixels.astype(np.float32) / (2**bits - 1)
    grey, alpha = channels < 3, channels % 2 == 0
    return Photo(
        rgb=np.repeat(levels[..., :1], 3, axis=2) if grey else np.ascontiguousarray(levels[..., :3]),
        alpha=np.ascontiguousarray(levels[..., -1]) if alpha else None,
        grey=grey,
        bits=bits,
        profile=profile,
    )


def check_image(path: str | Path) -> Size:
    """(height, width) of a file that is whole; raises BadImage otherwise. The cheapest check that is reliable."""
    with _opened(path) as image:
        size = _upright_size(image)
        if image.format == "PNG":
            image.verify()  # the checksum of every chunk, without inflating
        else:
            image.draft(None, (1, 1))  # JPEG: all of the file, at an eighth of the size
            image.load()
    return size


@contextmanager
def _opened(path: str | Path) -> Iterator[ImageFile]:
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF" and not _is_deep(image):
                raise ValueError(f"its pixels are {image.mode}; 8 or 16 bits a channel are read")
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise BadImage(f"{path} cannot be read as an image: {error}") from error


def _decode(path: str | Path) -> np.ndarray:
    """(H, W, C) uint8 or uint16, upright. C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    with _opened(path) as image:
        deep, orientation = _is_deep(image), _orientation(image)
        # Pillow opens 16-bit grey with alpha as RGBA.
        grey = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B") or "LA;16" in str(image.tile)
        image.load()
        if deep:
            return _upright(_decode_deep(path, grey), orientation)
        mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
        pixels = np.array(image if image.mode == mode else image.convert(mode))
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


def _profile(path: str | Path) -> bytes | None:
    """The ICC profile, unless it is of colours that were converted: it says nothing of RGB then."""
    with _opened(path) as image:
        return None if image.mode in ("CMYK", "LAB", "YCbCr") else image.info.get("icc_profile")


def _is_deep(image: ImageFile) -> bool:
    """Whether the file holds 16 bits a channel; Pillow's mode does not tell. Ask before loading."""
    return image.format in ("PNG", "TIFF") and ";16" in str(image.tile)


def _orientation(image: ImageFile) -> int:
    # The PNG plugin's own getexif would decode the image to look for EXIF behind the pixels.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)


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
    """Write (H, W, 3) uint8 RGB as PNG."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"write_image: expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    _write_png(path, pixels)


def write_photo(path: str | Path, photo: Photo) -> None:
    """Write as PNG in the photo's own form: grey as grey, with alpha and profile, 8 or 16 bits; clipped to [0, 1].

    No library writes 16-bit grey with alpha: that one form becomes 16-bit RGBA.
    """
    planes = [photo.rgb.mean(axis=2, keepdims=True) if photo.grey else photo.rgb]
    if photo.alpha is not None:
        planes.append(photo.alpha[..., None])
    peak = 2**photo.bits - 1
    levels = np.round(np.clip(np.concatenate(planes, axis=2), 0, 1) * peak)
    _write_png(path, levels.astype(np.uint8 if photo.bits == 8 else np.uint16), photo.profile)


def _write_png(path: str | Path, pixels: np.ndarray, profile: bytes | None = None) -> None:
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        image.save(path, format="PNG", compress_level=1, icc_profile=profile)
        return
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # RGB -> BGR
    png = cv2.imencode(".png", pixels[..., order])[1].tobytes()
    Path(path).write_bytes(png[:HEADER] + (_chunk(profile) if profile else b"") + png[HEADER:])


def _chunk(profile: bytes) -> bytes:
    """A profile as PNG holds it; OpenCV writes none."""
    content = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


# ---------------------------------------------------------------------------------------------------- checking


def check_images(
    paths: Sequence[Path], *, at_least: int, skip_bad: bool, log: Callable[[str], None] = print
) -> list[tuple[Path, Size]]:
    """Check every file and return those usable with their sizes; `at_least` HR pixels a side are needed.

    Bad and too small files raise BadImage, or are left out and named in the log with `skip_bad`.
    """

    def examine(path: Path) -> Size | BadImage:
        try:
            size = check_image(path)
        except BadImage as error:
            return error
        return size if min(size) >= at_least else too_small(path, size, at_least)

    with ThreadPoolExecutor() as pool:
        found = list(zip(paths, pool.map(examine, paths), strict=True))
    good = [(path, size) for path, size in found if not isinstance(size, BadImage)]
    bad = [error for _, error in found if isinstance(error, BadImage)]
    leave_out(bad, left=len(good), skip_bad=skip_bad, log=log)
    return good


def too_small(path: str | Path, size: Size, at_least: int) -> BadImage:
    height, width = size
    return BadImage(
        f"{path} is {height} x {width} pixels (height x width); training patches of --patch_size, or "
        f"--crop_size, are {at_least} HR pixels a side"
    )


def leave_out(bad: Sequence[BadImage], *, left: int, skip_bad: bool, log: Callable[[str], None]) -> None:
    """Raise BadImage about the `bad` files, or log each of them with `skip_bad` provided some are `left`."""
    if bad and not skip_bad:
        shown = "\n  ".join(map(str, bad[:10])) + (f"\n  and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise BadImage(f"unusable images; repair or remove them, or pass --skip_bad_images:\n  {shown}")
    for error in bad:
        log(f"left out: {error}")
    if not left:
        raise BadImage(f"all {len(bad)} images are unusable; the first: {bad[0]}")


class ImageFolder:
    """An `ImageStore` that decodes the whole file at every crop: no preparation, but slow."""

    def __init__(self, paths: Sequence[Path], sizes: Sequence[Size]) -> None:
        self.paths = list(paths)
        self.sizes = list(sizes)
        self.names = [path.name for path in self.paths]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB. Raises BadImage if the file can no longer be read or has another size."""
        image = read_image(self.paths[index])
        if image.shape[:2] != self.sizes[index]:
            raise BadImage(f"{self.paths[index]} was {self.sizes[index]} and is now {image.shape[:2]} (height, width)")
        return image[top : top + height, left : left + width]


class Selection:
    """Some images of another `ImageStore`."""

    def __init__(self, store: ImageStore, indices: Sequence[int]) -> None:
        self._store = store
        self._indices = list(indices)
        self.names = [store.names[index] for index in indices]
        self.sizes = [store.sizes[index] for index in indices]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB, of the store that was selected from."""
        return self._store.crop(self._indices[index], top, left, height, width)
