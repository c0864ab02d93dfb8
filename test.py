"""Score a checkpoint on test sets under a protocol, or super-resolve a folder of images.

python test.py --pre_train experiment/cdsr_x4_bicubic_aniso/model/model_best.pt --dir_data DIR
python test.py --pre_train MODEL.pt --data_test Demo --dir_demo DIR
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import build
import evaluation
import option
from commandline import parse
from data.benchmark import STANDARD, Benchmark, Sample
from data.degradation.resize import bicubic
from data.images import Photo, list_images, read_photo, write_image, write_photo
from evaluation import Score
from model import BlindSR, load_model, name_of
from option import EvalOptions
from utility import environment, whole


def results_dir(options: EvalOptions) -> Path:
    """`results/` in the directory that --save names, or of the run that the checkpoint lies in."""
    checkpoint, save = options.testing.pre_train, options.testing.save
    if save is not None:
        return options.testing.dir_experiment / save / "results"
    if checkpoint.parent.name == "model":
        return checkpoint.parent.parent / "results"
    return options.testing.dir_experiment / f"test_{checkpoint.stem}" / "results"


# ------------------------------------------------------------------------------------------------------ scores


def score(net: BlindSR, benchmarks: Sequence[Benchmark], options: EvalOptions, device: torch.device) -> list[Score]:
    """Every score of every benchmark; with --save_results the images are written as they come."""
    scores = []
    for benchmark in benchmarks:
        folder = results_dir(options) / _slug(benchmark.protocol) / benchmark.name
        scores += evaluation.evaluate(
            lambda lr, hr: net(lr, hr).image,
            benchmark,
            scale=net.scale,
            metric_protocol=options.test_degradation.metric,
            device=device,
            on_image=partial(_write_results, folder) if options.testing.save_results else None,
        )
    return scores


def _write_results(folder: Path, sample: Sample, sr: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for case, image in zip(sample.cases, sr, strict=True):
        pixels = image.mul(255).round().byte().permute(1, 2, 0)  # H W 3
        write_image(folder / f"{sample.image}_{_slug(case)}.png", pixels.cpu().numpy())


def _slug(text: str) -> str:
    return "_".join(text.replace("(", "").replace(")", "").split())


def table(scores: Sequence[Score]) -> str:
    """A line for each set, then one for each of its kernels."""
    lines = [f"{'set':<12}{'kernel':<24}{'images':>7}{'PSNR':>10}{'SSIM':>10}"]
    for name in dict.fromkeys(row.set for row in scores):
        rows = [row for row in scores if row.set == name]
        cases = list(dict.fromkeys(row.case for row in rows))
        groups = {"all" if len(cases) > 1 else cases[0]: rows}
        if len(cases) > 1:
            groups |= {case: [row for row in rows if row.case == case] for case in cases}
        for case, group in groups.items():
            psnr, ssim = evaluation.mean(group)
            images = len({row.image for row in group})
            lines.append(f"{name:<12}{case:<24}{images:>7}{psnr:>10.3f}{ssim:>10.4f}")
            name = ""
    return "\n".join(lines)


def write_scores(scores: Sequence[Score], net: BlindSR, options: EvalOptions) -> Path:
    """scores.csv with every score, scores.json with the means and how they were made; returns their folder."""
    folder = results_dir(options) / _slug(scores[0].protocol)
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "scores.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Score._fields)
        writer.writerows(scores)
    sets = {}
    for name in dict.fromkeys(row.set for row in scores):
        psnr, ssim = evaluation.mean(row for row in scores if row.set == name)
        sets[name] = {"psnr": psnr, "ssim": ssim}
    summary = {
        "network": name_of(net),
        **net.config,
        "checkpoint": str(options.testing.pre_train),
        "sha256": hashlib.sha256(options.testing.pre_train.read_bytes()).hexdigest(),
        "protocol": scores[0].protocol,
        "metric": f"{options.test_degradation.metric}, luma, border {net.scale}",
        "sets": sets,
        **environment(),
    }
    with whole(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    return folder


# ---------------------------------------------------------------------------------------------------- own images


def upscale(net: BlindSR, photo: Photo, device: torch.device) -> Photo:
    """The photo super-resolved, grey as grey, at its own bit depth; alpha is resized by bicubic interpolation."""
    lr = torch.from_numpy(photo.rgb).to(device).permute(2, 0, 1)[None]  # 1 3 H W
    with torch.inference_mode():
        sr = net(lr).image[0].float().clamp(0, 1).permute(1, 2, 0)  # H W 3
    alpha = None
    if photo.alpha is not None:
        resized = bicubic(torch.from_numpy(photo.alpha)[None, None], net.scale)[0, 0]
        alpha = resized.clamp(0, 1).numpy()
    return photo._replace(rgb=np.ascontiguousarray(sr.cpu().numpy()), alpha=alpha)


def demo(net: BlindSR, options: EvalOptions, device: torch.device) -> None:
    """Super-resolve every image of --dir_demo into results/Demo."""
    source, folder = options.testing.dir_demo, results_dir(options) / "Demo"
    if source is None:
        raise ValueError("--data_test Demo: name the folder of images with --dir_demo")
    if net.sees_hr:
        raise ValueError(f"--data_test Demo: {name_of(net)} is a teacher and needs the HR image; use its student")
    paths = list_images(source, "--dir_demo")
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        photo = read_photo(path)
        height, width = photo.rgb.shape[:2]
        if min(height, width) < net.min_size:
            raise ValueError(f"--dir_demo: {path} is {height} x {width}; {name_of(net)} needs {net.min_size} a side")
        out = folder / f"{path.stem}_x{net.scale}.png"
        write_photo(out, upscale(net, photo, device))
        print(f"{path} {height} x {width} -> {out}")


def main(argv: Sequence[str] | None = None) -> None:
    given = parse(EvalOptions, argv, prog="test.py")
    try:
        net = load_model(given["pre_train"])
        build.require(net, "--pre_train", given["pre_train"], model=given.get("model"), scale=given.get("scale"))
        sets = "+".join(STANDARD)
        options = option.resolve(EvalOptions, given, model=name_of(net), scale=net.scale, data_test=sets)
        device = build.device(options.machine, print)
        net.to(device)
        if options.images.data_test == "Demo":
            demo(net, options, device)
            return
        rule = build.protocol(options, net.scale)
        benchmarks, missing = build.benchmarks(options, rule, options.testing.seed)
        if missing:
            print(f"test sets that were not found: {', '.join(missing)}")
        if not benchmarks:
            raise FileNotFoundError(
                f"--data_test {options.images.data_test}: none of these is a folder, or lies in benchmark/ "
                f"under --dir_data {options.images.dir_data} or beside it"
            )
        build.check_benchmarks(benchmarks, net)
        scores = score(net, benchmarks, options, device)
    except (ValueError, OSError) as error:
        sys.exit(f"test.py: error: {error}")
    print(f"{name_of(net)} x{net.scale}, {scores[0].protocol}, luma {options.test_degradation.metric}")
    print(table(scores))
    print(f"written to {write_scores(scores, net, options)}")


if __name__ == "__main__":
    main()
