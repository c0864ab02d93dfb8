"""Every flag once: section, type, default, unit, check. Parsed by a function, passed on in typed, frozen sections.

What the papers leave to the model (sizes, schedules, degradations) defaults to what is published for it: `PUBLISHED`.
Published flags keep their published meaning; what differs inside is converted here.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from commandline import PUBLISHED_DEFAULT, REQUIRED, Given, flag

DEFAULT_SCALE = 4
BESIDE_FOLDER = Path()  # of --data_cache


@dataclass(frozen=True, kw_only=True)
class Machine:
    cpu: bool = flag(False, "run on the CPU even where there is a GPU")
    n_GPUs: int = flag(1, "0 is the same as --cpu; more than one GPU is not used yet", low=0)  # noqa: N815 (published name)


@dataclass(frozen=True, kw_only=True)
class Loading:
    n_threads: int = flag(min(4, os.cpu_count() or 1), "loader processes", low=0)
    seed: int = flag(1, "of everything that is drawn at random", low=0)
    data_train: str = flag("DF2K", "training set: <dir_data>/<data_train>/HR, where --dir_data is a root")
    patch_size: int = flag(PUBLISHED_DEFAULT, "side of an LR training patch, pixels", low=1)
    no_augment: bool = flag(False, "neither flip nor transpose the training patches")
    data_cache: Path | None = flag(
        None, "decode the training images once, into <this>.u8; without a value beside the folder", bare=BESIDE_FOLDER
    )
    skip_bad_images: bool = flag(False, "leave out unreadable and too small training images, and name them")


@dataclass(frozen=True, kw_only=True)
class Images:
    dir_data: Path | None = flag(None, "a folder of HR images, or a root with <data_train>/HR and benchmark/<Set>/HR")
    data_test: str = flag(PUBLISHED_DEFAULT, "test sets, names under benchmark/ or folders, joined by +")


@dataclass(frozen=True, kw_only=True)
class Degradation:
    degradation: str = flag(PUBLISHED_DEFAULT, "recipe", choices=("gaussian", "manet"))
    blur_type: str = flag("iso_gaussian", "shape of the blur kernels", choices=("iso_gaussian", "aniso_gaussian"))
    sample_mode: str = flag(
        "bicubic",
        "downsampler (gaussian); CDSR's published code calls its own, every s-th pixel, `bicubic` too",
        also=("mode",),
        choices=("bicubic", "s-fold"),
    )
    noise: float = flag(
        0.0, "strongest noise in training, the noise in tests; σ in grey levels of 255", low=0, high=255
    )
    sv_mode: int = flag(0, "spatially variant blur of the test images, 1 to 5; 0 is none", low=0, high=5)

    @property
    def isotropic(self) -> bool:
        return self.blur_type == "iso_gaussian"


@dataclass(frozen=True, kw_only=True)
class TrainingDegradation:
    sig_min: float = flag(PUBLISHED_DEFAULT, "narrowest blur: σ in HR pixels, iso (gaussian); variance (manet)", low=0)
    sig_max: float = flag(PUBLISHED_DEFAULT, "widest blur, likewise", low=0)
    lambda_min: float = flag(0.2, "narrowest axis of an aniso kernel, σ in HR pixels (gaussian)", low=0)
    lambda_max: float = flag(PUBLISHED_DEFAULT, "widest axis of an aniso kernel, likewise", low=0)
    jpeg_low: float = flag(0.0, "lowest JPEG quality, drawn up to 100; 0: no JPEG", low=0, high=100)
    draw_per: str = flag(PUBLISHED_DEFAULT, "draw a degradation for each ...", choices=("batch", "image"))


@dataclass(frozen=True, kw_only=True)
class TestDegradation:
    protocol: str = flag(
        PUBLISHED_DEFAULT,
        "the kernels that tests use; `flags`: the one of --sig or --lambda_1, --lambda_2, --theta",
        choices=("gaussian8", "aniso9", "manet9", "bicubic", "flags"),
    )
    sig: float | None = flag(None, "width of an iso kernel, as --sig_max is given", low=0)
    lambda_1: float | None = flag(
        None, "first axis of an aniso kernel: σ in HR pixels (gaussian), variance (manet)", low=0
    )
    lambda_2: float | None = flag(None, "second axis, likewise", low=0)
    theta: float = flag(0.0, "rotation of an aniso kernel, degrees")
    jpeg_quality: float = flag(0.0, "JPEG quality of the test images; 0: no JPEG", low=0, high=100)
    metric: str = flag(PUBLISHED_DEFAULT, "luma of PSNR and SSIM, see metric.py", choices=("matlab", "kdsr"))


@dataclass(frozen=True, kw_only=True)
class Network:
    model: str = flag(REQUIRED, "network", choices=("KDSR_T", "KDSR_S", "CDSR"))
    scale: int = flag(DEFAULT_SCALE, "super-resolution factor", low=2, high=4)
    n_feats: int | None = flag(None, "channels (KDSR; 64)", low=1)
    n_blocks: int | None = flag(None, "blocks of the SR network (KDSR 53, CDSR 10)", low=1)
    n_resblocks: int | None = flag(None, "residual blocks of the estimator (KDSR; 9)", low=1)

    @property
    def sizes(self) -> dict[str, int]:
        """Those sizes that were asked for."""
        sizes = {"n_feats": self.n_feats, "n_blocks": self.n_blocks, "n_resblocks": self.n_resblocks}
        return {name: size for name, size in sizes.items() if size is not None}


@dataclass(frozen=True, kw_only=True)
class Loss:
    objective: str = flag(PUBLISHED_DEFAULT, "what is minimised", choices=("pixel", "distillation", "contrast"))
    pre_train: Path | None = flag(
        None, "weights to start from; a student may start from a teacher's SR network", also=("pre_train_ST",)
    )
    pre_train_TA: Path | None = flag(None, "the teacher's weights (distillation)")  # noqa: N815
    temperature: float = flag(0.15, "τ of the distillation", low=1e-6)
    kd_weight: float = flag(1.0, "weight of the distillation", low=0)
    c_weight: float = flag(1.0, "weight of the contrast; L1 counts in 0..255 beside it", low=0)
    freeze_epoch: int = flag(1_000_000, "fix the encoder and drop the contrast after this epoch", low=0)


@dataclass(frozen=True, kw_only=True)
class Training:
    batch_size: int = flag(PUBLISHED_DEFAULT, "images in a batch", low=1)
    test_every: int = flag(1000, "steps in an epoch; each ends with validation and checkpoints", low=1)
    epochs_encoder: int = flag(
        PUBLISHED_DEFAULT, "epochs in which the encoder or estimator learns alone; -1: none", low=-1
    )
    epochs_sr: int = flag(
        PUBLISHED_DEFAULT, "epochs of full training after those; for KDSR_S, as published, those included", low=0
    )
    lr_encoder: float = flag(PUBLISHED_DEFAULT, "learning rate of the first kind of epochs", low=0)
    lr_sr: float = flag(PUBLISHED_DEFAULT, "learning rate of the second kind", low=0)
    lr_decay_encoder: int = flag(60, "epochs between two decays, first kind", low=1)
    lr_decay_sr: int = flag(PUBLISHED_DEFAULT, "epochs between two decays, second kind", low=1)
    gamma_encoder: float = flag(0.1, "what a decay multiplies the rate with, first kind", low=0)
    gamma_sr: float = flag(0.5, "what a decay multiplies the rate with, second kind", low=0)

    @property
    def warmup_epochs(self) -> int:
        return max(self.epochs_encoder, 0)


@dataclass(frozen=True, kw_only=True)
class Saving:
    save: str = flag(REQUIRED, "name of the run: experiment/<save>_x<scale>_<sample_mode>_<iso|aniso>")
    dir_experiment: Path = flag(Path("experiment"), "where runs are kept")
    resume: str = flag("no", "continue the run of this name", choices=("no", "yes", "0", "-1"), bare="yes")
    print_every: int = flag(100, "steps between two lines of the log", low=1)
    st_save_epoch: int = flag(0, "from this epoch on, keep model_<epoch>_psnr_<dB>.pt", low=0)
    max_minutes: float = flag(math.inf, "stop after this time, ready to go on with --resume", low=0)
    keep: int = flag(5, "how many of those to keep, the newest; 0: all", low=0)
    dry_run: bool = flag(False, "build everything, take a few steps, forecast the run, write nothing")


@dataclass(frozen=True, kw_only=True)
class Testing:
    pre_train: Path = flag(REQUIRED, "the checkpoint to test")
    model: str | None = flag(None, "network that the checkpoint must hold", choices=("KDSR_T", "KDSR_S", "CDSR"))
    scale: int | None = flag(None, "factor that the checkpoint must have", low=2, high=4)
    dir_demo: Path | None = flag(None, "folder of images to super-resolve, with --data_test Demo")
    save: str | None = flag(None, "where results go, under --dir_experiment; default: the run of the checkpoint")
    dir_experiment: Path = flag(Path("experiment"), "where runs are kept")
    save_results: bool = flag(False, "write the super-resolved images too")
    seed: int = flag(1, "of the noise of the test images", low=0)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """All that `main.py` can be told."""

    network: Network
    images: Images
    loading: Loading
    degradation: Degradation
    training_degradation: TrainingDegradation
    test_degradation: TestDegradation
    loss: Loss
    training: Training
    saving: Saving
    machine: Machine

    @property
    def epochs(self) -> int:
        """Of the whole run."""
        training = self.training
        if self.loss.objective == "distillation":
            return training.epochs_sr
        return training.warmup_epochs + training.epochs_sr

    @property
    def run_dir(self) -> Path:
        blur = self.degradation.blur_type.removesuffix("_gaussian")
        name = f"{self.saving.save}_x{self.network.scale}_{self.degradation.sample_mode}_{blur}"
        return self.saving.dir_experiment / name


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """All that `test.py` can be told."""

    testing: Testing
    images: Images
    degradation: Degradation
    test_degradation: TestDegradation
    machine: Machine


_KDSR = {
    "degradation": "gaussian",
    "draw_per": "batch",
    "metric": "kdsr",
    "patch_size": 64,
    "batch_size": 64,
    "epochs_encoder": -1,
    "lr_encoder": 2e-4,
    "lr_sr": 1e-4,
}
# By network, and by network and blur where that makes a difference.
PUBLISHED: dict[str, dict[str, Any]] = {
    "KDSR_T": {**_KDSR, "objective": "pixel", "epochs_sr": 500, "lr_decay_sr": 125},
    "KDSR_S": {**_KDSR, "objective": "distillation", "epochs_sr": 600, "lr_decay_sr": 150},
    "KDSR_S aniso_gaussian": {"epochs_encoder": 100, "epochs_sr": 500, "lr_decay_sr": 125},
    "CDSR": {
        "degradation": "manet",
        "draw_per": "image",
        "metric": "matlab",
        "objective": "contrast",
        "patch_size": 48,
        "batch_size": 32,
        "epochs_encoder": -1,
        "epochs_sr": 500,
        "lr_encoder": 1e-3,
        "lr_sr": 1e-4,
        "lr_decay_sr": 125,
    },
}
# By recipe: the flags' (sig_min, sig_max), σ for gaussian and variance for manet; and the protocol of iso and aniso.
WIDTHS = {
    "gaussian": {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)},
    "manet": {2: (0.35, 5.0), 3: (0.525, 7.5), 4: (0.7, 10.0)},
}
PROTOCOLS = {"gaussian": ("gaussian8", "aniso9"), "manet": ("manet9", "manet9")}

Options = TypeVar("Options", TrainOptions, EvalOptions)


def resolve(options: type[Options], given: Given, *, model: str, scale: int, data_test: str) -> Options:
    """The sections, with the published defaults of this network where the command line says nothing.

    data_test: the program's own default. Raises ValueError that names the flags where they contradict each other.
    """
    blur = given.get("blur_type", "iso_gaussian")
    defaults = {**PUBLISHED[model], **PUBLISHED.get(f"{model} {blur}", {}), "data_test": data_test}
    recipe = given.get("degradation", defaults["degradation"])
    low, high = WIDTHS[recipe][scale]
    defaults |= {
        "sig_min": low,
        "sig_max": high,
        "lambda_max": float(scale),
        "protocol": _protocol(given, recipe, blur),
    }
    values = defaults | given
    sections = {}
    for name, section in get_type_hints(options).items():
        known = {f.name: values[f.name] for f in dataclasses.fields(section) if f.name in values}
        sections[name] = section(**known)
    resolved = options(**sections)
    _check_degradation(resolved)
    if isinstance(resolved, TrainOptions):
        _check_training(resolved)
    return resolved


def _protocol(given: Given, recipe: str, blur: str) -> str:
    if given.keys() & {"sig", "lambda_1", "lambda_2"}:
        return "flags"
    return PROTOCOLS[recipe][blur == "aniso_gaussian"]


def _check_degradation(options: TrainOptions | EvalOptions) -> None:
    degradation, test = options.degradation, options.test_degradation
    if degradation.degradation == "manet" and degradation.sample_mode == "s-fold":
        raise ValueError(
            "--sample_mode s-fold: the published code of CDSR has its samplers' names swapped. "
            "Its `bicubic`, the default, takes every s-th pixel and is the one offered with --degradation manet"
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
    if loss.objective == "distillation":
        if network.model != "KDSR_S":
            raise ValueError(f"--objective distillation trains a student, --model KDSR_S, not {network.model}")
        if loss.pre_train_TA is None and options.saving.resume in ("no", "0"):
            raise ValueError(
                "--model KDSR_S learns from a teacher: name its checkpoint with --pre_train_TA "
                "(train one with --model KDSR_T), or leave the teacher out with --objective pixel"
            )
    if loss.objective == "contrast" and network.model != "CDSR":
        raise ValueError(f"--objective contrast trains an encoder like that of --model CDSR, not {network.model}'s")
    if options.epochs == 0:
        raise ValueError("--epochs_sr 0: there is nothing to train")


def idle(given: Given, options: TrainOptions) -> list[str]:
    """The flags that were given though they have no effect beside the others."""
    loss, degradation = options.loss, options.degradation
    manet, iso = degradation.degradation == "manet", degradation.isotropic
    effective = {
        ("sig_min", "sig_max"): manet or iso,
        ("lambda_min", "lambda_max"): not manet and not iso,
        ("pre_train_TA", "temperature", "kd_weight"): loss.objective == "distillation",
        ("c_weight", "freeze_epoch"): loss.objective == "contrast",
        ("lr_encoder", "lr_decay_encoder", "gamma_encoder"): options.training.warmup_epochs > 0,
        ("theta",): options.test_degradation.protocol == "flags" and not iso,
    }
    return [f"--{name}" for names, has in effective.items() if not has for name in names if name in given]


def flat(options: TrainOptions | EvalOptions) -> dict[str, Any]:
    """All options as plain values, for config.json."""
    values: dict[str, Any] = {}
    for section in dataclasses.fields(options):
        values |= dataclasses.asdict(getattr(options, section.name))
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
