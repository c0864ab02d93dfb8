"""Every flag once: type, default, unit, range, when it acts. Published flags keep their published meaning.

A section is a frozen dataclass whose fields are the flags. `train_options` and `eval_options` fill in what the papers
fix (`published.py`), refuse contradictions, and return the sections. They also look up, once, what depends on the disk:
is there a run to resume, and did it have a teacher?
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import published
from flags import AS_PUBLISHED, IF_GIVEN, REQUIRED, Given, Names, When, build, flag, flags_of, flat, plain, spellings
from flags import parse as parse_flags
from utility import Run, argument, read_json, taken

DEFAULT_SCALE = 4
TRAINING_TEST_SET = "Set5"
TEST_SEED = 1  # of validation, and of tests by default: so runs that differ in their seed are measured by the same
BESIDE_FOLDER = Path()  # of --data_cache without a value
OF_ONE_RUN = ("save", "resume", "check", "dry_run", "config")  # not taken from the config.json of another run
RESUMES = ("yes", "auto", "-1")  # values of --resume
FOLLOWS = {"crop_size": "patch_size", "pool_size": "batch_size"}  # flags whose default hangs on another one

# ------------------------------------------------------------------------------------------- when flags act


def _objective(name: str) -> When:
    return When(f"--objective {name}", lambda o: o["objective"] == name)


def _drawn(name: str, text: str) -> When:
    """Return the condition that a recipe, of training or as --protocol, takes the flag of this name."""
    return When(text, lambda o: name in o["recipe_takes"])


SECOND_DRAWN = When(
    "second_order, in training or as --protocol",
    lambda o: "second_order" in (o.get("protocol"), o["degradation"] if "objective" in o else None),
)
LAMBDAS = When(
    "--blur_type aniso_gaussian, but not with manet",
    lambda o: "lambda_max" in o["recipe_takes"] and o["blur_type"] == "aniso_gaussian",
)
WIDTHS = When(
    "--blur_type iso_gaussian, manet, or ikc",
    lambda o: "sig_max" in o["recipe_takes"] and not LAMBDAS.test(o),
)
TEACHER = When("a teacher", lambda o: o["has_teacher"])
STUDENT = When("an --objective that takes a teacher", lambda o: o["objective_class"].takes_teacher)
CONTRAST = _objective("contrast")
GAN = _objective("adversarial")
PERCEPTUAL = When("--objective adversarial and a perceptual loss", lambda o: GAN.test(o) and o["perceptual_weight"] > 0)
COMPILED = When(  # PyTorch cannot compile a BatchNorm over several GPUs
    "an --objective whose steps are alike; contrast on one GPU only",
    lambda o: o["objective_class"].turns is not None and (not CONTRAST.test(o) or o["n_GPUs"] <= 1 or o["cpu"]),
)
GRAPHED = When(
    "one GPU and an --objective whose steps are alike and need no codes, without --accumulate and fp16",
    lambda o: (
        o["objective_class"].turns is not None
        and not o["objective_class"].needs_codes
        and o["n_GPUs"] == 1
        and not o["cpu"]
        and o["accumulate"] == 1
        and o["precision"] != "fp16"
    ),
)
STAIRS = When("--decay_type step", lambda o: o["decay_type"] == "step")
DECAY = When(
    "a learning rate that decays, without --milestones",
    lambda o: o["decay_type"] != "none" and not (STAIRS.test(o) and o.get("milestones")),
)
WARMUP = When("--epochs_encoder above 0", lambda o: o["epochs_encoder"] > 0)
ON_THE_FLY = When(
    "test images that are degraded here", lambda o: o.get("data_test") != "Demo" and o.get("hr_dir") is None
)
PROTOCOL = When(
    "test images that are degraded here, crop128 with pairs, too",
    lambda o: ON_THE_FLY.test(o) or (o.get("data_test") != "Demo" and o["protocol"] == "crop128"),
)


def _chosen(o: Mapping[str, Any], *protocols: str) -> bool:
    """Return True if recipe and blur act in a test: they choose its protocol, unless that is named."""
    return ON_THE_FLY.test(o) and ("protocol" not in o["given"] or o["protocol"] in protocols)


RECIPE = When(
    "--protocol flags, or a test without --protocol",
    lambda o: "objective" in o or _chosen(o, "flags"),
)
BLUR = When(
    "gaussian and manet; in tests with --protocol flags, --sv_mode, or without --protocol",
    lambda o: (
        "blur_type" in o["recipe_takes"]
        if "objective" in o
        else o["sv_mode"] > 0 or _chosen(o, "flags", "gaussian", "manet")
    ),
)
SAMPLER = When(
    "gaussian and manet, in tests with images that are degraded here",
    lambda o: "sample_mode" in o["recipe_takes"] if "objective" in o else ON_THE_FLY.test(o),
)
HAS_HR = When("test images that have HR images", lambda o: o.get("data_test") != "Demo")
PHOTOS = When("photographs", lambda o: o["data_test"] == "Demo")
PAIRS = When("--dir_lr", lambda o: o["dir_lr"] is not None)
SEVERAL = When("several training folders", lambda o: "+" in f"{o['dir_data']}{o['data_train']}")
CHECKPOINT = When("--pre_train", lambda o: o["pre_train"] is not None)
ISO_KERNEL = When(
    "--protocol flags, or --sv_mode, and --blur_type iso_gaussian",
    lambda o: (
        ON_THE_FLY.test(o) and (o["protocol"] == "flags" or o["sv_mode"] > 0) and o["blur_type"] == "iso_gaussian"
    ),
)
ANISO_KERNEL = When(
    "--protocol flags and --blur_type aniso_gaussian",
    lambda o: ON_THE_FLY.test(o) and o["protocol"] == "flags" and o["blur_type"] == "aniso_gaussian",
)


def _or_training(when: When) -> When:
    """Return the condition of a flag that both programs have, and that always acts in training."""
    return When(f"training, or with {when.text}", when.test)


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    cpu: bool = flag(False, "run on the CPU even where there is a GPU", on_resume=True)
    n_GPUs: int = flag(  # noqa: N815 (published name)
        1,
        "processes that train, or share photographs, each on its own GPU; 0 is the same as --cpu",
        low=0,
        high=1024,
        on_resume=True,
    )
    deterministic: bool = flag(False, "get the same bits each time on a GPU too, more slowly")


@dataclass(frozen=True, kw_only=True)
class LoadingOptions:
    n_threads: int = flag(min(4, os.cpu_count() or 1), "loader processes", low=0, high=1024, on_resume=True)
    seed: int = flag(1, "seed of every random draw", low=0, high=2**63 - 1)
    data_train: str | None = flag(
        None, "training sets, joined by +: <dir_data>/<data_train>/HR; without it DF2K, or --dir_data itself"
    )
    data_weights: str | None = flag(
        None,
        "proportions in which images are drawn from the training folders, joined by +, as in 2+1 (default: all images "
        "equally often)",
        when=SEVERAL,
    )
    dir_lr: Path | None = flag(
        None,
        "folder of given LR images of the training images, paired by name; several, joined by +, belong to the first "
        "training folders",
        on_resume=True,
    )
    mix: float = flag(
        1.0,
        "share of given pairs (--dir_lr) in a batch; the other images are degraded, from the folders without LR "
        "images or, if there are none, from all",
        low=0,
        high=1,
        when=PAIRS,
    )
    patch_size: int = flag(AS_PUBLISHED, "side of an LR training patch, pixels", low=1, high=4096)
    crop_size: int = flag(
        AS_PUBLISHED,
        "side of the LR crop that is degraded and of which a patch is then cut, pixels (second_order: 100, else the "
        "patch's)",
        low=1,
        high=4096,
    )
    augment: str = flag(
        AS_PUBLISHED,
        "flips and transposition of patches: all eight forms, left-right mirroring only (second_order), or none",
        choices=("all", "mirror", "none"),
    )
    pool_size: int = flag(
        AS_PUBLISHED,
        "pairs of earlier steps that a batch is mixed with, over all GPUs (second_order: 20 batches)",
        low=0,
        high=100_000,
    )
    data_cache: Path | None = flag(
        None,
        "decode the training images once, into <this>.u8; without a value beside the folder; `ram` and `cuda` hold all "
        "of them decoded, in main memory or on the GPU",
        bare=BESIDE_FOLDER,
        on_resume=True,
    )
    skip_bad_images: bool = flag(False, "leave out unreadable and too small training images, and name them")


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    dir_data: Path | None = flag(
        None,
        "folder of HR images, or a root with benchmark/<Set>/HR to test on and DF2K/HR to train on; or several, joined "
        "by +",
        on_resume=True,
        when=_or_training(ON_THE_FLY),
    )
    data_test: str = flag(
        AS_PUBLISHED,
        "test sets: names under benchmark/ or folders, joined by + (training: Set5, or with given pairs `held-out`, a "
        "few of them; testing: the four of the papers, or Demo). A set with LR/ or LR_x<scale>/ beside its HR/ holds "
        "real pairs, which are scored as they are",
    )


@dataclass(frozen=True, kw_only=True)
class DegradationOptions:
    degradation: str = flag(AS_PUBLISHED, "recipe", registry="degradation", when=_or_training(RECIPE))
    recipe: str | dict[str, Any] = flag(
        "realesrgan",
        "ranges of second_order: realesrgan, as published; light: phones; none-jpeg; or a file (docs/recipes.md)",
        when=SECOND_DRAWN,
    )
    blur_type: str = flag(
        "iso_gaussian", "shape of the blur kernels", choices=("iso_gaussian", "aniso_gaussian"), when=BLUR
    )
    sample_mode: str = flag(
        "bicubic",
        "downsampler of gaussian; in CDSR's released code `bicubic` means every s-th pixel, and so it does for manet",
        also=("mode",),
        choices=("bicubic", "s-fold"),
        when=SAMPLER,
    )
    noise: float = flag(
        0.0,
        "strongest noise in training and with a recipe as --protocol, else the noise in tests: σ in grey levels of 255",
        low=0,
        high=255,
        when=_or_training(ON_THE_FLY),
    )
    noise_var: bool = flag(
        False,
        "draw another noise level for each block of 20x20 LR pixels (CDSR)",
        when=When("--noise above 0", lambda o: o["noise"] > 0),
    )
    sv_mode: int = flag(
        0, "spatially variant blur of the test images, 1 to 6; 0: none", low=0, high=6, when=_or_training(ON_THE_FLY)
    )


@dataclass(frozen=True, kw_only=True)
class TrainingDegradationOptions:
    sig_min: float = flag(
        AS_PUBLISHED,
        "narrowest blur, HR pixels: σ, but variance for manet with aniso_gaussian",
        low=0,
        high=1000,
        when=WIDTHS,
    )
    sig_max: float = flag(AS_PUBLISHED, "widest blur, in the same units", low=0, high=1000, when=WIDTHS)
    lambda_min: float = flag(0.2, "narrowest axis of an aniso kernel: σ in HR pixels", low=0, high=1000, when=LAMBDAS)
    lambda_max: float = flag(AS_PUBLISHED, "widest axis, in the same units", low=0, high=1000, when=LAMBDAS)
    jpeg_low: float = flag(
        0.0,
        "lowest JPEG quality, drawn from here to 100; 0: no JPEG",
        low=0,
        high=100,
        when=_drawn("jpeg_low", "gaussian and manet"),
    )
    codec: str = flag(
        "realesrgan",
        "JPEG of second_order: Real-ESRGAN's, as published, or one nearer to real files",
        choices=("realesrgan", "libjpeg"),
        when=_drawn("codec", "--degradation second_order"),
    )
    draw_per: str = flag(
        AS_PUBLISHED,
        "draw one degradation for each batch or each image",
        choices=("batch", "image"),
        when=_drawn("draw_per", "gaussian and manet"),
    )


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    protocol: str = flag(
        AS_PUBLISHED,
        "test kernels: gaussian8, ikc8, aniso9, manet9, bicubic, the name of a recipe (one draw for each image), "
        "crop128 (second_order on the centre, or real pairs cut to it), a protocol file (docs/protocols.md), or "
        "`flags`: the kernel of --sig or --lambda_1, --lambda_2, --theta",
        when=_or_training(PROTOCOL),
    )
    sig: float | None = flag(
        None, "width of an iso test kernel, in the units of --sig_max", low=0, high=1000, when=ISO_KERNEL
    )
    lambda_1: float | None = flag(
        None,
        "first axis of an aniso test kernel, HR pixels: σ (gaussian), variance (manet)",
        low=0,
        high=1000,
        when=ANISO_KERNEL,
    )
    lambda_2: float | None = flag(None, "second axis, in the same units", low=0, high=1000, when=ANISO_KERNEL)
    theta: float = flag(0.0, "rotation of an aniso test kernel, degrees", low=-360, high=360, when=ANISO_KERNEL)
    jpeg_quality: float = flag(
        0.0, "JPEG quality of the test images; 0: no JPEG", low=0, high=100, when=_or_training(ON_THE_FLY)
    )
    metric: str = flag(
        AS_PUBLISHED,
        "planes that PSNR and SSIM compare: matlab (CDSR's tables), kdsr (KDSR's and DASR's), rgb; all: each of them, "
        "in test.py",
        choices=("matlab", "kdsr", "rgb", "all"),
        when=_or_training(HAS_HR),
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    model: str = flag(REQUIRED, "network (the released KDSR calls its two `blindsr`)", registry="model")
    scale: int = flag(DEFAULT_SCALE, "super-resolution factor", low=2, high=4)
    n_feats: int | None = flag(None, "channels (64; KDSR with second_order 128)", low=1, high=4096)
    n_blocks: int | None = flag(
        None,
        "blocks of the SR network (KDSR 53, with second_order 42; CDSR 10, IKC and EDSR 16, RRDB 23, DASR 5 a group)",
        low=1,
        high=1000,
    )
    n_resblocks: int | None = flag(
        None, "residual blocks of the estimator (KDSR 9, with second_order 6)", low=1, high=1000
    )


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    objective: str = flag(AS_PUBLISHED, "training objective", registry="objective")
    loss: str = flag(
        "1*L1",
        "difference of SR and HR: a weight times L1, MSE or Charbonnier, or several joined by +",
        when=When("an objective that compares images", lambda o: o["objective_class"].compares_images),
    )
    pre_train: Path | None = flag(
        None,
        "weights to start from; a student may start from a teacher's SR network",
        also=("pre_train_ST",),
        on_resume=True,
    )
    warm_start: bool = flag(
        False,
        "take from --pre_train every layer whose name and shape fit, whatever its network and size",
        when=CHECKPOINT,
        on_resume=True,
    )
    pre_train_TA: Path | None = flag(None, "weights of the teacher", when=STUDENT, on_resume=True)  # noqa: N815
    temperature: float = flag(0.15, "τ of the distillation", low=1e-6, high=1e6, when=TEACHER)
    kd_weight: float = flag(
        1.0,
        "weight of the distillation; 0 with --objective adversarial: learn without a teacher",
        low=0,
        high=1e6,
        when=When("a teacher", lambda o: o["has_teacher"] or o["kd_weight"] == 0),
    )
    c_weight: float = flag(
        1.0,
        "weight of the contrast; --loss is weighted 255 times relative to it",
        low=0,
        high=1e6,
        when=When("--objective contrast", lambda o: CONTRAST.test(o) and o["freeze_epoch"] > 0),
    )
    freeze_epoch: int = flag(1_000_000, "fix the encoder and drop the contrast after this epoch", low=0, when=CONTRAST)
    gan: str = flag("vanilla", "criterion of the GAN", choices=("vanilla", "hinge", "lsgan"), when=GAN)
    l1_weight: float = flag(1.0, "weight of --loss", low=0, high=1e6, when=GAN)
    perceptual_weight: float = flag(
        1.0, "weight of the perceptual loss; 0: none, and no VGG19 is needed", low=0, high=1e6, when=GAN
    )
    gan_weight: float = flag(1.0, "weight of the GAN loss", low=0, high=1e6, when=GAN)
    sharpen: bool = flag(False, "compare L1 and perceptual loss with sharpened HR images: V2", when=GAN)
    vgg: Path | None = flag(
        None,
        "VGG19's weights, vgg19-dcbb9e9d.pth; without it they are downloaded once",
        when=PERCEPTUAL,
        on_resume=True,
    )
    d_feats: int = flag(64, "channels of the discriminator", low=1, high=4096, when=GAN)
    lr_d: float = flag(
        1e-4,
        "learning rate of the discriminator; decays as the network's does",
        low=0,
        high=1,
        when=GAN,
        on_resume=IF_GIVEN,
    )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    batch_size: int = flag(AS_PUBLISHED, "images in a batch, over all GPUs", low=1, high=65536)
    test_every: int | None = flag(
        None,
        "steps in an epoch, which ends with validation and checkpoints (default: the released trainer's, about 1000)",
        low=1,
    )
    epochs_encoder: int = flag(
        AS_PUBLISHED, "epochs in which the encoder or estimator learns alone; -1: none", low=-1, high=10**6
    )
    epochs_sr: int = flag(
        AS_PUBLISHED,
        "epochs of full training after those; for KDSR_S, as published, those included",
        low=0,
        high=10**6,
        on_resume=True,
    )
    lr_encoder: float = flag(
        AS_PUBLISHED, "learning rate while the encoder learns alone", low=0, high=1, when=WARMUP, on_resume=IF_GIVEN
    )
    lr_sr: float = flag(AS_PUBLISHED, "learning rate of full training", low=0, high=1, also=("lr",), on_resume=IF_GIVEN)
    lr_decay_encoder: int = flag(
        60, "epochs between two decays of --lr_encoder", low=1, when=WARMUP, on_resume=IF_GIVEN
    )
    lr_decay_sr: int = flag(
        AS_PUBLISHED,
        "epochs between two decays of --lr_sr; the first of the stairs comes an epoch earlier (docs/train.md)",
        low=1,
        when=DECAY,
        on_resume=IF_GIVEN,
    )
    milestones: str | None = flag(
        None,
        "epochs at which --lr_sr decays, joined by -, as in 200-400-600 (default: the multiples of --lr_decay_sr)",
        when=STAIRS,
        on_resume=IF_GIVEN,
    )
    decay_type: str = flag(
        AS_PUBLISHED,
        "decay of --lr_sr: stairs, cosines that start again and end at a thousandth of it, or none",
        choices=("step", "cosine", "none"),
        on_resume=IF_GIVEN,
    )
    gamma_encoder: float = flag(
        0.1, "factor of each decay of --lr_encoder", low=0, high=1, when=WARMUP, on_resume=IF_GIVEN
    )
    gamma_sr: float = flag(0.5, "factor of each decay of --lr_sr", low=0, high=1, when=STAIRS, on_resume=IF_GIVEN)
    precision: str = flag(
        "fp32",
        "arithmetic of the network; tf32 acts on GPUs only, bf16 and fp16 are autocast",
        choices=("fp32", "tf32", "bf16", "fp16"),
    )
    beta2: float = flag(AS_PUBLISHED, "β2 of Adam, whose β1 is 0.9", low=0, high=0.999999)
    ema: float = flag(
        AS_PUBLISHED, "decay of the moving average of the weights, per step; 0: none", low=0, high=0.999999
    )
    clip_grad: float = flag(
        0.0, "scale the gradient of a step down to this norm where it is larger; 0: never", low=0, high=1e9
    )
    accumulate: int = flag(1, "parts in which a batch goes through the network, to save memory", low=1, on_resume=True)
    recompute: bool = flag(False, "save memory: compute the SR network's maps twice, keep few of them", on_resume=True)
    compile: bool = flag(
        False,
        "torch.compile what network and objective compute; off until a GPU has shown that it is faster",
        when=COMPILED,
        on_resume=True,
    )
    cuda_graph: bool = flag(
        False,
        "launch each step as one CUDA graph, which pays most for networks of many small kernels (CDSR)",
        when=GRAPHED,
        on_resume=True,
    )
    collapse: float = flag(
        10.0, "take back a step whose loss is more than this many times the running median; 0: never", low=0, high=1e9
    )

    @property
    def milestone_epochs(self) -> list[int]:
        """The numbers in --milestones. Raises ValueError if they are none, or do not rise."""
        words = self.milestones.split("-") if self.milestones else []
        epochs = [int(word) for word in words if word.isdecimal()]
        if len(epochs) != len(words) or epochs != sorted({0, *epochs})[1:]:
            raise ValueError(f"--milestones {self.milestones}: expected rising epochs joined by -, as in 200-400-600")
        return epochs


@dataclass(frozen=True, kw_only=True)
class SavingOptions:
    save: str = flag(
        REQUIRED,
        "name of the run: experiment/<save>_x<scale>_<sample_mode>_<iso|aniso>, or <save>_x<scale>_<recipe>",
    )
    dir_experiment: Path = flag(Path("experiment"), "folder of all runs", on_resume=True)
    resume: str = flag(
        "no",
        "continue the run of this name, on the same images; auto: if there is one, else start it; 0 and -1: no and yes",
        choices=("no", "yes", "auto", "0", "-1"),
        beyond="--resume goes on with the run that --save names, --resume --config RUN with RUN",
        bare="yes",
        on_resume=True,
    )
    config: Path | None = flag(
        None,
        "config.json of a run, or its folder: its flags apply unless the command line gives others; with --resume it "
        "names the run, too",
        on_resume=True,
    )
    reference: str | None = flag(
        None,
        "name in experiment/zoo whose PSNR curve is drawn under this run's; the log says where the run leaves its band",
        on_resume=True,
    )
    print_every: int = flag(100, "steps between two lines of the log", low=1, on_resume=True)
    st_save_epoch: int = flag(0, "keep model_<epoch>_psnr_<dB>.pt from this epoch on", low=0, on_resume=True)
    keep: int = flag(5, "number of those to keep: the newest, and the best besides; 0: all", low=0, on_resume=True)
    max_minutes: float | None = flag(
        None, "stop after so many minutes, with exit code 75, ready for --resume", low=0, on_resume=True
    )
    save_minutes: float = flag(10.0, "save the state at least every so many minutes", low=0, on_resume=True)
    check: bool = flag(
        False, "look over machine, options and images, print what is wrong; train nothing", on_resume=True
    )
    dry_run: bool = flag(
        False,
        "build everything, take a few steps, forecast the run; train nothing",
        on_resume=True,
        when=When("a run, not with --check", lambda o: not o["check"]),
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    pre_train: Path | None = flag(
        None,
        "checkpoint to test, or a name of --zoo (default: the one of the zoo that fits)",
        also=("pre_train_ST", "pre_train_TA"),
    )
    zoo: bool = flag(False, "list the weights that come with the code, and do nothing else")
    model: str | None = flag(None, "network that the checkpoint must hold; BICUBIC needs none", registry="model")
    scale: int | None = flag(
        None,
        "factor that the checkpoint must have",
        low=2,
        high=4,
        beyond="--outscale enlarges photographs by any factor",
    )
    n_feats: int | None = flag(None, "channels that the checkpoint must have", low=1, when=CHECKPOINT)
    n_blocks: int | None = flag(None, "blocks that the checkpoint must have", low=1, when=CHECKPOINT)
    n_resblocks: int | None = flag(None, "residual blocks that it must have", low=1, when=CHECKPOINT)
    weights: str = flag(
        "auto",
        "weights of the checkpoint to test; auto: their moving average where there is one",
        choices=("auto", "params", "params_ema"),
        when=CHECKPOINT,
    )
    hr_dir: Path | None = flag(
        None, "folder of HR images, paired by name with the LR images of --data_test", when=HAS_HR
    )
    save: str | None = flag(None, "name of the results, under --dir_experiment (default: the run of the checkpoint)")
    dir_experiment: Path = flag(Path("experiment"), "folder of all runs")
    save_results: bool = flag(False, "write the super-resolved images too", when=HAS_HR)
    seed: int = flag(TEST_SEED, "seed of the noise of the test images", low=0, high=2**63 - 1, when=ON_THE_FLY)
    tile: int | None = flag(
        None,
        "side of the tiles without halo, LR pixels (default: none, but for photographs as large as memory allows)",
        low=16,
    )
    oracle: bool = flag(
        False,
        "score the best of IKC's seven steps, which the HR image chooses for each LR image, as its released test does",
        when=HAS_HR,
    )
    self_ensemble: bool = flag(False, "average over the eight flips and transpositions of each image")
    precision: str = flag(
        AS_PUBLISHED,
        "arithmetic of the network, as in training; auto: bf16 where the hardware has it and a tile differs by less "
        "than half a grey level (default: auto for photographs, else fp32)",
        choices=("auto", "fp32", "tf32", "bf16", "fp16"),
    )
    score: str | None = flag(
        None,
        "metrics, joined by + (default: psnr+ssim; with --data_test Demo none): psnr, ssim, niqe, with extras "
        "lpips_alex, lpips_vgg, dists, musiq, maniqa, clipiqa, or what pyiqa has without reference",
    )
    complexity: bool = flag(False, "print parameters, multiply-adds and time at LR 180x320, and nothing else")


@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    photos: tuple[Path, ...] = flag((), "photographs to super-resolve, and folders of them", positional=True)
    dir_demo: Path | None = flag(
        None, "folder of photographs, whose results go to Demo/ among those of the checkpoint", when=PHOTOS
    )
    out: Path | None = flag(
        None,
        "folder of the results, or file for that of one photograph (default: <folder>_x4/, or <name>_x4.png beside it)",
        when=PHOTOS,
    )
    format: str | None = flag(
        None,
        "format of the results; same: that of the photograph (default: that of --out, or png)",
        choices=("png", "jpg", "webp", "tiff", "same"),
        when=PHOTOS,
    )
    quality: int = flag(95, "quality of JPEG and WebP files", low=1, high=100, when=PHOTOS)
    recursive: bool = flag(False, "go into subfolders, which the results keep", when=PHOTOS)
    outscale: float | None = flag(
        None, "factor of the results, resized after the network", low=0.1, high=100, when=PHOTOS
    )
    scale_to: str | None = flag(
        None, "WIDTHxHEIGHT, the box that results are made to fit into; they keep their proportions", when=PHOTOS
    )
    overwrite: bool = flag(False, "replace results that are there already", when=PHOTOS)

    @property
    def box(self) -> tuple[int, int] | None:
        """The height and width of --scale_to. Raises ValueError if it is no size."""
        if self.scale_to is None:
            return None
        sides = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", self.scale_to)
        if not sides:
            raise ValueError(f"--scale_to {self.scale_to} is no size; expected width and height, like 1920x1080")
        return int(sides[2]), int(sides[1])


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train a network for blind super-resolution: python main.py --model CDSR --dir_data DIR --save NAME."""

    network: NetworkOptions
    images: ImageOptions
    loading: LoadingOptions
    degradation: DegradationOptions
    training_degradation: TrainingDegradationOptions
    test_degradation: ProtocolOptions
    loss: LossOptions
    training: TrainingOptions
    saving: SavingOptions
    machine: MachineOptions
    run_dir: Path
    resuming: bool
    has_teacher: bool
    objective_class: Any  # its attributes say what it trains and needs
    recipe_takes: frozenset[str]  # the flags that the builder of the recipe takes

    @property
    def warmup_epochs(self) -> int:
        return max(self.training.epochs_encoder, 0)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run. For a student the published number includes the warm-up."""
        return self.training.epochs_sr + (0 if self.objective_class.epochs_include_warmup else self.warmup_epochs)

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes of the network that were asked for."""
        return sizes_of(vars(self.network))

    @property
    def training_folders(self) -> dict[str, Any]:
        """The flags that say, besides --dir_data, which folders are trained on."""
        names = ("data_train", "dir_lr", "data_weights", "mix")
        return {name: getattr(self.loading, name) for name in names}

    @property
    def validation(self) -> dict[str, Any]:
        """The flags that say how validation images are made; their noise is the released trainer's."""
        given, drawn, test = self.degradation, self.training_degradation, self.test_degradation
        noise = published.validation_noise(self.network.model, given.blur_type, given.noise, test.protocol)
        return {**vars(given), **vars(drawn), **vars(test), "noise": noise}


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Super-resolve photographs: python test.py FOLDER. Or score a checkpoint: python test.py --pre_train MODEL.pt
    --dir_data DIR.
    """

    testing: EvaluationOptions
    photos: PhotoOptions
    images: ImageOptions
    degradation: DegradationOptions
    test_degradation: ProtocolOptions
    machine: MachineOptions
    recipe_takes: frozenset[str]  # the flags that the recipe takes which is the protocol; none of another protocol


def sizes_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network, besides its scale, that were asked for.

    Examples:
        >>> sizes_of({"model": "EDSR", "n_feats": 8, "n_blocks": None, "save": "run"})
        {'n_feats': 8}
    """
    return {name: values[name] for name in _sizes() if values.get(name) is not None}


def _sizes() -> list[str]:
    return [field.name for field in fields(NetworkOptions) if field.name not in ("model", "scale")]


def differences(options: TrainOptions) -> str:
    """Return a table of the flags whose value is not the default; config.json holds all."""
    usual = _usual(options.network.model, options.network.scale, {})
    rows = {name: value for name, value in flat(options).items() if value is not None and value != plain(usual[name])}
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def _usual(model: str, scale: int, given: Given) -> dict[str, Any]:
    """Return the value of each flag of main.py where it is left out, for a network and what else is given."""
    values: dict[str, Any] = {name: field.default for name, field in flags_of(TrainOptions).items()}
    return values | published.defaults(model, scale, given) | {"data_test": TRAINING_TEST_SET}


# ---------------------------------------------------------------------------------------- from words to options


def parse(
    options: type,
    argv: Sequence[str] | None,
    *,
    prog: str,
    names: Names,
    read_config: Callable[[Given], Given] | None = None,
) -> Given:
    """Return the values that a command line gives. Exit for a flag that does not exist, or a value out of range.

    The arguments are those of `flags.parse`.
    """
    known = spellings(options)
    other, theirs = ("main.py", TrainOptions) if prog == "test.py" else ("test.py", EvalOptions)

    def placed(flag: re.Match[str]) -> str:
        return flag[0] if flag[1] in known else f"{other}'s {flag[0]}"

    hints = {name: re.sub(r"--(\w+)", placed, hint) for name, hint in published.ELSEWHERE.items()}
    hints |= dict.fromkeys(spellings(theirs) - known, f"{other} has it")
    return parse_flags(options, argv, prog=prog, names=names, hints=hints, read_config=read_config)


def run_of_config(given: Given) -> Path | None:
    """Return the folder of the run that --config names where --resume continues that one; else None."""
    if "config" not in given or "save" in given or given.get("resume", "no") not in RESUMES:
        return None
    path: Path = given["config"].resolve()
    folder = path.parent if path.name == "config.json" else path
    return folder if (folder / "config.json").is_file() else None


def values_of_config(path: Path) -> Given:
    """Return the flags of a run's config.json that are not its network's defaults.

    Defaults stay out, so that they follow from the network and scale that the command line names.
    """
    with argument("config"):
        path = path / "config.json" if path.is_dir() else path
        try:
            values = read_json(path)
            told = {name: values[name] for name in flags_of(TrainOptions) if values.get(name) is not None}
            usual = _usual(told["model"], told["scale"], told)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no config.json of a run; name that file, or the folder of the run") from error
    return {
        name: value
        for name, value in told.items()
        if name in ("model", "scale") or (name not in OF_ONE_RUN and value != plain(usual[name]))
    }


def as_flags(message: object) -> str:
    """Return a message as users of the command line know it: arguments in backticks become flags."""
    known = flags_of(TrainOptions) | flags_of(EvalOptions)
    return re.sub(r"`(\w+)`", lambda name: f"--{name[1]}" if name[1] in known else name[0], str(message))


def train_options(argv: Sequence[str] | None, names: Names) -> tuple[Given, TrainOptions]:
    """Return the values that the command line of main.py gives, and the options that follow from them.

    Raises ValueError if flags contradict each other or config.json of a run to resume is damaged; exits for a flag that
    does not exist.
    """
    continued: list[Path] = []

    def read_config(given: Given) -> Given:
        values, run = values_of_config(given["config"]), run_of_config(given)
        if run is None:
            network = names["model"].get(given.get("model", values["model"]))
            known = set(_sizes()) if network is None else taken(network)
            return {name: value for name, value in values.items() if name not in _sizes() or name in known}
        continued.append(run)
        values.pop("data_test", None)  # which is kept anyway, and may be what was found in place of the default
        return values | {"save": Run(run).config()["save"], "dir_experiment": run.parent}

    given = parse(TrainOptions, argv, prog="main.py", names=names, read_config=read_config)
    if given["model"] == "blindsr":
        published.forget_released(given)
        given["model"] = "KDSR_S" if "pre_train_TA" in given else "KDSR_T"
    model, scale = given["model"], given.get("scale", DEFAULT_SCALE)
    values = _usual(model, scale, given) | published.validation(model, given)
    if takes_pairs_alone(given):
        values["data_test"] = "held-out"  # no set here is degraded as given pairs are
    values |= given
    objective = names["objective"][values["objective"]]
    if ("pre_train" in given or ("pre_train_TA" in given and objective.takes_teacher)) and not values["warm_start"]:
        values |= {name: given.get(name) for name in _sizes()}  # else those of the file
    values |= weights(values) | _contents(values)
    takes = frozenset(taken(names["degradation"][values["degradation"]]))
    classes = {"objective_class": objective, "recipe_takes": takes}
    draft = build(TrainOptions, values, run_dir=Path(), resuming=False, has_teacher=False, **classes)
    run_dir = continued[0] if continued else draft.saving.dir_experiment / _run_name(draft)
    asked, run = draft.saving.resume, Run(run_dir)
    resuming = asked in RESUMES and (asked != "auto" or run.resumable)
    was = run.config() if resuming else {}
    rates = [name for name, field in flags_of(TrainOptions).items() if field.metadata["flag"].on_resume == IF_GIVEN]
    kept = {name: was[name] for name in (*_sizes(), *rates, "data_test") if name in was and name not in given}
    has_teacher = (draft.loss.pre_train_TA or was.get("pre_train_TA")) is not None and objective.takes_teacher
    resolved = {"run_dir": run_dir, "resuming": resuming, "has_teacher": has_teacher}
    options = build(TrainOptions, values | kept, **resolved, **classes)
    _check_kernels(options, given)
    _check_training(options)
    _check_network(options, names["model"])
    _check_epochs(options)
    for name, when in without_effect(given, options).items():
        other_images = name in ("recipe", "mix") or (given[name] == "aniso_gaussian" and not resuming)
        if other_images:  # a run of days on other images than was meant
            raise ValueError(f"--{name} acts with {when}, which is not asked for: add that, or leave --{name} out")
    return given, options


def takes_pairs_alone(values: Mapping[str, Any]) -> bool:
    """Return True if a run of these flags degrades no image, since all of its LR images are given.

    Examples:
        >>> takes_pairs_alone({"dir_lr": "LR"}), takes_pairs_alone({"dir_lr": "LR", "mix": 0.5}), takes_pairs_alone({})
        (True, False, False)
    """
    return values.get("dir_lr") is not None and values.get("mix", 1) == 1


def weights(values: Mapping[str, Any]) -> dict[str, Path]:
    """Return the weight files that flags name. Raise ValueError if one is the folder or the state of a run instead."""
    found = {}
    for name in ("pre_train", "pre_train_TA"):
        path = values.get(name)
        if path is None:
            continue
        latest = None
        if path.name in ("state.pt", "state_previous.pt"):
            kind, latest = "is the state of a run, which --resume goes on with", path.with_name("model_latest.pt")
        elif (path / "model").is_dir():
            kind, latest = "is the folder of a run", path / "model" / "model_latest.pt"
        elif (path / "model_latest.pt").exists():
            kind, latest = "is a folder of a run", path / "model_latest.pt"
        if latest is not None:
            best = ", and model_best.pt beside that" * latest.with_name("model_best.pt").exists()  # a GAN has none
            raise ValueError(f"--{name}: {path} {kind}; its weights are {latest}{best}")
        found[name] = published.weights_path(path)
    return found


def _contents(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of the recipe file that --recipe names, for the run to keep; nothing where it names no file.

    Raises ValueError for a file that cannot be read, or holds no JSON object.
    """
    recipe = values.get("recipe", "")
    if isinstance(recipe, dict) or not (path := Path(recipe)).is_file():
        return {}
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"--recipe: {path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"--recipe: {path} must hold keys and values in {{}}, not {content}")
    return {"recipe": {"name": path.stem, **content}}


def _check_save(save: str) -> None:
    if not save or Path(save).name != save or save in (".", ".."):
        raise ValueError(f"--save {save!r} names a run: one word for a folder under --dir_experiment, not a path")


def _run_name(options: TrainOptions) -> str:
    saving, given = options.saving, options.degradation
    _check_save(saving.save)
    kind = f"{given.sample_mode}_{given.blur_type.removesuffix('_gaussian')}"
    if given.degradation not in published.NAMED_BY_BLUR:
        kind = given.degradation
    return f"{saving.save}_x{options.network.scale}_{kind}"


def asks_for_photographs(given: Given) -> bool:
    """Return True if a command line of test.py is about photographs, and not about test sets."""
    return bool(given.keys() & {"photos", "dir_demo"}) or given.get("data_test") == "Demo"


def eval_options(given: Given, names: Names, *, model: str, scale: int) -> EvalOptions:
    """Return the options of test.py for the network that was loaded. Raises ValueError for flags that contradict.

    names: the recipes in `degradation`.
    """
    default = "Demo" if asks_for_photographs(given) else "Set5+Set14+B100+Urban100"
    values = published.defaults(model, scale, given) | {"data_test": default}
    values["precision"] = "auto" if given.get("data_test", default) == "Demo" else "fp32"
    if given.get("sv_mode") and "sig" not in given:
        values["blur_type"] = "aniso_gaussian"  # the published kernels of the modes
    values |= given | _contents(given)
    recipe = names["degradation"].get(values["protocol"])
    options = build(EvalOptions, values, recipe_takes=frozenset(taken(recipe) if recipe else ()))
    if options.testing.save is not None:
        _check_save(options.testing.save)
    if options.testing.oracle and (options.testing.tile or options.testing.self_ensemble):
        raise ValueError("--oracle takes whole images as they are: leave out --tile and --self_ensemble")
    _check_kernels(options, given)
    _check_photos(options, given)
    return options


# ------------------------------------------------------------------------------------------- contradictions


def _known(options: TrainOptions | EvalOptions) -> dict[str, Any]:
    """Return what the tests of `When` are given."""
    return {**vars(options), **flat(options)}


def acts(when: When, options: TrainOptions | EvalOptions) -> bool:
    """Return True if a flag with this condition acts, whether it was given or not."""
    return when.test(_known(options))


def acting(section: Any, options: TrainOptions | EvalOptions) -> dict[str, Any]:
    """Return those flags of a section of these options that act, with their values."""
    values = _known(options)
    conditions = {field.name: field.metadata["flag"].when for field in fields(section)}
    return {name: getattr(section, name) for name, when in conditions.items() if when is None or when.test(values)}


def without_effect(given: Given, options: TrainOptions | EvalOptions) -> dict[str, str]:
    """Return the flags that were given but do not act, each with the condition under which it would."""
    values = {**_known(options), "given": given.keys()}
    conditions = {name: field.metadata["flag"].when for name, field in flags_of(options).items()}
    return {
        name: conditions[name].text
        for name in given
        if name in conditions and conditions[name] is not None and not conditions[name].test(values)
    }


def notes(given: Given, options: TrainOptions | EvalOptions) -> list[str]:
    """Return notes on a command line, to be shown before it is carried out."""
    found = [
        f"--{name} has no effect here; it acts with {when}" for name, when in without_effect(given, options).items()
    ]
    if isinstance(options, EvalOptions):
        if options.machine.n_GPUs > 1 and not asks_for_photographs(given):
            found.append("--n_GPUs has no effect here; test sets are scored on one")
        return found
    if options.training.milestone_epochs[:1] > [options.training.epochs_sr]:
        found.append(
            f"--milestones {options.training.milestones} are epochs, and the run ends before the first of them"
        )
    if acts(GAN, options) and options.loss.pre_train is None and not options.resuming:
        found.append(
            "--objective adversarial without --pre_train starts from random weights; the paper starts from the network "
            "that was trained without a discriminator"
        )
    return found


def changed(given: Given, options: TrainOptions, before: Mapping[str, Any]) -> list[str]:
    """Return the flags, in words, whose values a resumed run must keep, but which it is given otherwise than before."""
    found = _differing(given, options, before)
    if "epoch_steps" not in before and "test_every" not in given:  # older runs noted it as if it had been given
        found.pop("test_every", None)
    return [
        f"--{name} {was} (now {now if name in given else 'left out'})"
        for name, (was, now) in found.items()
        if not _may_change(name) and (name in given or FOLLOWS.get(name) not in found)
    ]


def retold(given: Given, options: TrainOptions, before: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the changes that a resumed run is given and may be given: the values before and now, by flag."""
    apart = {"config", "dir_experiment", "resume", "check", "dry_run", "pre_train"}
    apart |= {"pre_train_TA"} - given.keys()  # left out, the teacher is that of the state
    found = _differing(given, options, before)
    return {name: values for name, values in found.items() if _may_change(name) and name not in apart}


def _differing(given: Given, options: TrainOptions, before: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    now, ineffective = flat(options), without_effect(given, options)
    return {
        name: (before[name], now[name])
        for name in now
        if name in before and name not in ineffective and now[name] != before[name]
    }


def _may_change(name: str) -> bool:
    return bool(flags_of(TrainOptions)[name].metadata["flag"].on_resume)


def _check_kernels(options: TrainOptions | EvalOptions, given: Given) -> None:
    """Raise ValueError if a kernel is given beside others. `build_protocol` raises one if a kernel is missing."""
    degradation, test = options.degradation, options.test_degradation
    if degradation.sv_mode and given.keys() & {"protocol", "lambda_1", "lambda_2"}:
        raise ValueError(
            f"--sv_mode {degradation.sv_mode} has its own kernels: leave out --protocol, --lambda_1 and --lambda_2"
        )
    if degradation.sv_mode and degradation.blur_type == "aniso_gaussian" and test.sig is not None:
        raise ValueError(f"--sv_mode {degradation.sv_mode} takes --sig with --blur_type iso_gaussian only")
    named = test.protocol != "flags" and not degradation.sv_mode
    if named and (test.sig, test.lambda_1, test.lambda_2) != (None, None, None):
        raise ValueError(f"--protocol {test.protocol} has its own kernels: leave out --sig, --lambda_1 and --lambda_2")


def _check_photos(options: EvalOptions, given: Given) -> None:
    photos, test_sets = options.photos, options.images.data_test
    if asks_for_photographs(given) and (test_sets != "Demo" or options.testing.hr_dir is not None):
        flag = "--hr_dir" if options.testing.hr_dir is not None else f"--data_test {test_sets}"
        if photos.photos:
            raise ValueError(
                f"{flag} is about test sets, and {photos.photos[0]} is taken for a photograph: leave one out"
            )
        raise ValueError(f"{flag} is about test sets; leave it out with photographs")
    if asks_for_photographs(given) and not photos.photos and photos.dir_demo is None:
        raise ValueError("--data_test Demo: name the photographs, or their folder with --dir_demo")
    if options.testing.precision == "auto" and not asks_for_photographs(given):
        raise ValueError("--precision auto is for photographs; scores say at which precision they were made")
    if photos.box is not None and photos.outscale is not None:
        raise ValueError("--scale_to and --outscale contradict each other: leave one of them out")


def _check_training(options: TrainOptions) -> None:
    name, objective = options.loss.objective, options.objective_class
    loading, training = options.loading, options.training
    if loading.crop_size < loading.patch_size:
        raise ValueError(f"--crop_size {loading.crop_size} is less than --patch_size {loading.patch_size}")
    if loading.pool_size and loading.pool_size < training.batch_size:
        raise ValueError(f"--pool_size {loading.pool_size} is less than --batch_size {training.batch_size}")
    processes = max(1, options.machine.n_GPUs)
    if training.batch_size % processes:
        raise ValueError(f"--batch_size {training.batch_size} cannot be shared out evenly among --n_GPUs {processes}")
    if training.batch_size // processes % training.accumulate:
        share = f", shared out among --n_GPUs {processes}," if processes > 1 else ""
        raise ValueError(
            f"--batch_size {training.batch_size}{share} cannot be cut into --accumulate {training.accumulate}"
        )
    if loading.pool_size % processes:
        raise ValueError(f"--pool_size {loading.pool_size} cannot be shared out evenly among --n_GPUs {processes}")
    for switch, when in (("compile", COMPILED), ("cuda_graph", GRAPHED)):
        if getattr(training, switch) and not acts(when, options):
            raise ValueError(f"--{switch} takes {when.text}: leave it out")
    if options.test_degradation.metric == "all":
        raise ValueError(
            "--metric all belongs to test.py: one PSNR decides which weights are the best; name its planes"
        )
    if loading.mix == 0:
        raise ValueError("--mix 0: no batch has given pairs; leave out --dir_lr and --mix")
    _ = training.milestone_epochs
    if training.lr_sr == 0:
        raise ValueError("--lr_sr 0: nothing would be learned")
    if objective.views > 1 and (training.accumulate > 1 or loading.pool_size):
        raise ValueError(
            f"--objective {name} compares the images of a batch, and several crops of each: "
            "take --accumulate 1 and --pool_size 0"
        )
    if objective.steps > 1 and training.accumulate > 1:
        raise ValueError(f"--objective {name} takes {objective.steps} steps on each batch: leave out --accumulate")


def _check_network(options: TrainOptions, networks: Mapping[str, Any]) -> None:
    """Raise ValueError for a network that the objective does not train, or for one without its teacher."""
    loss, objective, model = options.loss, options.objective_class, options.network.model
    trained = [name for name, network in networks.items() if network and issubclass(network, objective.trains)]
    students = [name for name, network in networks.items() if network and network.teacher]
    if model not in trained:
        raise ValueError(f"--objective {loss.objective} trains --model {' or '.join(trained)}, not {model}")
    if model not in students and (objective.needs_teacher or loss.pre_train_TA is not None):
        flag = f"objective {loss.objective}" if objective.needs_teacher else "pre_train_TA"
        raise ValueError(f"--{flag}: a student learns from a teacher, --model {' or '.join(students)}, not {model}")
    learns = model in students and objective.takes_teacher and (objective.needs_teacher or loss.kd_weight)
    if learns and not options.has_teacher:
        without = "--objective pixel" if objective.needs_teacher else "--kd_weight 0"
        raise ValueError(
            f"--model {model} --objective {loss.objective} learns from a teacher: name its checkpoint with "
            f"--pre_train_TA (train one with --model {networks[model].teacher}), or leave it out with {without}"
        )
    if objective.needs_codes:
        _check_codes(options)
    if objective.refines and loss.pre_train is None and not options.resuming:
        raise ValueError(
            f"--objective {loss.objective} goes on from trained weights: name their checkpoint with --pre_train (train "
            f"them with --objective {objective.refines})"
        )


def _check_codes(options: TrainOptions) -> None:
    """Raise ValueError for contradictions in the stages of IKC, which learn from the codes of the drawn kernels."""
    objective, recipe = options.loss.objective, options.degradation.degradation
    if recipe != "ikc" or options.loading.pool_size:
        raise ValueError(
            f"--objective {objective} learns from the codes of kernels, which --degradation ikc draws: leave out "
            "--degradation and --pool_size"
        )
    if options.loading.dir_lr is not None:
        raise ValueError(
            f"--objective {objective} learns from the codes of the kernels that were drawn, which given pairs do not "
            "tell: leave out --dir_lr"
        )


def _check_epochs(options: TrainOptions) -> None:
    training, objective, warmup = options.training, options.loss.objective, options.warmup_epochs
    if options.epochs == 0:
        raise ValueError(f"--model {options.network.model} --epochs_sr 0: there is nothing to train")
    if warmup and not options.objective_class.warms_up:
        raise ValueError(f"--epochs_encoder {warmup}: --objective {objective} gives an encoder nothing to learn alone")
    if warmup and options.objective_class.epochs_include_warmup and warmup >= training.epochs_sr:
        raise ValueError(
            f"--epochs_encoder {warmup} leaves none of the --epochs_sr {training.epochs_sr} for the SR network"
        )
    if warmup and acts(CONTRAST, options) and options.loss.freeze_epoch < warmup:
        raise ValueError(
            f"--freeze_epoch {options.loss.freeze_epoch} comes before the end of --epochs_encoder {warmup}"
        )
