"""Write photographs row by row. PNG needs no more memory for a large result; JPEG, WebP and TIFF hold all of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image

from data.exif import tiff_tags

SIDE = {"png": 2**31 - 1, "jpg": 65500, "webp": 16383, "tiff": inf}  # the longest that each format holds, pixels
WITHOUT_ALPHA, DEEP = ("jpg",), ("png", "tiff")
LEVEL = 1  # of zlib: the levels above it save a tenth and take several times as long
MODES = {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}
STRIP = 64  # rows of a TIFF that are compressed together


class Form(NamedTuple):
    """Size, channels and depth of the image that a file is to hold, and what comes with it."""

    height: int
    width: int
    channels: int  # 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA
    bits: int  # per channel: 8 or 16
    profile: bytes | None = None
    exif: bytes | None = None


class Writer(Protocol):
    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (n, width, channels) of uint8 or uint16."""
        ...


def depth(format: str, bits: int) -> int:
    """Return the bits per channel that a format keeps of an image with `bits`."""
    return bits if format in DEEP else 8


def check_form(format: str, form: Form) -> None:
    """Raise ValueError if a format cannot hold an image of this form.

    Examples:
        >>> check_form("webp", Form(100, 20000, 3, 8))
        Traceback (most recent call last):
        ValueError: WEBP holds 16383 pixels a side at most, not 20000 x 100; take `format` png or tiff
    """
    longest = max(form.height, form.width)
    able = [name for name, side in SIDE.items() if longest <= side]
    if format not in able:
        raise ValueError(
            f"{format.upper()} holds {SIDE[format]} pixels a side at most, not {form.width} x {form.height}; take "
            f"`format` {' or '.join(name for name in able if name in DEEP)}"
        )
    if form.channels % 2 == 0 and format in WITHOUT_ALPHA:
        told = "take `format` png, webp or tiff, and `out` to match"
        raise ValueError(f"{format.upper()} holds no alpha, which this image has; {told}")


def bytes_in_memory(format: str, form: Form) -> int:
    """Return what writing a file keeps in memory of the image: nothing for PNG."""
    if format == "png":
        return 0
    channels = {1: 1, 2: 4, 3: 3 if format == "tiff" else 4, 4: 4}[form.channels]  # Pillow pads RGB
    return form.height * form.width * channels * form.bits // 8


@contextmanager
def writing(path: Path, format: str, form: Form, *, quality: int) -> Iterator[Writer]:
    """Yield a writer that takes the rows from the top down; the file is complete when the block ends.

    Raises ValueError if the format cannot hold an image of this form.

    quality: of JPEG and WebP, 1 to 100.
    """
    check_form(format, form)
    with path.open("wb") as file:
        if format == "png":
            writer: _Png | _Tiff | _Pillow = _Png(file, form)
        else:
            writer = _Tiff(file, form) if format == "tiff" else _Pillow(file, format, form, quality)
        yield writer
        writer.finish()


class _Png:
    """A PNG whose rows are compressed and written as they come; each is stored as its difference from the row above."""

    def __init__(self, file: BinaryIO, form: Form) -> None:
        self._file, self._bits = file, form.bits
        self._deflate = zlib.compressobj(LEVEL)
        self._above = np.zeros((1, form.width * form.channels * form.bits // 8), np.uint8)
        colour = {1: 0, 2: 4, 3: 2, 4: 6}[form.channels]
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", form.width, form.height, form.bits, colour, 0, 0, 0))
        if form.profile:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(form.profile))
        if form.exif:
            self._chunk(b"eXIf", form.exif.removeprefix(b"Exif\0\0"))

    def write(self, rows: np.ndarray) -> None:
        raw = np.ascontiguousarray(rows, ">u2" if self._bits == 16 else "u1").reshape(len(rows), -1).view(np.uint8)
        filtered = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2  # the filter "up"
        np.subtract(raw, np.concatenate((self._above, raw[:-1])), out=filtered[:, 1:])
        self._above = raw[-1:].copy()
        self._data(self._deflate.compress(filtered.data))

    def finish(self) -> None:
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, content: bytes) -> None:
        if content:
            self._chunk(b"IDAT", content)

    def _chunk(self, name: bytes, content: bytes) -> None:
        checksum = struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
        self._file.write(struct.pack(">I", len(content)) + name)
        self._file.write(content)
        self._file.write(checksum)


class _Pillow:
    """A JPEG or WebP whose rows are collected in an image of Pillow, whose codecs need all of it."""

    def __init__(self, file: BinaryIO, format: str, form: Form, quality: int) -> None:
        self._file, self._top = file, 0
        self._image = Image.new(
            MODES[form.channels], (form.width, form.height), None
        )  # not filled: that takes memory now
        about: dict[str, Any] = {"icc_profile": form.profile} if form.profile else {}
        about |= {"exif": form.exif} if form.exif else {}
        if format == "jpg":
            about["subsampling"] = 0  # colours as sharp as luma
        self._about = {"format": {"jpg": "JPEG", "webp": "WEBP"}[format], "quality": quality, **about}

    def write(self, rows: np.ndarray) -> None:
        part = rows[..., 0] if rows.shape[2] == 1 else _without_grey_alpha(rows)
        self._image.paste(Image.fromarray(np.ascontiguousarray(part)), (0, self._top))
        self._top += len(rows)

    def finish(self) -> None:
        self._image.save(self._file, **self._about)


def _without_grey_alpha(rows: np.ndarray) -> np.ndarray:
    """Return grey with alpha as RGBA: WebP has no such form, and few programs read such a TIFF."""
    return rows[..., [0, 0, 0, 1]] if rows.shape[2] == 2 else rows


class _Tiff:
    """A TIFF whose rows, of 8 or 16 bits, are collected; tifffile compresses them strip by strip."""

    def __init__(self, file: BinaryIO, form: Form) -> None:
        channels = len(MODES[form.channels])
        self._file, self._exif, self._profile, self._top = file, form.exif, form.profile, 0
        self._pixels = np.empty((form.height, form.width, channels), np.uint8 if form.bits == 8 else np.uint16)

    def write(self, rows: np.ndarray) -> None:
        self._pixels[self._top : self._top + len(rows)] = _without_grey_alpha(rows)
        self._top += len(rows)

    def finish(self) -> None:
        import tifffile  # takes a moment

        channels = self._pixels.shape[2]
        tifffile.imwrite(
            self._file,
            self._pixels[..., 0] if channels == 1 else self._pixels,
            photometric="minisblack" if channels == 1 else "rgb",
            extrasamples=["unassalpha"] if channels == 4 else None,
            compression="zlib",
            compressionargs={"level": LEVEL},
            predictor=True,
            rowsperstrip=STRIP,
            iccprofile=self._profile,
            software=False,
            metadata=None,
            extratags=tiff_tags(self._exif),
        )
