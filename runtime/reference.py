"""The validation scores of other runs, for comparison: does a run learn as it should?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from utility import Lines, psnr_curves

BAND = 0.5  # dB, around a single run
SURE = 0.95  # share of further seeds that fall into the band around several


class Reference:
    """The PSNR curves of another run, or the mean curves of several that differ in their seed alone.

    Around the curve of a single run lies a band of BAND dB on both sides. Around the mean of several lies that of a
    prediction: 95 % of further seeds fall into it by Student's t, if scores of seeds are distributed normally and
    vary alike at all validations of a curve.

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
        self.curves: Lines = {}
        self.bands: dict[str, float] = {}
        for curve in runs[0]:
            scores = [dict(run.get(curve, [])) for run in runs]
            shared = {step: [run[step] for run in scores] for step in scores[0] if all(step in run for run in scores)}
            if shared:
                self.curves[curve] = [(step, fmean(values)) for step, values in shared.items()]
                self.bands[curve] = _band([*shared.values()])
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
        """Return a note on a row of psnr_log.csv at which the run leaves the band around the reference, else None."""
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
