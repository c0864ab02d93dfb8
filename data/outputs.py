"""The file for the result of each photograph: beside it, or in a folder; no two results share a file."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data.images import OTHER_SUFFIXES, Log
from data.photo import PHOTO_SUFFIXES

FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif"}
FORMAT_OF = {
    **{".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".jfif": "jpg", ".jpe": "jpg"},
    **{".webp": "webp", ".tif": "tiff", ".tiff": "tiff"},
}
RESULT = re.compile(r"(?P<of>.+)_(x[\d.]+|\d+x\d+)(_\d{3,})?")  # the stem of a result, and of its photograph


class Job(NamedTuple):
    """A photograph and where its result goes. A file of several frames gives numbered results."""

    source: Path
    out: Path
    format: str  # a key of `FORMATS`

    def frame(self, number: int, frames: int) -> Path:
        """Return the file of a frame, `<name>_001.png` for number 0 of several."""
        digits = max(3, len(str(frames)))
        return (
            self.out if frames == 1 else self.out.with_name(f"{self.out.stem}_{number + 1:0{digits}}{self.out.suffix}")
        )


def plan(
    paths: Sequence[Path],
    *,
    ending: str,
    out: Path | None = None,
    format: str | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    log: Log,
) -> list[Job]:
    """Return the photographs among these files and folders, and where the result of each goes.

    Without `out`, the result of a file goes beside it as `<name><ending>.png`, and those of a folder go into
    `<folder><ending>/` with the same subfolders. Where two names differ in their suffix only, the results keep it in
    their names. Earlier results that lie among the photographs are left out.

    Args:
        paths: files and folders.
        ending: of the names, such as `_x4`.
        out: a folder for all results; or, for a single file, the file to write.
        format: a key of `FORMATS`, or `same` for that of the photograph; by default that of `out`, or png.
        recursive: go into subfolders.
        overwrite: results that are there will be replaced, so that none may be a photograph.
        log: is told what is left out.

    Raises:
        FileNotFoundError: a path is not there, or there is no photograph.
        ValueError: two photographs would share a result, or a result would replace a photograph.
    """
    file = out if out is not None and out.suffix.lower() in FORMAT_OF and not out.is_dir() else None
    if file is not None:
        if len(paths) != 1 or paths[0].is_dir():
            raise ValueError(f"`out` {file} is one file; name a folder for the results of several photographs")
        written = FORMAT_OF[file.suffix.lower()]
        if format not in (None, "same", written):
            raise ValueError(f"`out` {file} ends otherwise than `format` {format} files do")
        check_there(paths[0])
        if _key(file) == _key(paths[0]):
            raise ValueError(f"`out` {file} is the photograph itself")
        return [Job(paths[0], file, written)]
    named_as_file = out is not None and out.suffix.lower() in (*PHOTO_SUFFIXES, *OTHER_SUFFIXES)
    if out is not None and not out.is_dir() and (out.exists() or named_as_file):
        raise ValueError(f"`out` {out} is a file in no format that is written: {', '.join(FORMAT_OF)}")
    found = {_key(source): (source, folder) for source, folder in _places(paths, ending, out, recursive, log)}
    jobs = _named(list(found.values()), ending, format)
    results = {_key(job.source.with_name(job.out.name)): job for job in jobs}  # if each had been named alone
    results |= {_key(job.out): job for job in jobs}
    sources = {_key(job.source.with_name(name)): job for job in jobs for name in (job.source.stem, job.source.name)}
    named_by_hand = {_key(path) for path in paths}
    kept = []
    for job in jobs:
        of = results.get(_key(_without_number(job.source))) or results.get(_key(job.source))
        stem = job.source.stem if _key(job.source) not in named_by_hand else ""
        while of is None and (named := RESULT.fullmatch(stem)):  # of a call with other flags
            stem = named["of"]
            of = sources.get(_key(job.source.with_name(stem)))
        if of is None:
            kept.append(job)
        elif overwrite and _key(of.out) == _key(job.source):
            raise ValueError(
                f"{job.source} is among the photographs, and the result of {of.source} would replace it; name another "
                "folder with `out`"
            )
        else:
            log(f"{job.source} is left out: by its name it is a result of {of.source}")
    if not kept:
        suffixes = ", ".join(suffix[1:] for suffix in PHOTO_SUFFIXES)
        raise FileNotFoundError(f"there is no photograph ({suffixes}) in {', '.join(map(str, paths))}")
    return kept


def _places(
    paths: Sequence[Path], ending: str, out: Path | None, recursive: bool, log: Log
) -> Iterator[tuple[Path, Path]]:
    """Yield each photograph with the folder of its result."""
    for path in paths:
        check_there(path)
        if not path.is_dir():
            yield path, out or path.parent
            continue
        home = path.resolve()
        base = home.with_name(home.name + ending) if out is None else out if len(paths) == 1 else out / home.name
        inside = base.resolve() if base.resolve() != home else None
        for source in list_photos(path, recursive=recursive, log=log):
            if inside is None or inside not in source.resolve().parents:  # no earlier result
                yield source, base / source.relative_to(path).parent


def check_there(path: Path, remedy: str = "") -> None:
    """Raise FileNotFoundError, with a `remedy`, unless there is such a file or folder.

    Examples:
        >>> check_there(Path("cat.jgp"), "; --out names the result")
        Traceback (most recent call last):
        FileNotFoundError: there is no file or folder cat.jgp; --out names the result
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}{remedy}")


def list_photos(folder: Path, *, recursive: bool, log: Log) -> list[Path]:
    """Return the photographs of a folder, sorted, without hidden files and folders; log what else is left out."""
    found, others, below, linked = [], [], [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            (linked if path.is_symlink() else below).append(path)
        elif path.suffix.lower() in PHOTO_SUFFIXES:
            found.append(path)
        elif path.suffix.lower() in OTHER_SUFFIXES:
            others.append(path.name)
    if others:
        log(f"{folder}: not read, because of their format: {', '.join(others)}")
    if linked and recursive:  # they may lead in a circle
        log(f"{folder}: links to folders are not followed: {', '.join(path.name for path in linked)}")
    if below and not recursive:
        log(f"{folder}: left out without `recursive`: {', '.join(path.name for path in below)}")
    return found + [path for sub in below if recursive for path in list_photos(sub, recursive=True, log=log)]


def _named(places: Sequence[tuple[Path, Path]], ending: str, format: str | None) -> list[Job]:
    """Name the results: by the photograph's name, with its suffix only where another photograph has the same name."""
    taken: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for source, folder in places:
        taken[_key(folder)].update({source.stem.lower(), source.name.lower()})  # some systems know no case
    jobs: dict[str, Job] = {}
    for source, folder in places:
        alone = taken[_key(folder)][source.stem.lower()] == 1
        kind = FORMAT_OF.get(source.suffix.lower(), "png") if format == "same" else format or "png"
        name = source.stem if alone else source.name
        job = Job(source, folder / f"{name}{ending}{FORMATS[kind]}", kind)
        other = jobs.setdefault(_key(job.out), job)
        if other is not job:
            raise ValueError(f"{other.source} and {source} would both become {job.out}: enlarge them one after another")
    return list(jobs.values())


def _without_number(path: Path) -> Path:
    """Return the path without the number of a frame."""
    return path.with_name(re.sub(r"_\d{3,}$", "", path.stem) + path.suffix)


def _key(path: Path) -> str:
    """Return a key that is the same for paths that the system takes for one file."""
    return os.path.normcase(path.parent.resolve() / path.name)
