"""From options to the parts that `main.py` and `test.py` put together; published units become the units used inside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from math import ceil, isqrt, radians
from pathlib import Path
from typing import Any, Literal, cast

import torch

import metric
import model
from data.benchmark import Benchmark, Degraded, find, roots_around
from data.degradation import Degradation, Gaussian, MANet, SecondOrder
from data.degradation.jpeg import Codec
from data.degradation.sharpen import SMALLEST as SHARPENED
from data.images import ImageFolder, ImageStore, Selection, check_images, list_images
from data.packed import open_packed
from data.pairs import Draws, Pairs
from data.protocol import NAMED, Case, Protocol, manet_sv, read_protocol
from data.sampler import PatchBatches, PatchSampler
from loss import GAN, Adversarial, Contrast, Distillation, Objective, Perceptual, Pixel
from model import BlindSR
from model.discriminator import UNetDiscriminator
from numerics import Numerics
from option import BESIDE_FOLDER, EvalOptions, Machine, TrainOptions
from parallel import Ranks
from plan import Plan, Schedule

TOGETHER = 9  # images of a GPU in published training, which have resizing and kind of noise in common

Log = Callable[[str], None]


def device(machine: Machine, log: Log, ranks: Ranks = Ranks()) -> torch.device:  # noqa: B008 (frozen)
    """Where this process runs, prepared; says so where it is the CPU."""
    numerics(machine).prepare()
    if machine.cpu or machine.n_GPUs == 0 or not torch.cuda.is_available():
        log("running on the CPU" + ("" if machine.cpu or machine.n_GPUs == 0 else ": PyTorch finds no CUDA device"))
        torch.set_flush_denormal(True)  # the tails of narrow kernels are denormal, and slow
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if ranks.local >= found:
        raise ValueError(f"--n_GPUs: process {ranks.local + 1} of this machine finds no GPU, there are {found}")
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)


def numerics(machine: Machine) -> Numerics:
    return Numerics(precision=machine.precision, deterministic=machine.deterministic)


# ----------------------------------------------------------------------------------------------- degradations


def recipe(options: TrainOptions) -> Degradation[Any]:
    """The degradation of training. manet: sig_min and sig_max are variances, standard deviations inside."""
    given, drawn = options.degradation, options.training_degradation
    if given.degradation == "second_order":
        return SecondOrder(scale=options.network.scale, codec=cast(Codec, drawn.codec))
    common = {
        "scale": options.network.scale,
        "iso": given.isotropic,
        "noise": given.noise / 255,
        "quality": drawn.jpeg_low or None,
        "per_batch": drawn.draw_per == "batch",
    }
    if given.degradation == "manet":
        return MANet(width=(drawn.sig_min**0.5, drawn.sig_max**0.5), **common)
    width = (drawn.sig_min, drawn.sig_max) if given.isotropic else (drawn.lambda_min, drawn.lambda_max)
    return Gaussian(width=width, sampling=_sampling(given.sample_mode), **common)


def protocol(options: TrainOptions | EvalOptions, scale: int) -> Protocol:
    """The protocol of tests and validation, with its noise and JPEG."""
    given, test = options.degradation, options.test_degradation
    if given.sv_mode:
        rule = manet_sv(scale, given.sv_mode)
    elif test.protocol == "flags":
        rule = _protocol_of_flags(options, scale)
    elif test.protocol in NAMED:
        rule = NAMED[test.protocol](scale)
    else:
        return read_protocol(Path(test.protocol), scale)  # says all of itself
    if given.sample_mode == "s-fold":
        rule = dataclasses.replace(rule, name=f"{rule.name} s-fold", recipe="gaussian s-fold")
    return dataclasses.replace(rule, noise=given.noise / 255, quality=test.jpeg_quality or None)


def _protocol_of_flags(options: TrainOptions | EvalOptions, scale: int) -> Protocol:
    given, test = options.degradation, options.test_degradation
    first, second = (test.sig, test.sig) if given.isotropic else (test.lambda_1, test.lambda_2)
    if first is None or second is None:
        raise ValueError("--protocol flags needs --sig, or --lambda_1 and --lambda_2")
    theta = 0.0 if given.isotropic else radians(test.theta)
    name = f"sig {first:g}" if given.isotropic else f"lambda {first:g} {second:g} theta {test.theta:g}"
    if given.degradation == "manet":  # the flags are variances
        return Protocol(f"manet {name}", scale, "manet", (Case(name, (first**0.5, second**0.5), theta),))
    return Protocol(name, scale, "gaussian", (Case(name, (first, second), theta),))


def _sampling(sample_mode: str) -> Literal["bicubic", "s-fold"]:
    return "s-fold" if sample_mode == "s-fold" else "bicubic"


# --------------------------------------------------------------------------------------------------- images


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


def benchmarks(options: TrainOptions | EvalOptions, rule: Protocol, seed: int) -> tuple[list[Benchmark], list[str]]:
    """The test sets of --data_test that are there, and the names of those that are not."""
    root = options.images.dir_data
    roots = [] if root is None else roots_around(root)
    found: list[Benchmark] = []
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


def check_patch(options: TrainOptions, net: BlindSR) -> None:
    """Raise ValueError for patches that the network or discriminator cannot take, or a blur cannot be applied to."""
    loading, scale = options.loading, options.network.scale
    if loading.patch_size < net.min_size:
        raise ValueError(
            f"--patch_size {loading.patch_size}: {net.min_size} LR pixels are the least for {options.network.model}"
        )
    least = ceil(recipe(options).smallest / scale)
    if loading.crop_size < least:
        flag = "--patch_size" if loading.crop_size == loading.patch_size else "--crop_size"
        raise ValueError(
            f"{flag} {loading.crop_size}: {least} LR pixels are the least that can be degraded by "
            f"{options.degradation.degradation} x{scale}"
        )
    side, multiple = loading.patch_size * scale, UNetDiscriminator.multiple
    if options.loss.objective == "adversarial" and side % multiple:
        raise ValueError(
            f"--patch_size {loading.patch_size}: HR patches have {side} pixels a side at x{scale}, and the "
            f"discriminator takes multiples of {multiple}"
        )
    loss = options.loss
    least = {
        "--sharpen": SHARPENED * loss.sharpen,
        "--perceptual_weight": Perceptual.smallest * (loss.perceptual_weight > 0),
    }
    for flag, needed in least.items():
        if loss.objective == "adversarial" and side < needed:
            raise ValueError(
                f"--patch_size {loading.patch_size}: {flag} takes HR patches of {needed} pixels a side or more"
            )


def check_benchmarks(found: Sequence[Benchmark], net: BlindSR) -> None:
    """Raise BadImage for a test image that is damaged, or too small to be degraded, restored and measured."""
    needed = max(net.scale * net.min_size, metric.smallest(net.scale))
    for benchmark in found:
        benchmark.check(at_least=needed)


def hold_out(
    store: ImageStore, folder: Path, rule: Protocol, seed: int, log: Log
) -> tuple[ImageStore, list[Benchmark]]:
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


# ------------------------------------------------------------------------------------- network and objective


def network(options: TrainOptions) -> BlindSR:
    """A fresh network, or one with the weights of --pre_train."""
    asked, path = options.network, options.loss.pre_train
    if path is None:
        return model.build(asked.model, scale=asked.scale, **asked.sizes)
    source = model.load_model(path)
    if asked.model == "KDSR_S" and source.sees_hr:  # the published stage S names the teacher's file here too
        require(source, "--pre_train", path, scale=asked.scale, **asked.sizes)
        student = model.build("KDSR_S", **source.config)
        take_restoration(student, source)
        return student
    require(source, "--pre_train", path, model=asked.model, scale=asked.scale, **asked.sizes)
    return source.train()


def take_restoration(student: BlindSR, teacher: BlindSR) -> None:
    """The published start of a student: the teacher's SR network, an estimator of its own."""
    student.get_submodule("restoration").load_state_dict(teacher.get_submodule("restoration").state_dict())


def require(net: BlindSR, flag: str, path: Path, **asked: str | int | None) -> None:
    """ValueError unless a loaded network is what was asked for; None asks for nothing."""
    found = {"model": model.name_of(net), **net.config}
    for name, value in asked.items():
        if value is not None and found.get(name) != value:
            raise ValueError(f"{flag} {path} holds {name} {found.get(name)}, and --{name} {value} was asked for")


def _teacher(options: TrainOptions, net: BlindSR) -> BlindSR:
    """The teacher of --pre_train_TA; when a run goes on without one, an empty one: its weights come with the state."""
    path = options.loss.pre_train_TA
    if path is None:
        return model.build("KDSR_T", **net.config)
    teacher = model.load_model(path, flag="--pre_train_TA")
    require(teacher, "--pre_train_TA", path, model="KDSR_T", **net.config)
    return teacher


def _pixel(options: TrainOptions, net: BlindSR) -> Objective:
    return Pixel()


def _distillation(options: TrainOptions, net: BlindSR) -> Objective:
    loss, teacher = options.loss, _teacher(options, net)
    if loss.pre_train is None:
        take_restoration(net, teacher)
    warmup = options.training.warmup_epochs * options.training.test_every
    return Distillation(teacher, temperature=loss.temperature, kd_weight=loss.kd_weight, warmup_steps=warmup)


def _contrast(options: TrainOptions, net: BlindSR) -> Objective:
    loss, training = options.loss, options.training
    assert isinstance(net, model.ContrastiveSR)
    return Contrast(
        net,
        c_weight=loss.c_weight,
        warmup_steps=training.warmup_epochs * training.test_every,
        freeze_step=loss.freeze_epoch * training.test_every,
    )


def _adversarial(options: TrainOptions, net: BlindSR) -> Objective:
    loss, rate = options.loss, options.training.lr_sr
    vgg = Perceptual(weights=loss.vgg, pretrained=not options.resuming) if loss.perceptual_weight else None
    made = Adversarial(
        UNetDiscriminator(n_feats=loss.d_feats),
        perceptual=vgg,
        teacher=_teacher(options, net) if options.taught else None,
        gan=GAN[loss.gan],
        sharpen=loss.sharpen,
        l1_weight=loss.l1_weight,
        perceptual_weight=loss.perceptual_weight,
        gan_weight=loss.gan_weight,
        kd_weight=loss.kd_weight,
        temperature=loss.temperature,
    )
    made.rate_share = loss.lr_d / rate
    return made


OBJECTIVES: dict[str, Callable[[TrainOptions, BlindSR], Objective]] = {
    "pixel": _pixel,
    "distillation": _distillation,
    "contrast": _contrast,
    "adversarial": _adversarial,
}


def objective(options: TrainOptions, net: BlindSR) -> Objective:
    """What `net` is trained for; may set its weights to those that this objective starts from."""
    made = OBJECTIVES[options.loss.objective](options, net)
    made.partial |= isinstance(net, model.ContrastiveSR)  # only contrast trains its projection
    return made


def plan(options: TrainOptions) -> Plan:
    """Epochs as steps."""
    training, saving = options.training, options.saving
    epoch = training.test_every
    schedule = Schedule(
        warmup_steps=training.warmup_epochs * epoch,
        warmup_rate=training.lr_encoder,
        warmup_decay=training.lr_decay_encoder * epoch,
        warmup_gamma=training.gamma_encoder,
        rate=training.lr_sr,
        decay=training.lr_decay_sr * epoch,
        gamma=training.gamma_sr,
    )
    return Plan(
        steps=options.epochs * epoch,
        epoch_steps=epoch,
        schedule=schedule,
        loader_workers=options.loading.n_threads,
        print_every=saving.print_every,
        metric=options.test_degradation.metric,
        betas=(0.9, training.beta2),
        ema=training.ema,
        accumulate=training.accumulate,
        collapse=training.collapse,
        max_seconds=math.inf if saving.max_minutes is None else 60 * saving.max_minutes,
        save_seconds=60 * saving.save_minutes,
        save_from_epoch=saving.st_save_epoch,
        keep=saving.keep,
    )


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
