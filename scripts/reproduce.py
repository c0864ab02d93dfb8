"""Compare a published table with the scores of the weights at hand.

    python scripts/reproduce.py cdsr2 --weights DIR --data DIR
    python scripts/reproduce.py kdsr1 --weights experiment/RUN/model/model_latest.pt --row "KDSR-M" --data DIR

The table is one of published.json: kdsr1, kdsr2, kdsr3, cdsr2, ikc. Each row names the file that it looks for in the
folder --weights, of ours or as published. --data is a root with benchmark/<Set>; kdsr3 scores real pairs, AIM2019/HR
beside AIM2019/LR and NTIRE2020 likewise. Lines that cannot be measured are listed with the reason, and make the
exit code 2; rows of networks that this project lacks are listed, too, but count only if nothing else was asked for.
"""

from __future__ import annotations

import inspect
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.find_testsets import check_test_sets, find, roots_around
from data.protocol import NAMED
from data.testset import PAIRED, TestSet
from evaluation import Measure, evaluate, grouped, mean, metric, smallest_hr
from loss.factory import require
from model import BlindSR, build, load_model, zoo
from scripts.program import add_cpu, device_of, one_line, program, real, words_of
from utility import argument, environment, write_text

METRICS = ("psnr", "ssim")
FOREIGN = "no such network in this project"
UNMEASURED = 2  # exit code
PUBLISHED = Path(__file__).with_name("published.json")


class Line(NamedTuple):
    """A published result on one set, or under one kernel, and what was measured."""

    row: str
    what: str  # the set, and the kernel if there are numbers for each
    published: tuple[float, ...]  # PSNR, and SSIM and LPIPS if they are published
    measured: tuple[float, ...] | None
    verdict: str


class Tolerance(NamedTuple):
    """Differences up to which a result counts as reproduced."""

    psnr: float  # dB
    ssim: float
    lpips: float

    def __str__(self) -> str:
        return f"{self.psnr:g} dB, SSIM {self.ssim:g}, LPIPS {self.lpips:g}"

    def verdict(self, published: Sequence[float], measured: Sequence[float]) -> str:
        """Return `reproduced` if all values are within the tolerance, else `differs`."""
        close = all(abs(a - b) <= limit for a, b, limit in zip(published, measured, self, strict=False))
        return "reproduced" if close else "differs"


def network(row: dict[str, Any], weights: Path, device: torch.device) -> BlindSR | str:
    """Return the network of a row, or why there is none. weights: a folder of them, or the file itself."""
    if "network" not in row:
        return FOREIGN
    if "weights" not in row:
        return build(row["network"], scale=row["scale"]).to(device)
    path = weights if weights.is_file() else weights / row["weights"]
    if not path.is_file():
        return f"weights missing: {path}"
    with argument("weights"):
        net = load_model(path, device)
    require(net, "weights", path, model=row["network"], scale=row["scale"])
    return net


def test_set(table: dict[str, Any], row: dict[str, Any], name: str, data: Path) -> TestSet | str:
    """Return the images of a set of a row, or why there are none."""
    pairs = table["protocol"] == PAIRED  # their LR images are on the disk: no rule makes them
    rule = replace(NAMED["bicubic" if pairs else table["protocol"]](row["scale"]), noise=row.get("noise", 0) / 255)
    found = find(name, roots_around(data), rule, seed=1)
    if found is None or found.real != pairs:
        return f"images missing: {name}" + (" with LR and HR" if pairs else "")
    return found


def lines(
    table: dict[str, Any], row: dict[str, Any], weights: Path, data: Path, tolerance: Tolerance, device: torch.device
) -> list[Line]:
    """Return the lines of one row, measured where that can be done."""
    net, sets = network(row, weights, device), row.get("scores") or row["kernels"]
    if isinstance(net, str):
        return [Line(row["row"], name, tuple(numbers), None, net) for name, numbers in sets.items()]
    measures, note = measures_of(table, net.scale, device)
    note += other_sizes(row, net)
    found: list[Line] = []
    for name, numbers in sets.items():
        images = test_set(table, row, name, data)
        if isinstance(images, str):
            found.append(Line(row["row"], name, tuple(numbers), None, images))
            continue
        check_test_sets([images], at_least=smallest_hr(net))
        scores = evaluate(
            lambda lr, hr: net(lr, hr).image,
            images,
            scale=net.scale,
            planes=table["metric"],
            device=device,
            metrics=measures,
        )
        measured = [(name, tuple(numbers), tuple(mean(scores).values()))]
        if "kernels" in row:
            cases = grouped(scores, "case").items()
            measured = [
                (f"{name} {case}", (psnr,), (mean(group)["psnr"],))
                for ((case,), group), psnr in zip(cases, numbers, strict=True)
            ]
        found += [
            Line(row["row"], what, a, b, _verdict(row, tolerance.verdict(a, b)) + note) for what, a, b in measured
        ]
    return found


def _verdict(row: dict[str, Any], verdict: str) -> str:
    return f"not comparable: {row['not_comparable']}" if "not_comparable" in row else verdict


def other_sizes(row: dict[str, Any], net: BlindSR) -> str:
    """Return a note on sizes of a network that are not those of the row, "" if all are."""
    usual = {name: one.default for name, one in inspect.signature(type(net)).parameters.items() if name != "scale"}
    differing = {name: size for name, size in {**usual, **row.get("sizes", {})}.items() if net.config[name] != size}
    sizes = ", ".join(f"{name} {net.config[name]} instead of {size}" for name, size in differing.items())
    return f"; weights of another size: {sizes}" if sizes else ""


def measures_of(table: dict[str, Any], scale: int, device: torch.device) -> tuple[list[Measure], str]:
    """Return the metrics of a table, and a note if LPIPS cannot be computed."""
    make = partial(metric.make, device=device, planes=table["metric"], border=scale)
    measures = [make(name) for name in METRICS]
    if "lpips" not in table:
        return measures, ""
    try:
        return [*measures, make(f"lpips_{table['lpips']}")], ""
    except ValueError as error:
        return measures, f"; no LPIPS: {error}"


def show(line: Line) -> str:
    """Return a line of the table that is printed."""

    def joined(numbers: Sequence[float] | None, sign: str = "") -> str:
        if numbers is None:
            return "-"
        return " / ".join(f"{n:{sign}.{d}f}" for n, d in zip(numbers, (2, 4, 4), strict=False))

    gaps = line.measured and [b - a for a, b in zip(line.published, line.measured, strict=False)]
    published = joined(line.published) if len(line.published) <= 3 else f"{len(line.published)} kernels"
    return (
        f"{line.row:<20}{line.what:<24}{published:<26}{joined(line.measured):<26}{joined(gaps, '+'):<28}{line.verdict}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    tables = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    parser = program(__file__, __doc__)
    parser.add_argument("table", choices=tuple(tables), help="table of published.json")
    parser.add_argument("--row", help="name of a row: that one only")
    parser.add_argument(
        "--weights", required=True, type=Path, help="folder of the weights; with --row a file, or a name of the zoo"
    )
    parser.add_argument("--data", "--dir_data", required=True, type=Path, metavar="DIR", help="root of the test sets")
    parser.add_argument("--tolerance", type=real(0), default=0.05, help="of PSNR, dB (default: 0.05)")
    parser.add_argument("--tolerance_ssim", type=real(0), default=0.002, help="(default: 0.002)")
    parser.add_argument("--tolerance_lpips", type=real(0), default=0.002, help="(default: 0.002)")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    add_cpu(parser)
    given = parser.parse_args(argv)
    table = tables[given.table]
    rows = [row for row in table["rows"] if given.row in (None, row["row"])]
    if not rows:
        parser.error(f"--row {given.row}: {given.table} has {', '.join(row['row'] for row in table['rows'])}")
    if given.weights.name in zoo.entries():
        given.weights = zoo.resolve(given.weights)
    for name, place in (("weights", given.weights), ("data", given.data), ("out", given.out and given.out.parent)):
        if place is not None and not place.exists():
            parser.error(f"--{name}: there is no {place}")
    if given.out is not None and given.out.is_dir():
        parser.error(f"--out {given.out} is a folder; name a file")
    if given.weights.is_file() and len(rows) > 1:
        parser.error(f"--weights {given.weights} is the file of one row: name it with --row")
    tolerance = Tolerance(given.tolerance, given.tolerance_ssim, given.tolerance_lpips)
    with one_line(parser.prog, words_of(parser)):
        run(given, table, rows, tolerance)


def run(given: Namespace, table: dict[str, Any], rows: Sequence[dict[str, Any]], tolerance: Tolerance) -> None:
    """Measure and print the rows of a table; exit with `UNMEASURED` if some could not be measured."""
    device = device_of(cpu=given.cpu)
    print(f"{table['title']}\nprotocol {table['protocol']}, luma {table['metric']}, tolerance: {tolerance}")
    print(f"{'row':<20}{'set':<24}{'published':<26}{'measured':<26}{'difference':<28}verdict")
    found: list[Line] = []
    for row in rows:
        of_row = lines(table, row, given.weights, given.data, tolerance, device)
        found += of_row
        print("\n".join(map(show, of_row)), flush=True)
    notes = {row["row"]: row["note"] for row in rows if "note" in row}
    print("\n".join(f"note on {name}: {note}" for name, note in notes.items()))
    if given.out is not None:
        result = {"table": given.table, "lines": [line._asdict() for line in found], "notes": notes, **environment()}
        write_text(given.out, json.dumps(result, indent=1))
    missing = sum(line.measured is None for line in found)
    if missing == len(found) or any(line.measured is None and line.verdict != FOREIGN for line in found):
        print(f"{missing} of {len(found)} lines were not measured")
        sys.exit(UNMEASURED)


if __name__ == "__main__":
    main()
