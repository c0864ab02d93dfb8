"""report.html of a run and of a test: one file with curves, tables and crops.

Pictures are part of the file, and nothing is loaded from the internet. A run never fails because of its page: what goes
wrong becomes a note in the log.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data.degradation.resize import bicubic
from data.testset import Sample, to_pixels
from evaluation import metric, tables
from evaluation.evaluate import Score
from runtime.curves import PICTURES, Reference, draw_curves
from utility import ENVIRONMENT, Run, duration, read_rows, write_text

NAME = "report.html"
SIDE, MOST = 96, 6  # of a crop, HR pixels; crops on a page
STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; max-width: 1120px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: .6em 0 } th, td { padding: .15em .7em; border-bottom: 1px solid #ddd }
th { text-align: left } pre { white-space: pre-wrap; background: #f4f4f4; padding: .6em }
.row { display: flex; flex-wrap: wrap; gap: 14px } figure { margin: 0 } figcaption { font-size: 13px; color: #555 }
img { display: block; width: 256px; height: 256px; image-rendering: pixelated }
img.curves { width: 540px; height: auto; image-rendering: auto }
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
    """Return (H, W, 3) uint8 pixels as a `data:` address, which holds them as a PNG.

    Examples:
        >>> embedded(np.zeros((2, 2, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return _address(file.getvalue())


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


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


# --------------------------------------------------------------------------------------------------------- crops


class Crop(NamedTuple):
    """A part of an image, as (H, W, 3) uint8 pixels; that of the LR image is smaller by the scale."""

    difference: float  # mean absolute difference between SR and bicubic, in [0, 1]
    caption: str
    lr: np.ndarray
    bicubic: np.ndarray
    sr: np.ndarray
    hr: np.ndarray


class Crops:
    """The crops of a test in which SR and bicubic differ most, one per image; for the `on_image` of `evaluate`.

    Only the middle case of a protocol is considered. No error is raised: `failed` says what went wrong.

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
        """Find the crop of a sample and its SR images (N, 3, s·H, s·W) in [0, 1]."""
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
        """Return the crops as HTML: LR, a slider between bicubic and SR, and one between SR and HR."""
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
        reference: another run, whose PSNR is drawn beside that of this run.
    """

    def __init__(self, run: Run, scale: int, reference: Reference | None = None) -> None:
        self.run = run
        self.reference = reference
        self.scores: list[Score] = []  # of the last validation
        self.crops = Crops(scale)

    def write(self) -> None:
        """Draw the curves and write report.html. What goes wrong is a note in the log."""
        with _noting(self.run.log):
            draw_curves(self.run, self.reference)
            text = self.html()
            write_text(self.run.path / NAME, text)

    def html(self) -> str:
        """Return the page. Raises ValueError or OSError if a file of the run cannot be read."""
        run, config = self.run, self.run.config()
        step = max((int(row["step"]) for row in read_rows(run.psnr_log)), default=0)
        pictures = [path for name in PICTURES if (path := run.path / name).exists()]
        curves = [f'<img class="curves" alt="{path.stem}" src="{_address(path.read_bytes())}">' for path in pictures]
        trained = duration(training_seconds((run.path / "log.txt").read_text(encoding="utf-8")))
        parts = [f"<p>After step {step} and {trained} of training.</p>"]
        parts.append(f'<div class="row">{"".join(curves)}</div>')
        if self.scores:
            parts += ["<h2>Scores of the last validation</h2>", tables.render(tables.rows(self.scores), "html")]
            parts += ["<h2>Where SR and bicubic differ most</h2>", self.crops.html()]
        about = {key: value for key, value in config.items() if key in ENVIRONMENT and key != "command"}
        options = {key: value for key, value in config.items() if key not in ENVIRONMENT}
        parts += ["<h2>Options</h2>", table(options), "<h2>Environment</h2>", table(about)]
        return document(run.path.name, [*parts, _command(config.get("command", []))])


def training_seconds(log: str) -> float:
    """Return the seconds that a run has trained, given the text of its log.txt, without pauses between its starts.

    Examples:
        >>> training_seconds("2026-01-31 10:00:00 lr 1e-4\\n2026-01-31 10:01:00 epoch 1  step 50/100")
        60.0
    """
    seconds, last = 0.0, None
    for line in log.splitlines():
        try:
            now, text = datetime.fromisoformat(line[:19]), line[20:]
        except ValueError:  # a further line of a message
            continue
        if last is not None and text.startswith(("epoch ", "step ")):  # a new start logs others first, after the pause
            seconds += max((now - last).total_seconds(), 0.0)
        last = now
    return seconds


def write_results(
    folder: Path, scores: Sequence[Score], crops: Crops, *, made: Mapping[str, Any], log: Callable[[str], None]
) -> None:
    """Write report.html of a test under one protocol.

    Args:
        folder: that of the protocol.
        scores: those of all sets under this protocol.
        crops: of the images that were tested.
        made: how the scores were made, for the page.
        log: called with a note if the page cannot be written.
    """
    with _noting(log):
        about = {key: value for key, value in made.items() if key != "command"}
        parts = ["<h2>Scores</h2>", tables.render(tables.rows(scores), "html")]
        parts += ["<h2>Where SR and bicubic differ most</h2>", crops.html()]
        parts += ["<h2>How it was made</h2>", table(about), _command(made.get("command", []))]
        write_text(folder / NAME, document(f"{made['network']} ×{made['scale']}, {folder.name}", parts))
