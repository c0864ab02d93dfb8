"""Are the images fit: those to train on, those to test on, and the ones against the others. Reads all of them."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import build
import model
from check.finding import Finding, attempt, fine, listing, mend, note, readable
from check.room import existing
from data.images import BadImage, leave_out, list_images, too_small
from data.packed import why_repack
from data.survey import Look, copies, leaks, survey, unlisted
from option import BESIDE_FOLDER, TrainOptions

LARGE = 1_000_000  # pixels of an image that takes long to decode for a patch
FORMS = {"16-bit": "rounds them to 8 bits", "alpha": "drops it", "grey": "repeats the channel"}  # what training does


def all_images(options: TrainOptions) -> Iterator[Finding]:
    """Everything about the images."""
    train: list[Look] = []
    test: list[Look] = []
    yield from attempt(training_images, options, train)
    yield from attempt(benchmarks, options, test)
    found = leaks(train, test)
    for leak in found:
        yield mend(
            f"{leak.train} shows what the test image {leak.test} shows (likeness {leak.likeness:.2f}): "
            "take it out of the training images"
        )
    if train and test and not found:
        yield fine(f"none of {len(train)} training images shows what one of {len(test)} test images shows")


def training_images(options: TrainOptions, looks: list[Look]) -> Iterator[Finding]:
    """Of the folder that is trained on; adds to `looks` the images that are whole."""
    loading, folder = options.loading, build.training_folder(options)
    side = loading.crop_size * options.network.scale
    paths, began = list_images(folder), time.perf_counter()
    whole, bad = survey(paths, loading.n_threads)
    rate = len(paths) / (time.perf_counter() - began)
    looks += whole
    bad += [too_small(one.path, one.size, side) for one in whole if min(one.size) < side]
    usable = len(paths) - len(bad)
    if usable:
        yield fine(f"{usable} training images in {folder}, {_sizes(whole)} (looked at {rate:.0f} a second)")
    yield from _unusable(bad, usable, loading.skip_bad_images)
    if strays := [path.name for path in unlisted(folder)]:
        yield note(f"named like images in {folder}, but folders or broken links: {listing(strays)}")
    for form, count in sorted(Counter(form for one in whole for form in one.form).items()):
        yield note(f"{count} of the training images: {form}; training {FORMS[form]}")
    if twice := [" = ".join(path.name for path in group) for group in copies(whole)]:
        yield note(f"one training image under several names is drawn as many times; keep one: {listing(twice)}")
    if 0 < usable < options.training.batch_size:
        yield note(f"--batch_size {options.training.batch_size} has some of the {usable} training images twice")
    yield from _cache(options, folder, whole)


def _sizes(looks: Sequence[Look]) -> str:
    by_area = sorted((one.size for one in looks), key=math.prod)
    some = (by_area[0], by_area[-1], by_area[len(by_area) // 2])
    return "{} to {} pixels (height x width), median {}".format(*(f"{height} x {width}" for height, width in some))


def _unusable(bad: Sequence[BadImage], usable: int, skip_bad: bool) -> Iterator[Finding]:
    left_out: list[str] = []
    yield from attempt(partial(leave_out, bad, left=usable, skip_bad=skip_bad, log=left_out.append))
    yield from map(note, left_out)


def _cache(options: TrainOptions, folder: Path, looks: Sequence[Look]) -> Iterator[Finding]:
    asked, areas = options.loading.data_cache, sorted(math.prod(one.size) for one in looks)
    if asked is None:
        if areas and areas[len(areas) // 2] > LARGE:
            yield note("each patch decodes a whole large training image; --data_cache decodes each image once")
        return
    place = folder.resolve() if asked == BESIDE_FOLDER else asked
    if why_repack(folder, place):
        free = shutil.disk_usage(existing(place.parent)).free
        text = f"--data_cache: {place}.u8 will take {readable(3 * sum(areas))}, {readable(free)} are free"
        yield fine(text) if 3 * sum(areas) < free else mend(f"{text}: make room, or name a place with --data_cache")


def benchmarks(options: TrainOptions, looks: list[Look]) -> Iterator[Finding]:
    """Of --data_test; adds to `looks` the images that are whole, each once."""
    rule = build.protocol(options, options.network.scale)
    found, missing = build.benchmarks(options, rule, options.loading.seed)
    if missing:
        place = f"they are looked for as {options.images.dir_data}/benchmark/NAME/HR, beside that and above"
        instead = "" if found else "; without any, a few training images are held out"
        yield note(f"--data_test: {', '.join(missing)} not found, {place}{instead}")
    net = model.build(options.network.model, scale=options.network.scale, **options.network.sizes)
    for benchmark in found:
        wrong = list(attempt(build.check_benchmarks, [benchmark], net))
        yield from wrong or [fine(f"test set {benchmark.name}: {len(benchmark.hr_paths)} images, {benchmark.protocol}")]
    whole, _ = survey([path for benchmark in found for path in benchmark.hr_paths], options.loading.n_threads)
    looks += {one.digest: one for one in whole}.values()  # prepared sets have an HR image for each of its LR images
