"""The device, the network, what it is trained for, and by which plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import ceil
from pathlib import Path

import torch

import model
from build.degradation import recipe
from build.images import Log
from data.degradation.sharpen import SMALLEST as SHARPENED
from loss import GAN, Adversarial, Contrast, Distillation, Objective, Perceptual, Pixel
from model import BlindSR
from model.discriminator import UNetDiscriminator
from option import Machine, TrainOptions
from plan import Plan, Schedule
from runtime.distributed import Ranks
from runtime.precision import Precision


def device(
    machine: Machine,
    log: Log,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    *,
    one_size: bool = False,
) -> torch.device:
    """Where this process runs, prepared, for images of one size where they are; says so where it is the CPU."""
    numerics(machine).prepare(one_size=one_size)
    if machine.cpu or machine.n_GPUs == 0 or not torch.cuda.is_available():
        log("running on the CPU" + ("" if machine.cpu or machine.n_GPUs == 0 else ": PyTorch finds no CUDA device"))
        if machine.precision == "tf32":
            log("note: --precision tf32 has no effect on the CPU, which computes in fp32")
        torch.set_flush_denormal(True)  # the tails of narrow kernels are denormal, and slow
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if ranks.local >= found:
        raise ValueError(f"--n_GPUs: process {ranks.local + 1} of this machine finds no GPU, there are {found}")
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)


def numerics(machine: Machine) -> Precision:
    return Precision(precision=machine.precision, deterministic=machine.deterministic)


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


def check_teacher(options: TrainOptions, objective: Objective) -> None:
    """Raise ValueError where --pre_train_TA is another teacher than that of a run that goes on: its own counts."""
    path, teacher = options.loss.pre_train_TA, getattr(objective, "teacher", None)
    if path is None or teacher is None:
        return
    asked = model.load_model(path, flag="--pre_train_TA").state_dict()
    if any(not torch.equal(value.cpu(), asked[name]) for name, value in teacher.state_dict().items()):
        raise ValueError(
            f"--pre_train_TA {path} is not the teacher that this run began with; leave it out to go on with that one, "
            "or start a run of another name"
        )


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
        teacher=_teacher(options, net) if options.has_teacher else None,
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
