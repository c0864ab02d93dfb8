"""Draw the figures of docs/architecture.md as SVG: the code base, KDSR and CDSR, with the class names of the code.

    python scripts/figures.py            # write docs/images/{code,kdsr,cdsr}.svg
    python scripts/figures.py --check    # exit with code 1 if one of them is out of date

A box that stands for a class or function takes its name from it, so a renamed class renames its box.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import itertools

import option
import published
import trainer
from data import pairs, sampler, testset
from data import protocol as protocols
from data.degradation import Degradation
from evaluation import evaluate, tables
from loss import contrast, distillation, objective
from loss.learner import Learner
from main import build_trainer
from model import cdsr, kdsr, layer, load_model, moco, upsampler
from runtime import divergence, logger
from scripts.program import program
from utility import Run, write_text

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LETTER = {"code": 7.9, "text": 6.1}  # widths in pixels at their font sizes, 13 and 12
LINE = 16
FILL = {  # of a box: by the folder its code lives in (hall: the root), or what it holds
    "data": "#dcecf9",
    "hall": "#eeeeee",
    "loss": "#fbe3d6",
    "model": "#e2f0d9",
    "runtime": "#efe3f6",
    "evaluation": "#fff2cc",
    "tensor": "#ffffff",
}
STYLE = """
text { font: 12px sans-serif; fill: #222 }
.code { font: bold 13px monospace }
.head { font: bold 15px sans-serif }
.box { stroke: #666; rx: 5 }
.frame { fill: none; stroke: #999; stroke-dasharray: 5 4; rx: 8 }
.arrow { fill: none; stroke: #444; stroke-width: 1.4; marker-end: url(#tip) }
.grey { fill: #666 }
"""


class Box(NamedTuple):
    """The place of a box; arrows begin and end at its sides."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height


class Figure:
    """An SVG picture that grows by boxes, arrows and text. Coordinates are pixels from the top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = width, height
        self.title = title
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "text", anchor: str = "start", of: Any = None) -> None:
        """Write a line whose baseline is at y; `of` is the class or function that it names."""
        named = "" if of is None else f' data-of="{of.__module__}.{of.__qualname__}"'
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
        )

    def name(self, x: float, y: float, of: type, anchor: str = "middle") -> None:
        """Write the name of a class whose parts stand beside it."""
        self.text(x, y, of.__name__, "code", anchor, of)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        of: type | Callable[..., Any] | str,
        *lines: str,
        fill: str = "model",
        height: float | None = None,
    ) -> Box:
        """Draw a box: the name of a class or function of ours, or a plain title, above lines of text.

        Raises ValueError if a line is wider than the box.
        """
        place = Box(x, y, width, height or LINE * (1 + len(lines)) + 12)
        self.parts.append(
            f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{place.height:g}" fill="{FILL[fill]}"/>'
        )
        title, kind, named = (of, "text", None) if isinstance(of, str) else (of.__name__, "code", of)
        middle, top = x + width / 2, y + (place.height - LINE * (1 + len(lines))) / 2 + 12
        for i, (line, letters) in enumerate([(title, kind), *((line, "text") for line in lines)]):
            if len(line) * LETTER[letters] > width - 4:
                raise ValueError(f"{line!r} is wider than its box of {width:g} pixels in {self.title!r}")
            self.text(middle, top + LINE * i, line, letters, "middle", None if i else named)
        return place

    def frame(self, x: float, y: float, width: float, height: float, title: str, of: type | None = None) -> None:
        """Draw a dashed frame around what belongs together, or around the parts of a class."""
        self.parts.append(f'<rect class="frame" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>')
        if of is not None:
            self.text(x + 10, y + 20, of.__name__, "code", of=of)
            x += len(of.__name__) * LETTER["code"] + 10
        self.text(x + 10, y + 20, title, "head")

    def arrow(self, *points: tuple[float, float], label: str = "", at: tuple[float, float] | None = None) -> None:
        """Draw an arrow through points; its label stands above the middle of its first stretch, or `at` a point."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="arrow" d="M{path}"/>')
        if label:
            (a, b), (c, d) = points[:2]
            x, y = at or ((a + c) / 2, (b + d) / 2 - 6)
            self.text(x, y, label, "grey", "middle")

    def row(self, boxes: Sequence[Box]) -> None:
        """Draw arrows from each box to the next one on its right."""
        for before, after in itertools.pairwise(boxes):
            self.arrow(before.right, after.left)

    def trunk(self, boxes: Sequence[Box], steering: str) -> None:
        """Draw the arrows of an SR network: head, blocks, convolution and sum are boxes 1 to 4."""
        head, blocks, total = boxes[1], boxes[2], boxes[4]
        (start, _), (end, _), low = head.bottom, total.bottom, head.y + 70
        self.row(boxes)
        self.arrow(head.bottom, (start, low), (end, low), total.bottom)
        self.text((start + end) / 2, low + 15, "the head's features", "grey", "middle")
        middle, top = blocks.top
        self.arrow((middle, top - 22), blocks.top)
        self.text(middle + 10, top - 10, steering, "grey")

    def svg(self) -> str:
        """Return the picture as the text of an SVG file."""
        width, height = self.size
        tip = '<path d="M0 0 L8 4 L0 8 z" fill="#444"/>'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{STYLE}</style>",
                f'<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">{tip}'
                "</marker></defs>",
                f'<rect width="{width}" height="{height}" fill="#fff"/>',
                *self.parts,
                "</svg>\n",
            ]
        )


# ------------------------------------------------------------------------------------------------- the code base


def code() -> str:
    """Return the figure of the code base: a flag becomes an effect, a patch a gradient, a checkpoint a score."""
    f = Figure(1000, 610, "The code base: how a flag becomes an effect, a patch a gradient, a checkpoint a score")

    f.frame(10, 10, 980, 130, "A flag becomes an effect")
    flags = f.box(25, 50, 165, option.TrainOptions, "every flag, once", fill="hall", height=62)
    paper = f.box(225, 50, 165, published.defaults, "what the papers fix", fill="hall", height=62)
    build = f.box(425, 50, 165, build_trainer, "main.py", fill="hall", height=62)
    makes = f.box(625, 50, 165, "factories", "data/factory.py", "loss/factory.py", fill="data", height=62)
    acts = f.box(825, 50, 150, "one part", "takes it as a plain", "argument", fill="tensor", height=62)
    f.row([flags, paper, build, makes, acts])

    f.frame(10, 155, 980, 290, "A patch becomes a gradient")
    patches = f.box(25, 195, 165, sampler.PatchBatches, "HR patches, uint8", "(B, 3, s·P, s·P)", fill="data")
    made = f.box(225, 195, 165, pairs.Pairs, "degrades, cuts, mixes", "on the device", fill="data")
    batch = f.box(425, 195, 165, pairs.Batch, "lr (B, 3, P, P)", "hr (B, 3, s·P, s·P)", fill="data")
    loss = f.box(625, 195, 165, objective.Objective, "calls the network,", "yields its losses", fill="loss")
    phase = f.box(825, 195, 150, objective.Phase, "named losses,", "their total", fill="loss")
    recipe = f.box(225, 285, 165, Degradation, "sample, then apply", fill="data")
    net = f.box(625, 285, 165, layer.BlindSR, "lr to Restored", fill="model")
    learner = f.box(825, 285, 150, Learner, "backward, Adam, EMA", fill="loss")
    loop = f.box(425, 365, 165, trainer.Trainer, "step, log, validate, save", fill="hall", height=62)
    heal = f.box(625, 365, 165, divergence.Recovery, "back to a good state", fill="runtime", height=62)
    logs = f.box(225, 365, 165, logger.Logger, "log.txt, CSV, trackers", fill="runtime", height=62)
    disk = f.box(25, 365, 165, Run, "the files of a run", "state.pt resumes it", fill="hall", height=62)
    f.row([patches, made, batch, loss, phase])
    f.arrow(recipe.top, made.bottom)
    f.arrow(net.top, loss.bottom)
    f.arrow(phase.bottom, learner.top)
    f.arrow(learner.left, net.right)
    f.arrow(learner.bottom, (900, 396), heal.right, label="losses", at=(846, 390))
    f.arrow(heal.left, loop.right)
    f.arrow(loop.left, logs.right)
    f.arrow(logs.left, disk.right)

    f.frame(10, 460, 980, 105, "A checkpoint becomes a score")
    f.box(25, 495, 165, load_model, "ours or published", fill="model", height=56)
    tests = f.box(225, 495, 165, testset.TestSet, "images with a protocol", fill="data", height=56)
    rule = f.box(425, 495, 165, protocols.Protocol, "kernels, noise; a hash", fill="data", height=56)
    once = f.box(625, 495, 165, evaluate, "the one scoring loop", fill="evaluation", height=56)
    table = f.box(825, 495, 150, tables.Row, "tables, report.html", fill="evaluation", height=56)
    f.arrow(rule.left, tests.right)
    f.arrow((307, 551), (307, 558), (707, 558), once.bottom)
    f.arrow((107, 495), (107, 486), (707, 486), once.top)
    f.arrow(once.right, table.left)

    rooms = [("hall", "root"), ("data", "data/"), ("loss", "loss/"), ("model", "model/")]
    rooms += [("runtime", "runtime/"), ("evaluation", "evaluation/")]
    for i, (room, name) in enumerate(rooms):
        f.parts.append(f'<rect class="box" x="{25 + 105 * i}" y="580" width="14" height="14" fill="{FILL[room]}"/>')
        f.text(45 + 105 * i, 592, name)
    f.text(975, 592, "imports: option → main, test → trainer → loss → model", "grey", "end")
    return f.svg()


# ---------------------------------------------------------------------------------------------------------- KDSR


def kdsr_networks() -> str:
    """Return the figure of KDSR: teacher and student, their estimator, their SR network and its block."""
    f = Figure(1000, 760, "KDSR: teacher and student, the estimator KDIDE, the SR network and its block IDRDCRB")

    f.frame(10, 10, 980, 290, "Stage T trains the teacher; stage S the student, from the teacher's SR network")
    hr = f.box(25, 50, 130, "HR image", "pixel-unshuffled", fill="tensor")
    lr = f.box(25, 105, 130, "LR image", fill="tensor", height=32)
    both = f.box(185, 72, 120, "concatenate", "3 + 3s² planes", fill="tensor")
    teacher = f.box(360, 72, 120, kdsr.KDIDE, "estimator")
    trunk = f.box(640, 72, 150, kdsr.Restoration, "of the LR image and D")
    out = f.box(840, 72, 130, "SR image", "L1 with HR", fill="tensor")
    f.arrow(hr.right, (170, hr.right[1]), (170, 90), (185, 90))
    f.arrow(lr.right, (170, lr.right[1]), (170, 100), (185, 100))
    f.row([both, teacher])
    f.arrow(teacher.right, trunk.left, label="D (B, C)")
    f.arrow(trunk.right, out.left)
    f.name(905, 50, kdsr.KDSRTeacher)

    goal = f.box(330, 155, 180, distillation.Distillation, "KL of D' and D', τ 0.15", fill="loss")
    f.arrow(teacher.bottom, goal.top, label="D' (B, 4C)", at=(460, 138))
    f.text(522, 180, "the teacher is frozen", "grey")

    seen = f.box(25, 240, 130, "LR image", "3 planes", fill="tensor")
    student = f.box(360, 240, 120, kdsr.KDIDE, "estimator")
    copied = f.box(640, 240, 150, kdsr.Restoration, "of the LR image and D")
    out = f.box(840, 240, 130, "SR image", "L1 with HR", fill="tensor")
    f.arrow(student.top, goal.bottom, label="D' (B, 4C)", at=(460, 224))
    f.row([seen, student])
    f.arrow(student.right, copied.left, label="D (B, C)")
    f.arrow(copied.right, out.left)
    f.arrow(trunk.bottom, copied.top, label="copied at the start", at=(785, 180))
    f.name(905, 225, kdsr.KDSRStudent)

    f.frame(10, 315, 980, 115, "the estimator", kdsr.KDIDE)
    chain = [
        f.box(25, 360, 110, "conv, LReLU", "to C maps", fill="tensor"),
        f.box(160, 360, 125, kdsr.ResBlock, "× n_resblocks"),
        f.box(310, 360, 150, "3 × [conv, LReLU]", "to 2C, 2C, 4C maps", fill="tensor"),
        f.box(485, 360, 105, layer.global_mean, "(B, 4C)"),
        f.box(615, 360, 145, "2 × [Linear, LReLU]", "D' (B, 4C)", fill="tensor"),
        f.box(785, 360, 135, "Linear, LReLU", "D (B, C)", fill="tensor"),
    ]
    f.row(chain)

    f.frame(10, 445, 980, 135, "the SR network", kdsr.Restoration)
    chain = [
        f.box(25, 490, 115, layer.MeanShift, "minus DIV2K's"),
        f.box(160, 490, 70, "conv", "3 to C", fill="tensor"),
        f.box(265, 490, 120, kdsr.IDRDCRB, "× n_blocks"),
        f.box(420, 490, 70, "conv", "C to C", fill="tensor"),
        f.box(510, 490, 50, "+", fill="tensor", height=44),
        f.box(585, 490, 145, upsampler.Upsampler, "[conv, shuffle]"),
        f.box(750, 490, 70, "conv", "C to 3", fill="tensor"),
        f.box(845, 490, 120, layer.MeanShift, "plus DIV2K's"),
    ]
    f.trunk(chain, "D, the same in all blocks")

    f.frame(10, 595, 980, 155, "a block of the SR network", kdsr.IDRDCRB)
    chain = [
        f.box(25, 690, 110, "x", "(B, C, H, W)", fill="tensor"),
        f.box(265, 690, 175, layer.DynamicDepthwise, "3×3, then LReLU"),
        f.box(520, 690, 90, "conv", "C to C", fill="tensor"),
        f.box(690, 690, 60, "+", fill="tensor", height=44),
        f.box(830, 690, 110, "x of the next", "(B, C, H, W)", fill="tensor"),
    ]
    f.row(chain)
    code = f.box(25, 630, 110, "D (B, C)", fill="tensor", height=32)
    weights = f.box(230, 630, 245, "W2·LReLU(W1·D): (B, C, 3, 3)", fill="tensor", height=32)
    f.row([code, weights])
    f.arrow(weights.bottom, chain[1].top)
    f.arrow((80, 734), (80, 743), (720, 743), chain[3].bottom)
    return f.svg()


# ---------------------------------------------------------------------------------------------------------- CDSR


def cdsr_networks() -> str:
    """Return the figure of CDSR: its encoder LPE with the codebook CSC, its SR network, and DQA."""
    f = Figure(1000, 860, "CDSR: the encoder LPE with the codebook CSC, the SR network, its Block, and DQA")

    f.frame(10, 10, 980, 165, "one stage trains all of it", cdsr.CDSR)
    lr = f.box(25, 55, 130, "LR image, crop 1", "(B, 3, H, W)", fill="tensor")
    encoder = f.box(265, 55, 120, cdsr.LPE, "encoder")
    trunk = f.box(600, 55, 150, cdsr.Restoration, "10 × Block")
    out = f.box(830, 55, 140, "SR image", "L1 with HR, 0..255", fill="tensor")
    f.row([lr, encoder])
    f.arrow(encoder.right, trunk.left, label="e (B, 256)")
    f.arrow(trunk.right, out.left)
    f.arrow((90, 55), (90, 44), (675, 44), trunk.top)
    other = f.box(25, 120, 130, "LR image, crop 2", "same degradation", fill="tensor")
    keys = f.box(245, 120, 160, moco.MoCo, "slow encoder, queue")
    goal = f.box(600, 120, 150, contrast.Contrast, "cross entropy", fill="loss")
    f.row([other, keys])
    f.arrow(keys.right, goal.left, label="keys (8192, 256)", at=(505, 157))
    f.arrow((385, 85), (440, 85), (440, 132), (600, 132), label="query (B, 256)", at=(515, 126))

    f.frame(10, 190, 980, 165, "the encoder", cdsr.LPE)
    pixel = f.box(140, 235, 215, layer.ConvBlock, "× 6: k 7, 1, 3 /2, 1, 7, 1")
    patch = f.box(140, 295, 215, layer.ConvBlock, "× 4: k 12 /12, then k 3")
    f.box(25, 265, 90, "LR image", fill="tensor", height=44)
    merge = f.box(420, 265, 130, "2 × Linear", "512 to f (B, 256)", fill="tensor")
    csc = f.box(590, 265, 160, cdsr.CSC, "1024 rows of 256")
    e = f.box(800, 240, 80, "e", "(B, 256)", fill="tensor")
    f.box(800, 300, 170, "2 × Linear", "for the contrast alone", fill="tensor")
    f.arrow((115, 280), (127, 280), (127, 257), pixel.left)
    f.arrow((115, 294), (127, 294), (127, 317), patch.left)
    f.arrow(pixel.right, (385, 257), (385, 280), (420, 280), label="mean", at=(385, 250))
    f.arrow(patch.right, (385, 317), (385, 294), (420, 294), label="mean", at=(385, 334))
    f.row([merge, csc])
    f.arrow(csc.right, (775, 287), (775, 262), e.left)
    f.arrow(e.bottom, (840, 300))
    f.text(670, 327, "e = softmax(q(f)·k(B)ᵀ)·B", "grey", "middle")

    f.frame(10, 370, 980, 135, "the SR network", cdsr.Restoration)
    chain = [
        f.box(25, 415, 110, "LR image", fill="tensor", height=44),
        f.box(175, 415, 80, "conv", "3 to 64", fill="tensor"),
        f.box(335, 415, 120, cdsr.Block, "× n_blocks, 10"),
        f.box(530, 415, 80, "conv", "64 to 64", fill="tensor"),
        f.box(650, 415, 50, "+", fill="tensor", height=44),
        f.box(745, 415, 155, "conv, pixel shuffle", "64 to 3s² to 3", fill="tensor"),
    ]
    f.trunk(chain, "code: 4 × [Linear, PReLU] of e")

    f.frame(10, 520, 980, 160, "a block of the SR network", cdsr.Block)
    x = f.box(25, 565, 60, "x", fill="tensor", height=44)
    fuse = f.box(130, 565, 165, cdsr.Fuse, "x + what DQA adds")
    dense = f.box(340, 565, 110, layer.RDB, "× 3")
    scaled = f.box(495, 565, 70, "· 0.2", fill="tensor", height=44)
    total = f.box(610, 565, 50, "+", fill="tensor", height=44)
    f.row([x, fuse, dense, scaled, total])
    f.arrow((55, 565), (55, 553), (635, 553), total.top)
    inside = [
        f.box(130, 628, 100, cdsr.DQA, "queries c"),
        f.box(255, 628, 150, "LReLU, conv, LReLU", fill="tensor", height=44),
        f.box(430, 628, 100, cdsr.DQA, "queries c"),
        f.box(555, 628, 110, "LReLU, conv", fill="tensor", height=44),
        f.box(690, 628, 50, "+ x", fill="tensor", height=44),
    ]
    f.row(inside)
    f.name(25, 645, cdsr.Fuse, "start")
    f.text(25, 663, "in detail:")
    f.text(760, 646, "c = sigmoid(Linear(PReLU(", "grey")
    f.text(760, 662, "Linear(code)))), (B, 64)", "grey")

    f.frame(10, 695, 980, 155, "domain query attention", cdsr.DQA)
    x = f.box(25, 740, 110, "x", "(B, 64, H, W)", fill="tensor")
    f.box(25, 796, 110, "c", "(B, 64)", fill="tensor")
    asked = f.box(200, 768, 140, cdsr.ContentQuery, "c' = c + γ·a(x, c)")
    dynamic = f.box(400, 740, 175, layer.DynamicDepthwise, "W2·LReLU(W1·c')")
    channel = f.box(400, 796, 175, "x · sigmoid(W4·LReLU(", "W3·c))), c itself", fill="tensor")
    point = f.box(635, 740, 110, "conv 1×1", "64 to 64", fill="tensor")
    total = f.box(800, 768, 50, "+", fill="tensor", height=44)
    f.arrow((135, 770), (165, 770), (165, 782), (200, 782))
    f.arrow((135, 808), (165, 808), (165, 798), (200, 798))
    f.arrow((135, 754), (400, 754))
    f.arrow(asked.right, (370, 790), (370, 772), (400, 772), label="c'", at=(355, 784))
    f.arrow((135, 826), (400, 826))
    f.row([dynamic, point])
    f.arrow(point.right, (772, 762), (772, 782), (800, 782))
    f.arrow(channel.right, (772, 818), (772, 798), (800, 798))
    return f.svg()


FIGURES = {"code": code, "kdsr": kdsr_networks, "cdsr": cdsr_networks}


def write(check: bool) -> None:
    """Write the figures; or, with `check`, exit with 1 if one on the disk is out of date."""
    for name, draw in FIGURES.items():
        path, drawn = IMAGES / f"{name}.svg", draw()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != drawn):
            sys.exit(f"{path} is out of date; run python scripts/figures.py")
        if not check:
            write_text(path, drawn)
            print(f"written: {path}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--check", action="store_true", help="compare the files with the code, and write nothing")
    write(parser.parse_args(argv).check)


if __name__ == "__main__":
    main()
