"""Score a checkpoint on test sets under a protocol or on real pairs, or super-resolve a folder of images.

python test.py --pre_train experiment/cdsr_x4_bicubic_aniso/model/model_best.pt --dir_data DIR
python test.py --pre_train MODEL.pt --data_test LR_DIR --hr_dir HR_DIR
python test.py --pre_train MODEL.pt --data_test Demo --dir_demo DIR
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import build
from commandline import Given, parse
from data.degradation.resize import bicubic
from data.images import Photo, check_image, list_images, read_image, read_photo, write_image, write_photo
from data.testset import PAIRED, STANDARD, Sample, TestSet, paired, to_pixels, to_tensor
from evaluation import cost, evaluate, quality, report
from evaluation.evaluate import Score
from evaluation.results import made_by, results_dir, run_of, slug, write_qualities, write_scores
from model import BlindSR, load_model, name_of, tiling
from model import build as build_model
from option import EvalOptions
from resolve import notes, resolve
from utility import Run

LUMA_OF_PAIRS = "matlab"  # of the tables of real photographs
KERNELS = ("protocol", "sample_mode", "noise", "sv_mode", "sig", "lambda_1", "lambda_2", "theta", "jpeg_quality")
TRAINED_FOR = ("degradation", "blur_type", "noise")  # that decide what a network is tested on


# ------------------------------------------------------------------------------------------------------ scores


def score(net: BlindSR, benchmarks: Sequence[TestSet], options: EvalOptions, device: torch.device) -> list[Score]:
    """Every score of every benchmark; with --save_results the images are written as they come."""
    testing, scores = options.testing, []
    lpips = None if testing.lpips is None else quality.lpips(testing.lpips, device)
    for benchmark in benchmarks:
        folder = results_dir(options) / slug(benchmark.protocol) / benchmark.name
        scores += evaluate.evaluate(
            partial(restore, net=net, options=options, device=device),
            benchmark,
            scale=net.scale,
            metric_protocol=options.test_degradation.metric,
            device=device,
            on_image=partial(_write_results, folder) if testing.save_results else None,
            lpips=lpips,
        )
    return scores


def _write_results(folder: Path, sample: Sample, sr: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for case, image in zip(sample.cases, sr, strict=True):
        write_image(folder / f"{sample.image}_{slug(case)}.png", to_pixels(image))


# ---------------------------------------------------------------------------------------------------- own images


def restore(lr: Tensor, hr: Tensor, net: BlindSR, options: EvalOptions, device: torch.device) -> Tensor:
    """SR images of (N, 3, H, W), by tiles or as an ensemble where that is asked for; `hr` is for teachers."""
    testing = options.testing
    with build.numerics(options.machine).autocast(device):
        if testing.tile is None and not testing.self_ensemble:
            return net(lr, hr).image
        hr_or_none = hr if net.sees_hr else None
        sr = tiling.restore(
            net, lr, hr=hr_or_none, tile=testing.tile, self_ensemble=testing.self_ensemble, device=device
        )
        return sr.to(device)


def upscale(net: BlindSR, photo: Photo, options: EvalOptions, device: torch.device) -> Photo:
    """The photo super-resolved, grey as grey, at its own bit depth; alpha is resized by bicubic interpolation.

    By tiles where the whole does not fit into memory.
    """
    testing = options.testing
    lr = torch.from_numpy(photo.rgb).permute(2, 0, 1)[None]  # 1 3 H W
    with build.numerics(options.machine).autocast(device):
        sr = tiling.restore(net, lr, tile=testing.tile, self_ensemble=testing.self_ensemble, device=device)
    rgb = sr[0].float().clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
    alpha = None
    if photo.alpha is not None:
        resized = bicubic(torch.from_numpy(photo.alpha)[None, None], net.scale)[0, 0]
        alpha = resized.clamp(0, 1).numpy()
    return photo._replace(rgb=rgb, alpha=alpha)


def demo(net: BlindSR, options: EvalOptions, device: torch.device) -> None:
    """Super-resolve every image of --dir_demo into results/Demo; with --no_reference, score the images written."""
    source, asked, folder = options.testing.dir_demo, options.testing.no_reference, results_dir(options) / "Demo"
    if source is None:
        raise ValueError("--data_test Demo: name the folder of images with --dir_demo")
    if net.sees_hr:
        raise ValueError(f"--data_test Demo: {name_of(net)} is a teacher and needs the HR image; use its student")
    paths = list_images(source, "--dir_demo")
    for path in paths:
        height, width = check_image(path)
        if min(height, width) < net.min_size:
            raise ValueError(f"--dir_demo: {path} is {height} x {width}; {name_of(net)} needs {net.min_size} a side")
    qualities = quality.no_reference(asked, device) if asked else []
    folder.mkdir(parents=True, exist_ok=True)
    stems = [path.stem for path in paths]
    scores: dict[str, list[float]] = {}
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else path.name
        out = folder / f"{name}_x{net.scale}.png"
        write_photo(out, upscale(net, read_photo(path), options, device))
        print(f"{path} -> {out}")
        scores[out.stem] = [quality.score(to_tensor(read_image(out), device)) for quality in qualities]
    if qualities:
        write_qualities(folder / "no_reference", qualities, scores, made_by(net, options))


def options_of(argv: Sequence[str] | None) -> tuple[Given, EvalOptions, BlindSR]:
    """What a command line asks for, and the network of its checkpoint, which decides what is published for it."""
    given = parse(EvalOptions, argv, prog="test.py")
    path, name, scale = (given.get(key) for key in ("pre_train", "model", "scale"))
    if path is None and name == "BICUBIC" and scale is not None:
        net = build_model(name, scale=scale)
    elif path is None:
        raise ValueError("--pre_train: name the checkpoint to test (only --model BICUBIC --scale 4 needs none)")
    else:
        net = load_model(path, weights=given.get("weights", "auto"))
        build.require(net, "--pre_train", path, model=name, scale=scale)
    default = "Demo" if "dir_demo" in given else "+".join(STANDARD)
    options = resolve(EvalOptions, given, model=name_of(net), scale=net.scale, data_test=default)
    for note in notes(given, options):
        print(f"note: {note}")
    return given, options, net


def with_luma_of_pairs(options: EvalOptions, benchmarks: Sequence[TestSet], given: Given) -> EvalOptions:
    """Real pairs are measured alike, however they are named and whatever network restores them: as in their tables.

    ValueError where other images, which are measured otherwise, are to be scored beside them.
    """
    real, metric = [benchmark.protocol == PAIRED for benchmark in benchmarks], options.test_degradation.metric
    if "metric" in given or not any(real) or metric == LUMA_OF_PAIRS:
        return options
    if not all(real):
        raise ValueError(
            f"--data_test {options.images.data_test}: real pairs are measured by --metric {LUMA_OF_PAIRS}, images that "
            f"are degraded here by {metric}: test them apart, or name one --metric for all"
        )
    return replace(options, test_degradation=replace(options.test_degradation, metric=LUMA_OF_PAIRS))


def remarks(options: EvalOptions, benchmarks: Sequence[TestSet], given: Given) -> list[str]:
    """What a user may not have meant: the test is not of what the network was trained for, or of its images."""
    found = []
    protocol = [f"--{name}" for name in (*KERNELS, "blur_type", "degradation") if name in given]
    if protocol and all(benchmark.protocol == PAIRED for benchmark in benchmarks) and options.testing.hr_dir is None:
        found.append(f"real pairs are scored as they are: {', '.join(protocol)} has no effect")
    for benchmark in benchmarks:
        if benchmark.protocol != PAIRED and benchmark.hr_paths[0].parent.name.startswith("LR"):
            found.append(f"the images of {benchmark.hr_paths[0].parent} are degraded; --hr_dir names their HR images")
    run = None if options.testing.pre_train is None else run_of(options.testing.pre_train)
    if run is not None and not protocol and any(benchmark.protocol != PAIRED for benchmark in benchmarks):
        tested, trained = vars(options.degradation), {}
        with suppress(ValueError):  # any folder may hold a config.json
            trained = Run(run).config()
        other = [f"--{name} {trained[name]}" for name in TRAINED_FOR if trained.get(name, tested[name]) != tested[name]]
        if other:
            found.append(f"the network was trained with {' '.join(other)}, which is not what this tests")
    return found


def real_pairs(lr_dir: Path, hr_dir: Path, scale: int) -> TestSet:
    """The pairs of --data_test and --hr_dir."""
    if not lr_dir.is_dir():
        raise NotADirectoryError(
            f"--data_test {lr_dir}: beside --hr_dir it names one folder, that of the LR images. Several sets "
            "are joined by + without --hr_dir, each a folder with LR/ and HR/"
        )
    return paired(lr_dir, hr_dir, scale, flag="--hr_dir")


def benchmarks_of(options: EvalOptions, net: BlindSR) -> list[TestSet]:
    """The checked test sets that the options ask for; names those that are not there."""
    hr_dir, name = options.testing.hr_dir, options.images.data_test
    if hr_dir is not None:
        benchmarks, missing = [real_pairs(Path(name), hr_dir, net.scale)], []
    else:
        benchmarks, missing = build.benchmarks(options, build.protocol(options, net.scale), options.testing.seed)
    if missing:
        print(f"test sets that were not found: {', '.join(missing)}")
    if not benchmarks:
        raise FileNotFoundError(
            f"--data_test {options.images.data_test}: none of these is a folder, or lies in benchmark/ "
            f"under --dir_data {options.images.dir_data} or beside it"
        )
    build.check_benchmarks(benchmarks, net)
    return benchmarks


def main(argv: Sequence[str] | None = None) -> None:
    try:
        given, options, net = options_of(argv)
        device = build.device(options.machine, print)
        net.to(device).to(memory_format=build.numerics(options.machine).memory_format)
        if options.testing.complexity:
            found = cost.measure(net, *cost.SIZE, device, precision=options.machine.precision)
            print(cost.report(net, found))
            return
        if options.images.data_test == "Demo":
            demo(net, options, device)
            return
        benchmarks = benchmarks_of(options, net)
        options = with_luma_of_pairs(options, benchmarks, given)
        for remark in remarks(options, benchmarks, given):
            print(f"note: {remark}")
        scores = score(net, benchmarks, options, device)
    except torch.OutOfMemoryError as error:
        sys.exit(f"test.py: error: out of memory; --tile 256, or a smaller one, needs less ({error})")
    except (ValueError, OSError) as error:
        sys.exit(f"test.py: error: {error}")
    print(f"{name_of(net)} x{net.scale}, {options.test_degradation.metric}")
    print(report.render(report.rows(scores)))
    print(f"written to {write_scores(scores, benchmarks, net, options)}")


if __name__ == "__main__":
    main()
