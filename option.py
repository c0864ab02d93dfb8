"""Every flag once: section, type, default, unit, range. Published flags keep their published meaning.

`commandline.parse` reads them, `resolve.resolve` fills in what is published for the model and refuses contradictions,
and the parts of a program are handed typed, frozen sections.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from commandline import PUBLISHED_DEFAULT, REQUIRED, flag
from data.degradation.jpeg import Codec
from data.sampler import AUGMENT
from loss import GAN
from model import NETWORKS, WEIGHTS
from runtime.precision import PRECISIONS
from utility import Run

DEFAULT_SCALE = 4
BESIDE_FOLDER = Path()  # of --data_cache


@dataclass(frozen=True, kw_only=True)
class Machine:
    cpu: bool = flag(False, "run on the CPU even where there is a GPU")
    n_GPUs: int = flag(1, "processes that train, each on its GPU; 0 is the same as --cpu", low=0)  # noqa: N815 (published name)
    precision: str = flag(
        "fp32", "of the network's products; tf32: on GPUs, else fp32; bf16 and fp16: autocast", choices=PRECISIONS
    )
    deterministic: bool = flag(False, "the same bits each time on a GPU too, more slowly")


@dataclass(frozen=True, kw_only=True)
class Loading:
    n_threads: int = flag(min(4, os.cpu_count() or 1), "loader processes", low=0)
    seed: int = flag(1, "of everything that is drawn at random", low=0)
    data_train: str | None = flag(
        None, "training set: <dir_data>/<data_train>/HR; without it DF2K, or --dir_data itself"
    )
    patch_size: int = flag(PUBLISHED_DEFAULT, "side of an LR training patch, pixels", low=1)
    crop_size: int = flag(
        PUBLISHED_DEFAULT,
        "side of what is degraded, LR pixels, of which a patch is then cut (second_order: 100, else the patch's)",
        low=1,
    )
    augment: str = flag(
        PUBLISHED_DEFAULT,
        "turned and mirrored patches: the eight forms, or left and right alone (second_order), or none",
        choices=tuple(AUGMENT),
    )
    pool_size: int = flag(
        PUBLISHED_DEFAULT, "pairs of former steps to mix a batch with, of all GPUs (second_order: 20 batches)", low=0
    )
    data_cache: Path | None = flag(
        None, "decode the training images once, into <this>.u8; without a value beside the folder", bare=BESIDE_FOLDER
    )
    skip_bad_images: bool = flag(False, "leave out unreadable and too small training images, and name them")


@dataclass(frozen=True, kw_only=True)
class Images:
    dir_data: Path | None = flag(
        None, "a folder of HR images, or a root with benchmark/<Set>/HR to test on and DF2K/HR to train on"
    )
    data_test: str = flag(
        PUBLISHED_DEFAULT,
        "test sets, names under benchmark/ or folders, joined by +: Set5 while training, else the four of the papers, "
        "or Demo; one with LR/ (or LR_x<scale>/) beside its HR/ holds real pairs, which are scored as they are",
    )


@dataclass(frozen=True, kw_only=True)
class Degradation:
    degradation: str = flag(PUBLISHED_DEFAULT, "recipe", choices=("gaussian", "manet", "second_order"))
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
    codec: str = flag(
        "realesrgan", "whose JPEG (second_order): as published, or nearer to real files", choices=get_args(Codec)
    )
    draw_per: str = flag(PUBLISHED_DEFAULT, "draw a degradation for each ...", choices=("batch", "image"))


@dataclass(frozen=True, kw_only=True)
class TestDegradation:
    protocol: str = flag(
        PUBLISHED_DEFAULT,
        "the kernels that tests use: gaussian8, aniso9, manet9, bicubic, second_order, a protocol file (its form: "
        "data/protocol.py), or `flags`: the kernel of --sig or --lambda_1, --lambda_2, --theta",
    )
    sig: float | None = flag(None, "width of an iso kernel, as --sig_max is given", low=0)
    lambda_1: float | None = flag(
        None, "first axis of an aniso kernel: σ in HR pixels (gaussian), variance (manet)", low=0
    )
    lambda_2: float | None = flag(None, "second axis, likewise", low=0)
    theta: float = flag(0.0, "rotation of an aniso kernel, degrees")
    jpeg_quality: float = flag(0.0, "JPEG quality of the test images; 0: no JPEG", low=0, high=100)
    metric: str = flag(PUBLISHED_DEFAULT, "planes of PSNR and SSIM, see metric.py", choices=("matlab", "kdsr", "rgb"))


@dataclass(frozen=True, kw_only=True)
class Network:
    model: str = flag(REQUIRED, "network", choices=[name for name in NETWORKS if name != "BICUBIC"])
    scale: int = flag(DEFAULT_SCALE, "super-resolution factor", low=2, high=4)
    n_feats: int | None = flag(None, "channels, all but CDSR (64; KDSR with second_order 128)", low=1)
    n_blocks: int | None = flag(
        None,
        "blocks of the SR network (KDSR 53, with second_order 42; CDSR 10, EDSR 16, RRDB 23; DASR 5 in each group)",
        low=1,
    )
    n_resblocks: int | None = flag(None, "residual blocks of the estimator (KDSR 9, with second_order 6)", low=1)

    @property
    def sizes(self) -> dict[str, int]:
        """Those sizes that were asked for."""
        sizes = {"n_feats": self.n_feats, "n_blocks": self.n_blocks, "n_resblocks": self.n_resblocks}
        return {name: size for name, size in sizes.items() if size is not None}


@dataclass(frozen=True, kw_only=True)
class Loss:
    objective: str = flag(
        PUBLISHED_DEFAULT, "what is minimised", choices=("pixel", "distillation", "contrast", "adversarial")
    )
    pre_train: Path | None = flag(
        None, "weights to start from; a student may start from a teacher's SR network", also=("pre_train_ST",)
    )
    pre_train_TA: Path | None = flag(None, "the teacher's weights (distillation, adversarial)")  # noqa: N815
    temperature: float = flag(0.15, "τ of the distillation", low=1e-6)
    kd_weight: float = flag(1.0, "weight of the distillation", low=0)
    c_weight: float = flag(1.0, "weight of the contrast; L1 counts in 0..255 beside it", low=0)
    freeze_epoch: int = flag(1_000_000, "fix the encoder and drop the contrast after this epoch", low=0)
    gan: str = flag("vanilla", "criterion of the GAN (adversarial)", choices=tuple(GAN))
    l1_weight: float = flag(1.0, "weight of L1 (adversarial)", low=0)
    perceptual_weight: float = flag(
        1.0, "weight of the perceptual loss; 0: none, and no VGG19 is needed (adversarial)", low=0
    )
    gan_weight: float = flag(1.0, "weight of the GAN loss (adversarial)", low=0)
    sharpen: bool = flag(False, "L1 and perceptual loss compare with sharpened HR images: V2 (adversarial)")
    vgg: Path | None = flag(None, "VGG19's weights, vgg19-dcbb9e9d.pth; without it downloaded once (adversarial)")
    d_feats: int = flag(64, "channels of the discriminator (adversarial)", low=1)
    lr_d: float = flag(1e-4, "learning rate of the discriminator, decays as the network's does (adversarial)", low=0)


@dataclass(frozen=True, kw_only=True)
class Training:
    batch_size: int = flag(PUBLISHED_DEFAULT, "images in a batch, of all GPUs together", low=1)
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
    beta2: float = flag(PUBLISHED_DEFAULT, "β2 of Adam, whose β1 is 0.9", low=0, high=1)
    ema: float = flag(
        PUBLISHED_DEFAULT,
        "what the moving average of the weights keeps of itself each step; 0: none",
        low=0,
        high=0.999999,
    )
    accumulate: int = flag(1, "parts in which a batch goes through the network, to save memory", low=1)
    collapse: float = flag(10.0, "a loss so many times its running median is taken back; 0: none is", low=0)

    @property
    def warmup_epochs(self) -> int:
        return max(self.epochs_encoder, 0)


@dataclass(frozen=True, kw_only=True)
class Saving:
    save: str = flag(
        REQUIRED,
        "name of the run: experiment/<save>_x<scale>_<sample_mode>_<iso|aniso>, or <save>_x<scale>_second_order",
    )
    dir_experiment: Path = flag(Path("experiment"), "where runs are kept")
    resume: str = flag(
        "no",
        "continue the run of this name, on the same images; auto: if there is one, else start it; 0 and -1: no and yes",
        choices=("no", "yes", "auto", "0", "-1"),
        bare="yes",
    )
    print_every: int = flag(100, "steps between two lines of the log", low=1)
    st_save_epoch: int = flag(0, "from this epoch on, keep model_<epoch>_psnr_<dB>.pt", low=0)
    keep: int = flag(5, "how many of those to keep, the newest and the best; 0: all", low=0)
    max_minutes: float | None = flag(
        None, "stop after this time, with exit code 75, ready to go on with --resume", low=0
    )
    save_minutes: float = flag(
        10.0, "save the state so often, between the ends of epochs and the lines of the log, too", low=0
    )
    check: bool = flag(False, "look over machine, options and images, print what to mend; starts no run")
    dry_run: bool = flag(False, "build everything, take a few steps, forecast the run; starts none")


@dataclass(frozen=True, kw_only=True)
class Testing:
    pre_train: Path | None = flag(None, "the checkpoint to test", also=("pre_train_ST", "pre_train_TA"))
    model: str | None = flag(None, "network that the checkpoint must hold; BICUBIC needs none", choices=tuple(NETWORKS))
    scale: int | None = flag(None, "factor that the checkpoint must have", low=2, high=4)
    weights: str = flag("auto", "which weights of the checkpoint; auto: their moving average if any", choices=WEIGHTS)
    hr_dir: Path | None = flag(None, "HR images of the folder of LR images that --data_test is, paired by name")
    dir_demo: Path | None = flag(None, "folder of images to super-resolve (--data_test Demo)")
    save: str | None = flag(None, "where results go, under --dir_experiment; without it the run of the checkpoint")
    dir_experiment: Path = flag(Path("experiment"), "where runs are kept")
    save_results: bool = flag(False, "write the super-resolved images too")
    seed: int = flag(1, "of the noise of the test images", low=0)
    tile: int | None = flag(
        None, "side of the tiles, LR pixels without halo; without it whole, own images as they fit", low=16
    )
    self_ensemble: bool = flag(False, "average over the eight flips and transpositions of each image")
    lpips: str | None = flag(
        None, "LPIPS too, on features of this network (needs torchmetrics)", choices=("alex", "vgg")
    )
    no_reference: str | None = flag(
        None, "scores of the images of --data_test Demo, which have no HR image: niqe+musiq+clipiqa, ... (needs pyiqa)"
    )
    complexity: bool = flag(False, "print parameters, multiply-adds and time at LR 180x320, and nothing else")


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
    def has_teacher(self) -> bool:
        """Whether there is a teacher, whose weights come with the state where a run is continued."""
        if self.loss.objective not in ("distillation", "adversarial"):
            return False
        resumed = Run(self.run_dir).config() if self.resuming else {}
        return self.loss.pre_train_TA is not None or resumed.get("pre_train_TA") is not None

    @property
    def run_dir(self) -> Path:
        given = self.degradation
        kind = f"{given.sample_mode}_{given.blur_type.removesuffix('_gaussian')}"
        if given.degradation == "second_order":
            kind = "second_order"
        return self.saving.dir_experiment / f"{self.saving.save}_x{self.network.scale}_{kind}"

    @property
    def state(self) -> Path:
        """What a run is continued from."""
        return Run(self.run_dir).state

    @property
    def resuming(self) -> bool:
        asked = self.saving.resume
        return asked in ("yes", "-1") or (asked == "auto" and self.state.exists())


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """All that `test.py` can be told."""

    testing: Testing
    images: Images
    degradation: Degradation
    test_degradation: TestDegradation
    machine: Machine


Options = TrainOptions | EvalOptions


def flat(options: Options) -> dict[str, Any]:
    """All options as plain values, for config.json."""
    values: dict[str, Any] = {}
    for section in dataclasses.fields(options):
        values |= dataclasses.asdict(getattr(options, section.name))
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
