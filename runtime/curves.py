"""The curves of a run: read from its logs, drawn, and compared with those of other runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from utility import Run, atomic_write, read_rows

BAND = 0.5  # dB, around a single run
SURE = 0.95  # share of further seeds that fall into the band around several
PICTURES = ("psnr.png", "loss.png")

Lines = dict[str, list[tuple[int, float]]]  # (step, value) points by the label of a curve


def psnr_curves(path: Path) -> Lines:
    """Return the PSNR curves of a psnr_log.csv, "<set>, <protocol>" each; none if there is no file."""
    curves: Lines = defaultdict(list)
    for row in read_rows(path):
        curves[f"{row['set']}, {row['protocol']}"].append((int(row["step"]), float(row["psnr"])))
    return dict(curves)


def loss_curves(path: Path) -> Lines:
    """Return the curves of a loss_log.csv by the part of the loss.

    The norm of the gradients, which is no loss, is left out, and so is the total if it equals its only part.
    """
    curves: Lines = defaultdict(list)
    for row in read_rows(path):
        if row["part"] != "gradient":
            curves[row["part"]].append((int(row["step"]), float(row["value"])))
    if len(curves) == 2:
        curves.pop("total", None)
    return dict(curves)


def joined(runs: Sequence[Lines]) -> dict[str, dict[int, list[float]]]:
    """Return the values of all runs at the steps that all of them have, by curve and step.

    Examples:
        >>> joined([{"Set5": [(10, 20.0), (20, 21.0)]}, {"Set5": [(10, 22.0)]}])
        {'Set5': {10: [20.0, 22.0]}}
    """
    found = {}
    for curve in runs[0] if runs else ():
        scores = [dict(run.get(curve, [])) for run in runs]
        if shared := {step: [run[step] for run in scores] for step in scores[0] if all(step in run for run in scores)}:
            found[curve] = shared
    return found


class Reference:
    """The PSNR curves of another run, or the mean curves of several that differ in their seed alone.

    Around the curve of a single run lies a band of BAND dB on both sides. Around the mean of several lies a
    prediction interval: by Student's t, 95 % of further seeds fall into it if the scores of seeds are normally
    distributed and vary alike at all validations of a curve.

    Args:
        name: what to call it.
        logs: psnr_log.csv of each run.

    Attributes:
        curves: (step, PSNR in dB) by "<set>, <protocol>", at the steps that all runs have.
        bands: half the width of the band around each, dB.

    Raises:
        ValueError: a file is damaged or holds no scores, or the runs have no step in common.
    """

    def __init__(self, name: str, logs: Sequence[Path]) -> None:
        self.name = name
        runs = [psnr_curves(path) for path in logs]
        for path, curves in zip(logs, runs, strict=True):
            if not curves:
                raise ValueError(f"{path} holds no scores")
        shared = joined(runs)
        self.curves: Lines = {
            curve: [(step, fmean(values)) for step, values in steps.items()] for curve, steps in shared.items()
        }
        self.bands = {curve: _band([*steps.values()]) for curve, steps in shared.items()}
        if not self.curves:
            raise ValueError(f"{', '.join(map(str, logs))} have no validation in common")
        self._outside: set[str] = set()

    def at(self, curve: str, step: int) -> float | None:
        """Return the PSNR at a step, interpolated linearly between validations.

        It is None before the first and after the last validation, and for an unknown curve.

        Args:
            curve: "<set>, <protocol>".
        """
        points = self.curves.get(curve, [])
        for (first, low), (last, high) in zip(points, points[1:] or points, strict=False):
            if first <= step <= last:
                return low if first == last else low + (high - low) * (step - first) / (last - first)
        return None

    def compare(self, row: Mapping[str, Any]) -> str | None:
        """Return a note if the run leaves the band around the reference at this row of psnr_log.csv, else None."""
        curve, step, psnr = f"{row['set']}, {row['protocol']}", int(row["step"]), float(row["psnr"])
        expected = self.at(curve, step)
        if expected is None or abs(psnr - expected) <= self.bands[curve]:
            self._outside.discard(curve)
            return None
        if curve in self._outside:
            return None
        self._outside.add(curve)
        return (
            f"note: {curve}: {psnr - expected:+.2f} dB from {self.name} at step {step}, which has {expected:.2f}; the "
            f"band is {self.bands[curve]:.2f} dB on both sides"
        )


def _band(scores: Sequence[Sequence[float]]) -> float:
    """Return half the width of the band, dB, around the mean of the runs' scores at each step."""
    runs = len(scores[0])
    if runs == 1:
        return BAND
    from scipy.special import stdtrit  # takes a tenth of a second to import

    deviation = sqrt(fmean(variance(values) for values in scores))
    return float(stdtrit(runs - 1, (1 + SURE) / 2)) * deviation * sqrt(1 + 1 / runs)


def draw_curves(run: Run, reference: Reference | None = None) -> None:
    """Draw psnr.png and loss.png of a run from its logs; `reference` is drawn where the run has the same curve."""
    from matplotlib.figure import Figure  # takes a second to import
    from matplotlib.ticker import MaxNLocator

    psnr, losses = psnr_curves(run.psnr_log), loss_curves(run.loss_log)
    for lines, label, name in zip((psnr, losses), ("PSNR, dB", "loss"), PICTURES, strict=True):
        if not lines:
            continue
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel=label)
        for line, points in lines.items():
            (drawn,) = axes.plot(*zip(*points, strict=True), label=line, marker="." if len(points) < 30 else None)
            if lines is psnr and reference is not None and line in reference.curves:
                steps, scores = zip(*reference.curves[line], strict=True)
                colour, band = drawn.get_color(), reference.bands[line]
                axes.plot(steps, scores, "--", color=colour, alpha=0.6, label=f"{line}: {reference.name}")
                edges = [score - band for score in scores], [score + band for score in scores]
                axes.fill_between(steps, *edges, color=colour, alpha=0.12, linewidth=0)
        if lines is losses:
            least = min(value for points in lines.values() for _, value in points)
            axes.set_yscale("log" if least > 0 else "symlog")  # the parts differ by orders of magnitude
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        figure.legend(loc="outside lower center", ncols=3)  # where no curve is
        with atomic_write(run.path / name) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
