"""Lay out the figures of `benchmark.py`: lines for the terminal, and a page with a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import figure, ticker

from utility import write_text


class Figure(NamedTuple):
    """The time of one way to do the work of a row."""

    part: str
    name: str
    way: str
    milliseconds: float  # median
    spread: float  # half the range, as a share of it
    ratio: float  # how much faster than the first way of the row
    peak: int  # bytes on the GPU on top of what was there before; 0 on a CPU, and of a graph


class Counted(NamedTuple):
    """Counts of a training step or a restoration at its published size."""

    name: str
    way: str
    kernels: int
    peak: int  # bytes
    moved: int  # bytes
    floor: float | None  # milliseconds


def render(found: Sequence[Figure | Counted]) -> str:
    """Return a line for each, for the terminal."""
    return "\n".join(_line(each) for each in found)


def _line(found: Figure | Counted) -> str:
    if isinstance(found, Counted):
        floor = "" if found.floor is None else f"{found.floor:7.1f} ms at least"
        counts = f"{found.kernels:6} kernels{found.peak / 2**30:7.2f} GiB{found.moved / 1e9:7.1f} GB moved"
        return f"counted {found.name:<38}{found.way:<22}{counts}{floor}"
    memory = f"{found.peak / 2**20:8.0f} MiB" if found.peak else ""
    title = f"{found.part}: {found.name}"
    time = f"{found.milliseconds:9.1f} ms ±{100 * found.spread:3.0f} %{found.ratio:7.2f}x"
    return f"{title:<66}{found.way:<22}{time}{memory}"


def write_page(
    path: Path,
    figures: Sequence[Figure],
    counts: Sequence[Counted],
    needs: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    """Write the page, and a plot of the ratios beside it: `cpu.md` and `cpu.png`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = environment["gpu"] or environment["processor"]
    text = [f"# Ours against the released formulation: {machine}", "", _origin(environment), ""]
    if ours := [found for found in figures if found.ratio != 1]:
        plot(path.with_suffix(".png"), ours)
        text += [f"![Ratios of the table]({path.stem}.png)", ""]
    if figures:
        head = ("Work", "Way", "ms", "±, %", "Ratio", *(["Peak, GiB"] if any(found.peak for found in figures) else []))
        text += [*_table(head, [_row(found)[: len(head)] for found in figures]), ""]
    if counts:
        text += ["## Counted", "", _COUNTED, ""]
        head = ("Work", "Way", "Kernels", "Peak, GiB", "Moved, GB", "At least, ms")
        text += [*_table(head, [_counts(found) for found in counts]), ""]
    if needs:
        text += ["## What needs a GPU", "", *[f"- {each}" for each in needs], ""]
    write_text(path, "\n".join(text))


_COUNTED = (
    "Training steps and inference at their published sizes on tensors without data (`scripts/counting.py`), without "
    "the optimiser and VGG19. Nothing is read back to the host. The last column is what these kernels take at least "
    "on a GPU of 790 TFLOP/s in bf16, half of that in float32 (TF32), and 4.3 TB/s."
)


def _origin(environment: Mapping[str, Any]) -> str:
    versions = environment["versions"]
    facts = (
        f"{environment['processor']} ({environment['instructions']}), threads: {environment['threads']}, "
        f"GPU: {environment['gpu'] or 'none'}, PyTorch {versions['torch']}, Python {versions['python']}, "
        f"commit {str(environment['commit'])[:12]}"
    )
    return f"{facts}\n\n    python {' '.join(map(str, environment['command']))}\n\n{_METHOD}"


_METHOD = (
    "Both run by turns in one process on the same weights, images and parameters. Times are medians, with half their "
    "range; a ratio is the median of times side by side, above 1 where ours is faster. On a CPU times are those of the "
    "processor. The baseline is the released code's formulation (`scripts/formulation.py`), not that code; on a GPU it "
    "computes in TF32, as PyTorch lets the released code do."
)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _row(found: Figure) -> tuple[str, ...]:
    spread, ratio = f"{100 * found.spread:.0f}", "" if found.ratio == 1 else f"{found.ratio:.2f}"
    peak = f"{found.peak / 2**30:.2f}" if found.peak else ""
    return f"{found.part}: {found.name}", found.way, f"{found.milliseconds:.1f}", spread, ratio, peak


def _counts(found: Counted) -> tuple[str, ...]:
    floor = "" if found.floor is None else f"{found.floor:.1f}"
    peak, moved = f"{found.peak / 2**30:.2f}", f"{found.moved / 1e9:.0f}"
    return found.name, found.way, str(found.kernels), peak, moved, floor


def plot(path: Path, figures: Sequence[Figure]) -> None:
    """Draw the ratios of figures as bars on a logarithmic axis, with a line at 1."""
    labels = [f"{found.part}: {found.name}, {found.way}" for found in figures]
    sheet = figure.Figure(figsize=(9, 0.6 + 0.26 * len(figures)), layout="constrained")
    ax = sheet.subplots()
    colours = {part: f"C{i}" for i, part in enumerate(dict.fromkeys(found.part for found in figures))}
    bars = ax.barh(labels, [found.ratio for found in figures], color=[colours[found.part] for found in figures])
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    sheet.supxlabel("times as fast as the released formulation", fontsize="medium")
    ax.margins(x=0.15, y=0.01)
    ax.invert_yaxis()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    sheet.savefig(path, dpi=100)
