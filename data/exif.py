"""EXIF, as an enlarged copy of a photograph takes it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from data.images import ORIENTATION

# A TIFF keeps its layout among these tags; only what describes the photograph is carried over to another file.
DESCRIPTIVE = {
    *(ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software, ExifTags.Base.DateTime),
    *(ExifTags.Base.Artist, ExifTags.Base.Copyright, ExifTags.Base.ImageDescription, ORIENTATION),
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
}
OLD_SIZE = (  # an enlarged copy has another
    *(ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight),
    *(ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength),
)
LONGEST = 65533  # bytes, of a JPEG


class _Text(str):
    """A text of EXIF, which Pillow reads as Latin-1, whatever it is, and writes as ASCII; this keeps its bytes."""

    def encode(self, *how: str) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().encode("latin-1")


def upright_exif(image: ImageFile) -> bytes | None:
    """Return the EXIF data for an enlarged copy that stands upright."""
    try:
        exif = Image.Image.getexif(image)
        for tag in list(exif):
            if image.format == "TIFF" and tag not in DESCRIPTIVE:
                del exif[tag]
        if ORIENTATION in exif:
            exif[ORIENTATION] = 1
        for part in _parts(exif):
            for tag in OLD_SIZE:
                part.pop(tag, None)
        return _bytes(exif) if len(exif) else None
    except Exception:  # cameras write all kinds of broken EXIF, and no photograph should fail for it
        return None


def _parts(exif: Image.Exif) -> Iterator[MutableMapping[int, Any]]:
    yield exif
    yield from (exif.get_ifd(tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if tag in exif)


def _bytes(exif: Image.Exif) -> bytes:
    for part in _parts(exif):
        part.update({tag: _Text(value) for tag, value in part.items() if isinstance(value, str)})
    return exif.tobytes()


def held_exif(format: str, exif: bytes | None) -> bytes | None:
    """Return the part of EXIF data that a format holds: a JPEG 64 kB, without the notes of the maker if need be."""
    if format != "jpg" or exif is None or len(exif) <= LONGEST:
        return exif
    shorter = Image.Exif()
    shorter.load(exif)
    shorter.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.Base.MakerNote, None)
    short = _bytes(shorter)
    return short if len(short) <= LONGEST else None


def tiff_tags(exif: bytes | None) -> list[tuple[int, str, int, bytes, bool]]:
    """Return camera, date and author as tags of a TIFF; the date is that of the exposure where there is one."""
    if exif is None:
        return []
    read = Image.Exif()
    read.load(exif)
    tags = {tag: read[tag] for tag in read if isinstance(read[tag], str)}
    if taken := read.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal):
        tags[ExifTags.Base.DateTime] = taken
    return [(int(tag), "s", 0, value.rstrip("\0").encode("latin-1"), True) for tag, value in tags.items()]
