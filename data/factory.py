"""From plain values in published units to the parts of a run: degradations, protocols, images, test sets and pairs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from math import isqrt, radians
from pathlib import Path
from typing import Any

from data.degradation import DEGRADATIONS, Degradation
from data.folders import find, roots_around
from data.images import Log, list_images
from data.packed import open_packed
from data.pairs import Draws, Pairs
from data.protocol import FILE_RECIPES, NAMED, Case, Protocol, manet_sv, one_draw, read_protocol
from data.sampler import PatchBatches, PatchSampler
from data.store import ImageFolder, ImageStore, Selection, check_images
from data.testset import Degraded, TestSet
from runtime.distributed import Ranks
from utility import argument, call

BESIDE_FOLDER = Path()  # as `data_cache`: the cache lies beside the folder of images


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


def protocol(
    name: str,
    /,
    *,
    scale: int,
    degradation: str = "gaussian",
    blur_type: str = "iso_gaussian",
    sample_mode: str = "bicubic",
    noise: float = 0.0,
    noise_var: bool = False,
    sv_mode: int = 0,
    sig: float | None = None,
    lambda_1: float | None = None,
    lambda_2: float | None = None,
    theta: float = 0.0,
    jpeg_quality: float = 0.0,
    **flags: Any,
) -> Protocol:
    """Build the protocol of tests and validation.

    Args:
        name: a name in `NAMED`; a recipe in `DEGRADATIONS`, of which every test image gets one draw; `flags`, which is
            the one kernel of `sig`, or of `lambda_1`, `lambda_2` and `theta`; or a protocol file.
        scale: HR pixels per LR pixel, along each side.
        degradation: gaussian or manet, for `flags`.
        blur_type: iso_gaussian or aniso_gaussian, for `flags` and `sv_mode`.
        sample_mode: bicubic or s-fold, for kernels of the gaussian recipe.
        noise: σ in grey levels of 255.
        noise_var: another noise level in every block of 20×20 LR pixels, up to `noise` (manet).
        sv_mode: 1 to 6 take the place of `name` by spatially variant blur; iso_gaussian gives every block `sig`.
        sig: standard deviation of an iso kernel, HR pixels.
        lambda_1, lambda_2: axes of an aniso kernel: standard deviations in HR pixels (gaussian), variances (manet).
        theta: rotation of an aniso kernel, degrees.
        jpeg_quality: 1..100; 0: no JPEG.
        flags: of a recipe that draws, as `degradation` takes them.

    Raises:
        ValueError: a value is missing, or contradicts another one.

    Examples:
        >>> str(protocol("manet9", scale=4, noise=15))
        'manet9 noise 15'
        >>> protocol("flags", scale=4, degradation="gaussian", sig=2.6).cases
        (Case(name='sig 2.6', width=(2.6, 2.6), theta=0.0),)
    """
    changes = {"noise": noise, "noise_var": noise_var, "sample_mode": sample_mode, "jpeg_quality": jpeg_quality}
    if sv_mode:
        rule = manet_sv(scale, sv_mode, sig=_sig_of_blocks(sig) if blur_type == "iso_gaussian" else None)
    elif name == "flags":
        rule = _protocol_of_flags(scale, degradation, blur_type, sig, lambda_1, lambda_2, theta)
    elif name in NAMED:
        rule = NAMED[name](scale)
        if rule.draws:
            _refuse(name, changes)
            return rule
    elif name in DEGRADATIONS:
        known = inspect.signature(DEGRADATIONS[name]).parameters
        _refuse(name, {key: value for key, value in changes.items() if key not in known})
        return one_draw(name, scale, {**flags, **changes, "blur_type": blur_type})
    elif Path(name).is_file():
        _refuse(name, changes)
        with argument("protocol"):
            return read_protocol(Path(name), scale)
    else:
        raise ValueError(f"`protocol` {name} is none of {', '.join((*NAMED, *DEGRADATIONS))}, flags, and no file")
    if sample_mode == "s-fold":
        if rule.recipe != "gaussian":
            raise ValueError(f"`sample_mode` s-fold: {rule} takes every s-th pixel as it is")
        rule = replace(rule, name=f"{rule.name} s-fold", recipe="gaussian s-fold")
    if noise_var and rule.recipe in FILE_RECIPES[:2]:
        raise ValueError(f"`noise_var` belongs to the degradations of CDSR (manet); {rule} is another one")
    return replace(rule, noise=noise / 255, noise_var=bool(noise_var and noise), quality=float(jpeg_quality) or None)


def _refuse(name: str, changes: dict[str, Any]) -> None:
    """Raise ValueError for what a protocol that says all of itself cannot be told."""
    if given := [key for key, value in changes.items() if value and value != "bicubic"]:
        raise ValueError(f"`protocol` {name} says all of itself: leave out {', '.join(f'`{key}`' for key in given)}")


def _sig_of_blocks(sig: float | None) -> float:
    if sig is None:
        raise ValueError(
            "`sv_mode` with `blur_type` iso_gaussian gives every block the kernel of `sig`, which is missing; "
            "the published kernels of the modes go with aniso_gaussian"
        )
    return float(sig)


def _protocol_of_flags(
    scale: int,
    degradation: str,
    blur_type: str,
    sig: float | None,
    lambda_1: float | None,
    lambda_2: float | None,
    theta: float,
) -> Protocol:
    iso = blur_type == "iso_gaussian"
    first, second = (sig, sig) if iso else (lambda_1, lambda_2)
    if first is None or second is None:
        needed = "`sig`" if iso else "`lambda_1` and `lambda_2`"
        raise ValueError(f"`protocol` flags with `blur_type` {blur_type} needs {needed}")
    first, second = float(first), float(second)
    name = f"sig {first:g}" if iso else f"lambda {first:g} {second:g} theta {theta:g}"
    turned = 0.0 if iso else radians(theta)
    if degradation == "manet":
        width = (first, second) if iso else (first**0.5, second**0.5)  # published: iso σ, aniso variances
        return Protocol(f"manet {name}", scale, "manet", (Case(name, width, turned),))
    return Protocol(name, scale, "gaussian", (Case(name, (first, second), turned),))


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


def cache_path(folder: Path, data_cache: Path) -> Path:
    """Return where the packed cache of a folder lies, without suffix; `BESIDE_FOLDER` stands for beside it."""
    return folder.resolve() if data_cache == BESIDE_FOLDER else data_cache


def training_images(
    folder: Path,
    *,
    at_least: int,
    data_cache: Path | None = None,
    skip_bad_images: bool = False,
    log: Log = print,
) -> ImageStore:
    """Check the training images of a folder, and pack them where `data_cache` asks for it.

    Raises BadImage for unusable images and those with a side under `at_least` HR pixels, which `skip_bad_images` leaves
    out, and OSError for a folder without images.
    """
    with argument("dir_data"):
        paths = list_images(folder, log=log)
    if data_cache is None:
        checked = check_images(paths, at_least=at_least, skip_bad=skip_bad_images, log=log)
        store: ImageStore = ImageFolder([path for path, _ in checked], [size for _, size in checked])
    else:
        cache = cache_path(folder, data_cache)
        store = open_packed(folder, cache, at_least=at_least, skip_bad=skip_bad_images, log=log)
    log(f"training images: {len(store.names)} in {folder}")
    return store


def test_sets(
    data_test: str,
    *,
    dir_data: Path | None,
    protocol: Protocol,
    seed: int,
    log: Log | None = None,  # noqa: PT028 (no test, in spite of its name)
) -> tuple[list[TestSet], list[str]]:
    """Find the test sets whose names are joined by + in `data_test`.

    Returns:
        The sets that are there, and the names of those that are not.

    Raises:
        ValueError: two sets have one name, or a prepared set does not fit the protocol or is not complete.
    """
    roots = [] if dir_data is None else roots_around(dir_data)
    found: list[TestSet] = []
    missing: list[str] = []
    with argument("data_test"):
        for name in data_test.split("+"):
            test_set = find(name, roots, protocol, seed=seed, log=log)
            if test_set is None:
                missing.append(name)
            else:
                found.append(test_set)
        names = [test_set.name for test_set in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two sets are called {', '.join(sorted(twice))}; their scores would be mixed")
    return found, missing


def check_test_sets(sets: Sequence[TestSet], *, at_least: int) -> None:
    """Raise BadImage for a test image that is damaged, or has under `at_least` HR pixels a side."""
    with argument("data_test"):
        for test_set in sets:
            test_set.check(at_least=at_least)


def hold_out(
    store: ImageStore, folder: Path, *, protocol: Protocol, seed: int, log: Log = print
) -> tuple[ImageStore, list[TestSet]]:
    """Hold a few training images out as a test set, for want of another.

    Returns:
        The store without them, and the test set in a list; an empty list where there is only one image.
    """
    count = len(store.names)
    held = min(5, isqrt(count)) if count > 1 else 0
    if not held:
        log("no test set was found and the only training image cannot be spared: there will be no validation")
        return store, []
    indices = [i * count // held for i in range(held)]
    names = [store.names[i] for i in indices]
    log(f"no test set was found: held out for validation and not trained on: {', '.join(names)}")
    rest = Selection(store, [i for i in range(count) if i not in indices])
    return rest, [Degraded("held-out", [folder / name for name in names], protocol, seed)]


def batches(
    store: ImageStore,
    *,
    side: int,
    batch_size: int,
    views: int,
    augment: str,
    seed: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> PatchBatches:
    """Draw random patches of the training images, `side` HR pixels a side; `batch_size` counts those of all ranks.

    Raises ValueError where an image is too small, or the ranks cannot have equal shares.
    """
    drawn = {"batch": batch_size, "views": views, "seed": seed, "rank": ranks.rank, "world": ranks.world}
    return PatchBatches(store, PatchSampler(sizes=store.sizes, patch=side, augment=augment, **drawn))


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
