"""report.html of a run and of a test: one file with curves, tables and crops.

Pictures are part of the file, and nothing is loaded from the internet. A page must not end a run: what goes wrong with
it is a note, never an error.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from html import escape
from math import ceil, floor, isfinite, log10
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data.degradation.resize import bicubic
from data.testset import Sample, to_pixels
from evaluation import metric, tables
from evaluation.evaluate import Score
from runtime.curves import Lines, Reference, loss_curves, psnr_curves
from utility import ENVIRONMENT, Run, atomic_write

NAME = "report.html"
SIDE, MOST = 96, 6  # of a crop, HR pixels; crops on a page
POINTS = 300  # of a curve
COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#7f7f7f")
STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; max-width: 1120px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: .6em 0 } th, td { padding: .15em .7em; border-bottom: 1px solid #ddd }
th { text-align: left } pre { white-space: pre-wrap; background: #f4f4f4; padding: .6em }
svg text { font: 11px sans-serif }
.row { display: flex; flex-wrap: wrap; gap: 14px } figure { margin: 0 } figcaption { font-size: 13px; color: #555 }
img { display: block; width: 256px; height: 256px; image-rendering: pixelated }
.slider { position: relative; width: 256px; --at: 50% } .slider img + img { position: absolute; top: 0;
clip-path: inset(0 0 0 var(--at)) } .slider input { width: 100%; margin: 4px 0 }
"""


# -------------------------------------------------------------------------------------------------------- pieces


def document(title: str, parts: Sequence[str]) -> str:
    """Return a whole page of HTML: a title above parts that are HTML already.

    Examples:
        >>> "<h1>a &amp; b</h1>" in document("a & b", ["<p>text</p>"])
        True
    """
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return "\n".join(
        [f"<!doctype html>\n<html><head>{head}</head><body>", f"<h1>{escape(title)}</h1>", *parts, "</body></html>\n"]
    )


def embedded(pixels: np.ndarray) -> str:
    """Return (H, W, 3) uint8 pixels as the address of a PNG that holds them itself.

    Examples:
        >>> embedded(np.zeros((2, 2, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def figure(picture: str, caption: str) -> str:
    """Return a picture above its caption.

    Examples:
        >>> figure("a.png", "a & b")
        '<figure><img src="a.png"><figcaption>a &amp; b</figcaption></figure>'
    """
    return f'<figure><img src="{escape(picture)}"><figcaption>{escape(caption)}</figcaption></figure>'


def slider(before: str, after: str, caption: str) -> str:
    """Return two pictures of one size on top of each other: the slider below them moves the line between them.

    Args:
        before, after: addresses of the pictures, such as `embedded` returns.
        caption: what is on the left and on the right.

    Examples:
        >>> slider("a.png", "b.png", "a | b").count("<img")
        2
    """
    moved = "this.parentNode.style.setProperty('--at', this.value + '%')"
    return (
        f'<figure><div class="slider"><img src="{escape(before)}"><img src="{escape(after)}">'
        f'<input type="range" aria-label="{escape(caption)}" oninput="{moved}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(values: Mapping[str, Any]) -> str:
    """Return names and values as a table of two columns.

    Examples:
        >>> table({"scale": 4})
        '<table><tr><th>scale</th><td>4</td></tr></table>'
    """
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(_text(value))}</td></tr>" for name, value in values.items())
    return f"<table>{''.join(rows)}</table>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def chart(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    *,
    log: bool = False,
    bands: Mapping[str, float] | None = None,
) -> str:
    """Return curves as SVG. Values that are not finite are left out, and so is the chart where nothing is left.

    Args:
        lines: (x, y) points by the label of a curve.
        x_label, y_label: what the axes count, with units.
        log: use a logarithmic axis for y, if all values are positive.
        bands: half the width of the band around curves to compare with, by their label; they are dashed.

    Examples:
        >>> chart({"PSNR": [(0, 20.0), (10, 25.0)]}, "step", "PSNR, dB").count("<polyline")
        1
        >>> chart({"PSNR": [(0, float("nan"))]}, "step", "PSNR, dB")
        ''
    """
    kept = {name: [point for point in points if isfinite(point[1])] for name, points in lines.items()}
    kept = {name: _thinned(points) for name, points in kept.items() if points}
    if not kept:
        return ""
    bands = bands or {}
    xs = [x for points in kept.values() for x, _ in points]
    ys = [y + side * bands.get(name, 0) for name, points in kept.items() for _, y in points for side in (-1, 1)]
    log = log and min(ys) > 0
    scaled: Callable[[float], float] = log10 if log else float
    width, height, left, bottom = 540, 300, 62, 40
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = scaled(min(ys)), scaled(max(ys))
    y_low, y_high = (y_low, y_high) if y_high > y_low else (y_low - 0.5, y_high + 0.5)

    def place(x: float, y: float) -> str:
        right, up = (x - x_low) / (x_high - x_low), (scaled(y) - y_low) / (y_high - y_low)
        return f"{left + right * (width - left - 12):.1f},{height - bottom - up * (height - bottom - 12):.1f}"

    parts = [f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">']
    for value in _ticks(y_low, y_high):
        tick = 10**value if log else value
        y = place(x_low, tick).split(",")[1]
        parts.append(f'<line x1="{left}" x2="{width - 12}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 5}" y="{y}" dy="4" text-anchor="end">{tick:.3g}</text>')
    for value in _ticks(x_low, x_high):
        x = place(value, 10**y_low if log else y_low).split(",")[0]
        parts.append(f'<text x="{x}" y="{height - bottom + 15}" text-anchor="middle">{value:.6g}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(12 {height / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    for i, (name, points) in enumerate(kept.items()):
        colour = COLOURS[i % len(COLOURS)]
        at = 22 + 15 * i if log else height - bottom - 8 - 15 * i  # losses fall, scores rise
        path = " ".join(place(*point) for point in points)
        dash = ""
        if (band := bands.get(name)) is not None:
            dash = ' stroke-dasharray="6 4"'
            edge = [(x, y - band) for x, y in points] + [(x, y + band) for x, y in reversed(points)]
            around = " ".join(place(*point) for point in edge)
            parts.append(f'<polygon points="{around}" fill="{colour}" fill-opacity="0.12"/>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        if len(points) < 30:
            dots = (place(*point).split(",") for point in points)
            parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in dots]
        parts.append(f'<text x="{width - 18}" y="{at}" text-anchor="end" style="fill:{colour}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most POINTS points, each the mean of neighbours."""
    size = ceil(len(points) / POINTS)
    parts = (points[i : i + size] for i in range(0, len(points), size))
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]


def _ticks(low: float, high: float) -> list[float]:
    """Return three to eight round numbers in [low, high]."""
    power = 10 ** floor(log10((high - low) / 3))
    step = next(step for step in (5 * power, 2 * power, power) if (high - low) / step >= 3)
    return [i * step for i in range(ceil(low / step), floor(high / step) + 1)]


# --------------------------------------------------------------------------------------------------------- crops


class Crop(NamedTuple):
    """A part of an image, as (H, W, 3) uint8 pixels; LR has 1 / scale of the side of the others."""

    difference: float  # mean absolute difference between SR and bicubic, in [0, 1]
    caption: str
    lr: np.ndarray
    bicubic: np.ndarray
    sr: np.ndarray
    hr: np.ndarray


class Crops:
    """The crops of a test in which SR and bicubic differ most, one of each image; for the `on_image` of `evaluate`.

    Only the middle case of a protocol is considered. Nothing is raised: `failed` says what went wrong.

    Args:
        scale: HR pixels per LR pixel, along each side.

    Examples:
        >>> import torch
        >>> crops = Crops(2)
        >>> crops(Sample("a", ["x2"], torch.zeros(1, 3, 8, 8), torch.ones(3, 16, 16)), torch.ones(1, 3, 16, 16))
        >>> [(crop.difference, crop.lr.shape, crop.sr.shape) for crop in crops.found]
        [(1.0, (8, 8, 3), (16, 16, 3))]
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.found: list[Crop] = []  # the MOST with the largest differences, largest first
        self.failed: str | None = None

    def __call__(self, sample: Sample, sr: Tensor) -> None:
        """Take the crop of a sample and its SR images (N, 3, s·H, s·W) in [0, 1]."""
        try:
            crop = self._crop(sample, sr)
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            return
        self.found = sorted([*self.found, crop], key=lambda crop: -crop.difference)[:MOST]

    def _crop(self, sample: Sample, sr: Tensor) -> Crop:
        i, s = len(sr) // 2, self.scale
        lr, sharp, hr = sample.lr[i : i + 1].float(), sr[i : i + 1].float(), sample.hr[None].float()
        soft = bicubic(lr, s).clamp(0, 1)  # (1, 3, s·H, s·W)
        side = min(SIDE, *soft.shape[-2:]) // s * s
        stride = s * max(1, side // (4 * s))  # crops begin at whole LR pixels
        means = F.avg_pool2d((sharp - soft).abs().mean(1, keepdim=True), side, stride)[0, 0]
        row, column = divmod(int(means.argmax()), means.shape[1])
        top, left = row * stride, column * stride
        cuts = [image[..., top : top + side, left : left + side] for image in (soft, sharp, hr)]
        small = lr[..., top // s : (top + side) // s, left // s : (left + side) // s]
        psnr = [f"{metric.psnr(image, cuts[2], border=0).item():.2f} dB" for image in cuts[:2]]
        caption = f"{sample.image}, {sample.cases[i]}: bicubic {psnr[0]}, SR {psnr[1]} in this crop"
        return Crop(float(means.max()), caption, *(to_pixels(image[0].clamp(0, 1)) for image in (small, *cuts)))

    def html(self) -> str:
        """Return the crops as HTML: LR, bicubic against SR with a slider, SR against HR with another."""
        parts = [f"<p>Crops could not be shown: {escape(self.failed)}</p>"] if self.failed else []
        for crop in self.found:
            lr, soft, sr, hr = (embedded(pixels) for pixels in crop[2:])
            parts.append(f"<h3>{escape(crop.caption)}</h3>")
            figures = (figure(lr, "LR"), slider(soft, sr, "bicubic | SR"), slider(sr, hr, "SR | HR"))
            parts.append(f'<div class="row">{"".join(figures)}</div>')
        return "\n".join(parts)


# --------------------------------------------------------------------------------------------------------- pages


@contextmanager
def _noting(log: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log(f"note: {NAME} was not written: {error}")


def _command(words: Sequence[str]) -> str:
    return f"<h2>Command</h2><pre>{escape(shlex.join(['python', *map(str, words)]))}</pre>"


class RunReport:
    """The page of a run, with what its last validation showed.

    Args:
        run: the run; its logs and config.json are read when the page is written.
        scale: factor of the network.
        reference: curves to lay under those of the run.
    """

    def __init__(self, run: Run, scale: int, reference: Reference | None = None) -> None:
        self.run = run
        self.reference = reference
        self.scores: list[Score] = []  # of the last validation
        self.crops = Crops(scale)

    def write(self) -> None:
        """Write report.html. What goes wrong is a note in the log."""
        with _noting(self.run.log):
            text = self.html()
            with atomic_write(self.run.path / NAME) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def html(self) -> str:
        """Return the page. Raises ValueError or OSError if a file of the run cannot be read."""
        run, config = self.run, self.run.config()
        losses = loss_curves(run.loss_log)
        epoch = config.get("epoch_steps", config.get("test_every"))  # the second in older runs
        by_step, hours = psnr_curves(run.psnr_log), hours_at(run.path / "log.txt", epoch)
        by_hours = {
            name: [(max((time for at, time in hours if at <= step), default=0.0), psnr) for step, psnr in points]
            for name, points in by_step.items()
        }
        under: Lines = {}
        bands: dict[str, float] = {}
        if (other := self.reference) is not None:
            shared = {f"{name}: {other.name}": name for name in by_step if name in other.curves}
            under = {label: other.curves[name] for label, name in shared.items()}
            bands = {label: other.bands[name] for label, name in shared.items()}
        charts = [
            chart({**by_step, **under}, "step", "PSNR, dB", bands=bands),
            chart(by_hours, "hours of training", "PSNR, dB"),
            chart(losses, "step", "loss", log=True),
        ]
        parts = [f"<p>After step {max((step for points in by_step.values() for step, _ in points), default=0)}.</p>"]
        parts.append(f'<div class="row">{"".join(charts)}</div>')
        if self.scores:
            parts += ["<h2>Scores of the last validation</h2>", tables.render(tables.rows(self.scores), "html")]
            parts += ["<h2>Where SR and bicubic differ most</h2>", self.crops.html()]
        about = {key: value for key, value in config.items() if key in ENVIRONMENT and key != "command"}
        options = {key: value for key, value in config.items() if key not in ENVIRONMENT}
        parts += ["<h2>Options</h2>", table(options), "<h2>Environment</h2>", table(about)]
        return document(run.path.name, [*parts, _command(config.get("command", []))])


def hours_at(log: Path, epoch_steps: int | None = None) -> list[tuple[int, float]]:
    """Return (step, hours of training until then) for each line of the log about a step or the end of an epoch.

    Pauses do not count. Without the length of an epoch, its end is left out.

    Examples:
        >>> hours_at(Path("no/log.txt"))
        []
    """
    found: list[tuple[int, float]] = []
    seconds, last = 0.0, None
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        match = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)", line)
        if match is None:
            continue
        now, text = datetime.fromisoformat(match[1]), match[2]
        if last is not None and text.startswith(("epoch ", "step ")):  # lines of work; a new start logs others first
            seconds += max((now - last).total_seconds(), 0.0)
        last = now
        if step := re.match(r"epoch \d+  step (\d+)/", text):
            found.append((int(step[1]), seconds / 3600))
        elif epoch_steps and (epoch := re.match(r"epoch (\d+)  ", text)):
            found.append((int(epoch[1]) * epoch_steps, seconds / 3600))
    return found


def write_results(
    folder: Path, scores: Sequence[Score], crops: Crops, *, made: Mapping[str, Any], log: Callable[[str], None]
) -> None:
    """Write report.html of a test under one protocol.

    Args:
        folder: that of the protocol.
        scores: those of all sets under this protocol.
        crops: what the test showed.
        made: how the scores were made, for the page.
        log: is told what goes wrong.
    """
    with _noting(log):
        about = {key: value for key, value in made.items() if key != "command"}
        parts = ["<h2>Scores</h2>", tables.render(tables.rows(scores), "html")]
        parts += ["<h2>Where SR and bicubic differ most</h2>", crops.html()]
        parts += ["<h2>How it was made</h2>", table(about), _command(made.get("command", []))]
        with atomic_write(folder / NAME) as temporary:
            temporary.write_text(
                document(f"{made['network']} ×{made['scale']}, {folder.name}", parts), encoding="utf-8"
            )
