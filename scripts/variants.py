"""Group runs into the variants of an ablation: what differs, mean ± standard deviation over the seeds, curves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from evaluation import mean, metric
from evaluation.results import Tested, run_of
from evaluation.statistics import Estimate, difference_interval
from runtime.curves import joined, psnr_curves
from utility import ENVIRONMENT, Run

WEIGHTS = ("pre_train", "pre_train_TA")  # flags that name a checkpoint
UNSEEN = {  # of config.json: what a run is called, where it runs and what it keeps change no score but by rounding
    *("seed", "save", "dir_experiment", "resume", "config", "reference", "check", "dry_run"),
    *("print_every", "st_save_epoch", "keep", "max_minutes", "save_minutes"),
    *("n_threads", "data_cache", "vgg", "cpu", "n_GPUs", "deterministic", *ENVIRONMENT),
    *("accumulate", "recompute", "compile", "cuda_graph"),
}

LEGEND = """\
±: standard deviation over the seeds (n − 1). Differences are from the first column, with a 95 % interval by Welch's t
over the seeds."""
ONE_SEED = "One seed each: nothing tells how much another seed would change."


class Trained(NamedTuple):
    """A run, and the scores of one of its checkpoints."""

    results: Path  # results/<checkpoint> of the run
    config: dict[str, Any]  # {} if the run has none, as a test of bicubic interpolation
    tested: dict[str, Tested]  # as `results.read` returns them

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.results.parent.parent


class Variant(NamedTuple):
    """Runs that differ in their seed alone, and the settings that they share."""

    settings: dict[str, Any]
    runs: list[Trained]


def settings(run: Path, above: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what decides the scores of a run besides its seed; {} without a config.json.

    Weights that a run starts or learns from count as the training behind them: each seed may have its own teacher.

    Args:
        run: its folder.
        above: the runs that were trained with this one's weights.

    Raises ValueError if a config.json is damaged.
    """
    found = {name: value for name, value in Run(run).config().items() if value is not None and name not in UNSEEN}
    for name in found.keys() & WEIGHTS:
        file = Path(found[name])
        source = run_of(file)
        if source is not None and source not in above and (training := settings(source, (*above, run))):
            found[name] = {"file": file.name, **training}
    return found


def grouped(runs: Sequence[Trained]) -> list[Variant]:
    """Return the variants in the order of their first runs. A run without config.json is one of its own.

    Raises ValueError if two runs of a variant have the same seed.
    """
    variants: list[Variant] = []
    for trained in runs:
        found = {**settings(trained.run), "checkpoint": trained.results.name} if trained.config else {}
        like = next((variant for variant in variants if found and variant.settings == found), None)
        if like is None:
            variants.append(Variant(found, [trained]))
            continue
        seed = trained.config.get("seed")
        if other := next((run.run for run in like.runs if run.config.get("seed") == seed), None):
            raise ValueError(
                f"{other} and {trained.run} have the same options and the same seed, {seed}: leave one out, or compare "
                "these two alone"
            )
        like.runs.append(trained)
    return variants


def names(variants: Sequence[Variant]) -> list[str]:
    """Return the shortest names that tell variants apart: --save without the seed, folder, both, or path."""
    firsts = [variant.runs[0] for variant in variants]
    short = [_without_seed(variant) for variant in variants]
    folders = [first.run.name for first in firsts]
    full = [f"{first.run.name} {first.results.name}" for first in firsts]
    paths = [str(first.results) for first in firsts]
    return next((found for found in (short, folders, full) if len(set(found)) == len(found)), paths)


def _without_seed(variant: Variant) -> str:
    """Return the name of a variant without its seed: `kd` for `kd_seed2` and, where it has several, for `kd_2`."""
    first, several = variant.runs[0], len(variant.runs) > 1
    save, seed = first.config.get("save", first.run.name), str(first.config.get("seed", ""))
    return re.sub(rf"[_-](seed){'?' if several else ''}[_-]?{seed}$", "", save) or save


# ----------------------------------------------------------------------------------------------------- table


def table(variants: Mapping[str, Variant]) -> list[list[str]]:
    """Return the lines of the table, which has a column for each variant: what differs, the seeds, the scores.

    Below each score stands its difference from the first variant, with a 95 % interval where both have several seeds.
    """
    lines = differing(variants)
    seeds = [[str(run.config.get("seed", "–")) for run in variant.runs] for variant in variants.values()]
    lines.append(["seeds", *map(", ".join, seeds)])
    titles = {key: title for title, key in tests(variants).items()}
    for key, name, values in scores(variants):
        kind = metric.find(name)
        cells = [
            with_deviation(found, len(variant.runs), kind.digits)
            for found, variant in zip(values, variants.values(), strict=True)
        ]
        lines.append([f"{titles[key]}: {kind.heading}", *cells])
        if values[0] and any(values[1:]):
            changes = [difference(found, values[0]).text(kind.digits, "+") if found else "–" for found in values[1:]]
            lines.append(["– difference from the first", "", *changes])
    return lines


def records(variants: Mapping[str, Variant]) -> list[dict[str, Any]]:
    """Return the numbers of the table: one line for each test, metric and variant that was tested."""
    settings = {name: dict(zip(variants, cells, strict=True)) for name, *cells in differing(variants)}
    found = []
    for key, name, values in scores(variants):
        tested = next(run.tested[key] for variant in variants.values() for run in variant.runs if key in run.tested)
        labels = {"set": tested.scores[0].set, "protocol": tested.scores[0].protocol, "scores": Path(key).stem}
        for place, (variant, one) in enumerate(zip(variants, values, strict=True)):
            if not one:
                continue
            compared = place > 0 and values[0]
            change = difference(one, values[0]) if compared else Estimate(nan, nan, nan)
            found.append(
                {
                    **labels,
                    "metric": name,
                    "network": variant,
                    **{f"setting_{setting}": cells[variant] for setting, cells in settings.items()},
                    "seeds": len(one),
                    "mean": fmean(one),
                    "deviation": stdev(one) if len(one) > 1 and all(map(isfinite, one)) else None,
                    **change.columns("difference"),
                }
            )
    return found


def scores(variants: Mapping[str, Variant]) -> Iterator[tuple[str, str, list[list[float]]]]:
    """Yield each test, by its path in the results of a run, each metric, and for each variant the scores of its seeds.

    A score is the mean over images and kernels.
    """
    for key in tests(variants).values():
        tested = [
            [mean(run.tested[key].scores) for run in variant.runs if key in run.tested] for variant in variants.values()
        ]
        for name in dict.fromkeys(name for runs in tested for values in runs for name in values):
            yield key, name, [[run[name] for run in runs if name in run] for runs in tested]


def differing(variants: Mapping[str, Variant]) -> list[list[str]]:
    """Return a line for each setting in which variants differ: its name, and its value in each of them."""
    known = [variant.settings for variant in variants.values() if variant.settings]
    every = dict.fromkeys(name for found in known for name in found)
    differ = [name for name in every if any(found.get(name) != known[0].get(name) for found in known)]
    return [[name, *(_shown(variant, name) for variant in variants.values())] for name in differ]


def _shown(variant: Variant, name: str) -> str:
    value = variant.settings.get(name, "–")
    if name in WEIGHTS and isinstance(value, dict):
        file = Path(variant.runs[0].config[name])
        source = run_of(file)
        value = file.name if source is None else f"{source.name} {file.stem}"
    return str(value.get("name", value) if isinstance(value, dict) else value)


def tests(variants: Mapping[str, Variant]) -> dict[str, str]:
    """Return the path of each test in the results of a run that has it, by its title."""
    found: dict[str, list[str]] = {}
    for variant in variants.values():
        for run in variant.runs:
            for key, tested in run.tested.items():
                keys = found.setdefault(f"{tested.scores[0].set}, {tested.scores[0].protocol}", [])
                keys += [key] if key not in keys else []
    return {
        f"{title} ({Path(key).stem})" if len(keys) > 1 else title: key for title, keys in found.items() for key in keys
    }


def with_deviation(values: Sequence[float], runs: int, digits: int) -> str:
    """Return `28.71 ± 0.04`: the mean over the seeds and their standard deviation (n - 1).

    Of fewer values than there are runs it says how many: `28.71 ± 0.04 (2 of 3)`.
    """
    if not values:
        return "–"
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 and all(map(isfinite, values)) else ""
    return f"{fmean(values):.{digits}f}{deviation}" + (f" ({len(values)} of {runs})" if len(values) < runs else "")


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the difference of two means over seeds with its 95 % interval."""
    return Estimate(fmean(values) - fmean(others), *difference_interval(values, others))


def notes(variants: Mapping[str, Variant]) -> list[str]:
    """Return what makes a comparison weaker: scores that runs lack, trainings of other lengths, other code."""
    runs = [run for variant in variants.values() for run in variant.runs]
    found = []
    for title, key in tests(variants).items():
        if lacking := [run.run.name for run in runs if key not in run.tested]:
            found.append(f"{title}: no scores of {', '.join(lacking)}")
    lengths: dict[int, list[str]] = {}
    for run in runs:
        if last := [points[-1][0] for points in psnr_curves(Run(run.run).psnr_log).values()]:
            lengths.setdefault(max(last), []).append(run.run.name)
    if len(lengths) > 1:
        each = "; ".join(f"{step} of {', '.join(those)}" for step, those in sorted(lengths.items()))
        found.append(f"the last validations are of different steps: {each}")
    commits = {str(run.config["commit"])[:8] for run in runs if run.config.get("commit")}
    if len(commits) > 1:
        found.append(f"the code differs between the runs: commits {', '.join(sorted(commits))}")
    return found


# ---------------------------------------------------------------------------------------------------- curves


def curves(runs: Mapping[str, Sequence[Path]]) -> Figure | None:
    """Draw the PSNR of the validations, a picture for each set and protocol; None if nothing was validated.

    Args:
        runs: folders of the runs of each variant, by its name. The line of several is their mean at the steps that all
            of them have, and the band goes from the lowest to the highest.
    """
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for name, folders in runs.items():
        for title, steps in joined([psnr_curves(Run(folder).psnr_log) for folder in folders]).items():
            found.setdefault(title, {})[name] = steps
    if not found:
        return None
    figure = Figure(figsize=(6 * len(found), 4), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for name, steps in lines.items():
            means = [fmean(values) for values in steps.values()]
            (line,) = axes.plot([*steps], means, marker="." if len(steps) < 30 else None, label=name)
            if len(runs[name]) > 1:
                low, high = zip(*((min(values), max(values)) for values in steps.values()), strict=True)
                axes.fill_between([*steps], low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(title=title, xlabel="step", ylabel="PSNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
