"""Folders to train on: where the HR images lie, those of given LR images, their weights, and their packed caches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from data.folders import absolute, split
from data.images import list_images
from data.packed import why_repack
from data.store import RESIDENT
from utility import argument

BESIDE_FOLDER = Path()  # as `data_cache`: the cache lies beside the folder of images


class Source(NamedTuple):
    """A folder of HR images to train on."""

    hr: Path
    lr: Path | None = None  # the folder of their LR images, where these are given
    weight: Fraction | None = None  # of the images that are drawn from it; None: all images are drawn equally often


def training_folder(dir_data: Path | None, data_train: str | None = None) -> Path:
    """Find the folder of HR images to train on: `data_train` under `dir_data`, DF2K/HR there, or `dir_data` itself.

    Raises ValueError without `dir_data`, and OSError where there is no such folder, or only sets to choose from in it.
    """
    if dir_data is None:
        raise ValueError("`dir_data`: name the folder of HR images to train on")
    if dir_data.is_file():
        raise NotADirectoryError(f"`dir_data`: {dir_data} is a file; name the folder that holds the images")
    if not dir_data.is_dir():
        raise FileNotFoundError(f"`dir_data`: there is no folder {absolute(dir_data)}")
    if data_train is not None:
        places = [dir_data / data_train / "HR", dir_data / data_train]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise FileNotFoundError(f"`data_train` {data_train}: there is neither {places[0]} nor {places[1]}")
        return found
    folder = next(place for place in (dir_data / "DF2K" / "HR", dir_data / "HR", dir_data) if place.is_dir())
    if sets := sorted(place.parent.name for place in folder.glob("*/HR") if place.is_dir()):
        try:
            list_images(folder)
        except FileNotFoundError as error:
            hint = f"`data_train` chooses one of the sets in it: {', '.join(sets)}"
            raise FileNotFoundError(f"`dir_data`: {error}; {hint}") from None
    return folder


def sources(
    dir_data: Path | None,
    data_train: str | None = None,
    *,
    dir_lr: Path | None = None,
    data_weights: str | None = None,
    mix: float = 1.0,
) -> list[Source]:
    """Find the folders to train on: those joined by + in `data_train`, or in `dir_data`; see `training_folder`.

    Args:
        dir_data: folders or roots.
        data_train: sets in them.
        dir_lr: folders of LR images, joined by +, for the first of those folders, in the same order.
        data_weights: the proportion of the images that are drawn from each folder, joined by +, as in 2+1.
        mix: share of given pairs among the images.

    Raises:
        ValueError: a name or weight is missing or superfluous, a folder is named twice, or `mix` is needed and not
            given.
        OSError: there is no such folder.
    """
    with argument("dir_data"):
        roots = [None] if dir_data is None else split(dir_data)
    folders = [training_folder(root) for root in roots] if data_train is None else []
    for name in data_train.split("+") if data_train is not None else ():
        has_it = [root for root in roots if root is not None and (root / name).is_dir()]
        folders.append(training_folder(has_it[0] if has_it else roots[0], name))
    with argument("dir_lr"):
        given = [] if dir_lr is None else split(dir_lr)
    if len(given) > len(folders):
        raise ValueError(f"`dir_lr` names {len(given)} folders of LR images for {len(folders)} of HR images")
    if given and len(given) < len(folders) and mix == 1:
        raise ValueError(
            f"`dir_lr`: there are no LR images for {folders[len(given)]}; say with `mix` which share of the images are "
            "given pairs, and its images will be degraded for the others"
        )
    if missing := [folder for folder in given if not folder.exists()]:
        raise FileNotFoundError(f"`dir_lr`: there is no folder {absolute(missing[0])}")
    lr = [*given, *[None] * (len(folders) - len(given))]
    if twice := [folder for (folder, _), count in Counter(zip(folders, lr, strict=True)).items() if count > 1]:
        raise ValueError(f"{twice[0]} is named twice; `data_weights` draws more images from one of several folders")
    return [Source(*one) for one in zip(folders, lr, _weights(data_weights, len(folders)), strict=True)]


def _weights(data_weights: str | None, count: int) -> Sequence[Fraction | None]:
    if data_weights is None:
        return [None] * count
    words = data_weights.split("+")
    try:
        weights = [Fraction(word) for word in words]
    except (ValueError, ZeroDivisionError):
        weights = []
    if len(weights) != len(words) or min(weights) <= 0:
        raise ValueError(f"`data_weights` {data_weights}: expected numbers above 0 joined by +, as in 2+1")
    if len(weights) != count:
        raise ValueError(f"`data_weights` {data_weights}: {len(weights)} weights for {count} training folders")
    return weights


def caches(folders: Sequence[Source], data_cache: Path | None) -> dict[Path, Path | None]:
    """Return where the packed cache of each folder lies, without suffix; for several: <data_cache>_1, _2, ..."""
    places = dict.fromkeys([*(one.hr for one in folders), *(one.lr for one in folders if one.lr is not None)])
    if data_cache is None:
        return places
    if data_cache in RESIDENT:  # read from packed images where they are there and up to date
        beside = {folder: _cache_path(folder, BESIDE_FOLDER) for folder in places}
        return {folder: None if why_repack(folder, path) else path for folder, path in beside.items()}
    several = len(places) > 1 and data_cache != BESIDE_FOLDER
    return {
        folder: _cache_path(folder, Path(f"{data_cache}_{number}") if several else data_cache)
        for number, folder in enumerate(places, 1)
    }


def are_packed(folders: Sequence[Source], data_cache: Path | None) -> bool:
    """Return True if no images are still to be packed."""
    places = caches(folders, data_cache).items()
    return not any(place is not None and why_repack(folder, place) for folder, place in places)


def _cache_path(folder: Path, data_cache: Path) -> Path:
    """Return where the packed cache of a folder lies, without suffix; `BESIDE_FOLDER` stands for beside it."""
    return folder.resolve() if data_cache == BESIDE_FOLDER else data_cache
