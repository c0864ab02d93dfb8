"""Compare two networks that test.py has scored on the same images: is the difference more than chance?

    python scripts/compare_runs.py experiment/OLD experiment/NEW [--names old new] [--hr DIR] [--out DIR]

Each is a run, or the folder `results/<checkpoint>` of one: so two checkpoints of a run can be compared. What both were
tested on is paired image by image. The program writes

table.md    for each test set and metric the means with their 95 % intervals (bootstrap over the images), the difference
            with its own, the p-value of a paired sign-flip test, and how many images got better and worse
curves.png  PSNR of both runs over the steps of their training, where both logged a validation set
crops.png   with --hr, where both tests had --save_results: the images with the largest gains and losses of PSNR, each
            where it shows most

An image counts once, as the mean over its kernels. The p-values are of single comparisons: of twenty, one is below 0.05
by chance.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images import list_images, read_image
from data.testset import centre, to_pixels, to_tensor
from evaluation import Score, metric, tables
from evaluation.results import LABELS, slug
from evaluation.statistics import confidence_interval, image_means, paired_test
from runtime.curves import Lines, psnr_curves
from scripts.drawing import Tile, contact_sheet, enlarge
from scripts.program import check_folder, one_line, program, words_of
from utility import Run, argument, atomic_write, read_json, read_rows, write_text

ALIKE = ("digest", "images", "metric")  # of a test, which must be the same for two scores to be compared
CROP, ENLARGED, MOST = 64, 3, 3  # side of a crop, HR pixels; its factor on the sheet; how many gains and losses
CPU = torch.device("cpu")


class Tested(NamedTuple):
    """The scores of one test set, and where they lie."""

    folder: Path
    about: dict[str, Any]
    scores: list[Score]


class Change(NamedTuple):
    """The change of the PSNR of one SR image from the first network to the second."""

    image: str
    case: str
    gain: float  # dB


def results_of(path: Path) -> Path:
    """Return the results of the one checkpoint that was tested; raise ValueError or OSError if there is not just one.

    `path` is a run, or already such a folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if not (path / "results").is_dir():
        return path
    tested = [folder for folder in sorted((path / "results").iterdir()) if any(folder.rglob("scores_*.csv"))]
    if len(tested) != 1:
        found = f"one of {', '.join(map(str, tested))}" if tested else "first score it with test.py"
        raise ValueError(f"{path} has scores of {len(tested)} checkpoints: name {found}")
    return tested[0]


def read(results: Path) -> dict[str, Tested]:
    """Read the scores of a checkpoint, by where they lie in its results. Raise ValueError for a damaged file."""
    found = {}
    for path in sorted(results.rglob("scores_*.csv")):
        rows = read_rows(path)
        scores = [
            Score(
                row["set"],
                row["protocol"],
                row["image"],
                row["case"],
                {name: float(value) for name, value in row.items() if name not in LABELS},
            )
            for row in rows
        ]
        found[path.relative_to(results).as_posix()] = Tested(path.parent, read_json(path.with_suffix(".json")), scores)
    return found


def common(one: Mapping[str, Tested], other: Mapping[str, Tested]) -> dict[str, tuple[Tested, Tested]]:
    """Return what both were tested on. Raise ValueError if there is nothing, or if it was not measured alike."""
    both = {key: (one[key], other[key]) for key in one if key in other}
    if not both:
        raise ValueError(
            f"nothing was tested with both: one has {', '.join(one) or 'no scores'}, the other "
            f"{', '.join(other) or 'no scores'}; score both by `python test.py --dir_data DIR --pre_train CHECKPOINT`"
        )
    for key, (a, b) in both.items():
        for name in ALIKE:
            if a.about[name] != b.about[name]:
                raise ValueError(f"{key} was measured otherwise: {name} {a.about[name]} and {b.about[name]}")
        if [score[:4] for score in a.scores] != [score[:4] for score in b.scores]:
            raise ValueError(f"{key} holds other images or kernels in the two results; test both again")
    return both


# ----------------------------------------------------------------------------------------------------- table


def with_interval(values: Sequence[float], digits: int, sign: str = "") -> str:
    """Return the mean of values and its 95 % interval: `29.66 [28.90, 30.41]`."""
    ends = [f"{end:{sign}.{digits}f}" for end in confidence_interval(values) if isfinite(end)]
    return f"{fmean(values):{sign}.{digits}f}" + (f" [{', '.join(ends)}]" if ends else "")


def rows(both: Mapping[str, tuple[Tested, Tested]]) -> list[list[str]]:
    """Return the lines of the table: one for each test set and metric."""
    table = []
    for a, b in both.values():
        first, second = image_means(a.scores), image_means(b.scores)
        for name in a.scores[0].values:
            if name not in b.scores[0].values:
                continue
            kind = metric.find(name)
            ours, theirs = ([means[image][name] for image in first] for means in (first, second))
            differences = [y - x for x, y in zip(ours, theirs, strict=True)]
            p = paired_test(differences)
            better = sum(difference < 0 if kind.lower_is_better else difference > 0 for difference in differences)
            worse = sum(difference != 0 for difference in differences) - better
            table.append(
                [
                    a.scores[0].set,
                    a.scores[0].protocol,
                    kind.heading,
                    with_interval(ours, kind.digits),
                    with_interval(theirs, kind.digits),
                    with_interval(differences, kind.digits, "+"),
                    f"{p:.4f}" if isfinite(p) else "–",
                    str(len(first)),
                    str(better),
                    str(worse),
                ]
            )
    return table


# ---------------------------------------------------------------------------------------------------- curves


def curves(runs: Mapping[str, Path]) -> Figure | None:
    """Draw the PSNR of the validations of two runs, a picture for each set that both have; None if there is none."""
    logs: dict[str, Lines] = {}
    for name, run in runs.items():
        for title, points in psnr_curves(Run(run).psnr_log).items():
            logs.setdefault(title, {})[name] = points
    shared = {title: lines for title, lines in logs.items() if len(lines) == len(runs)}
    if not shared:
        return None
    figure = Figure(figsize=(6 * len(shared), 4), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(shared), squeeze=False)[0], shared.items(), strict=True):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None, label=name)
        axes.set(title=title, xlabel="step", ylabel="PSNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


# ----------------------------------------------------------------------------------------------------- crops


def changes(a: Tested, b: Tested) -> list[Change]:
    """Return the largest losses and gains of PSNR, each image under the kernel where it changes most, worst first."""
    name = next(name for name in a.scores[0].values if name.startswith("psnr"))
    found = [Change(x.image, x.case, y.values[name] - x.values[name]) for x, y in zip(a.scores, b.scores, strict=True)]
    largest: dict[str, Change] = {}  # an image is shown once
    for change in sorted((c for c in found if isfinite(c.gain)), key=lambda c: -abs(c.gain)):
        largest.setdefault(change.image, change)
    found = sorted(largest.values(), key=lambda change: change.gain)
    losses = [change for change in found if change.gain < 0][:MOST]
    return losses + [change for change in found if change.gain > 0][-MOST:]


def place(a: Tensor, b: Tensor, hr: Tensor, *, gain: bool) -> tuple[int, int]:
    """Return top and left of the crop of (3, H, W) images where the winner is nearer to the HR image by most."""
    nearer = ((a - hr).square() - (b - hr).square()).mean(0)[None, None]
    side = min(CROP, *hr.shape[1:])
    means = F.avg_pool2d(nearer if gain else -nearer, side, stride=1)[0, 0]
    top, left = divmod(int(means.argmax()), means.shape[1])
    return top, left


def of_size(hr: Tensor, sr: Tensor, scale: int, name: str) -> Tensor:
    """Return the restored part of the HR image: all but less than `scale` pixels at its edges, or its centre.

    Raise ValueError if the SR image is of another size.
    """
    height, width = sr.shape[1:]
    if hr.shape[1] - height >= scale or hr.shape[2] - width >= scale:
        hr = centre(hr, side=height // scale, scale=scale)
    hr = hr[:, :height, :width]
    if hr.shape != sr.shape:
        raise ValueError(f"`hr`: {name} does not fit the SR image of {height} x {width} pixels")
    return hr


def crops(names: Sequence[str], a: Tested, b: Tested, hr_paths: Mapping[str, Path]) -> list[list[Tile]]:
    """Return the rows of the sheet: for each change the two networks and the HR image. Skip images that lack files."""
    sheet = []
    for change in changes(a, b):
        files = [tested.folder / f"{change.image}_{slug(change.case)}.png" for tested in (a, b)]
        if change.image not in hr_paths or not all(file.exists() for file in files):
            continue
        x, y, hr = (to_tensor(read_image(path), CPU) for path in (*files, hr_paths[change.image]))
        hr = of_size(hr, x, a.about["scale"], str(hr_paths[change.image]))
        top, left = place(x, y, hr, gain=change.gain > 0)
        cut = [enlarge(image[:, top : top + CROP, left : left + CROP], ENLARGED) for image in (x, y, hr)]
        what = [f"{a.scores[0].set}, {change.image}", f"{change.case}", f"at {top}, {left}"]
        lines = [what, [f"{change.gain:+.2f} dB"], []]
        sheet.append([Tile(to_pixels(z), name, t) for z, name, t in zip(cut, (*names, "HR"), lines, strict=True)])
    return sheet


# --------------------------------------------------------------------------------------------------- program


def run(given: Namespace) -> None:
    """Compare, print and write. Raise ValueError or OSError that names the argument to mend."""
    check_folder("--out", given.out)
    with argument("runs"):
        folders = [results_of(path) for path in given.runs]
        both = common(*map(read, folders))
    runs = [folder.parent.parent for folder in folders]
    names = given.names or ([run.name for run in runs] if runs[0] != runs[1] else [folder.name for folder in folders])
    header = ["set", "protocol", "metric", *names, "difference", "p", "images", "better", "worse"]
    table = rows(both)
    print(tables.layout(header, table, "text", labels=3))
    given.out.mkdir(parents=True, exist_ok=True)
    write_text(given.out / "table.md", tables.layout(header, table, "markdown", labels=3) + "\n")
    figures = {"curves.png": curves(dict(zip(names, runs, strict=True))) if runs[0] != runs[1] else None}
    if given.hr is not None:
        with argument("hr"):
            hr_paths = {path.stem: path for path in list_images(given.hr)}
        sheet = [row for pair in both.values() for row in crops(names, *pair, hr_paths)]
        figures["crops.png"] = contact_sheet(sheet, f"from {names[0]} to {names[1]}") if sheet else None
        if not sheet:
            print("no crops: both tests need --save_results, and --hr the HR images of their names")
    for name, figure in figures.items():
        if figure is not None:
            with atomic_write(given.out / name) as temporary:
                figure.savefig(temporary, dpi=figure.dpi, format="png")
    print(f"written to {given.out}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="a run, or results/<checkpoint> of one")
    parser.add_argument("--names", nargs=2, help="how to call them (the names of their folders)")
    parser.add_argument("--hr", type=Path, help="folder of HR images, for the crops")
    parser.add_argument("--out", type=Path, default=Path("experiment/compare_runs"), help="folder (%(default)s)")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


if __name__ == "__main__":
    main()
