"""The settings that the papers fix: the defaults of each network, recipe and objective, in the units of the flags.

A flag whose default is `AS_PUBLISHED` takes it from here. Rows are merged in this order: network, recipe or blur,
objective; the more specific one wins. A network without a row gets `PLAIN`. The values are those of each paper's
released options and scripts; docs/papers_vs_code.md tells where paper and code differ.

`ELSEWHERE` has the flags of other code bases, and what to use here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLAIN: dict[str, Any] = {
    "degradation": "gaussian",
    "objective": "pixel",
    "draw_per": "image",
    "metric": "kdsr",
    "patch_size": 48,
    "batch_size": 16,
    "epochs_encoder": -1,
    "epochs_sr": 300,
    "lr_encoder": 2e-4,
    "lr_sr": 1e-4,
    "lr_decay_sr": 200,
    "decay_type": "step",
    "beta2": 0.999,
    "ema": 0.0,
    "augment": "all",
}
KDSR = ("KDSR_T", "KDSR_S")
_KDSR = {**PLAIN, "draw_per": "batch", "patch_size": 64, "batch_size": 64}
_CONTRAST = {"objective": "contrast", "batch_size": 32, "epochs_sr": 500, "lr_encoder": 1e-3, "lr_decay_sr": 125}
_REAL = {"n_feats": 128, "n_blocks": 42, "n_resblocks": 6, "batch_size": 72, "patch_size": 64}  # 8 GPUs, 9 images each

PUBLISHED: dict[str, dict[str, Any]] = {
    "KDSR_T": {**_KDSR, "epochs_sr": 500, "lr_decay_sr": 125},
    "KDSR_S": {**_KDSR, "objective": "distillation", "epochs_sr": 600, "lr_decay_sr": 150},
    "KDSR_S aniso_gaussian": {"epochs_encoder": 100, "epochs_sr": 500, "lr_decay_sr": 125},
    "KDSR_T second_order": {**_REAL, "epochs_sr": 1000, "lr_decay_sr": 1000},
    "KDSR_S second_order": {**_REAL, "epochs_sr": 1000, "lr_sr": 2e-4, "lr_decay_sr": 600},
    "KDSR_S adversarial": {"epochs_sr": 400, "lr_sr": 1e-4, "lr_decay_sr": 400},
    "contrast": {"pool_size": 0},  # the crops of an image stay together
    "CDSR": {**PLAIN, **_CONTRAST, "degradation": "manet", "metric": "matlab"},
    "DASR": {**PLAIN, **_CONTRAST, "epochs_encoder": 100},
    "IKC": {
        **PLAIN,
        "degradation": "ikc",
        "objective": "sftmd",
        "metric": "matlab",
        "patch_size": 64,
        "batch_size": 32,
        "epochs_sr": 500,
        "lr_decay_sr": 125,
        "decay_type": "cosine",
        "beta2": 0.99,
    },
    "IKC correction": {"epochs_sr": 5, "decay_type": "none"},
    # Not blind: sizes are the papers', the degradation is that of the blind networks they are compared with.
    "EDSR": {**PLAIN, "draw_per": "batch"},
    "RRDB": {**PLAIN, "draw_per": "batch", "patch_size": 32, "epochs_sr": 1000, "lr_sr": 2e-4},
    "second_order": {
        "draw_per": "image",
        "crop_size": 100,
        "augment": "mirror",
        "epochs_encoder": -1,
        "beta2": 0.99,
        "ema": 0.999,
        "metric": "matlab",  # the luma of the tables of real photographs
    },
}
# (sig_min, sig_max) by recipe, blur and scale: standard deviations, but variances for manet with aniso_gaussian.
_MANET = {2: (0.35, 5.0), 3: (0.525, 7.5), 4: (0.7, 10.0)}
_GAUSSIAN = {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)}
LAMBDA_MAX = 4.0  # KDSR's, at every scale
PROTOCOLS = {  # of iso and aniso; else the recipe's
    "gaussian": ("gaussian8", "aniso9"),
    "manet": ("manet9", "manet9"),
    "ikc": ("gaussian8", "gaussian8"),
}
NAMED_BY_BLUR = ("gaussian", "manet")  # recipes whose runs the released trainers name by sampler and blur
POOLED = 20  # batches in the pool of pairs: 180 pairs for the nine images of a GPU
NOISY_KERNEL = {"protocol": "flags", "lambda_1": 4.0, "lambda_2": 1.5, "theta": 120.0}  # KDSR validates noisy training
NOISY_LEVEL = 10.0  # on this kernel and noise, on Set14, whatever the noise in training


def defaults(model: str, scale: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the published value of every flag that has one, for this network and the flags that were given."""
    values = dict(PUBLISHED.get(model, PLAIN))
    blur = given.get("blur_type", "iso_gaussian")
    recipe = given.get("degradation", values["degradation"])
    objective = given.get("objective", values["objective"])
    for setting in (recipe if recipe == "second_order" else blur, objective):
        values |= PUBLISHED.get(setting, {}) | PUBLISHED.get(f"{model} {setting}", {})
    if objective != values["objective"]:
        values["epochs_encoder"] = -1  # the published warm-up is that of the published objective
    values.setdefault("crop_size", given.get("patch_size", values["patch_size"]))
    pooled = POOLED * given.get("batch_size", values["batch_size"]) if recipe == "second_order" else 0
    values.setdefault("pool_size", pooled)
    values["sig_min"], values["sig_max"] = _widths(model, recipe, blur, scale)
    values["lambda_max"] = LAMBDA_MAX
    iso, aniso = PROTOCOLS.get(recipe, (recipe, recipe))
    one_kernel = given.keys() & {"sig", "lambda_1", "lambda_2"}
    values["protocol"] = "flags" if one_kernel else aniso if blur == "aniso_gaussian" else iso
    return values


def _widths(model: str, recipe: str, blur: str, scale: int) -> tuple[float, float]:
    if recipe == "manet":
        return _MANET[scale]
    if model == "DASR" and blur == "iso_gaussian":
        return _GAUSSIAN[4]  # also at x2
    return _GAUSSIAN[scale]


def validation(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of the released trainer's validation, where this network is not validated as it is trained."""
    noisy = model in KDSR and given.get("blur_type") == "aniso_gaussian" and given.get("noise", 0) > 0
    if not noisy or given.keys() & {"protocol", "lambda_1", "lambda_2", "degradation"}:
        return {}
    return {**NOISY_KERNEL, "data_test": "Set14"}


def validation_noise(model: str, blur_type: str, noise: float, protocol: str) -> float:
    """Return the noise of the validation images, in grey levels, for training with noise up to `noise`."""
    noisy = model in KDSR and blur_type == "aniso_gaussian" and noise > 0
    return NOISY_LEVEL if noisy and protocol == "flags" else noise


def epoch_steps(model: str, recipe: str, batch_size: int, images: int) -> int:
    """Return how many steps the released trainer of this network calls an epoch.

    The released loaders repeat the images until they make up 1000 batches at most. KDSR keeps the last batch, which is
    not full (971 steps for the 3450 images of DF2K; here it is full), CDSR and DASR drop it (970).
    """
    if recipe == "second_order" or model not in (*KDSR, "CDSR", "DASR"):
        return 1000
    repeated = max(1000 * batch_size // images, 1) * images
    steps = -(-repeated // batch_size) if model in KDSR else repeated // batch_size
    return max(steps, 1)


def first_epoch(recipe: str) -> int:
    """Return the number of the first epoch, for the stairs: 1; 0 for second_order, whose trainer counts iterations."""
    return 0 if recipe == "second_order" else 1


def weights_path(path: Path) -> Path:
    """Return the path, with a name of the released trainers (`model_TA_last.pt`) replaced by ours, `model_latest.pt`.

    A path that exists, or beside which there is no `model_latest.pt`, stays as it is.
    """
    latest = path.with_name("model_latest.pt")
    released = path.name in ("model_TA_last.pt", "model_ST_last.pt", "model_last.pt")
    return latest if released and not path.exists() and latest.exists() else path


def forget_released(given: dict[str, Any]) -> None:
    """Drop flags that the programs of the released KDSR ignore from one of its command lines (`--model blindsr`).

    They validate and test isotropic blur on eight widths, whatever --sig says. Their --model names no network.
    """
    if given.get("model") != "blindsr":
        return
    del given["model"]
    if given.get("blur_type") == "iso_gaussian":
        given.pop("sig", None)


def released_test(given: dict[str, Any]) -> None:
    """Turn a test command of the released KDSR into one of ours: without --noise, anisotropic blur gets noise 10."""
    if given.get("model") == "blindsr" and given.get("blur_type") == "aniso_gaussian":
        given.setdefault("noise", NOISY_LEVEL)
    forget_released(given)


ELSEWHERE = {  # flags and keys of BasicSR, Real-ESRGAN, KAIR and EDSR-PyTorch (docs/coming_from.md), and former ones
    name: hint
    for names, hint in {
        "lpips": "--score psnr+ssim+lpips_vgg names all metrics",
        "no_reference": "--score niqe names the metrics of photographs",
        "i input": "test.py takes photographs and folders without a flag",
        "o output": "--out names the place of the results",
        "n model_name model_path pretrain_network_g path": "--pre_train names the weights",
        "s upscale": "--outscale is the factor of photographs, --scale that of a network",
        "t tile_size chop chop_forward": "--tile is the side of tiles; those of photographs follow from the memory",
        "tile_pad tile_overlap": "tiles have the halo that the network needs, and show no seams",
        "suffix": "results are named <name>_x4; --out names the folder",
        "ext": "--format is the format of the results, --data_cache decodes the training images once",
        "save_gt": "--save_results writes SR images; HR images are not written again",
        "print_model": "--complexity prints parameters, multiply-adds and time",
        "crop_border": "PSNR and SSIM leave out a border as wide as the scale",
        "test_y_channel": "--metric matlab compares luma, --metric rgb the channels",
        "test_only": "test.py does nothing but test",
        "name task": "--save is the name of a run or of results",
        "resume_state auto_resume": "--resume auto goes on with a run, or starts it",
        "start_epoch": "--resume goes on where the run that --save names was saved last",
        "load": "--resume goes on with the run that --save names, --pre_train starts from weights",
        "reset": "no run is overwritten; give the new one another --save",
        "save_models": "--st_save_epoch 1 with --keep 0 keeps the weights of every epoch",
        "opt template": "options are flags; --config takes the config.json of a run",
        "manual_seed": "--seed is the seed of the random draws",
        "half fp16 fp32 amp": "--precision chooses bf16, fp16, tf32 or fp32",
        "device gpu_id gpu_ids num_gpu launcher": "--n_GPUs counts GPUs, --cpu takes none",
        "num_workers num_worker_per_gpu dataloader_num_workers": "--n_threads counts loader processes",
        "dataroot_gt dataroot_h dataroot_H meta_info": "--dir_data names the HR images",
        "dir_hr": "--dir_data names the HR images, --hr_dir those of the LR images that --data_test names",
        "dataroot_lq dataroot_L": "--dir_lr names given LR images",
        "data_range": "--dir_data names a folder, of which all images are trained on; --data_test names others",
        "lmdb io_backend": "--data_cache decodes the images once",
        "n_colors": "images are RGB; grey ones are repeated to it",
        "rgb_range": "images are in [0, 1] at both ends of every network",
        "gt_size H_size": "--patch_size is the side of a patch in LR pixels, that in HR pixels over the scale",
        "batch_size_per_gpu dataloader_batch_size": "--batch_size counts the images of all GPUs",
        "split_batch": "--accumulate is the number of parts of a batch",
        "use_hflip use_rot no_augment": "--augment chooses flips and transpositions, or none",
        "queue_size": "--pool_size is the number of pairs in the pool",
        "usm gt_usm l1_gt_usm percep_gt_usm": "--sharpen sharpens the HR images of the loss",
        "res_scale": "residual blocks have the factors of the papers; that of EDSR-baseline is 1",
        "optimizer betas momentum weight_decay": "Adam is the optimizer, without weight decay; --beta2 is its β2",
        "gclip": "--clip_grad limits the norm of the gradient",
        "skip_threshold": "--collapse takes back a step whose loss is far above the median",
        "lr_g lr_G learning_rate G_optimizer_lr": "--lr_sr is the learning rate",
        "scheduler G_scheduler_type": "--decay_type chooses how --lr_sr decays",
        "decay G_scheduler_milestones": "--milestones names the epochs at which --lr_sr decays, joined by -",
        "lr_decay": "--lr_decay_sr is the epochs between two decays, --milestones names uneven ones",
        "gamma G_scheduler_gamma": "--gamma_sr is the factor of each decay",
        "ema_decay": "--ema is the decay of the average of the weights",
        "epochs": "--epochs_sr is the number of epochs",
        "total_iter niter": "a run has --epochs_sr epochs of --test_every steps",
        "val_freq save_checkpoint_freq checkpoint_test checkpoint_save": "--test_every is the steps to a validation",
        "print_freq checkpoint_print": "--print_every is the steps between two lines of the log",
        "use_wandb wandb use_tb_logger": "tb/ in the run is for TensorBoard (docs/long_runs.md)",
        "strict_load": "--warm_start takes what fits of other weights",
    }.items()
    for name in names.split()
}
