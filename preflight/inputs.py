"""Check what a run reads: weights, patches, images."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import model
import option
import parts
from data.degradation import Degradation
from data.degradation.params import description
from data.find_testsets import check_test_sets, missing_test_sets, named_test_sets
from data.images import BadImage, Size, list_images
from data.packed import why_repack
from data.store import RESIDENT, ImageFolder, leave_out, residence, too_small
from data.survey import Look, copies, leaks, survey, unlisted
from data.testset import HELD_OUT
from data.training_folders import Source, caches, sources
from data.trainset import paired
from evaluation import results, smallest_hr
from loss import factory as loss_factory
from loss.perceptual import load_vgg19, vgg19
from model import BlindSR, zoo
from option import TrainOptions
from preflight.finding import Finding, attempt, error, note, ok, size_of
from preflight.machine import device_of
from utility import argument, existing, listing, why_unwritable

LARGE = 1_000_000  # pixels of an image that takes long to decode for a patch
FORMS = {"16-bit": "rounds them to 8 bits", "alpha": "drops it", "grey": "repeats the channel"}  # what training does


def weights(options: TrainOptions) -> Iterator[Finding]:
    """Load the weights to start from into what they are for."""
    net = parts.network_of(options, log=lambda text: None)
    check_patch(options, net, parts.recipe_of(options))
    if options.has_teacher:
        loss_factory.teacher(net, options.loss.pre_train_TA)
    if option.acts(option.PERCEPTUAL, options) and not options.resuming:
        load_vgg19(vgg19(), options.loss.vgg)
    count = sum(parameter.numel() for parameter in net.parameters())
    yield ok(f"{options.network.model} x{options.network.scale}, {count / 1e6:.2f} M parameters")


def learned_from(options: TrainOptions) -> Iterator[Finding]:
    """Compare the degradation of a run with that of the weights it learns from: of a teacher, or those it refines."""
    if options.resuming:
        return
    loss = options.loss
    teacher = loss.pre_train_TA if options.has_teacher else None
    refined = loss.pre_train if options.objective_class.refines else None
    for name, path in (("pre_train_TA", teacher), ("pre_train", refined)):
        if path is None:
            continue
        here = json.loads(json.dumps(description(parts.recipe_of(options))))  # as `training_of` gives it
        with argument(name):
            there = results.training_of(zoo.resolve(path)).get("degradation", {})
        changed = [key for key in here if key in there and key != "per_batch" and there[key] != here[key]]
        if "name" in changed:
            changed = ["name"]
        if changed:
            plain = [key for key in changed if not isinstance(here[key], dict)]  # ranges in groups would fill a screen
            values = ", ".join(f"{key} {there[key]} instead of {here[key]}" for key in plain) or "other ranges"
            yield note(f"`{name}` {path} was trained on another degradation than this run: {values}")


def check_patch(options: TrainOptions, net: BlindSR, recipe: Degradation[Any]) -> None:
    """Raise ValueError for patches that the network or objective cannot take, or that cannot be degraded."""
    loading, scale = options.loading, options.network.scale
    if loading.patch_size < net.min_size:
        raise ValueError(
            f"`patch_size` {loading.patch_size}: {net.min_size} LR pixels are the least for {options.network.model}"
        )
    least = ceil(recipe.smallest / scale)
    if loading.crop_size < least:
        name = "patch_size" if loading.crop_size == loading.patch_size else "crop_size"
        raise ValueError(
            f"`{name}` {loading.crop_size}: {least} LR pixels are the least that "
            f"{options.degradation.degradation} x{scale} can degrade"
        )
    try:
        options.objective_class.check_patch(loading.patch_size * scale, option.acting(options.loss, options))
    except ValueError as reason:
        raise ValueError(f"`patch_size` {loading.patch_size}: HR patches at x{scale} have {reason}") from None


def images(options: TrainOptions, *, need_test_sets: bool = False) -> Iterator[Finding]:
    """Read every image to train or test on, and look for test images among the training images."""
    train: list[Look] = []
    test: list[Look] = []
    yield from attempt(training_images, options, train)
    yield from attempt(test_images, options, test, need_test_sets)
    found = leaks(train, test)
    for leak in found:
        yield error(
            f"{leak.train} shows what the test image {leak.test} shows (likeness {leak.likeness:.2f}): "
            "take it out of the training images"
        )
    if train and test and not found:
        yield ok(f"none of {len(train)} training images shows what one of {len(test)} test images shows")


def training_images(options: TrainOptions, looks: list[Look]) -> Iterator[Finding]:
    """Check the folders that are trained on; add to `looks` the HR images that are intact."""
    loading, scale = options.loading, options.network.scale
    folders = sources(options.images.dir_data, **options.training_folders)
    places = caches(folders, loading.data_cache)
    usable, sizes = 0, list[Size]()
    for source in folders:
        side = loading.crop_size * scale if source.lr is None else 1
        intact, bad = yield from _folder(options, source.hr, side)
        if source.lr is not None:
            small, bad_small = intact, bad
            if source.lr != source.hr:
                small, bad_small = yield from _folder(options, source.lr, 1)
            if not (bad or bad_small) or loading.skip_bad_images:
                yield from _pairs(options, source, intact, small)
            yield from _cache(options, source.lr, places[source.lr], small)
            sizes += [one.size for one in small]
        yield from _cache(options, source.hr, places[source.hr], intact)
        looks += intact
        usable += sum(min(one.size) >= side for one in intact)
    sizes += [one.size for one in looks]
    if loading.data_cache in RESIDENT:
        yield from attempt(_residence, options, loading.data_cache, sizes)
    if 0 < usable < options.training.batch_size:
        yield note(f"`batch_size` {options.training.batch_size} takes some of the {usable} training images twice")


def _folder(
    options: TrainOptions, folder: Path, side: int
) -> Generator[Finding, None, tuple[list[Look], list[BadImage]]]:
    """Check the images of a folder; return those that are intact, and errors about those that cannot be used."""
    paths, began = list_images(folder), time.perf_counter()
    intact, bad = survey(paths, options.loading.n_threads)
    rate = len(paths) / (time.perf_counter() - began)
    bad += [too_small(one.path, one.size, side) for one in intact if min(one.size) < side]
    usable = len(paths) - len(bad)
    if usable:
        large = [one for one in intact if min(one.size) >= side]
        yield ok(f"{usable} training images in {folder}, {_sizes(large)} (looked at {rate:.0f} a second)")
    left_out: list[str] = []
    skip_bad = options.loading.skip_bad_images
    yield from attempt(partial(leave_out, bad, left=usable, skip_bad=skip_bad, log=left_out.append))
    yield from map(note, left_out)
    if strays := [path.name for path in unlisted(folder)]:
        yield note(f"named like images in {folder}, but no files: {listing(strays)}")
    for form, count in sorted(Counter(form for one in intact for form in one.form).items()):
        yield note(f"{count} of the training images: {form}; training {FORMS[form]}")
    if twice := [" = ".join(path.name for path in group) for group in copies(intact)]:
        yield note(
            f"training images under several names are drawn more often than others; keep one of each: {listing(twice)}"
        )
    return intact, bad


def _pairs(options: TrainOptions, source: Source, hr: Sequence[Look], lr: Sequence[Look]) -> Iterator[Finding]:
    """Pair the images of a source and compare all pairs."""
    loading, scale, left_out = options.loading, options.network.scale, list[str]()
    stores = [ImageFolder([one.path for one in looks], [one.size for one in looks]) for looks in (hr, lr)]
    side, skip_bad = loading.crop_size * scale, loading.skip_bad_images
    pairs = paired(source, *stores, scale=scale, at_least=side, skip_bad=skip_bad, log=left_out.append)
    yield from map(note, left_out)
    if found := pairs.shifts(scale, sample=None):
        yield note(pairs.describe(found))
    else:
        yield ok(f"{len(pairs.images.names)} given pairs in {source.lr} and {source.hr}, none of them shifted")


def _sizes(looks: Sequence[Look]) -> str:
    by_area = sorted((one.size for one in looks), key=math.prod)
    sides = [side for size in by_area for side in size]
    height, width = by_area[len(by_area) // 2]
    return f"sides of {min(sides)} to {max(sides)} pixels, median {height} x {width} (height x width)"


def _residence(options: TrainOptions, data_cache: Path, sizes: Sequence[Size]) -> Iterator[Finding]:
    processes, lines = max(1, options.machine.n_GPUs), list[str]()
    residence(data_cache, device_of(options), sizes, processes=processes, log=lines.append)
    yield from map(ok, lines)


def _cache(options: TrainOptions, folder: Path, place: Path | None, looks: Sequence[Look]) -> Iterator[Finding]:
    areas = sorted(math.prod(one.size) for one in looks)
    if options.loading.data_cache in RESIDENT:
        return
    if place is None:
        if areas and areas[len(areas) // 2] > LARGE:
            yield note("each patch decodes a whole large training image; `data_cache` decodes each image once")
        return
    if why_repack(folder, place):
        if why := why_unwritable(place.parent):
            yield error(f"`data_cache`: {place.parent} cannot be written to ({why}): name a place with `data_cache`")
            return
        free = shutil.disk_usage(existing(place.parent)).free
        text = f"`data_cache`: {place}.u8 will take {size_of(3 * sum(areas))}, {size_of(free)} are free"
        yield ok(text) if 3 * sum(areas) < free else error(f"{text}: make room, or name a place with `data_cache`")


def test_images(options: TrainOptions, looks: list[Look], need_test_sets: bool) -> Iterator[Finding]:
    """Check the test sets; add to `looks` the images that are intact, each once."""
    network, dir_data = options.network, options.images.dir_data
    found, missing = named_test_sets(
        options.images.data_test, dir_data=dir_data, protocol=parts.protocol_of(options), seed=option.TEST_SEED
    )
    if missing and need_test_sets:
        yield error(missing_test_sets(missing, dir_data))
    elif missing:
        place = f"they are looked for as {dir_data}/benchmark/NAME/HR, beside that and above"
        instead = "" if found else "; without any, a few training images are held out"
        yield note(f"`data_test`: {', '.join(missing)} not found, {place}{instead}")
    if options.images.data_test == HELD_OUT:
        yield ok("some of the training images are held out for validation")
    net = model.build(network.model, scale=network.scale, **parts.network_sizes(options))
    for test_set in found:
        wrong = list(attempt(partial(check_test_sets, at_least=smallest_hr(net)), [test_set]))
        yield from wrong or [ok(f"test set {test_set.name}: {len(test_set.hr_paths)} images, {test_set.protocol}")]
    intact, _ = survey([path for test_set in found for path in test_set.hr_paths], options.loading.n_threads)
    looks += {one.digest: one for one in intact}.values()  # prepared sets have an HR image for each of its LR images
