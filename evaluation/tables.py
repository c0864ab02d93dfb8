"""Scores as tables: text, Markdown, LaTeX, HTML. All forms show the same numbers."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import fmean, stdev
from typing import Literal, NamedTuple

from tabulate import tabulate

from evaluation import metric
from evaluation.evaluate import Score, grouped, mean
from model import zoo
from utility import printable

Form = Literal["text", "markdown", "latex", "html"]
FORMS: dict[Form, str] = {"text": ".txt", "markdown": ".md", "latex": ".tex"}  # those with a file, and its suffix
LABELS = ("set", "protocol", "kernel", "images")
_TABULATE: dict[Form, str] = {"text": "plain", "markdown": "pipe", "latex": "latex", "html": "html"}
_LATEX_SIGNS = {"±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$"}


class Row(NamedTuple):
    """Means and spreads of some scores.

    The spread is the standard deviation over the images, each with the mean over its kernels; nan where a value is
    infinite.
    """

    set: str
    protocol: str
    case: str  # a kernel, or "all"
    images: int
    means: dict[str, float]  # by the metric's name
    spreads: dict[str, float]


def rows(scores: Sequence[Score]) -> list[Row]:
    """Return for each set and protocol a row over all kernels, if there are several, and a row for each kernel.

    Examples:
        >>> scores = [Score("Set5", "p", "a", case, {"psnr": psnr}) for case, psnr in (("1.8", 30.0), ("2.0", 28.0))]
        >>> [(row.case, row.means) for row in rows(scores)]
        [('all', {'psnr': 29.0}), ('1.8', {'psnr': 30.0}), ('2.0', {'psnr': 28.0})]
    """
    table = []
    for (name, protocol), group in grouped(scores, "set", "protocol").items():
        cases = grouped(group, "case")
        if len(cases) > 1:
            table.append(_row(name, protocol, "all", group))
        table += [_row(name, protocol, case, kernel) for (case,), kernel in cases.items()]
    return table


def _row(name: str, protocol: str, case: str, scores: Sequence[Score]) -> Row:
    images = [mean(image) for image in grouped(scores, "image").values()]
    by_metric = {key: [image[key] for image in images] for key in images[0]}
    spreads = {key: _spread(values) for key, values in by_metric.items()}
    return Row(name, protocol, case, len(images), {key: fmean(values) for key, values in by_metric.items()}, spreads)


def _spread(values: Sequence[float]) -> float:
    """Return the standard deviation over the images (n - 1), 0 of a single one."""
    if not all(map(isfinite, values)):
        return nan
    return stdev(values) if len(values) > 1 else 0.0


def render(table: Sequence[Row], form: Form = "text") -> str:
    """Return the rows as a table with the mean and spread of each metric that a row has; – in rows without it.

    Examples:
        >>> print(render(rows([Score("Set5", "bicubic", "a", "x4", {"psnr": 30.0})])))
        set   protocol  kernel  images  PSNR (dB) ↑     ±
        Set5  bicubic   x4           1       30.000  0.00
    """
    metrics = {name: metric.find(name) for row in table for name in row.means}
    header = [*LABELS, *(cell for kind in metrics.values() for cell in (kind.heading, "±"))]
    lines = []
    for row in table:
        numbers = [
            f"{values[name]:.{digits}f}" if name in values else "–"
            for name, kind in metrics.items()
            for values, digits in ((row.means, kind.digits), (row.spreads, max(kind.digits - 1, 1)))
        ]
        lines.append([row.set, row.protocol, row.case, str(row.images), *numbers])
    return layout(header, lines, form, labels=3)


def render_images(scores: Mapping[str, Mapping[str, float]], form: Form = "text") -> str:
    """Return a table of single images: first the means, then the values of each image, by its name.

    Examples:
        >>> print(render_images({"cat": {"niqe": 4.0}, "dog": {"niqe": 5.0}}))
        image  NIQE ↓
        mean   4.5000
        cat    4.0000
        dog    5.0000
    """
    metrics = {name: metric.find(name) for name in next(iter(scores.values()))}
    means = {name: fmean(values[name] for values in scores.values()) for name in metrics}
    lines = [
        [image, *(f"{values[name]:.{kind.digits}f}" for name, kind in metrics.items())]
        for image, values in [("mean", means), *scores.items()]
    ]
    return layout(["image", *(kind.heading for kind in metrics.values())], lines, form, labels=1)


def render_zoo() -> str:
    """Return a table of the weights that come with the code: what they are for, and what they score.

    Examples:
        >>> render_zoo().splitlines()[0].split("  ")[0]
        '--pre_train'
    """
    rows = [
        (
            entry.name,
            f"{entry.network} x{entry.config['scale']}",
            entry.degradation if entry.degradation == "second_order" else f"{entry.degradation}, {entry.blur_type}",
            ", ".join(f"{name} {psnr:.2f}" for name, psnr in entry.scores.items()) + f" ({entry.protocol})",
            entry.note,
        )
        for entry in zoo.entries().values()
    ]
    head = ("--pre_train", "network", "trained for", "PSNR, dB", "")
    return tabulate(rows, head, maxcolwidths=[None, None, 24, 24, 60])


def layout(header: Sequence[str], lines: Sequence[Sequence[str]], form: Form, labels: int) -> str:
    """Lay out strings as a table. The first `labels` columns are names, aligned to the left, the others numbers."""
    escape = _markdown if form == "markdown" else _one_line
    body = [[escape(cell) for cell in line] for line in (header, *lines)]
    columns = ["left"] * labels + ["right"] * (len(header) - labels)
    # Text has its header as a row like the others: tabulate would make the columns wider for it.
    rows, headers = (body, ()) if form == "text" else (body[1:], body[0])
    # No number is parsed, so that a name like 0801 or 1e5 stays as it is.
    table = tabulate(rows, headers, tablefmt=_TABULATE[form], colalign=columns, disable_numparse=True)
    if form == "latex":  # tabulate escapes & % $ # _ ^ { } ~ and backslashes
        for sign, command in _LATEX_SIGNS.items():
            table = table.replace(sign, command)
    return table


def _one_line(cell: str) -> str:
    return " ".join(printable(cell).split())


def _markdown(cell: str) -> str:
    """Escape what Markdown would read as markup, above all |, which ends a cell."""
    return html.escape(re.sub(r"([\\`*_{}\[\]#|])", r"\\\1", _one_line(cell)), quote=False)
