"""Scores as tables: text, Markdown, LaTeX. What is counted, and over what, is the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from statistics import fmean, pstdev
from typing import Literal, NamedTuple

from evaluation import Score, grouped

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
    lines = [header, *(row.cells() for row in table)]
    if form == "markdown":
        body = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([body[0], "|---" * len(header) + "|", *body[1:]])
    if form == "latex":
        body = [" & ".join(cell.replace("_", r"\_").replace("±", r"$\pm$") for cell in line) + r" \\" for line in lines]
        columns = "lll" + "r" * (len(header) - 3)
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline"]
        return "\n".join([*head, *body[1:], r"\hline", r"\end{tabular}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
