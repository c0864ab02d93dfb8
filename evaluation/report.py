"""Scores as tables: text, Markdown, LaTeX. What is counted, and over what, is the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import fmean, pstdev
from typing import Literal, NamedTuple

from evaluation.evaluate import Score, grouped

Form = Literal["text", "markdown", "latex"]
FORMS: dict[Form, str] = {"text": ".txt", "markdown": ".md", "latex": ".tex"}  # and the suffix of a file
HEADER = ("set", "protocol", "kernel", "images", "PSNR", "±", "SSIM", "±")
LPIPS = ("LPIPS", "±")  # where it was measured


class Row(NamedTuple):
    """A mean and its spread: the standard deviation over the images, each with the mean of its kernels."""

    set: str
    protocol: str
    case: str  # a kernel, or "all"
    images: int
    psnr: float
    psnr_spread: float
    ssim: float
    ssim_spread: float
    lpips: float | None
    lpips_spread: float | None

    def cells(self) -> tuple[str, ...]:
        numbers = (f"{self.psnr:.3f}", f"{self.psnr_spread:.2f}", f"{self.ssim:.4f}", f"{self.ssim_spread:.3f}")
        perceived = () if self.lpips is None else (f"{self.lpips:.4f}", f"{self.lpips_spread:.3f}")
        return (self.set, self.protocol, self.case, str(self.images), *numbers, *perceived)


def rows(scores: Sequence[Score]) -> list[Row]:
    """For each set and protocol a row over all kernels, then one for each kernel."""
    table = []
    for (name, protocol), group in grouped(scores, "set", "protocol").items():
        cases = grouped(group, "case")
        if len(cases) > 1:
            table.append(_row(name, protocol, "all", group))
        table += [_row(name, protocol, case, kernel) for (case,), kernel in cases.items()]
    return table


def _row(name: str, protocol: str, case: str, scores: Sequence[Score]) -> Row:
    images = grouped(scores, "image").values()

    def spread(metric: str) -> tuple[float, float]:
        means = [fmean(getattr(score, metric) for score in image) for image in images]
        return fmean(means), pstdev(means) if all(map(isfinite, means)) else nan  # equal images: infinite PSNR

    perceived = (None, None) if scores[0].lpips is None else spread("lpips")
    return Row(name, protocol, case, len(images), *spread("psnr"), *spread("ssim"), *perceived)


def render(table: Sequence[Row], form: Form = "text") -> str:
    """The rows, with a header."""
    header = HEADER if table[0].lpips is None else HEADER + LPIPS
    return _layout([header, *(row.cells() for row in table)], form, labels=3)


def render_qualities(header: Sequence[str], scores: Mapping[str, Sequence[float]], form: Form = "text") -> str:
    """What metrics without a reference say of each image, and their means. header: a name for each metric."""
    means = map(fmean, zip(*scores.values(), strict=True))
    lines = [(name, *(f"{value:.4f}" for value in values)) for name, values in [("mean", means), *scores.items()]]
    return _layout([("image", *header), *lines], form, labels=1)


def _layout(lines: Sequence[Sequence[str]], form: Form, labels: int) -> str:
    """A header and rows; so many columns are labels, and the others numbers."""
    header = lines[0]
    if form == "markdown":
        body = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([body[0], "|---" * len(header) + "|", *body[1:]])
    if form == "latex":
        body = [" & ".join(map(_latex, line)) + r" \\" for line in lines]
        columns = "l" * labels + "r" * (len(header) - labels)
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline"]
        return "\n".join([*head, *body[1:], r"\hline", r"\end{tabular}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < labels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _latex(cell: str) -> str:
    for sign, command in (("_", r"\_"), ("±", r"$\pm$"), ("↓", r"$\downarrow$"), ("↑", r"$\uparrow$")):
        cell = cell.replace(sign, command)
    return cell
