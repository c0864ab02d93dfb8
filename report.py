"""Scores as tables: text, Markdown, LaTeX. What is counted, and over what, is the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Literal, NamedTuple

from evaluation import Score, grouped

Form = Literal["text", "markdown", "latex"]
FORMS: dict[Form, str] = {"text": ".txt", "markdown": ".md", "latex": ".tex"}  # and the suffix of a file
HEADER = ("set", "protocol", "kernel", "images", "PSNR", "±", "SSIM", "±")


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

    def cells(self) -> tuple[str, ...]:
        numbers = (f"{self.psnr:.3f}", f"{self.psnr_spread:.2f}", f"{self.ssim:.4f}", f"{self.ssim_spread:.3f}")
        return (self.set, self.protocol, self.case, str(self.images), *numbers)


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
    psnr = [fmean(score.psnr for score in image) for image in images]
    ssim = [fmean(score.ssim for score in image) for image in images]
    return Row(name, protocol, case, len(psnr), fmean(psnr), pstdev(psnr), fmean(ssim), pstdev(ssim))


def render(table: Sequence[Row], form: Form = "text") -> str:
    """The rows, with a header."""
    lines = [HEADER, *(row.cells() for row in table)]
    if form == "markdown":
        body = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([body[0], "|---" * len(HEADER) + "|", *body[1:]])
    if form == "latex":
        body = [" & ".join(cell.replace("_", r"\_").replace("±", r"$\pm$") for cell in line) + r" \\" for line in lines]
        columns = "lll" + "r" * (len(HEADER) - 3)
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline"]
        return "\n".join([*head, *body[1:], r"\hline", r"\end{tabular}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
