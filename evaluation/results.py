"""Where the results of `test.py` go, and how they say what they were made of and how."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from data.testset import TestSet, fingerprint
from evaluation import evaluate, report
from evaluation.evaluate import Score
from evaluation.quality import Quality
from model import BlindSR, name_of
from option import EvalOptions
from utility import atomic_write, environment


@cache
def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_of(checkpoint: Path) -> Path | None:
    """The directory of the run that wrote a checkpoint; None where it lies elsewhere."""
    return checkpoint.parent.parent if checkpoint.parent.name == "model" else None


def results_dir(options: EvalOptions) -> Path:
    """`results/<checkpoint>/` in the directory that --save names, or of the run that the checkpoint lies in.

    Neither: test_<checkpoint>_<its SHA-256, 8 digits>, for files of different networks may have one name.
    """
    testing = options.testing
    checkpoint, save = testing.pre_train, testing.save
    if checkpoint is None:
        name = f"bicubic_x{testing.scale}"
        return testing.dir_experiment / (save or f"test_{name}") / "results" / name
    run = testing.dir_experiment / (save or f"test_{checkpoint.stem}_{sha256(checkpoint)[:8]}")
    if save is None:
        run = run_of(checkpoint) or run
    return run / "results" / (checkpoint.stem + ("" if testing.weights == "auto" else f"_{testing.weights}"))


def made_by(net: BlindSR, options: EvalOptions) -> dict[str, Any]:
    """Of what network a result is and how it was made, for its JSON file."""
    testing = options.testing
    return {
        "network": name_of(net),
        **net.config,
        "checkpoint": str(testing.pre_train),
        "weights": testing.weights,
        "sha256": testing.pre_train and sha256(testing.pre_train),
        "precision": options.machine.precision,
        "self_ensemble": testing.self_ensemble,
        "tile": testing.tile,
        **environment(),
    }


def write_result(
    stem: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], table: Callable[[report.Form], str], **made: Any
) -> None:
    """All scores as <stem>.csv, their table in every form, and as <stem>.json how they were made."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(f"{stem}.csv")) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    for form, suffix in report.FORMS.items():
        with atomic_write(Path(f"{stem}{suffix}")) as temporary:
            temporary.write_text(table(form) + "\n", encoding="utf-8")
    with atomic_write(Path(f"{stem}.json")) as temporary:
        temporary.write_text(json.dumps(made, indent=1))


def slug(text: str) -> str:
    """As part of a file's name."""
    return "_".join(text.replace("(", "").replace(")", "").split())


def write_scores(scores: Sequence[Score], benchmarks: Sequence[TestSet], net: BlindSR, options: EvalOptions) -> Path:
    """For each set its scores as CSV, its tables, and as JSON how they were made; returns the folder of all."""
    testing, metric = options.testing, options.test_degradation.metric
    name = metric + ("_ensemble" if testing.self_ensemble else "") + (f"_tile{testing.tile}" if testing.tile else "")
    precision = options.machine.precision
    name += "" if precision == "fp32" else f"_{precision}"
    made, groups = made_by(net, options), evaluate.grouped(scores, "set")
    for benchmark in benchmarks:
        rows = groups[benchmark.name,]
        table = report.rows(rows)
        perceived = {} if testing.lpips is None else {f"lpips_{testing.lpips}": table[0].lpips}
        write_result(
            results_dir(options) / slug(benchmark.protocol) / benchmark.name / f"scores_{name}",
            Score._fields,
            rows,
            partial(report.render, table),
            psnr=table[0].psnr,
            ssim=table[0].ssim,
            **perceived,
            protocol=benchmark.protocol,
            digest=benchmark.digest,
            images=fingerprint(benchmark.hr_paths),
            metric=f"{metric}, border {net.scale}",
            **made,
        )
    return results_dir(options)


def write_qualities(
    stem: Path, qualities: Sequence[Quality], scores: Mapping[str, Sequence[float]], made: Mapping[str, Any]
) -> None:
    """Print and write what the metrics say of each image."""
    names = [quality.name for quality in qualities]
    header = [f"{quality.name} {'↓' if quality.lower_better else '↑'}" for quality in qualities]
    means = map(fmean, zip(*scores.values(), strict=True))
    write_result(
        stem,
        ("image", *names),
        [(image, *values) for image, values in scores.items()],
        partial(report.render_qualities, header, scores),
        **dict(zip(names, means, strict=True)),
        **made,
    )
    print(report.render_qualities(header, scores))
    print(f"written to {stem}.csv, .json and others")
