"""From what a command line says to what is meant: published defaults, contradictions, flags without effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from commandline import Given
from data.protocol import NAMED
from option import EvalOptions, TrainOptions, flat

_KDSR = {
    "degradation": "gaussian",
    "draw_per": "batch",
    "metric": "kdsr",
    "patch_size": 64,
    "batch_size": 64,
    "epochs_encoder": -1,
    "lr_encoder": 2e-4,
    "lr_sr": 1e-4,
    "beta2": 0.999,
    "ema": 0.0,
    "augment": "all",
}
_REAL = {"n_feats": 128, "n_blocks": 42, "n_resblocks": 6, "batch_size": 72, "patch_size": 64}  # 8 GPUs, 9 images each
# By network, by recipe, and by network with blur, recipe or objective where that makes a difference; later ones count.
PUBLISHED: dict[str, dict[str, Any]] = {
    "second_order": {
        "draw_per": "image",
        "crop_size": 100,
        "augment": "mirror",
        "epochs_encoder": -1,
        "beta2": 0.99,
        "ema": 0.999,
        "metric": "matlab",  # of the tables of real photographs
    },
    "KDSR_T": {**_KDSR, "objective": "pixel", "epochs_sr": 500, "lr_decay_sr": 125},
    "KDSR_S": {**_KDSR, "objective": "distillation", "epochs_sr": 600, "lr_decay_sr": 150},
    "KDSR_S aniso_gaussian": {"epochs_encoder": 100, "epochs_sr": 500, "lr_decay_sr": 125},
    "KDSR_T second_order": {**_REAL, "epochs_sr": 1000, "lr_sr": 1e-4, "lr_decay_sr": 1000},
    "KDSR_S second_order": {**_REAL, "epochs_sr": 1000, "lr_sr": 2e-4, "lr_decay_sr": 600},
    "KDSR_S adversarial": {"epochs_sr": 400, "lr_sr": 1e-4, "lr_decay_sr": 400},
    "CDSR": {
        **_KDSR,
        "degradation": "manet",
        "draw_per": "image",
        "metric": "matlab",
        "objective": "contrast",
        "patch_size": 48,
        "batch_size": 32,
        "epochs_sr": 500,
        "lr_encoder": 1e-3,
        "lr_decay_sr": 125,
    },
    "DASR": {
        **_KDSR,
        "draw_per": "image",
        "objective": "contrast",
        "patch_size": 48,
        "epochs_encoder": 100,
        "epochs_sr": 500,
        "lr_encoder": 1e-3,
        "lr_decay_sr": 125,
    },
    # Not blind: the sizes are the papers', the degradation is that of the blind ones they are compared with.
    "EDSR": {**_KDSR, "objective": "pixel", "patch_size": 48, "batch_size": 16, "epochs_sr": 300, "lr_decay_sr": 200},
    "RRDB": {
        **_KDSR,
        "objective": "pixel",
        "patch_size": 32,
        "batch_size": 16,
        "epochs_sr": 1000,
        "lr_sr": 2e-4,
        "lr_decay_sr": 200,
    },
    "BICUBIC": {**_KDSR, "objective": "pixel", "epochs_sr": 0, "lr_decay_sr": 1},
}
# By recipe: the flags' (sig_min, sig_max), σ for gaussian and variance for manet; and the protocol of iso and aniso.
WIDTHS = {
    "gaussian": {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)},
    "manet": {2: (0.35, 5.0), 3: (0.525, 7.5), 4: (0.7, 10.0)},
}
WIDTHS["second_order"] = WIDTHS["gaussian"]
PROTOCOLS = {
    "gaussian": ("gaussian8", "aniso9"),
    "manet": ("manet9", "manet9"),
    "second_order": ("second_order", "second_order"),
}
POOLED = 20  # batches in the pool of pairs: 180 pairs for the 9 images of a GPU

# What a resumed run may be told otherwise than at its start: where things are, how long, how much is written.
MAY_CHANGE = {
    *("cpu", "n_GPUs", "n_threads", "accumulate", "dir_data", "data_cache", "dir_experiment"),
    *("pre_train", "pre_train_TA", "vgg", "resume", "check", "dry_run", "epochs_sr"),
    *("max_minutes", "save_minutes", "print_every", "st_save_epoch", "keep"),
}

ADVERSARIAL = ("gan", "l1_weight", "perceptual_weight", "gan_weight", "sharpen", "vgg", "d_feats", "lr_d")

Resolved = TypeVar("Resolved", TrainOptions, EvalOptions)


def resolve(options: type[Resolved], given: Given, *, model: str, scale: int, data_test: str) -> Resolved:
    """The sections, with the published defaults of this network where the command line says nothing.

    data_test: the program's own default. Raises ValueError that names the flags where they contradict each other.
    """
    values = _defaults(given, model, scale) | {"data_test": data_test} | given
    sections = {}
    for name, section in get_type_hints(options).items():
        known = {f.name: values[f.name] for f in dataclasses.fields(section) if f.name in values}
        sections[name] = section(**known)
    resolved = options(**sections)
    _check_degradation(resolved, given)
    if isinstance(resolved, TrainOptions):
        _check_training(resolved)
        _check_epochs(resolved)
    return resolved


def _defaults(given: Given, model: str, scale: int) -> dict[str, Any]:
    blur = given.get("blur_type", "iso_gaussian")
    defaults = dict(PUBLISHED[model])
    recipe = given.get("degradation", defaults["degradation"])
    objective = given.get("objective", defaults["objective"])
    for setting in (recipe if recipe == "second_order" else blur, objective):
        defaults |= PUBLISHED.get(setting, {}) | PUBLISHED.get(f"{model} {setting}", {})
    if objective in ("pixel", "adversarial"):
        defaults["epochs_encoder"] = -1
    defaults.setdefault("crop_size", given.get("patch_size", defaults["patch_size"]))
    pooled = recipe == "second_order" and objective != "contrast"
    defaults["pool_size"] = POOLED * given.get("batch_size", defaults["batch_size"]) if pooled else 0
    low, high = WIDTHS[recipe][scale]
    one_kernel = given.keys() & {"sig", "lambda_1", "lambda_2"}
    protocol = "flags" if one_kernel else PROTOCOLS[recipe][blur == "aniso_gaussian"]
    return {**defaults, "sig_min": low, "sig_max": high, "lambda_max": float(scale), "protocol": protocol}


def _check_degradation(options: TrainOptions | EvalOptions, given: Given) -> None:
    degradation, test = options.degradation, options.test_degradation
    manet = degradation.degradation == "manet" or test.protocol == "manet9" or degradation.sv_mode
    if degradation.sample_mode == "s-fold" and manet:
        raise ValueError(
            "--sample_mode s-fold: the published code of CDSR has its samplers' names swapped. "
            "Its `bicubic`, the default, takes every s-th pixel and is the one offered for manet and --sv_mode"
        )
    drawn = [test.protocol] if isinstance(options, EvalOptions) else [test.protocol, degradation.degradation]
    if "second_order" in drawn and (degradation.noise or test.jpeg_quality or degradation.sample_mode != "bicubic"):
        raise ValueError("second_order draws all of it: leave out --noise, --jpeg_quality, --sample_mode")
    if test.protocol not in (*NAMED, "flags") and not Path(test.protocol).is_file():
        raise ValueError(f"--protocol {test.protocol} is none of {', '.join(NAMED)}, flags, and no file")
    if Path(test.protocol).is_file() and (
        degradation.noise or test.jpeg_quality or degradation.sample_mode != "bicubic"
    ):
        raise ValueError(
            f"--protocol {test.protocol} says all of itself: leave out --noise, --jpeg_quality, --sample_mode"
        )
    if 0 < test.jpeg_quality < 1:
        raise ValueError(f"--jpeg_quality {test.jpeg_quality:g} must be in 1..100, or 0 for no JPEG")
    if degradation.sv_mode and given.keys() & {"protocol", "sig", "lambda_1", "lambda_2"}:
        raise ValueError(
            f"--sv_mode {degradation.sv_mode} has its own kernels: leave out --protocol and --sig, --lambda_*"
        )
    if test.protocol == "flags":
        needed = ("sig",) if degradation.isotropic else ("lambda_1", "lambda_2")
        missing = [f"--{name}" for name in needed if getattr(test, name) is None]
        if missing:
            raise ValueError(f"--protocol flags with --blur_type {degradation.blur_type} needs {' and '.join(missing)}")
    elif (test.sig, test.lambda_1, test.lambda_2) != (None, None, None):
        raise ValueError(f"--protocol {test.protocol} has its own kernels: leave out --sig, --lambda_1 and --lambda_2")


def _check_training(options: TrainOptions) -> None:
    drawn, loss, network = options.training_degradation, options.loss, options.network
    for low, high in (("sig_min", "sig_max"), ("lambda_min", "lambda_max")):
        if getattr(drawn, low) > getattr(drawn, high):
            raise ValueError(f"--{low} {getattr(drawn, low):g} is more than --{high} {getattr(drawn, high):g}")
    loading, training = options.loading, options.training
    if loading.crop_size < loading.patch_size:
        raise ValueError(f"--crop_size {loading.crop_size} is less than --patch_size {loading.patch_size}")
    if loading.pool_size and loading.pool_size < training.batch_size:
        raise ValueError(f"--pool_size {loading.pool_size} is less than --batch_size {training.batch_size}")
    if training.batch_size % training.accumulate:
        raise ValueError(f"--batch_size {training.batch_size} cannot be cut into --accumulate {training.accumulate}")
    if loss.objective == "contrast" and (training.accumulate > 1 or loading.pool_size):
        raise ValueError(
            "--objective contrast compares the images of a batch, and two crops of each: "
            "leave out --accumulate and --pool_size"
        )
    if 0 < drawn.jpeg_low < 1:
        raise ValueError(f"--jpeg_low {drawn.jpeg_low:g} must be in 1..100, or 0 for no JPEG")
    if loss.pre_train_TA is not None and network.model != "KDSR_S":
        raise ValueError(f"--pre_train_TA: a student learns from a teacher, --model KDSR_S, not {network.model}")
    if loss.objective == "distillation":
        if network.model != "KDSR_S":
            raise ValueError(f"--objective distillation trains a student, --model KDSR_S, not {network.model}")
        if loss.pre_train_TA is None and not options.resuming:
            raise ValueError(
                "--model KDSR_S learns from a teacher: name its checkpoint with --pre_train_TA "
                "(train one with --model KDSR_T), or leave the teacher out with --objective pixel"
            )
    if loss.objective == "adversarial" and network.model == "KDSR_S" and loss.kd_weight and not options.has_teacher:
        raise ValueError(
            "--model KDSR_S --objective adversarial learns from a teacher, too: name its checkpoint with "
            "--pre_train_TA, or leave the teacher out with --kd_weight 0"
        )
    if loss.objective == "adversarial" and not options.training.lr_sr:
        raise ValueError("--lr_sr 0: the discriminator's rate, --lr_d, is kept as a multiple of it")
    if loss.objective == "contrast" and network.model not in ("CDSR", "DASR"):
        raise ValueError(
            f"--objective contrast trains an encoder, which CDSR and DASR have and {network.model} has not"
        )


def _check_epochs(options: TrainOptions) -> None:
    training, objective = options.training, options.loss.objective
    warmup = training.warmup_epochs
    if options.epochs == 0:
        raise ValueError(f"--model {options.network.model} --epochs_sr 0: there is nothing to train")
    if warmup and objective in ("pixel", "adversarial"):
        raise ValueError(f"--epochs_encoder {warmup}: --objective {objective} gives an encoder nothing to learn alone")
    if warmup and objective == "distillation" and warmup >= training.epochs_sr:
        raise ValueError(
            f"--epochs_encoder {warmup} leaves none of the --epochs_sr {training.epochs_sr} for the SR network"
        )
    if warmup and objective == "contrast" and options.loss.freeze_epoch < warmup:
        raise ValueError(
            f"--freeze_epoch {options.loss.freeze_epoch} comes before the end of --epochs_encoder {warmup}"
        )


def idle(given: Given, options: TrainOptions | EvalOptions) -> list[str]:
    """The flags that were given though they have no effect beside the others."""
    degradation, test = options.degradation, options.test_degradation
    manet, iso, flags = degradation.degradation == "manet", degradation.isotropic, test.protocol == "flags"
    second = degradation.degradation == "second_order"
    effective = {("sig",): flags and iso, ("lambda_1", "lambda_2", "theta"): flags and not iso}
    if isinstance(options, TrainOptions):
        objective = options.loss.objective
        effective |= {
            ("sig_min", "sig_max"): not second and (manet or iso),
            ("lambda_min", "lambda_max"): not second and not manet and not iso,
            ("codec",): second,
            ("jpeg_low", "draw_per", "blur_type", "sample_mode"): not second,
            ("temperature",): options.has_teacher,
            ("kd_weight",): options.has_teacher or not options.loss.kd_weight,  # 0 is how to do without a teacher
            ADVERSARIAL: objective == "adversarial",
            ("vgg",): options.loss.perceptual_weight > 0,
            ("pre_train_TA",): objective in ("distillation", "adversarial"),
            ("freeze_epoch",): objective == "contrast",
            ("c_weight",): objective == "contrast" and options.loss.freeze_epoch > 0,
            ("lr_encoder", "lr_decay_encoder", "gamma_encoder"): options.training.warmup_epochs > 0,
            ("dry_run",): not options.saving.check,
        }
    else:
        demo, pairs = options.images.data_test == "Demo", options.testing.hr_dir is not None
        on_the_fly = not demo and not pairs
        chosen = flags or "protocol" not in given  # they choose the protocol where it is not named
        effective |= {
            ("sig",): on_the_fly and flags and iso,
            ("lambda_1", "lambda_2", "theta"): on_the_fly and flags and not iso,
            ("degradation", "blur_type"): on_the_fly and chosen,
            ("protocol", "sample_mode", "noise", "sv_mode", "jpeg_quality", "seed", "dir_data"): on_the_fly,
            ("weights",): options.testing.pre_train is not None,
            ("n_GPUs",): options.machine.n_GPUs < 2,
            ("save_results", "metric", "lpips", "hr_dir"): not demo,
            ("dir_demo", "no_reference"): demo,
        }
    return [f"--{name}" for names, has in effective.items() if not has for name in names if name in given]


def notes(given: Given, options: TrainOptions | EvalOptions) -> list[str]:
    """What is worth knowing of a command line before it is carried out."""
    found = [f"{name} has no effect beside the other options" for name in idle(given, options)]
    if isinstance(options, EvalOptions) or options.resuming:
        return found
    if options.loss.objective == "adversarial" and options.loss.pre_train is None:
        found.append(
            "--objective adversarial without --pre_train starts from random weights; published is a start from the "
            "network that was trained without a discriminator"
        )
    return found


def changed(given: Given, options: TrainOptions, before: Mapping[str, Any]) -> list[str]:
    """What a resumed run is told otherwise than before, though it decides what the run is."""
    now, no_matter = flat(options), {*MAY_CHANGE, *(name.removeprefix("--") for name in idle(given, options))}
    names = [name for name in now if name in before and name not in no_matter and now[name] != before[name]]
    return [f"--{name} {before[name]} (now {now[name]})" for name in names]
