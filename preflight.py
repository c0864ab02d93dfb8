"""Check before a run what would go wrong (machine, memory and disk, options, images), and forecast what it costs.

Every run does the cheap checks. `main.py --check` does all of them, `main.py --dry_run` takes a few steps.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from packaging.requirements import Requirement

import model
import option
import parts
from data.degradation import Degradation
from data.degradation.sharpen import SMALLEST as SHARPENED
from data.find_testsets import check_test_sets, missing_test_sets, named_test_sets
from data.images import BadImage, Size, list_images
from data.packed import why_repack
from data.store import RESIDENT, ImageFolder, leave_out, residence, too_small
from data.survey import Look, copies, leaks, survey, unlisted
from data.testset import HELD_OUT, TestSet
from data.training_folders import Source, caches, sources
from data.trainset import paired
from evaluation import smallest_hr
from flags import Given
from loss import Perceptual
from loss import factory as loss_factory
from loss.perceptual import load_vgg19, vgg19
from model import BlindSR
from model.discriminator import UNetDiscriminator
from option import TrainOptions
from runtime.compiler import check_compiler
from runtime.precision import has_bf16
from trainer import Trainer
from utility import ROOT, Run, duration, listing, peak_memory

MODULES = {"pillow": "PIL", "opencv-python-headless": "cv2", "scikit-image": "skimage", "scikit-learn": "sklearn"}
OF_SCRIPTS = ("scikit-image", "scikit-learn")  # training does without
SHARED = Path("/dev/shm")  # on Linux: where loader processes leave their batches
PREFETCH = 2  # batches that PyTorch has each loader process prepare ahead
LARGE = 1_000_000  # pixels of an image that takes long to decode for a patch
FORMS = {"16-bit": "rounds them to 8 bits", "alpha": "drops it", "grey": "repeats the channel"}  # what training does
DRY_STEPS = 6  # of each stretch of the schedule; the first two warm up


class Grade(Enum):
    FINE = "fine"
    NOTE = "note"  # worth knowing
    MEND = "mend"  # the run would fail, or its scores would mean nothing


class Finding(NamedTuple):
    """A result of a check, in one line, which also says what to do unless all is fine."""

    grade: Grade
    text: str

    def __str__(self) -> str:
        return f"{self.grade.value}: {option.as_flags(self.text)}"


fine, note, mend = (partial(Finding, grade) for grade in Grade)


def attempt(call: Callable[..., Iterable[Finding] | None], *arguments: object) -> Iterator[Finding]:
    """Yield the findings of a check, and the ValueError or OSError that it raises as one to mend."""
    try:
        yield from call(*arguments) or ()
    except (ValueError, OSError) as error:
        yield mend(str(error))


def check(given: Given, options: TrainOptions, check_run: Callable[[Given, TrainOptions, Run], None]) -> bool:
    """Print what must be mended before the run can start, and what is worth knowing; return True if it can start."""
    seen: set[Finding] = set()

    def findings() -> Iterator[Finding]:
        yield from map(note, option.notes(given, options))
        yield from attempt(check_run, given, options, Run(options.run_dir))  # pyright: ignore[reportArgumentType]
        yield from cheap(options)
        yield from attempt(weights, options)
        yield from images(options, need_test_sets="data_test" in given)

    for finding in findings():
        if finding not in seen:
            print(finding, flush=True)
        seen.add(finding)
    counts = Counter(finding.grade for finding in seen)
    print(f"{counts[Grade.MEND]} to mend, {counts[Grade.NOTE]} worth knowing, {counts[Grade.FINE]} fine")
    return not counts[Grade.MEND]


def cheap(options: TrainOptions) -> Iterator[Finding]:
    """Check the machine, memory and disk, in about a second. Read no image."""
    for look in (degradations, packages, gpu, fast_steps, cores, run_directory, numbered_checkpoints, space):
        yield from attempt(look, options)


def before_start(options: TrainOptions, log: Callable[[str], None]) -> None:
    """Do the cheap checks: log what is worth knowing, raise ValueError about what must be mended."""
    findings = list(cheap(options))
    for finding in findings:
        if finding.grade is Grade.NOTE:
            log(str(finding))
    if broken := [finding.text for finding in findings if finding.grade is Grade.MEND]:
        raise ValueError("\n  ".join(broken))


def degradations(options: TrainOptions) -> None:
    """Raise ValueError if recipe or protocol do not take the flags of this run."""
    parts.recipe_of(options)
    parts.protocol_of(options)


# ------------------------------------------------------------------------------------------------- the machine


def packages(options: TrainOptions) -> Iterator[Finding]:
    """Check the installed packages against requirements.txt, and torchvision, if it is there, against torch."""
    yield fine(f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    wanted = [("-r requirements.txt", Requirement(line)) for line in lines if line]
    with suppress(PackageNotFoundError):
        wanted += [("torchvision", asked) for asked in map(Requirement, requires("torchvision") or ())]
    for source, asked in wanted:
        if asked.marker is None and (lacking := _lacking(asked)):
            remedy = f"{lacking}: pip install -U {source}"
            if asked.name in OF_SCRIPTS:
                yield note(f"scripts need {asked}, and {remedy}")
            else:
                yield mend(f"{asked} is needed, and {remedy}")


def _lacking(asked: Requirement) -> str | None:
    try:
        found = version(asked.name)
    except PackageNotFoundError:  # another package may bring the module
        return None if find_spec(MODULES.get(asked.name, asked.name)) else "it is not installed"
    return None if asked.specifier.contains(found, prereleases=True) else f"{found} is installed"


def gpu(options: TrainOptions) -> Iterator[Finding]:
    """Compute on the GPU: a driver may be too old, a PyTorch not built for the card."""
    asked = options.machine
    if asked.cpu or asked.n_GPUs == 0:
        yield fine("on the CPU, as asked for")
        return
    failure = _gpu_failure()
    if failure and torch.cuda.is_available():
        yield mend(f"the GPU fails ({failure}): free it, or install a PyTorch that is built for it; `cpu` does without")
    elif failure:
        yield note(f"on the CPU: {_remedy(failure)}") if shutil.which("nvidia-smi") else fine("on the CPU: no GPU here")
    else:
        free, total = torch.cuda.mem_get_info()
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        text = f"{torch.cuda.get_device_name()}, {_bytes(free)} of {_bytes(total)} free, {bf16}"
        yield fine(text) if free > total / 2 else note(f"{text}; nvidia-smi shows what uses the rest")


def fast_steps(options: TrainOptions) -> Iterator[Finding]:
    """Check what `cuda_graph` and `compile` need, if they are asked for; `compile` takes some seconds."""
    device = _device(options)
    if device.type == "cpu" and has_bf16(device) and options.training.precision == "fp32" and not options.resuming:
        yield note("this CPU has units for bfloat16: `precision` bf16 trains 1.4 to 2.7 times as fast")
    if options.training.cuda_graph and device.type == "cpu":
        yield mend("`cuda_graph` needs a GPU, and there is none here: leave it out")
    elif device.type == "cuda" and not options.training.cuda_graph and option.acts(option.GRAPHED, options):
        yield note("`cuda_graph` spares the host: in bf16 an H200 took 1/8 (CDSR) to 6/7 (KDSR-L) of the time")
    if options.training.compile:
        check_compiler(device)
        yield fine("torch.compile works here")


def _device(options: TrainOptions) -> torch.device:
    """Return where the run would compute."""
    cpu = options.machine.cpu or options.machine.n_GPUs == 0 or not torch.cuda.is_available()
    return torch.device("cpu" if cpu else "cuda")


def _gpu_failure() -> str | None:
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].rstrip(".")
    return None


def _remedy(failure: str) -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU; unset it"
    if not torch.backends.cuda.is_built():
        return "this PyTorch is built without CUDA; https://pytorch.org/get-started has the command for one with it"
    return f"{failure}; update the driver, or start the container with its GPU (docker run --gpus all)"


def cores(options: TrainOptions) -> Iterator[Finding]:
    """Compare the loader processes with the CPU cores that this process may use."""
    process = psutil.Process()
    count = len(process.cpu_affinity() or ()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1
    asked, processes = options.loading.n_threads, max(1, options.machine.n_GPUs)
    text = f"`n_threads` {asked}" + (f" for each of `n_GPUs` {processes}" * (processes > 1)) + f" on {count} CPU cores"
    fitting = count // processes
    yield (
        fine(text)
        if asked <= fitting
        else note(f"{text}: more than there are cores, so they take turns; {fitting} would fit")
    )


# --------------------------------------------------------------------------------------------- memory and disk


class Footprint(NamedTuple):
    """Bytes that a run takes."""

    batch: int  # the patches of a step
    queue: int  # the batches that loader processes have ready or in the making, and two that change hands
    network: int  # a checkpoint
    state: int  # a saved state


def footprint(options: TrainOptions) -> Footprint:
    """Build network and objective without memory and add up their bytes. Raise ValueError for impossible sizes."""
    loss, network, loading, sizes = options.loss, options.network, options.loading, parts.network_sizes(options)
    with torch.device("meta"):
        net = loss_factory.network(network.model, scale=network.scale, sizes=sizes)
        teacher = loss_factory.teacher(net, None) if options.has_teacher else None
        objective = loss_factory.objective(
            loss.objective,
            net,
            teacher=teacher,
            pretrained=False,
            warmup_steps=0,
            freeze_step=0,
            lr_sr=1.0,
            **option.acting(loss, options),
        )
    weights, extra = (sum(x.nbytes for x in part.state_dict().values()) for part in (net, objective))
    moments = 2 * sum(x.nbytes for part in (net, objective) for x in part.parameters() if x.requires_grad)  # of Adam
    weights *= 2 if options.training.ema else 1  # the average too
    pool = loading.pool_size * 3 * (1 + network.scale**2) * loading.patch_size**2
    area = loading.crop_size**2 * (network.scale**2 + (loading.dir_lr is not None))
    batch = objective.views * options.training.batch_size * 3 * area
    return Footprint(
        batch=batch,
        queue=batch * (PREFETCH * loading.n_threads + 2) if loading.n_threads else 0,
        network=weights,
        state=weights + extra + moments + pool,
    )


def space(options: TrainOptions) -> Iterator[Finding]:
    """Check memory and disk."""
    need = footprint(options)
    yield from memory(need)
    yield from shared_memory(options, need)
    yield from disk(options, need)


def memory(need: Footprint) -> Iterator[Finding]:
    """Compare the free main memory with what batches, weights and the state take."""
    free, least = psutil.virtual_memory().available, need.queue + need.state
    text = f"{_bytes(free)} of main memory free"
    if free > least:
        yield fine(text)
    else:
        yield note(f"{text}, batches and weights alone take {_bytes(least)}: end other programs, or do with less")


def shared_memory(options: TrainOptions, need: Footprint) -> Iterator[Finding]:
    """Check /dev/shm: if it is full, loader processes die with a bare `bus error`; containers often have 64 MiB."""
    if not need.queue or not SHARED.is_dir():
        return
    free, workers = shutil.disk_usage(SHARED).free, options.loading.n_threads
    text = f"{SHARED} has {_bytes(free)} free, `n_threads` {workers} fills {_bytes(need.queue)} with batches"
    if need.queue < free:
        yield fine(text)
    else:
        fitting, ample = max(free // need.batch - 2, 0) // PREFETCH, ceil(2 * need.queue / 2**30)
        yield mend(f"{text}: `n_threads` {fitting}, or a container with more (docker run --shm-size {ample}g)")


def disk(options: TrainOptions, need: Footprint) -> Iterator[Finding]:
    """Compare the free disk with what the run may write."""
    saving, place = options.saving, options.run_dir
    if saving.dry_run:
        return
    numbered = max(options.epochs - max(saving.st_save_epoch, 1) + 1, 0)
    kept = min(numbered, saving.keep + 2) if saving.keep else numbered  # the best too, and the one about to go
    files = (2 + kept) * need.network + 3 * need.state  # latest and best; a state, the one before, and a new one
    grows = max(files - sum(path.stat().st_size for path in place.glob("model/*.pt")), 0)
    free = shutil.disk_usage(_existing(place)).free
    text = f"{place} takes up to {_bytes(grows)} more, {_bytes(free)} are free"
    yield fine(text) if grows < free else mend(f"{text}: make room, `keep` fewer, or name another `dir_experiment`")


def run_directory(options: TrainOptions) -> Iterator[Finding]:
    """Check that files can be written where the run will write."""
    place = _existing(options.run_dir / "model")
    try:
        if not options.saving.dry_run:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"can be written")
    except OSError as error:
        yield mend(f"`dir_experiment`: {place} cannot be written to ({error.strerror}): name another folder")


def numbered_checkpoints(options: TrainOptions) -> Iterator[Finding]:
    """Compare the first numbered checkpoint with the last epoch."""
    first, last = options.saving.st_save_epoch, options.epochs
    if first > last:
        yield note(f"`st_save_epoch` {first} is after the last epoch, {last}: no numbered checkpoint will be kept")


def _existing(path: Path) -> Path:
    """Return the nearest folder above a path that exists: the one whose disk it would be on."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


# ------------------------------------------------------------------------------------- weights, patches, images


def weights(options: TrainOptions) -> Iterator[Finding]:
    """Load the weights to start from into what they are for."""
    net = parts.network_of(options, log=lambda text: None)
    check_patch(options, net, parts.recipe_of(options))
    if options.has_teacher:
        loss_factory.teacher(net, options.loss.pre_train_TA)
    if option.acts(option.PERCEPTUAL, options) and not options.resuming:
        load_vgg19(vgg19(), options.loss.vgg)
    count = sum(parameter.numel() for parameter in net.parameters())
    yield fine(f"{options.network.model} x{options.network.scale}, {count / 1e6:.2f} M parameters")


def check_patch(options: TrainOptions, net: BlindSR, recipe: Degradation[Any]) -> None:
    """Raise ValueError for patches that the network or discriminator cannot take, or that cannot be degraded."""
    loading, loss, scale = options.loading, options.loss, options.network.scale
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
    if loss.objective != "adversarial":
        return
    side, multiple = loading.patch_size * scale, UNetDiscriminator.multiple
    if side % multiple:
        raise ValueError(
            f"`patch_size` {loading.patch_size}: HR patches have {side} pixels a side at x{scale}, and the "
            f"discriminator takes multiples of {multiple}"
        )
    for name, needed in {
        "sharpen": SHARPENED * loss.sharpen,
        "perceptual_weight": Perceptual.smallest * (loss.perceptual_weight > 0),
    }.items():
        if side < needed:
            raise ValueError(
                f"`patch_size` {loading.patch_size}: `{name}` takes HR patches of {needed} pixels a side or more"
            )


def images(options: TrainOptions, *, need_test_sets: bool = False) -> Iterator[Finding]:
    """Read every image to train or test on, and look for test images among the training images."""
    train: list[Look] = []
    test: list[Look] = []
    yield from attempt(training_images, options, train)
    yield from attempt(test_images, options, test, need_test_sets)
    found = leaks(train, test)
    for leak in found:
        yield mend(
            f"{leak.train} shows what the test image {leak.test} shows (likeness {leak.likeness:.2f}): "
            "take it out of the training images"
        )
    if train and test and not found:
        yield fine(f"none of {len(train)} training images shows what one of {len(test)} test images shows")


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
        yield fine(f"{usable} training images in {folder}, {_sizes(large)} (looked at {rate:.0f} a second)")
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
        yield fine(f"{len(pairs.images.names)} given pairs in {source.lr} and {source.hr}, none of them shifted")


def _sizes(looks: Sequence[Look]) -> str:
    by_area = sorted((one.size for one in looks), key=math.prod)
    sides = [side for size in by_area for side in size]
    height, width = by_area[len(by_area) // 2]
    return f"sides of {min(sides)} to {max(sides)} pixels, median {height} x {width} (height x width)"


def _residence(options: TrainOptions, data_cache: Path, sizes: Sequence[Size]) -> Iterator[Finding]:
    processes, lines = max(1, options.machine.n_GPUs), list[str]()
    residence(data_cache, _device(options), sizes, processes=processes, log=lines.append)
    yield from map(fine, lines)


def _cache(options: TrainOptions, folder: Path, place: Path | None, looks: Sequence[Look]) -> Iterator[Finding]:
    areas = sorted(math.prod(one.size) for one in looks)
    if options.loading.data_cache in RESIDENT:
        return
    if place is None:
        if areas and areas[len(areas) // 2] > LARGE:
            yield note("each patch decodes a whole large training image; `data_cache` decodes each image once")
        return
    if why_repack(folder, place):
        free = shutil.disk_usage(_existing(place.parent)).free
        text = f"`data_cache`: {place}.u8 will take {_bytes(3 * sum(areas))}, {_bytes(free)} are free"
        yield fine(text) if 3 * sum(areas) < free else mend(f"{text}: make room, or name a place with `data_cache`")


def test_images(options: TrainOptions, looks: list[Look], need_test_sets: bool) -> Iterator[Finding]:
    """Check the test sets; add to `looks` the images that are intact, each once."""
    network, dir_data = options.network, options.images.dir_data
    found, missing = named_test_sets(
        options.images.data_test, dir_data=dir_data, protocol=parts.protocol_of(options), seed=option.TEST_SEED
    )
    if missing and need_test_sets:
        yield mend(missing_test_sets(missing, dir_data))
    elif missing:
        place = f"they are looked for as {dir_data}/benchmark/NAME/HR, beside that and above"
        instead = "" if found else "; without any, a few training images are held out"
        yield note(f"`data_test`: {', '.join(missing)} not found, {place}{instead}")
    if options.images.data_test == HELD_OUT:
        yield fine("some of the training images are held out for validation")
    net = model.build(network.model, scale=network.scale, **parts.network_sizes(options))
    for test_set in found:
        wrong = list(attempt(partial(check_test_sets, at_least=smallest_hr(net)), [test_set]))
        yield from wrong or [fine(f"test set {test_set.name}: {len(test_set.hr_paths)} images, {test_set.protocol}")]
    intact, _ = survey([path for test_set in found for path in test_set.hr_paths], options.loading.n_threads)
    looks += {one.digest: one for one in intact}.values()  # prepared sets have an HR image for each of its LR images


# ---------------------------------------------------------------------------------------------------- dry run


def dry_run(trainer: Trainer) -> float:
    """Take a few steps of each stretch, score one image of each test set, print what the run would cost; write nothing.

    Returns the seconds that all steps would take. The trainer's network is changed.
    """
    say = trainer.run.log  # in one of several processes only
    trainer.net.train()
    warmup = min(trainer.schedule.warmup_epochs * trainer.epoch_steps, trainer.steps)
    seconds = 0.0
    for start, stop in ((0, warmup), (warmup, trainer.steps)):
        if stop > start:
            per_step = _seconds_per_step(trainer, start)
            seconds += per_step * (stop - start)
            say(f"steps {start} to {stop}: {1 / per_step:.2f} steps/s  ({trainer.clock.shares()})")
    validation = sum(_seconds_to_validate(trainer, test_set) for test_set in trainer.test_sets)
    validation *= trainer.steps // trainer.epoch_steps + trainer.score_start
    say(f"memory of a process, at most: {peak_memory(trainer.device)}")
    say(f"forecast: {duration(seconds)} for {trainer.steps:,} steps, {duration(validation)} for validation")
    return seconds


def _seconds_per_step(trainer: Trainer, start: int) -> float:
    """Return the seconds of a step: of computing, or of loading where that takes longer."""
    trainer.step, times, losses = start, [], {}
    for step in range(start, start + DRY_STEPS):
        begin = time.perf_counter()
        with trainer.clock("data"):
            patches = trainer.batches[step]
        loaded = time.perf_counter()
        losses = {name: value.item() for name, value in trainer.train_step(patches).items()}  # waits for the device
        times.append((loaded - begin, time.perf_counter() - loaded))
    trainer.run.log("losses: " + "  ".join(f"{name} {value:.4g}" for name, value in losses.items()))
    load, compute = np.median(times[2:], axis=0).tolist()
    return max(compute, load / trainer.n_threads) if trainer.n_threads else compute + load


def _seconds_to_validate(trainer: Trainer, test_set: TestSet) -> float:
    trainer.net.eval()
    begin = time.perf_counter()
    trainer.scores(test_set, first=1)
    trainer.net.train()
    return (time.perf_counter() - begin) * len(test_set.hr_paths) / trainer.ranks.world
