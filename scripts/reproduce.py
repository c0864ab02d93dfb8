"""A published table beside what the weights at hand score.

    python scripts/reproduce.py cdsr2 --weights DIR --data DIR
    python scripts/reproduce.py kdsr1 --weights experiment/RUN/model/model_best.pt --row "KDSR-M" --data DIR

TABLE is one of published.json: kdsr1, kdsr2, kdsr3, cdsr2. Each row names the file it looks for in the folder
--weights; ours and official ones will do. --data is a root with benchmark/<Set>; kdsr3 scores real pairs, AIM2019/HR
beside AIM2019/LR and NTIRE2020 likewise. What cannot be measured is listed with the reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import build

from data.protocol import NAMED
from data.testset import PAIRED, TestSet, find, roots_around
from evaluation import quality, report
from evaluation.evaluate import Score, evaluate, grouped
from model import BlindSR, load_model
from model import build as build_model
from option import Machine
from utility import environment

PUBLISHED = Path(__file__).with_name("published.json")


class Line(NamedTuple):
    """One published number of one set, or of one kernel, and what became of it."""

    row: str
    what: str  # the set, and the kernel where numbers are published for each
    published: tuple[float, ...]  # PSNR, and SSIM and LPIPS where they are published
    measured: tuple[float, ...] | None
    verdict: str


class Tolerance(NamedTuple):
    psnr: float  # dB
    ssim: float
    lpips: float

    def verdict(self, published: Sequence[float], measured: Sequence[float]) -> str:
        close = all(abs(a - b) <= limit for a, b, limit in zip(published, measured, self, strict=False))
        return "reproduced" if close else "differs"


def network(row: dict[str, Any], weights: Path, device: torch.device) -> BlindSR | str:
    """The network of a row, or why there is none. weights: a folder of them, or the file itself."""
    if "network" not in row:
        return "no such network in this project"
    if "weights" not in row:
        return build_model(row["network"], scale=row["scale"]).to(device)
    path = weights if weights.is_file() else weights / row["weights"]
    if not path.is_file():
        return f"weights missing: {path}"
    net = load_model(path, device, flag="--weights")
    build.require(net, "--weights", path, model=row["network"], scale=row["scale"])
    return net


def test_set(table: dict[str, Any], row: dict[str, Any], name: str, data: Path) -> TestSet | str:
    """The images of a set of a row, or why there are none."""
    pairs = table["protocol"] == PAIRED  # whose LR images are there: no rule makes them
    rule = replace(NAMED["bicubic" if pairs else table["protocol"]](row["scale"]), noise=row.get("noise", 0) / 255)
    found = find(name, roots_around(data), rule, seed=1)
    if found is None or (found.protocol == PAIRED) != pairs:
        return f"images missing: {name}" + (" with LR and HR" if pairs else "")
    return found


def lines(
    table: dict[str, Any], row: dict[str, Any], weights: Path, data: Path, tolerance: Tolerance, device: torch.device
) -> list[Line]:
    """The lines of one row, measured where that can be done."""
    net, sets = network(row, weights, device), row.get("scores") or row["kernels"]
    if isinstance(net, str):
        return [Line(row["row"], name, tuple(numbers), None, net) for name, numbers in sets.items()]
    lpips, note = perceived(table, device)
    found: list[Line] = []
    for name, numbers in sets.items():
        benchmark = test_set(table, row, name, data)
        if isinstance(benchmark, str):
            found.append(Line(row["row"], name, tuple(numbers), None, benchmark))
            continue
        build.check_benchmarks([benchmark], net)
        scores = evaluate(
            lambda lr, hr: net(lr, hr).image,
            benchmark,
            scale=net.scale,
            metric_protocol=table["metric"],
            device=device,
            lpips=lpips,
        )
        measured = [(name, tuple(numbers), means(scores))]
        if "kernels" in row:
            cases = grouped(scores, "case").items()
            measured = [
                (f"{name} {case}", (psnr,), means(group)[:1])
                for ((case,), group), psnr in zip(cases, numbers, strict=True)
            ]
        found += [Line(row["row"], what, a, b, tolerance.verdict(a, b) + note) for what, a, b in measured]
    return found


def perceived(table: dict[str, Any], device: torch.device) -> tuple[Callable[[Tensor, Tensor], Tensor] | None, str]:
    """The LPIPS of a table, or None and why it is not measured."""
    if "lpips" not in table:
        return None, ""
    try:
        return quality.lpips(table["lpips"], device), ""
    except ValueError as error:
        return None, f"; no LPIPS: {error}"


def means(scores: Sequence[Score]) -> tuple[float, ...]:
    """PSNR, SSIM and, where it was measured, LPIPS."""
    row = report.rows(scores)[0]
    return (row.psnr, row.ssim) if row.lpips is None else (row.psnr, row.ssim, row.lpips)


def show(line: Line) -> str:
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
    parser.add_argument("table", choices=tuple(tables))
    parser.add_argument("--row", help="this row only")
    parser.add_argument("--weights", required=True, type=Path, help="their folder; with --row a file")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=0.05, help="of PSNR, dB (default: 0.05)")
    parser.add_argument("--tolerance_ssim", type=float, default=0.002, help="(default: 0.002)")
    parser.add_argument("--tolerance_lpips", type=float, default=0.002, help="(default: 0.002)")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU even where there is a GPU")
    given = parser.parse_args(argv)
    table = tables[given.table]
    rows = [row for row in table["rows"] if given.row in (None, row["row"])]
    if not rows:
        parser.error(f"--row {given.row}: {given.table} has {', '.join(row['row'] for row in table['rows'])}")
    if given.weights.is_file() and len(rows) > 1:
        parser.error(f"--weights {given.weights} is the file of one row: name it with --row")
    tolerance = Tolerance(given.tolerance, given.tolerance_ssim, given.tolerance_lpips)
    device = build.device(Machine(cpu=given.cpu), print)
    print(f"{table['title']}\nprotocol {table['protocol']}, luma {table['metric']}, tolerance {tolerance}")
    print(f"{'row':<20}{'set':<24}{'published':<26}{'measured':<26}{'difference':<28}verdict")
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
