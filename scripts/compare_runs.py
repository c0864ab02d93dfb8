"""Compare networks that test.py has scored on the same images: is a difference more than chance?

    python scripts/compare_runs.py experiment/OLD experiment/NEW [--names old new] [--hr DIR] [--out DIR]
    python scripts/compare_runs.py experiment/base_* experiment/other_* ...

Each is a run, or the folder `results/<checkpoint>` of one: so two checkpoints of a run can be compared. The program
writes into the folder --out

table.md    the scores; table.tex has the same table, table.csv its numbers, one line for each network
curves.png  PSNR over the steps of the trainings, where they logged a validation set
crops.png   of two runs with --hr, where both tests had --save_results: the images with the largest gains and losses of
            PSNR, each where it shows most

**Two runs** are paired image by image. The table has for each test set and metric the means with their 95 % intervals
(bootstrap over the images), the difference with its own, the p-value of a paired sign-flip test, and how many images
got better and worse. An image counts once, as the mean over its kernels. The p-values are of single comparisons: of
twenty, one is below 0.05 by chance.

**Other numbers of runs** are grouped: those that differ in their seed alone are one variant. The table has a column for
each variant: the options in which they differ, the seeds, the mean score with its standard deviation over the seeds,
and its difference from the first variant with a 95 % interval (Welch's t over the seeds). The band around a curve goes
from the lowest to the highest seed.
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
from evaluation import metric, results, tables
from evaluation.results import Tested, harmless, image_file
from evaluation.statistics import Estimate, confidence_interval, image_means, paired_test
from scripts import variants
from scripts.drawing import Tile, contact_sheet, enlarge
from scripts.program import check_folder, one_line, program, words_of
from utility import Run, append_rows, argument, atomic_write, write_text

CROP, ENLARGED, MOST = 64, 3, 3  # side of a crop, HR pixels; its factor on the sheet; how many gains and losses
CPU = torch.device("cpu")


class Page(NamedTuple):
    """A comparison: a table of which the first `labels` columns are names, what is to be said of it, and figures."""

    header: list[str]
    lines: list[list[str]]
    labels: int
    records: list[dict[str, Any]]  # the numbers of the table, one for each test set, metric and network
    notes: list[str]
    figures: dict[str, Figure | None]  # by the name of the file

    def table(self, form: tables.Form) -> str:
        return tables.layout(self.header, self.lines, form, labels=self.labels)


class Paired(NamedTuple):
    """Two networks on a test set by a metric: means over the images, the second's difference, how many it changed."""

    set: str
    protocol: str
    scores: str  # the file in which they are, without its suffix
    metric: str
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float  # of the paired test; nan where a score is infinite
    images: int
    better: int
    worse: int


class Change(NamedTuple):
    """The change of the PSNR of one SR image from the first network to the second."""

    image: str
    case: str
    gain: float  # dB


def check_alike(runs: Sequence[Mapping[str, Tested]]) -> None:
    """Raise ValueError if runs were tested on the same set otherwise than each other."""
    first: dict[str, Tested] = {}
    for run in runs:
        for key, b in run.items():
            a = first.setdefault(key, b)
            for name in results.ALIKE:
                if a.about[name] != b.about[name]:
                    raise ValueError(f"{key} was measured otherwise: {name} {a.about[name]} and {b.about[name]}")
            if [score[:4] for score in a.scores] != [score[:4] for score in b.scores]:
                raise ValueError(f"{key} in {a.folder} and {b.folder} holds other images or kernels; test both again")


def common(one: Mapping[str, Tested], other: Mapping[str, Tested]) -> dict[str, tuple[Tested, Tested]]:
    """Return what both were tested on. Raise ValueError if there is nothing."""
    both = {key: (one[key], other[key]) for key in one if key in other}
    if not both:
        raise ValueError(
            f"nothing was tested with both: one has {', '.join(one)}, the other {', '.join(other)}; score both by "
            "`python test.py --dir_data DIR --pre_train CHECKPOINT --protocol PROTOCOL --metric METRIC`: left out, the "
            "last two follow from the network"
        )
    return both


# ----------------------------------------------------------------------------------------------------- table


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean of values of independent images with its 95 % interval."""
    return Estimate(fmean(values), *confidence_interval(values))


def paired(both: Mapping[str, tuple[Tested, Tested]]) -> list[Paired]:
    """Pair two networks image by image, for each test set and metric that both have."""
    found = []
    for key, (a, b) in both.items():
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
            means = [mean_of(values) for values in (ours, theirs, differences)]
            test = (a.scores[0].set, a.scores[0].protocol, Path(key).stem, name)
            found.append(Paired(*test, *means, p=p, images=len(first), better=better, worse=worse))
    return found


def line(row: Paired) -> list[str]:
    """Return a line of the table."""
    kind = metric.find(row.metric)
    means = [row.first.text(kind.digits), row.second.text(kind.digits), row.difference.text(kind.digits, "+")]
    p = f"{row.p:.4f}" if isfinite(row.p) else "–"
    return [row.set, row.protocol, kind.heading, *means, p, *map(str, row[-3:])]


def records(row: Paired, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the lines of table.csv: one for either network."""
    shared = dict(zip(row._fields[:4], row[:4], strict=True))
    p = row.p if isfinite(row.p) else None
    change = {**row.difference.columns("difference"), "p": p, "better": row.better, "worse": row.worse}
    each = zip(names, (row.first, row.second), (dict.fromkeys(change), change), strict=True)
    return [
        {**shared, "network": name, "images": row.images, **mean.columns("mean"), **rest} for name, mean, rest in each
    ]


# ----------------------------------------------------------------------------------------------------- crops


def changes(a: Tested, b: Tested) -> list[Change]:
    """Return the largest losses and gains of PSNR, each image under the kernel where it changes most, worst first."""
    name = next((name for name in a.scores[0].values if name.startswith("psnr") and name in b.scores[0].values), None)
    if name is None:
        return []
    found = [Change(x.image, x.case, y.values[name] - x.values[name]) for x, y in zip(a.scores, b.scores, strict=True)]
    largest: dict[str, Change] = {}  # an image is shown once
    for change in sorted((c for c in found if isfinite(c.gain)), key=lambda c: -abs(c.gain)):
        largest.setdefault(change.image, change)
    found = sorted(largest.values(), key=lambda change: change.gain)
    losses = [change for change in found if change.gain < 0][:MOST]
    return losses + [change for change in found if change.gain > 0][-MOST:]


def place(a: Tensor, b: Tensor, hr: Tensor, *, gain: bool, border: int) -> tuple[int, int]:
    """Return top and left of the crop of (3, H, W) images where the winner is nearer to the HR image by most.

    border: pixels at each edge that were not scored, and are not shown where the image is large enough.
    """
    nearer = ((a - hr).square() - (b - hr).square()).mean(0)[None, None]
    border = max(0, min(border, (min(hr.shape[1:]) - CROP) // 2))
    height, width = hr.shape[1:]
    inner = nearer[..., border : height - border, border : width - border]
    side = min(CROP, *inner.shape[2:])
    means = F.avg_pool2d(inner if gain else -inner, side, stride=1)[0, 0]
    top, left = divmod(int(means.argmax()), means.shape[1])
    return border + top, border + left


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
        files = [image_file(tested.folder, change.image, change.case, tested.variant) for tested in (a, b)]
        if change.image not in hr_paths or not all(file.exists() for file in files):
            continue
        x, y, hr = (to_tensor(read_image(path), CPU) for path in (*files, hr_paths[change.image]))
        hr = of_size(hr, x, a.about["scale"], str(hr_paths[change.image]))
        top, left = place(x, y, hr, gain=change.gain > 0, border=a.about["scale"])
        cut = [enlarge(image[:, top : top + CROP, left : left + CROP], ENLARGED) for image in (x, y, hr)]
        what = [f"{a.scores[0].set}, {change.image}", f"{change.case}", f"at row {top}, column {left}"]
        lines = [what, [f"{change.gain:+.2f} dB"], []]
        sheet.append([Tile(to_pixels(z), name, t) for z, name, t in zip(cut, (*names, "HR"), lines, strict=True)])
    return sheet


# --------------------------------------------------------------------------------------------------- program


def chosen(names: Sequence[str] | None, usual: Sequence[str]) -> Sequence[str]:
    """Return the names that were given, or else the usual ones. Raise ValueError if they are of another number."""
    if names is not None and not len(set(names)) == len(names) == len(usual):
        raise ValueError(f"`names` {' '.join(names)}: expected {len(usual)} different names, for {', '.join(usual)}")
    return names or usual


def pair(given: Namespace, folders: Sequence[Path], tested: Sequence[Mapping[str, Tested]]) -> Page:
    """Compare two runs image by image."""
    with argument("runs"):
        both = common(*tested)
    runs = [folder.parent.parent for folder in folders]
    usual = ([each.name for each in runs], [each.name for each in folders], [str(each) for each in folders])
    names = chosen(given.names, next(two for two in usual if two[0] != two[1]))
    header = ["set", "protocol", "metric", *names, "difference", "p", "images", "better", "worse"]
    notes = list[str]()
    lines_of = {name: [run] for name, run in zip(names, runs, strict=True)}
    figures = {"curves.png": variants.curves(lines_of) if runs[0] != runs[1] else None}
    if given.hr is not None:
        with argument("hr"):
            hr_paths = {path.stem: path for path in list_images(given.hr)}
        sheet = [row for pair in both.values() for row in crops(names, *pair, hr_paths)]
        figures["crops.png"] = contact_sheet(sheet, f"from {names[0]} to {names[1]}") if sheet else None
        if not sheet:
            notes.append("no crops: both tests need --save_results and PSNR, and --hr the HR images of their names")
    if not (found := paired(both)):
        raise ValueError("`runs`: no metric was measured of both; score them by the same --score")
    numbers = [record for row in found for record in records(row, names)]
    return Page(header, [*map(line, found)], 3, numbers, notes, figures)


def ablation(given: Namespace, folders: Sequence[Path], tested: Sequence[dict[str, Tested]]) -> Page:
    """Compare the variants that the runs are of, each over its seeds."""
    if given.hr is not None:
        raise ValueError(f"`hr`: crops are drawn of two runs, not of {len(folders)}; leave it out")
    with argument("runs"):
        trained = [
            variants.Trained(folder, Run(folder.parent.parent).config(), scores)
            for folder, scores in zip(folders, tested, strict=True)
        ]
        found = variants.grouped(trained)
    names = chosen(given.names, variants.names(found))
    named = dict(zip(names, found, strict=True))
    several = any(len(variant.runs) > 1 for variant in found)
    legend = variants.LEGEND if several else variants.ONE_SEED
    notes = [legend, *(f"note: {note}" for note in variants.notes(named))]
    figure = variants.curves({name: [run.run for run in variant.runs] for name, variant in named.items()})
    return Page(["", *names], variants.table(named), 1, variants.records(named), notes, {"curves.png": figure})


def run(given: Namespace) -> None:
    """Compare, print and write. Raise ValueError or OSError that names the argument to mend."""
    check_folder("--out", given.out)
    if len(given.runs) < 2:
        raise ValueError(f"`runs` {given.runs[0]}: name at least two, to compare them")
    with argument("runs"):
        folders = [results.of_checkpoint(path) for path in given.runs]
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise ValueError("a run is named twice; name its folders results/<checkpoint> to compare two of them")
        tested = [results.read(folder) for folder in folders]
        check_alike(tested)
    page = (pair if len(folders) == 2 else ablation)(given, folders, tested)
    older = filter(None, map(results.outdated, folders, tested))
    notes = [*page.notes, *(f"note: {old}" for old in older)]
    print(page.table("text"), *notes, sep="\n")
    given.out.mkdir(parents=True, exist_ok=True)
    pictures = [f"![{Path(name).stem}]({name})" for name, figure in page.figures.items() if figure is not None]
    write_text(given.out / "table.md", "\n\n".join([page.table("markdown"), *notes, *pictures]) + "\n")
    write_text(given.out / "table.tex", page.table("latex") + "\n")
    with atomic_write(given.out / "table.csv") as temporary:
        cells = [{name: harmless(x) if isinstance(x, str) else x for name, x in each.items()} for each in page.records]
        append_rows(temporary, cells)
    for name, figure in page.figures.items():
        if figure is not None:
            with atomic_write(given.out / name) as temporary:
                figure.savefig(temporary, dpi=figure.dpi, format="png")
    print(f"written to {given.out}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run, or results/<checkpoint> of one")
    parser.add_argument("--names", nargs="+", help="how to call the two runs, or the variants (as their folders)")
    parser.add_argument("--hr", type=Path, help="folder of HR images, for the crops of two runs")
    parser.add_argument("--out", type=Path, default=Path("experiment/compare_runs"), help="folder (%(default)s)")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


if __name__ == "__main__":
    main()
