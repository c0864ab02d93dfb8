"""Measure how long the networks take at one precision against float32: one image restored, and one step of training.

    python scripts/benchmark.py --precision bf16                                    # published sizes: for a GPU
    python scripts/benchmark.py --precision bf16 --size 64x64 --batch 2 --patch 24  # for a CPU

All variants run by turns in one process, on the same weights and random images; the figures are medians over the
rounds. The baseline computes as the official code does (float32, NCHW, one grouped convolution for all samples of a
dynamic convolution, dense blocks that concatenate), but is not the official code. A step is forward, backward and Adam
of the published objective, without data and degradation.
"""

from __future__ import annotations

import copy
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import model
from data.pairs import Batch
from evaluation.cost import SIZE
from loss import Contrast, Distillation, Objective, Pixel
from model import BlindSR
from published import PUBLISHED
from runtime.precision import PRECISIONS, Precision
from scripts.program import one_line, program, size, whole, words_of

NETWORKS: dict[str, tuple[str, dict[str, int]]] = {
    "KDSR-M": ("KDSR_S", {}),
    "KDSR-L": ("KDSR_S", {"n_feats": 128, "n_blocks": 28, "n_resblocks": 5}),
    "CDSR": ("CDSR", {}),
    "DASR": ("DASR", {}),
    "EDSR": ("EDSR", {}),
    "RRDB": ("RRDB", {}),
}
SCALE = 4
Work = Callable[[], object]


class Variant(NamedTuple):
    """A precision and a memory layout to measure."""

    precision: Precision
    memory_format: torch.memory_format

    @property
    def name(self) -> str:
        """The precision and the layout, for the table."""
        return self.precision.precision + (", NHWC" if self.memory_format == torch.channels_last else ", NCHW")


class Measured(NamedTuple):
    """Times and memory of one variant."""

    milliseconds: list[float]  # of each round
    peak: int  # bytes on the GPU on top of what was there before


def variants(precision: str) -> list[Variant]:
    """Return the baseline, float32 in the other layout, and this precision in both."""
    layouts = (torch.contiguous_format, torch.channels_last)
    all_of_them = [Variant(Precision(p), layout) for p in ("fp32", precision) for layout in layouts]
    return [*dict.fromkeys(all_of_them)]


def inference(net: BlindSR, variant: Variant, height: int, width: int, device: torch.device) -> Work:
    """Return a function that restores one LR image."""
    net = copy.deepcopy(net).eval().to(device).to(memory_format=variant.memory_format)
    lr = torch.rand(1, 3, height, width, device=device)

    def restore() -> None:
        with torch.inference_mode(), variant.precision.autocast(device):
            net(lr)

    return restore


def objective_of(net: BlindSR) -> Objective[Any]:
    """Return the objective that a network is published with."""
    if isinstance(net, model.ContrastiveSR):
        return Contrast(net)
    return Distillation(model.build("KDSR_T", **net.config)) if model.name_of(net) == "KDSR_S" else Pixel()


def training(net: BlindSR, variant: Variant, batch: int, patch: int, device: torch.device) -> Work:
    """Return a function that takes a training step on random patches."""
    net = copy.deepcopy(net).train().to(device).to(memory_format=variant.memory_format)
    objective = objective_of(net).to(device).to(memory_format=variant.memory_format)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-6, fused=device.type == "cuda")
    scaler = variant.precision.scaler(device)
    images = batch * objective.views
    lr, hr = (torch.rand(images, 3, side, side, device=device) for side in (patch, SCALE * patch))

    def step() -> None:
        optimizer.zero_grad()
        with variant.precision.autocast(device):
            losses = [phase.total for phase in objective.phases(net, Batch(lr, hr), 0)]
        scaler.scale(torch.stack(losses).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def measure(works: Sequence[tuple[Variant, Work]], rounds: int, runs: int, device: torch.device) -> list[Measured]:
    """Run every work `runs` times in each round, one work after the other; a round before the first warms up."""
    results = [Measured([], 0) for _ in works]
    for number in range(rounds + 1):
        for i, (variant, work) in enumerate(works):
            variant.precision.prepare(one_size=True)
            milliseconds, peak = _timed(work, runs, device)
            if number:
                results[i].milliseconds.append(milliseconds)
                results[i] = results[i]._replace(peak=peak)
    return results


def _timed(work: Work, runs: int, device: torch.device) -> tuple[float, int]:
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device) if cuda else 0
    start = time.perf_counter()
    for _ in range(runs):
        work()
    if cuda:
        torch.cuda.synchronize(device)
    milliseconds = 1000 * (time.perf_counter() - start) / runs
    return milliseconds, torch.cuda.max_memory_allocated(device) - before if cuda else 0


def table(title: str, works: Sequence[tuple[Variant, Work]], results: Sequence[Measured]) -> str:
    """Return a line for each variant: time, half its range, and its speed relative to the baseline by rounds."""
    baseline, lines = results[0].milliseconds, [title]
    for (variant, _), (milliseconds, peak) in zip(works, results, strict=True):
        middle = median(milliseconds)
        spread = 50 * (max(milliseconds) - min(milliseconds)) / middle
        ratio = median(a / b for a, b in zip(baseline, milliseconds, strict=True))
        memory = f"{peak / 2**20:10.0f} MiB" if peak else ""
        lines.append(f"  {variant.name:<12}{middle:10.2f} ms ±{spread:3.0f} %{ratio:8.2f}x{memory}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16", help="measured against fp32")
    parser.add_argument(
        "--size", type=size, default=SIZE, help="LR image to restore, HxW (default: {}x{})".format(*SIZE)
    )
    parser.add_argument("--batch", type=whole(0), help="images in a step (default: as published); 0: no training")
    parser.add_argument("--patch", type=whole(1), help="side of an LR patch (default: as published)")
    parser.add_argument("--rounds", type=whole(1), default=5, help="(default: %(default)s)")
    parser.add_argument("--runs", type=whole(1), default=20, help="runs in a round (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU even where there is a GPU")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


def run(given: Namespace) -> None:
    """Measure and print what the command line asks for."""
    device = torch.device("cpu" if given.cpu or not torch.cuda.is_available() else "cuda")
    torch.set_flush_denormal(True)
    height, width = given.size
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{machine}, PyTorch {torch.__version__}; {given.rounds} rounds of {given.runs}, scale {SCALE}")
    for title in given.network:
        name, sizes = NETWORKS[title]
        torch.manual_seed(0)
        net = model.build(name, scale=SCALE, **sizes)
        if min(height, width) < net.min_size:
            raise ValueError(f"--size {height}x{width}: {title} needs {net.min_size} LR pixels a side")
        published = PUBLISHED[name]
        batch = published["batch_size"] if given.batch is None else given.batch
        patch = given.patch or published["patch_size"]
        if batch and patch < net.min_size:
            raise ValueError(f"--patch {patch}: {title} needs {net.min_size} LR pixels a side")
        all_of_them = variants(given.precision)
        works = [(v, inference(net, v, height, width, device)) for v in all_of_them]
        print(
            table(f"{title}, LR {height}x{width}", works, measure(works, given.rounds, given.runs, device)), flush=True
        )
        if batch:
            works = [(v, training(net, v, batch, patch, device)) for v in all_of_them]
            results = measure(works, given.rounds, given.runs, device)
            print(table(f"{title}, step of {batch} patches of {patch}", works, results), flush=True)


if __name__ == "__main__":
    main()
