"""Scores of super-resolved photographs. They have no HR image, so only metrics without a reference apply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from data.images import read_image
from data.testset import to_tensor
from evaluation import metric
from evaluation.evaluate import Score, score_image

Values = dict[str, float]  # by the metric's name


class PhotoScores:
    """Scores results as they are written; for the `on_result` of `Enlarger`.

    Args:
        metrics: names, see `metric.find`; without any, nothing is scored.
        device: where the metrics compute.

    Attributes:
        found: the file of each result, and its values.
        failures: a message for each result that a metric cannot take.

    Raises ValueError if a metric compares with HR images, or lacks its library or weights.
    """

    def __init__(self, metrics: Iterable[str], device: torch.device) -> None:
        self._measures = [metric.make(name, device=device) for name in metrics]
        self._device = device
        if comparing := [measure.name for measure in self._measures if measure.needs_reference]:
            verb = "compares" if len(comparing) == 1 else "compare"
            raise ValueError(f"{' and '.join(comparing)} {verb} with HR images, which photographs do not have")
        self.found: list[tuple[Path, Values]] = []
        self.failures: list[str] = []

    def __call__(self, out: Path) -> None:
        if not self._measures:
            return
        try:
            self.found.append((out, score_image(to_tensor(read_image(out), self._device), self._measures)))
        except ValueError as error:  # too small for a metric
            self.failures.append(f"{out}: {error}")


def by_file(found: Sequence[tuple[Path, Values]]) -> list[Score]:
    """Return the values as scores, sorted by file. Files are named by their stem, or by their path if stems are equal.

    Examples:
        >>> found = [(Path("out/cat_x4.png"), {"niqe": 4.0}), (Path("out/ant_x4.png"), {"niqe": 5.0})]
        >>> [(score.image, score.values["niqe"]) for score in by_file(found)]
        [('ant_x4', 5.0), ('cat_x4', 4.0)]
    """
    stems = Counter(out.stem for out, _ in found)
    return [
        Score(
            "Demo", "own images", out.stem if stems[out.stem] == 1 else str(out.with_suffix("")), "as they are", values
        )
        for out, values in sorted(found, key=lambda each: each[0])
    ]
