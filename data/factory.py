"""From plain values in published units to the parts of a run: degradations, protocols, images, test sets and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from pathlib import Path
from typing import Any

import torch

from data.degradation import DEGRADATIONS, Degradation
from data.folders import pair_folders, split
from data.images import Log, Size, list_images
from data.packed import open_packed, why_repack
from data.pairs import Draws, Pairs
from data.protocol import Protocol
from data.sampler import PatchBatches, PatchSampler
from data.store import ImageFolder, ImageStore, Resident, check_images, check_room
from data.testset import HELD_OUT, PAIRED, Degraded, Prepared, TestSet, fingerprint
from data.trainset import Source, TrainingSet, combine, paired
from runtime.distributed import Ranks
from utility import argument, call

COMPARED = 32  # given pairs, before a run
BESIDE_FOLDER = Path()  # as `data_cache`: the cache lies beside the folder of images
RESIDENT = {Path("ram"): "cpu", Path("cuda"): "cuda"}  # as `data_cache`: where all decoded images are held


def degradation(name: str, /, *, scale: int, **flags: Any) -> Degradation[Any]:
    """Build a recipe by its name in `DEGRADATIONS`.

    Args:
        name: of the recipe.
        scale: HR pixels per LR pixel, along each side.
        flags: any flags in published units; the builder gets those that its signature names.

    Raises:
        ValueError: the name is unknown, or the flags make no sense.

    Examples:
        >>> degradation("gaussian", scale=4, sig_min=0.2, sig_max=4.0, codec="libjpeg").width
        (0.2, 4.0)
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"`degradation` {name} is none of {', '.join(DEGRADATIONS)}")
    return call(DEGRADATIONS[name], scale=scale, **flags)


def training_folder(dir_data: Path | None, data_train: str | None = None) -> Path:
    """Find the folder of HR images to train on: `data_train` under `dir_data`, DF2K/HR there, or `dir_data` itself.

    Raises ValueError without `dir_data`, and OSError where there is no such folder, or only sets to choose from in it.
    """
    if dir_data is None:
        raise ValueError("`dir_data`: name the folder of HR images to train on")
    if dir_data.is_file():
        raise NotADirectoryError(f"`dir_data`: {dir_data} is a file; name the folder that holds the images")
    if not dir_data.is_dir():
        raise FileNotFoundError(f"`dir_data`: there is no folder {dir_data}")
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
        ValueError: a name or weight is missing or superfluous, or `mix` is needed and not given.
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
    lr = [*given, *[None] * (len(folders) - len(given))]
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


def cache_path(folder: Path, data_cache: Path) -> Path:
    """Return where the packed cache of a folder lies, without suffix; `BESIDE_FOLDER` stands for beside it."""
    return folder.resolve() if data_cache == BESIDE_FOLDER else data_cache


def caches(folders: Sequence[Source], data_cache: Path | None) -> dict[Path, Path | None]:
    """Return where the packed cache of each folder lies, without suffix; for several: <data_cache>_1, _2, ..."""
    places = dict.fromkeys([*(one.hr for one in folders), *(one.lr for one in folders if one.lr is not None)])
    if data_cache is None:
        return places
    if data_cache in RESIDENT:  # read from packed images where they are there and up to date
        beside = {folder: cache_path(folder, BESIDE_FOLDER) for folder in places}
        return {folder: None if why_repack(folder, path) else path for folder, path in beside.items()}
    several = len(places) > 1 and data_cache != BESIDE_FOLDER
    return {
        folder: cache_path(folder, Path(f"{data_cache}_{number}") if several else data_cache)
        for number, folder in enumerate(places, 1)
    }


def training_sets(
    folders: Sequence[Source],
    *,
    scale: int,
    at_least: int,
    data_cache: Path | None = None,
    skip_bad_images: bool = False,
    log: Log = print,
) -> list[TrainingSet]:
    """Check the training images of all folders, pack them if `data_cache` asks for it, and pair given LR images.

    Some given pairs are compared; those that are shifted are named in the log.

    Raises BadImage for unusable images, those with a side under `at_least` HR pixels and pairs of a wrong size, which
    `skip_bad_images` leaves out; ValueError for images without a partner, and OSError for a folder without images.
    """
    places = caches(folders, data_cache)
    about = {"skip_bad_images": skip_bad_images, "log": log}
    sets = []
    for source in folders:
        if source.lr is None:
            images = training_images(source.hr, at_least=at_least, cache=places[source.hr], **about)
            sets.append(TrainingSet(source, images))
            continue
        with argument("dir_lr"):
            pair_folders(source.lr, source.hr, scale)  # before images are read
        hr = training_images(source.hr, at_least=1, cache=places[source.hr], **about)
        lr = training_images(source.lr, at_least=1, cache=places[source.lr], **about)
        one = paired(source, hr, lr, scale=scale, at_least=at_least, skip_bad=skip_bad_images, log=log)
        log(f"given pairs: {len(one.images.names)} in {source.lr} and {source.hr}")
        if found := one.shifts(scale, sample=COMPARED):
            log(f"note: {one.describe(found)}")
        sets.append(one)
    return sets


def training_images(
    folder: Path,
    *,
    at_least: int,
    cache: Path | None = None,
    skip_bad_images: bool = False,
    log: Log = print,
) -> ImageStore:
    """Check the training images of a folder, and pack them where `cache` says where to.

    Raises BadImage for unusable images and those with a side under `at_least` HR pixels, which `skip_bad_images` leaves
    out, and OSError for a folder without images.
    """
    with argument("dir_data"):
        paths = list_images(folder, log=log)
    if cache is None:
        checked = check_images(paths, at_least=at_least, skip_bad=skip_bad_images, log=log)
        store: ImageStore = ImageFolder([path for path, _ in checked], [size for _, size in checked])
    else:
        store = open_packed(folder, cache, at_least=at_least, skip_bad=skip_bad_images, log=log)
    log(f"training images: {len(store.names)} in {folder}")
    return store


def hold_out(
    sets: Sequence[TrainingSet], *, protocol: Protocol, seed: int, log: Log = print
) -> tuple[list[TrainingSet], list[TestSet]]:
    """Hold a few images of the first training set out as a test set, for want of another.

    Returns:
        The sets without them, and the test set in a list; an empty list where there is only one image.
    """
    first, *others = sets
    names = first.images.names
    count = len(names)
    held = min(5, isqrt(count)) if count > 1 else 0
    if not held:
        log("there is no test set, and the only training image cannot be spared: there will be no validation")
        return list(sets), []
    indices = [i * count // held for i in range(held)]
    what = "images" if first.lr is None else "pairs"
    log(f"{what} held out for validation and not trained on: {', '.join(names[i] for i in indices)}")
    rest, out = first.part([i for i in range(count) if i not in indices]), first.part(indices)
    if out.lr is None:
        test_set: TestSet = Degraded(HELD_OUT, [first.source.hr / name for name in out.images.names], protocol, seed)
    else:
        pairs = out.pairs()
        digest = fingerprint([pair.lr for pair in pairs])
        test_set = Prepared(HELD_OUT, PAIRED, digest, pairs, protocol.scale, real=True)
    return [rest, *others], [test_set]


def residence(
    data_cache: Path, device: torch.device, sizes: Sequence[Size], *, processes: int = 1, log: Log = print
) -> torch.device:
    """Return where `data_cache` ram or cuda holds images of these sizes, and log what they take.

    Raises ValueError where there is no room for them: in main memory, where each process of a run holds them, or on the
    GPU that is `device`.
    """
    place = torch.device("cpu") if data_cache == Path("ram") else device
    if place.type != RESIDENT[data_cache]:
        raise ValueError(f"`data_cache` cuda: this run is on the {device.type}; ram holds the images there")
    size = sum(3 * height * width for height, width in sizes)
    check_room(size * (processes if place.type == "cpu" else 1), place, log=log)
    return place


def batches(
    sets: Sequence[TrainingSet],
    *,
    scale: int,
    side: int,
    batch_size: int,
    views: int,
    augment: str,
    mix: float = 1.0,
    data_cache: Path | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    seed: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    log: Log = print,
) -> PatchBatches:
    """Draw random patches of the training images, `side` HR pixels a side; `batch_size` counts those of all ranks.

    Args:
        mix: share of given pairs, where there are any.
        data_cache: `ram` or `cuda` hold all images decoded, in main memory or on `device`.

    Raises:
        ValueError: an image is too small, the ranks cannot have equal shares, or the images need more memory than
            there is.
    """
    store, given, parts = combine(sets, Fraction(str(mix)))
    if data_cache in RESIDENT:
        sizes = [*store.sizes, *(() if given is None else given.sizes)]
        place = residence(data_cache, device, sizes, processes=ranks.world, log=log)
        store, given = Resident(store, place), None if given is None else Resident(given, place)
    drawn = {"batch": batch_size, "views": views, "seed": seed, "rank": ranks.rank, "world": ranks.world}
    paired = {"parts": parts, "paired": 0 if given is None else len(given.names), "scale": scale}
    return PatchBatches(store, PatchSampler(sizes=store.sizes, patch=side, augment=augment, **drawn, **paired), given)


def pairs(
    degradation: Degradation[Any],
    *,
    batch_size: int,
    patch_size: int,
    pool_size: int = 0,
    views: int = 1,
    seed: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Pairs:
    """Make patches into LR and HR images; `batch_size` and `pool_size` count those of all ranks.

    Raises ValueError where the ranks cannot have equal shares.
    """
    drawn = {"batch": batch_size, "views": views, "seed": seed, "rank": ranks.rank, "world": ranks.world}
    draws = Draws(group=getattr(degradation, "group", None), **drawn)
    return Pairs(degradation, draws, patch=patch_size, pool=pool_size)
