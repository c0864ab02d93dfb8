"""The validation scores of another run, laid under one's own: does a run learn as it should?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utility import psnr_curves

BAND = 0.5  # dB


class Reference:
    """The PSNR curves of another run.

    Args:
        path: its psnr_log.csv; the name of the file without suffix is that of the reference.

    Raises:
        ValueError: the file is damaged, or holds no scores.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.curves = psnr_curves(path)
        if not self.curves:
            raise ValueError(f"{path} holds no scores")
        self._outside: set[str] = set()

    def at(self, curve: str, step: int) -> float | None:
        """Return the PSNR at a step, between two validations by a straight line; None before the first and after the
        last, and for a curve that there is none of.

        Args:
            curve: "<set>, <protocol>".
        """
        points = self.curves.get(curve, [])
        for (first, low), (last, high) in zip(points, points[1:] or points, strict=False):
            if first <= step <= last:
                return low if first == last else low + (high - low) * (step - first) / (last - first)
        return None

    def compare(self, row: Mapping[str, Any]) -> str | None:
        """Return what to say of a row of psnr_log.csv: something where the run leaves the band around the reference."""
        curve, step, psnr = f"{row['set']}, {row['protocol']}", int(row["step"]), float(row["psnr"])
        expected = self.at(curve, step)
        if expected is None or abs(psnr - expected) <= BAND:
            self._outside.discard(curve)
            return None
        if curve in self._outside:
            return None
        self._outside.add(curve)
        return (
            f"note: {curve}: {psnr - expected:+.2f} dB from {self.name} at step {step}, which has {expected:.2f}; the "
            f"band is {BAND} dB on both sides"
        )
