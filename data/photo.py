"""Own photographs: every frame of a file, upright, at full depth, with what the camera says about it.

Besides the formats of `images.py`, GIF is read, AVIF where Pillow has it (11.3 and newer), and HEIC where the optional
package pillow-heif is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageCms, features
from PIL.ImageFile import ImageFile

from data.exif import upright_exif
from data.images import (
    FORMATS,
    IMAGE_SUFFIXES,
    BadImage,
    Size,
    decode,
    frame_count,
    is_deep,
    opened,
    orientation_of,
    to_8_bits,
    upright,
    upright_size,
)

PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".avif", ".heic", ".heif")
WANTED = (
    "PNG, JPEG, WebP, BMP, TIFF and GIF are read, AVIF by Pillow 11.3 or newer, HEIC after `pip install pillow-heif`"
)


class Photo(NamedTuple):
    """An image as a file holds it, and what is needed to write it back in the form it came in."""

    pixels: np.ndarray  # (H, W, C) uint8 or uint16, upright; C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA
    profile: bytes | None = None  # ICC profile
    exif: bytes | None = None  # as writers of PNG and JPEG take it; its orientation is the upright one

    @property
    def grey(self) -> bool:
        return self.pixels.shape[2] < 3

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[2] % 2 == 0

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) without alpha, a grey channel three times; read it only, since it may be a view.

        What alpha hides wholly has the colour of the nearest pixel that can be seen: the hidden one may be anything,
        and would show at the outlines of an enlarged image.
        """
        height, width, _ = self.pixels.shape
        rgb = np.broadcast_to(self.pixels[..., :1], (height, width, 3)) if self.grey else self.pixels[..., :3]
        if not self.has_alpha:
            return rgb
        seen = self.pixels[..., -1] > 0
        if seen.all() or not seen.any():
            return rgb
        # Each pixel that can be seen has a label, which spreads to those that are nearest to it.
        hidden = np.where(seen, np.uint8(0), np.uint8(1))
        _, found = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        labels = np.asarray(found, np.int32)
        colours = np.empty((np.count_nonzero(seen) + 1, 3), rgb.dtype)
        colours[labels[seen]] = rgb[seen]
        return colours[labels]

    @property
    def neutral(self) -> bool:
        """True if all pixels are grey, of whatever form: a scan without colour is often stored as RGB."""
        rgb = self.pixels[..., :3]
        return self.grey or bool((rgb[..., :1] == rgb[..., 1:]).all())


class PhotoFile:
    """An open file of one or more frames.

    Attributes:
        size: height and width of the present frame, as it is seen.
        bits: per channel of the present frame, 8 or 16.
        frames: their number; pages count as frames, previews inside a JPEG do not.
    """

    def __init__(self, path: Path, image: ImageFile) -> None:
        self._path, self._image = path, image
        self.frames = frame_count(image)
        self._look()

    def seek(self, frame: int) -> None:
        """Go to a frame, which may have another size or depth. Raises what `open_photo` turns into BadImage."""
        if self.frames > 1:
            self._image.seek(frame)
        self._look()

    def _look(self) -> None:
        self.size: Size = upright_size(self._image)
        self.bits = 16 if is_deep(self._image) else 8

    def read(self) -> Photo:
        """Decode the present frame. Raises an error that `open_photo` turns into BadImage."""
        image = self._image
        profile, mode = image.info.get("icc_profile"), image.mode
        if mode == "CMYK" and profile:
            pixels = upright(np.asarray(_to_srgb(image, profile)), orientation_of(image))
        else:
            pixels = decode(self._path, image)
        # Colours that were converted to RGB are no longer those that the profile describes.
        kept = None if mode in ("CMYK", "LAB", "YCbCr") else profile
        return Photo(pixels, kept, upright_exif(image))  # EXIF last: it is made that of an upright image


@contextmanager
def open_photo(path: Path) -> Iterator[PhotoFile]:
    """Open a photograph. Raise BadImage, here or when a frame is read, for a damaged file or one that is no image."""
    with opened(path, _formats(), WANTED) as image:
        yield PhotoFile(path, image)


def read_photo(path: Path) -> Photo:
    """Read a file of one frame. Raises BadImage for a damaged file or one of several frames."""
    with open_photo(path) as file:
        if file.frames > 1:
            raise BadImage(f"{path} holds {file.frames} frames or pages")
        return file.read()


def read_to_show(path: Path) -> np.ndarray:
    """Read the first frame of a photograph as (H, W, 3) uint8, on white where it is transparent. Raises BadImage."""
    with open_photo(path) as file:
        photo = file.read()
    rgb = to_8_bits(photo.rgb)
    if not photo.has_alpha:
        return np.ascontiguousarray(rgb)
    alpha = to_8_bits(photo.pixels[..., -1:]).astype(np.float32) / 255
    return np.rint(alpha * rgb + (1 - alpha) * 255).astype(np.uint8)


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that can be read here."""
    formats = [*FORMATS, "GIF"]
    if "avif" in features.modules and features.check("avif"):
        formats.append("AVIF")
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]  # an optional extra
    except ImportError:
        return tuple(formats)
    register_heif_opener()
    return (*formats, "HEIF")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert CMYK to sRGB by its profile, or without it if it is broken."""
    try:
        source, target = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image.convert("RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
