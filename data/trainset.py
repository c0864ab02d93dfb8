"""Training sets: the usable images of a folder, perhaps with given LR images, and how batches are drawn from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from filecmp import cmp
from fractions import Fraction
from math import isqrt
from pathlib import Path

from data.folders import pair_folders
from data.given import Shift, shifted, shifts, wrong_size
from data.images import BadImage, Log, list_images
from data.packed import open_packed
from data.protocol import Protocol
from data.sampler import Part
from data.store import ImageFolder, ImageStore, Selection, Union, check_images, leave_out, too_small
from data.testset import HELD_OUT, PAIRED, Degraded, Pair, Prepared, TestSet, fingerprint
from data.training_folders import Source, caches
from utility import argument, listing

COMPARED = 32  # given pairs, before a run


@dataclass(frozen=True)
class TrainingSet:
    """The usable images of a source; HR and LR images are numbered alike."""

    source: Source
    images: ImageStore
    lr: ImageStore | None = None

    def part(self, indices: Sequence[int]) -> TrainingSet:
        """Return the set of these images."""
        lr = None if self.lr is None else Selection(self.lr, indices)
        return replace(self, images=Selection(self.images, indices), lr=lr)

    def pairs(self) -> list[Pair]:
        """Return the files of the given pairs."""
        if self.lr is None or self.source.lr is None:
            return []
        names = zip(self.lr.names, self.images.names, strict=True)
        return [Pair(self.source.lr / lr, self.source.hr / hr, Path(hr).stem, PAIRED) for lr, hr in names]

    def shifts(self, scale: int, *, sample: int | None) -> list[Shift]:
        """Compare `sample` given pairs, or all; see `data.given.shifts`."""
        return [] if self.lr is None else shifts(self.lr, self.images, scale=scale, sample=sample)

    def describe(self, found: Sequence[Shift]) -> str:
        """Return the message about given pairs that are shifted."""
        return (
            f"`dir_lr`: {len(found)} of the pairs that were compared are shifted by more than half an LR pixel, which "
            f"blurs what is learned from them; the worst: {shifted(found, [str(pair.lr) for pair in self.pairs()])}"
        )


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


def paired(
    source: Source, hr: ImageStore, lr: ImageStore, *, scale: int, at_least: int, skip_bad: bool, log: Log
) -> TrainingSet:
    """Pair the usable images of a source by name.

    Raises ValueError for images without a partner, and BadImage for pairs of a wrong size or with a side under
    `at_least` HR pixels, which `skip_bad` leaves out.
    """
    assert source.lr is not None
    of_hr, of_lr = ({name: number for number, name in enumerate(store.names)} for store in (hr, lr))
    kept: list[tuple[int, int]] = []
    bad: list[BadImage] = []
    for pair in pair_folders(source.lr, source.hr, scale):
        i, j = of_hr.get(pair.hr.name), of_lr.get(pair.lr.name)
        if i is None or j is None:
            bad.append(BadImage(f"{pair.lr} and {pair.hr}, since one of the two was left out"))
        elif error := wrong_size(str(pair.lr), lr.sizes[j], str(pair.hr), hr.sizes[i], scale):
            bad.append(error)
        elif min(hr.sizes[i]) < at_least:
            bad.append(too_small(pair.hr, hr.sizes[i], at_least))
        else:
            kept.append((i, j))
    leave_out(bad, left=len(kept), skip_bad=skip_bad, log=log)
    return TrainingSet(source, Selection(hr, [i for i, _ in kept]), Selection(lr, [j for _, j in kept]))


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
    copies = _copies([first.source.hr / name for name in names], indices)
    if held + len(copies) == count:
        copies = []
    if copies:
        log(f"not trained on either, as copies of these: {listing([names[i] for i in copies])}")
    rest, out = first.part([i for i in range(count) if i not in {*indices, *copies}]), first.part(indices)
    if out.lr is None:
        test_set: TestSet = Degraded(HELD_OUT, [first.source.hr / name for name in out.images.names], protocol, seed)
    else:
        pairs = out.pairs()
        digest = fingerprint([pair.lr for pair in pairs])
        test_set = Prepared(HELD_OUT, PAIRED, digest, pairs, protocol.scale, real=True)
    return [rest, *others], [test_set]


def _copies(paths: Sequence[Path], held: Collection[int]) -> list[int]:
    """Return the numbers of the other files that have the same bytes as one of those that are held out."""
    sizes = [path.stat().st_size for path in paths]
    return [
        i
        for i, path in enumerate(paths)
        if i not in held and any(sizes[i] == sizes[j] and cmp(path, paths[j], shallow=False) for j in held)
    ]


def combine(sets: Sequence[TrainingSet], mix: Fraction) -> tuple[ImageStore, ImageStore | None, list[Part]]:
    """Number the images of all sets consecutively.

    The first ones are given pairs. Then come the HR images to be degraded: those of the sets without LR images, or of
    all sets where each has LR images.

    Args:
        mix: the share of given pairs, above 0; 1: no image is degraded.

    Returns:
        The HR images, the LR images of the first ones, and the shares that they are drawn by.
    """
    given = [one for one in sets if one.lr is not None]
    rest = [one for one in sets if one.lr is None] or (given if mix < 1 else [])
    shares = [(given, mix if rest else Fraction(1)), (rest, 1 - mix if given else Fraction(1))]
    parts: list[Part] = []
    for kind, share in shares:
        parts += _parts(kind, share, start=parts[-1].images.stop if parts else 0)
    images = Union([one.images for one in (*given, *rest)])
    return images, Union([one.lr for one in given if one.lr is not None]) if given else None, parts


def _parts(sets: Sequence[TrainingSet], share: Fraction, start: int) -> list[Part]:
    """Return the parts of sets whose images are numbered from `start` on: one for each weight, or one for all."""
    ranges: list[range] = []
    for one in sets:
        stop = start + len(one.images.names)
        ranges.append(range(start, stop))
        start = stop
    weights = [one.source.weight for one in sets]
    known = [weight for weight in weights if weight is not None]
    if len(known) < len(sets):
        return [Part(range(ranges[0].start, ranges[-1].stop), share)]
    return [Part(images, share * weight / sum(known)) for images, weight in zip(ranges, known, strict=True)]
