"""A published table beside what the weights at hand score.

    python scripts/reproduce.py cdsr2 --weights DIR --data DIR [--row "CDSR x4"]

TABLE is one of published.json: kdsr1, kdsr2, kdsr3, cdsr2. Each row names the file it looks for in --weights; ours and
official ones will do. --data is a root with benchmark/<Set>. What cannot be measured is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import build
from data.benchmark import find, roots_around
from data.protocol import NAMED
from evaluation import evaluate, grouped, mean
from model import BlindSR, load_model
from model import build as build_model
from option import Machine
from utility import environment

PUBLISHED = Path(__file__).with_name("published.json")


class Line(NamedTuple):
    """One published number of one set, or of one kernel, and what became of it."""

    row: str
    what: str  # the set, and the kernel where numbers are published for each
    published: tuple[float, ...]  # PSNR, and SSIM where it is published
    measured: tuple[float, ...] | None
    verdict: str


class Tolerance(NamedTuple):
    psnr: float  # dB
    ssim: float

    def verdict(self, published: Sequence[float], measured: Sequence[float]) -> str:
        close = all(abs(a - b) <= limit for a, b, limit in zip(published, measured, self, strict=False))
        return "reproduced" if close else "differs"


def network(row: dict[str, Any], weights: Path) -> BlindSR | str:
    """The network of a row, or why there is none."""
    if "network" not in row:
        return "no such network in this project"
    if "weights" not in row:
        return build_model(row["network"], scale=row["scale"])
    path = weights / row["weights"]
    if not path.is_file():
        return f"weights missing: {path}"
    net = load_model(path, flag="--weights")
    build.require(net, "--weights", path, model=row["network"], scale=row["scale"])
    return net


def lines(
    table: dict[str, Any], row: dict[str, Any], weights: Path, data: Path, tolerance: Tolerance, device: torch.device
) -> list[Line]:
    """The lines of one row, measured where that can be done."""
    sets = row.get("scores", {}) or row["kernels"]
    net = network(row, weights) if table["protocol"] in NAMED else "paired real-world images are not scored here yet"
    found: list[Line] = []
    for name, numbers in sets.items():
        if isinstance(net, str):
            found.append(Line(row["row"], name, tuple(numbers), None, net))
            continue
        rule = replace(NAMED[table["protocol"]](row["scale"]), noise=row.get("noise", 0) / 255)
        benchmark = find(name, roots_around(data), rule, seed=1)
        if benchmark is None:
            found.append(Line(row["row"], name, tuple(numbers), None, f"images missing: {name}"))
            continue
        scores = evaluate(
            lambda lr, hr, net=net: net(lr, hr).image,
            benchmark,
            scale=net.scale,
            metric_protocol=table["metric"],
            device=device,
        )
        measured = [(name, tuple(numbers), mean(scores))]
        if "kernels" in row:
            cases = grouped(scores, "case").items()
            measured = [
                (f"{name} {case}", (psnr,), mean(group)[:1])
                for ((case,), group), psnr in zip(cases, numbers, strict=True)
            ]
        found += [Line(row["row"], what, a, b, tolerance.verdict(a, b)) for what, a, b in measured]
    return found


def show(line: Line) -> str:
    def pair(numbers: Sequence[float] | None) -> str:
        return "-" if numbers is None else " / ".join(f"{n:.{d}f}" for n, d in zip(numbers, (2, 4), strict=False))

    difference = "-"
    if line.measured is not None:
        gaps = (b - a for a, b in zip(line.published, line.measured, strict=False))
        difference = " / ".join(f"{gap:+.{d}f}" for gap, d in zip(gaps, (2, 4), strict=False))
    published = pair(line.published) if len(line.published) <= 2 else f"{len(line.published)} kernels"
    return f"{line.row:<20}{line.what:<24}{published:<16}{pair(line.measured):<16}{difference:<18}{line.verdict}"


def main(argv: Sequence[str] | None = None) -> None:
    tables = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tuple(tables))
    parser.add_argument("--row", help="this row only")
    parser.add_argument("--weights", required=True, type=Path, metavar="DIR")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=0.05, help="of PSNR, dB (default: 0.05)")
    parser.add_argument("--tolerance_ssim", type=float, default=0.002, help="(default: 0.002)")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU even where there is a GPU")
    given = parser.parse_args(argv)
    table = tables[given.table]
    rows = [row for row in table["rows"] if given.row in (None, row["row"])]
    if not rows:
        parser.error(f"--row {given.row}: {given.table} has {', '.join(row['row'] for row in table['rows'])}")
    tolerance = Tolerance(given.tolerance, given.tolerance_ssim)
    device = build.device(Machine(cpu=given.cpu), print)
    print(f"{table['title']}\nprotocol {table['protocol']}, luma {table['metric']}, tolerance {tolerance}")
    print(f"{'row':<20}{'set':<24}{'published':<16}{'measured':<16}{'difference':<18}verdict")
    found: list[Line] = []
    for row in rows:
        try:
            net_lines = lines(table, row, given.weights, given.data, tolerance, device)
        except (ValueError, OSError) as error:
            sys.exit(f"reproduce.py: error: {error}")
        found += net_lines
        print("\n".join(map(show, net_lines)))
    notes = {row["row"]: row["note"] for row in rows if "note" in row}
    print("\n".join(f"note on {name}: {note}" for name, note in notes.items()))
    if given.out is not None:
        result = {"table": given.table, "lines": [line._asdict() for line in found], "notes": notes, **environment()}
        given.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
