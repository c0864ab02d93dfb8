"""Trained weights by name: what they are for, where they lie, and the hash that they must have.

`zoo.json` beside this file lists them. In a clone of the project the files lie in experiment/zoo/; the installed
package has them beside this file. Others are in a cache, `~/.cache/blindsr` or the folder that BLINDSR_HOME names; they
are downloaded there from the addresses of the list, if it has any.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import cache
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .networks import NETWORKS

LIST = Path(__file__).with_name("zoo.json")
CLONE = Path(__file__).resolve().parents[1] / "experiment" / "zoo"


class Weights(NamedTuple):
    """An entry of the zoo."""

    name: str
    file: str
    sha256: str
    network: str  # its name in `NETWORKS`
    config: dict[str, Any]
    degradation: str  # the recipe that it was trained for
    blur_type: str
    protocol: str  # the protocol of its scores
    scores: dict[str, float]  # PSNR in dB by test set
    note: str
    urls: list[str]


@cache
def entries() -> dict[str, Weights]:
    """Return all entries by name.

    Examples:
        >>> entries()["kdsr_s_x4_light"].degradation
        'second_order'
    """
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    return {name: Weights(name=name, **entry) for name, entry in listed.items()}


def entry_of(path: Path) -> Weights | None:
    """Return the entry whose file this is by its name and place; None if the file is not one of the zoo's.

    Examples:
        >>> entry_of(CLONE / "kdsr_s_x4_light.safetensors").network
        'KDSR_S'
    """
    if path.resolve().parent not in [place.resolve() for place in _places()]:
        return None
    return next((entry for entry in entries().values() if entry.file == path.name), None)


def resolve(path: str | Path) -> Path:
    """Return the file of a name in the zoo, and any other path as it is.

    A file of that name in the current folder, or a folder with config.json, goes first.

    Raises:
        FileNotFoundError: the zoo has no weights of this name; or they are neither in the clone nor in the cache, and
            there is no address for them.
        ValueError: the file is damaged.

    Examples:
        >>> resolve("runs/model_best.pt").name
        'model_best.pt'
    """
    path, known = Path(path), entries()
    if path.is_file() or (path / "config.json").is_file() or path.suffix or len(path.parts) > 1:
        return path
    entry = known.get(str(path))
    if entry is None:
        close = "".join(f" Did you mean {name}?" for name in get_close_matches(str(path), known, 1))
        raise FileNotFoundError(
            f"there is no file {path}, and the zoo has no weights of this name.{close} It has {', '.join(known)}"
        )
    found = next((place / entry.file for place in _places() if (place / entry.file).is_file()), None)
    if found is None:
        found = _download(entry)
    if (sha := _sha256(found)) != entry.sha256:
        raise ValueError(f"{found} is damaged: its SHA-256 is {sha}, that of {entry.name} is {entry.sha256}")
    return found


def choose(
    *,
    scale: int,
    network: str | None = None,
    degradation: str | None = None,
    blur_type: str | None = None,
    protocol: str | None = None,
) -> Weights | None:
    """Return the weights for this scale that were trained for just this, None if there are none.

    Where several fit, return those that score best on Set5. Arguments that are None do not matter; a teacher is chosen
    only if it is named.

    Examples:
        >>> choose(scale=4, network="CDSR", protocol="gaussian8").config["scale"]
        4
    """
    asked = {"degradation": degradation, "blur_type": blur_type, "protocol": protocol}
    asked = {key: value for key, value in asked.items() if value is not None}
    fitting = [
        entry for entry in _usable(scale, network) if all(getattr(entry, key) == value for key, value in asked.items())
    ]
    return max(fitting, key=lambda entry: entry.scores.get("Set5", 0.0), default=None)


def choose_for_photographs(*, scale: int | None = None, network: str | None = None) -> Weights | None:
    """Return the weights for real photographs, trained with `second_order`; without such, others for this scale, or x4.

    Those trained for `manet` are left out: its LR pixels lie off the centre of their HR pixels, so its networks shift a
    photograph.

    Examples:
        >>> choose_for_photographs(scale=4).degradation
        'second_order'
    """
    centred = [entry for entry in _usable(scale, network) if entry.degradation != "manet"]
    real = [entry for entry in centred if entry.degradation == "second_order"]
    others = [entry for entry in centred if entry.config["scale"] == (scale or 4)]
    return max(
        real or others,
        key=lambda entry: (entry.config["scale"] == 4, entry.scores.get("Set5", 0.0)),
        default=None,
    )


def _usable(scale: int | None, network: str | None) -> list[Weights]:
    """Return the entries for a scale (None: any) and of a network; by default of all but teachers."""
    return [
        entry
        for entry in entries().values()
        if scale in (None, entry.config["scale"])
        and (entry.network == network if network else not NETWORKS[entry.network].sees_hr)
    ]


def _places() -> list[Path]:
    """Return the folders that may hold the files: of this clone or package, of the clone around, the cache."""
    return [CLONE, Path(__file__).with_name("weights"), Path("experiment", "zoo"), _cache()]


def _cache() -> Path:
    """Return the folder of downloads: BLINDSR_HOME, or one in the home folder, which a container may lack."""
    if named := os.environ.get("BLINDSR_HOME"):
        return Path(named)
    try:
        return Path.home() / ".cache" / "blindsr"
    except RuntimeError:
        return Path(tempfile.gettempdir(), "blindsr")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _download(entry: Weights) -> Path:
    """Fetch a file into the cache from the first address that has it, or the rest of it after an interruption."""
    place, failures = _cache() / entry.file, []
    for url in entry.urls:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with _part(place) as part:
                _fetch(url, part)
                if (sha := _sha256(part)) != entry.sha256:
                    part.unlink()
                    raise OSError(f"its SHA-256 is {sha}")
                return part.replace(place)
        except (OSError, HTTPException) as error:
            failures.append(f"{url} ({error})")
    tried = f"; tried {', '.join(failures)}" if failures else ""
    raise FileNotFoundError(
        f"{entry.name} is in the zoo, but {entry.file} is neither in {CLONE} nor in {place.parent}{tried}. Copy it "
        "there from experiment/zoo/ of a clone of the project"
    )


@contextmanager
def _part(place: Path) -> Iterator[Path]:
    """Take what an earlier download of a file has left, if anything, and leave what this one does not finish.

    The first of several processes takes it: the others start from nothing and do not meet.
    """
    left, part = place.with_name(f"{place.name}.part"), place.with_name(f"{place.name}.{os.getpid()}.part")
    with suppress(FileNotFoundError):
        left.replace(part)
    try:
        yield part
    finally:
        with suppress(FileNotFoundError):
            part.replace(left)


def _fetch(url: str, part: Path) -> None:
    """Download to a file; where it has a beginning already, and the server can, go on from its end."""
    begun = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urlopen(request, timeout=60)
    except HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to come
        raise
    with answer:
        goes_on = answer.status == HTTPStatus.PARTIAL_CONTENT
        with part.open("ab" if goes_on else "wb") as file:
            shutil.copyfileobj(answer, file)
        if answer.length:  # of what was announced, so many bytes have not come
            raise OSError(f"ended {answer.length} bytes early; call again to go on")
