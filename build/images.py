"""Images to train and to test on, and the patches and pairs that become of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt
from pathlib import Path

from build.degradation import recipe
from data.images import ImageFolder, ImageStore, Selection, check_images, list_images
from data.packed import open_packed
from data.pairs import Draws, Pairs
from data.protocol import Protocol
from data.sampler import PatchBatches, PatchSampler
from data.testset import Degraded, TestSet, find, roots_around
from evaluation import metric
from model import BlindSR
from option import BESIDE_FOLDER, EvalOptions, TrainOptions
from runtime.distributed import Ranks

TOGETHER = 9  # images of a GPU in published training, which have resizing and kind of noise in common

Log = Callable[[str], None]


def training_folder(options: TrainOptions) -> Path:
    """The folder of HR images: the one of --data_train under --dir_data, DF2K/HR there, or --dir_data itself."""
    root, name = options.images.dir_data, options.loading.data_train
    if root is None:
        raise ValueError("--dir_data: name the folder of HR images to train on")
    if not root.is_dir():
        raise FileNotFoundError(f"--dir_data: there is no folder {root}")
    if name is not None:
        places = [root / name / "HR", root / name]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise FileNotFoundError(f"--data_train {name}: there is neither {places[0]} nor {places[1]}")
        return found
    places = [root / "DF2K" / "HR", root / "HR", root]
    return next(place for place in places if place.is_dir())


def training_images(options: TrainOptions, log: Log) -> ImageStore:
    """The checked training images, cached where --data_cache asks for it."""
    loading, folder = options.loading, training_folder(options)
    side, skip = loading.crop_size * options.network.scale, loading.skip_bad_images
    if loading.data_cache is None:
        checked = check_images(list_images(folder), at_least=side, skip_bad=skip, log=log)
        store: ImageStore = ImageFolder([path for path, _ in checked], [size for _, size in checked])
    else:
        cache = folder.resolve() if loading.data_cache == BESIDE_FOLDER else loading.data_cache
        store = open_packed(folder, cache, at_least=side, skip_bad=skip, log=log)
    log(f"training images: {len(store.names)} in {folder}")
    return store


def benchmarks(options: TrainOptions | EvalOptions, rule: Protocol, seed: int) -> tuple[list[TestSet], list[str]]:
    """The test sets of --data_test that are there, and the names of those that are not."""
    root = options.images.dir_data
    roots = [] if root is None else roots_around(root)
    found: list[TestSet] = []
    missing: list[str] = []
    for name in options.images.data_test.split("+"):
        benchmark = find(name, roots, rule, seed=seed)
        if benchmark is None:
            missing.append(name)
        else:
            found.append(benchmark)
    names = [benchmark.name for benchmark in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"--data_test: two sets are called {', '.join(twice)}; their scores would be mixed")
    return found, missing


def check_benchmarks(found: Sequence[TestSet], net: BlindSR) -> None:
    """Raise BadImage for a test image that is damaged, or too small to be degraded, restored and measured."""
    needed = max(net.scale * net.min_size, metric.smallest(net.scale))
    for benchmark in found:
        benchmark.check(at_least=needed)


def hold_out(store: ImageStore, folder: Path, rule: Protocol, seed: int, log: Log) -> tuple[ImageStore, list[TestSet]]:
    """For want of a test set: the store without a few of its images, and these as a test set."""
    count = len(store.names)
    held = min(5, isqrt(count)) if count > 1 else 0
    if not held:
        log("no test set was found and the only training image cannot be spared: there will be no validation")
        return store, []
    indices = [i * count // held for i in range(held)]
    names = [store.names[i] for i in indices]
    log(f"no test set was found: held out for validation and not trained on: {', '.join(names)}")
    rest = Selection(store, [i for i in range(count) if i not in indices])
    return rest, [Degraded("held-out", [folder / name for name in names], rule, seed)]


def batches(options: TrainOptions, store: ImageStore, views: int, ranks: Ranks) -> PatchBatches:
    """Random patches of the training images."""
    loading = options.loading
    sampler = PatchSampler(
        sizes=store.sizes,
        batch=options.training.batch_size,
        patch=loading.crop_size * options.network.scale,
        views=views,
        augment=loading.augment,
        seed=loading.seed,
        rank=ranks.rank,
        world=ranks.world,
    )
    return PatchBatches(store, sampler)


def pairs(options: TrainOptions, views: int, ranks: Ranks) -> Pairs:
    """How patches become LR and HR images."""
    loading, batch = options.loading, options.training.batch_size
    together = TOGETHER if options.degradation.degradation == "second_order" else None
    draws = Draws(seed=loading.seed, batch=batch, together=together, views=views, rank=ranks.rank, world=ranks.world)
    return Pairs(recipe(options), draws, patch=loading.patch_size, pool=loading.pool_size)
