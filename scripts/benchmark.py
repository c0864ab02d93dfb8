"""Measure the rows of the speed table, ours against the released code's formulation, and count what needs no machine.

    python scripts/benchmark.py                              # published sizes on a GPU, small ones on a CPU
    python scripts/benchmark.py --quick                      # two minutes on two cores
    python scripts/benchmark.py --precision tf32 --parts steps inference --network KDSR-M
    python scripts/benchmark.py --parts steps --launch plain graph compile compile+graph
    python scripts/benchmark.py --page docs/benchmarks/cpu.md   # also write a page with a plot

The two run by turns in one process, on the same weights, images and parameters. Figures are medians over the rounds;
ratios are medians of those within a round. `formulation.py` says what the baseline is; it is not the released code. On
a GPU it computes in TF32, as PyTorch lets the released code do; on a CPU in float32, on one thread, and times there are
those of the processor, which other programs disturb less. A step is forward, backward and Adam of the published
objective, without data and degradation, and for KDSR-GAN without its perceptual loss.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import model
from data.degradation import Gaussian, MANet, SecondOrder
from data.degradation.jpeg import jpeg
from data.degradation.params import move_all
from data.draws import Draws
from data.images import read_image
from data.packed import PackedImages, pack
from data.pairs import Batch
from data.protocol import gaussian8
from data.sampler import PatchBatches, PatchSampler
from data.testset import Degraded, to_tensor
from evaluation.cost import SIZE
from evaluation.evaluate import evaluate
from loss import Adversarial, Contrast, Distillation, Objective, Pixel
from loss.learner import Learner
from model import BlindSR
from model.discriminator import UNetDiscriminator
from runtime.graph import GraphedStep
from runtime.precision import PRECISIONS, Precision
from scripts import formulation
from scripts.benchmark_page import Counted, Figure, render, write_page
from scripts.counting import STEPS, counted_inference, counted_step
from scripts.program import add_cpu, check_picture, integer, one_line, program, size, words_of
from utility import environment

NETWORKS: dict[str, tuple[str, dict[str, int], int, int]] = {  # name, sizes, published batch and LR patch of a GPU
    "KDSR-M": ("KDSR_S", {}, 64, 64),
    "KDSR-L": ("KDSR_S", {"n_feats": 128, "n_blocks": 28, "n_resblocks": 5}, 64, 64),
    "KDSR-GAN": ("KDSR_S", {"n_feats": 128, "n_blocks": 42, "n_resblocks": 6}, 9, 64),
    "CDSR": ("CDSR", {}, 32, 48),
    "DASR": ("DASR", {}, 32, 48),
}
SCALE = 4
SIZE_ON_CPU = (90, 160)  # LR pixels: half of SIZE
LAUNCHES = ("plain", "graph", "compile", "compile+graph")
BASELINE = "released formulation"
Work = Callable[[], object]
Restore = Callable[[Tensor], Tensor]
NEEDS_A_GPU = (
    "steps at their published sizes, with their peak memory",
    "the same with --precision tf32 and fp16",
    "degradations of 64 patches of 256",
    "inference of LR 180x320 and of 540x960, which takes tiles",
    "the loader beside a GPU that trains",
)


class Row(NamedTuple):
    """One row of the table: the same work in several ways, the first of which the others are compared with."""

    part: str
    name: str
    works: Mapping[str, Work]


# ---------------------------------------------------------------------------------------------------- networks


def build(title: str) -> BlindSR:
    """Return one of `NETWORKS`, with random weights that are always the same."""
    name, sizes, _, _ = NETWORKS[title]
    torch.manual_seed(0)
    return model.build(name, scale=SCALE, **sizes)


def objective_of(title: str, net: BlindSR) -> Objective[Any]:
    """Return the objective that a network is published with."""
    if isinstance(net, model.ContrastiveSR):
        return Contrast(net)
    if model.name_of(net) != "KDSR_S":
        return Pixel()
    teacher = model.build("KDSR_T", **net.config)
    return Adversarial(UNetDiscriminator(), teacher=teacher) if title == "KDSR-GAN" else Distillation(teacher)


def as_released(work: Work, precision: str) -> Work:
    """Return the work with networks that compute as the released ones do."""

    def run() -> None:
        Precision(precision).prepare(one_size=True)
        with formulation.networks():
            work()

    return run


def steps(given: Namespace, device: torch.device) -> Iterator[Row]:
    """Yield a row for a training step of each network."""
    for title in given.network:
        net, (_, _, batch, patch) = build(title), NETWORKS[title]
        if device.type == "cpu":
            batch, patch = 2, 24
        batch, patch = given.batch or batch, given.patch or patch
        check(net, "patch", patch, title)

        def step(
            precision: str,
            launch: str = "plain",
            net: BlindSR = net,
            batch: int = batch,
            patch: int = patch,
            title: str = title,
        ) -> Work:
            net, how = copy.deepcopy(net).train(), Precision(precision)
            objective = objective_of(title, net)
            compiled, graphed = "compile" in launch, "graph" in launch
            learner = Learner(net, objective, device=device, precision=how, compile=compiled, cuda_graph=graphed)
            images = batch * objective.views
            lr, hr = (torch.rand(images, 3, side, side, device=device) for side in (patch, SCALE * patch))

            def run() -> None:
                how.prepare(one_size=True)
                learner.step(Batch(lr, hr), 0, 1e-6)

            return run

        plain = exact(device)
        works = {BASELINE: as_released(step(plain), plain), plain: step(plain)}
        for launch in given.launch:
            if launch == "plain":
                works[given.precision] = step(given.precision)
            elif title != "KDSR-GAN":  # its steps are of several kinds
                works[f"{given.precision}, {launch}"] = step(given.precision, launch)
        yield Row("training step", f"{title}, {batch} patches of {patch}", works)


def inference(given: Namespace, device: torch.device) -> Iterator[Row]:
    """Yield a row for the restoration of an image by each network."""
    height, width = given.size or (SIZE if device.type == "cuda" else SIZE_ON_CPU)
    for title in given.network:
        net = build(title)
        check(net, "size", min(height, width), title)
        lr = torch.rand(1, 3, height, width, device=device)

        def restore(
            precision: str, ours: bool = True, graphed: bool = False, net: BlindSR = net, lr: Tensor = lr
        ) -> Work:
            how = Precision(precision)
            layout = how.inference_format(device) if ours else torch.contiguous_format
            net = copy.deepcopy(net).eval().to(device).to(memory_format=layout)

            def forward(_: int, lr: Tensor) -> dict[str, Tensor]:
                with how.autocast(device):
                    return {"image": net(lr).image}

            way = GraphedStep(forward) if graphed else forward

            def run() -> None:
                how.prepare(one_size=True)
                with torch.inference_mode():
                    way(0, lr)

            return run

        plain = exact(device)
        works = {BASELINE: as_released(restore(plain, ours=False), plain)}
        works |= {p: restore(p) for p in precisions(given, device)}
        if "graph" in given.launch:
            works[f"{given.precision}, graph"] = restore(given.precision, graphed=True)
        yield Row("inference", f"{title}, LR {height}x{width}", works)


def exact(device: torch.device) -> str:
    """Return the precision of the baseline: what PyTorch computes in unless it is told otherwise."""
    return "tf32" if device.type == "cuda" else "fp32"


def precisions(given: Namespace, device: torch.device) -> list[str]:
    """Return the precision of the baseline, and the one asked for if it is another."""
    return [*dict.fromkeys((exact(device), given.precision))]


def check(net: BlindSR, argument: str, side: int, title: str) -> None:
    """Raise ValueError for images that are too small for the network."""
    if side < net.min_size:
        raise ValueError(f"`{argument}` {side}: {title} needs {net.min_size} LR pixels a side")


# ------------------------------------------------------------------------------------------------ degradations


def degradations(given: Namespace, device: torch.device) -> Iterator[Row]:
    """Yield a row for each degradation; only second_order has noise."""
    generator, noise = torch.Generator().manual_seed(0), torch.Generator(device).manual_seed(0)
    images = 16 if device.type == "cpu" else 64
    hr, views = (
        torch.rand(n, 3, side, side, generator=generator).mul(255).round().to(device) / 255
        for n, side in ((images, 256), (2 * images, 192))
    )
    for iso in (True, False):
        recipe = Gaussian(scale=SCALE, iso=iso, width=(0.2, 4.0))
        drawn = move_all(recipe.sample(images, generator=generator), device)
        works = {
            BASELINE: lambda drawn=drawn: formulation.gaussian(hr, drawn, SCALE),
            "fp32": lambda recipe=recipe, drawn=drawn: recipe.apply(hr, drawn, generator=noise),
        }
        yield Row("degradation", f"gaussian, {'iso' if iso else 'aniso'}, {images} of 256", works)
    manet = MANet(scale=SCALE, iso=False, width=(0.7**0.5, 10**0.5))
    shapes, levels = move_all(manet.sample(2 * images, generator=generator), device), 255 * views
    works = {
        BASELINE: lambda: formulation.manet(levels, shapes, SCALE),
        "fp32": lambda: manet.apply(views, shapes, generator=noise),
    }
    yield Row("degradation", f"manet, {2 * images} of 192", works)
    quality = (30 + 65 * torch.rand(images, generator=generator)).to(device)
    works = {BASELINE: lambda: formulation.jpeg(hr, quality), "fp32": lambda: jpeg(hr, quality)}
    yield Row("degradation", f"Real-ESRGAN's JPEG, {images} of 256", works)
    second = SecondOrder(scale=SCALE)
    crops = torch.rand(9, 3, 400, 400, generator=generator).to(device)
    batches = [
        move_all(second.sample(9, generator=torch.Generator().manual_seed(seed)), device) for seed in range(given.draws)
    ]
    works = {
        BASELINE: lambda: [formulation.second_order(crops, batch, SCALE, noise) for batch in batches],
        "fp32": lambda: [second.apply(crops, batch, generator=noise) for batch in batches],
    }
    yield Row("degradation", f"second_order, {len(batches)} draws of 9 of 400", works)
    works = {
        BASELINE: lambda: (formulation.sharpen(crops), formulation.second_order(crops, batches[0], SCALE, noise)),
        "fp32": lambda: second.apply(crops, batches[0], generator=noise),
    }
    yield Row("degradation", "second_order and the sharpening it drops, 1 draw", works)


# --------------------------------------------------------------------------------------- loader and evaluation


def loader(given: Namespace, device: torch.device) -> Iterator[Row]:
    """Yield a row for 64 training patches, which are read from images of DF2K's size."""
    side, count, shape = 256, 4, (1404, 2040, 3)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        root, random = Path(folder), np.random.default_rng(0)
        (root / "HR").mkdir()
        for i in range(count):
            pixels = np.kron(random.integers(0, 256, (117, 170, 3), dtype=np.uint8), np.ones((12, 12, 1), np.uint8))
            assert pixels.shape == shape
            Image.fromarray(pixels).save(root / "HR" / f"{i}.png", compress_level=1)
            (root / f"{i}.pt").write_bytes(pickle.dumps(pixels))
        pack(root / "HR", root / "packed")
        sampler = PatchSampler([shape[:2]] * count, Draws(seed=0, batch=64), patch=side, augment="all")
        batches = PatchBatches(PackedImages(root / "packed"), sampler)
        works: dict[str, Work] = {
            BASELINE: lambda: [formulation.patch(root / f"{c.index}.pt", c, side) for c in sampler.draw(0)],
            "fp32": lambda: batches[0],
        }
        yield Row("loader", "64 patches of 256, decoded images of 1404x2040", works)


def evaluation(given: Namespace, device: torch.device) -> Iterator[Row]:
    """Yield a row for an image of 256 pixels with the eight kernels of gaussian8, scored: PSNR and SSIM."""
    recipe = Gaussian(scale=SCALE, iso=True, width=(0.2, 4.0))
    widths = torch.tensor([case.width for case in gaussian8(SCALE).cases], device=device)  # (8, 2)
    nearest = torch.nn.Upsample(scale_factor=SCALE)
    nets: dict[str, tuple[Restore, Restore]] = {"nearest pixels": (nearest, nearest)}
    if not given.quick:
        layouts = torch.contiguous_format, Precision().inference_format(device)
        plain, quick = (build("KDSR-M").eval().to(device).to(memory_format=layout) for layout in layouts)
        nets["KDSR-M"] = lambda lr: plain(lr).image, lambda lr: quick(lr).image
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "random.png")
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(path)
        test_set = Degraded("random", [path], gaussian8(SCALE))

        def released(restore: Restore) -> None:
            hr = to_tensor(read_image(path), device)[None]
            drawn = move_all(recipe.sample(1, generator=torch.Generator()), device)
            for width in widths:
                with torch.inference_mode():
                    sr = restore(formulation.gaussian(hr, drawn._replace(width=width[None]), SCALE))
                formulation.scores(sr.clamp(0, 1), hr, SCALE)

        def ours(restore: Restore) -> None:
            evaluate(lambda lr, _: restore(lr), test_set, scale=SCALE, planes="matlab", device=device)

        for title, (theirs, restore) in nets.items():
            works = {BASELINE: as_released(partial(released, theirs), "fp32"), "fp32": partial(ours, restore)}
            yield Row("evaluation", f"256x256 with 8 kernels, {title}", works)


PARTS = {
    "degradations": degradations,
    "loader": loader,
    "evaluation": evaluation,
    "inference": inference,
    "steps": steps,
}

# ------------------------------------------------------------------------------------------ measuring, counting


def measure(row: Row, rounds: int, runs: int, device: torch.device) -> list[Figure]:
    """Run every work `runs` times in each round, one work after the other; a round before the first warms up."""
    if device.type == "cuda":
        gc.collect()  # the former row may have left CUDA graphs, which hold memory
        torch.cuda.empty_cache()
    times: dict[str, list[float]] = {way: [] for way in row.works}
    peaks = dict.fromkeys(row.works, 0)
    for number in range(rounds + 1):
        for way, work in row.works.items():
            milliseconds, peaks[way] = _timed(work, runs, device)
            if number:
                times[way].append(milliseconds)
    baseline = times[next(iter(row.works))]
    return [
        Figure(
            row.part,
            row.name,
            way,
            median(found),
            (max(found) - min(found)) / 2 / median(found),
            median(a / b for a, b in zip(baseline, found, strict=True)),
            peaks[way],
        )
        for way, found in times.items()
    ]


def _timed(work: Work, runs: int, device: torch.device) -> tuple[float, int]:
    if device.type != "cuda":
        start = time.process_time()
        for _ in range(runs):
            work()
        return 1000 * (time.process_time() - start) / runs, 0
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.synchronize(device)
    before, start = torch.cuda.memory_allocated(device), time.perf_counter()
    for _ in range(runs):
        work()
    torch.cuda.synchronize(device)
    milliseconds = 1000 * (time.perf_counter() - start) / runs
    peak = torch.cuda.max_memory_allocated(device) - before
    return milliseconds, peak if peak >= 2**20 else 0  # a graph has its memory already


def count(steps: Sequence[str], networks: Sequence[str]) -> Iterator[Counted]:
    """Count steps and restorations at their published sizes, as released in float32, and ours in float32 and bf16."""
    lr = "LR {}x{}".format(*SIZE)
    works = {f"step: {name}": partial(counted_step, name) for name in steps}
    works |= {f"inference: {name}, {lr}": partial(counted_inference, partial(build, name), SIZE) for name in networks}
    for name, work in works.items():
        for way, precision in ((BASELINE, "fp32"), ("fp32", "fp32"), ("bf16", "bf16")):
            released = way == BASELINE
            ledger = work(precision, released=released)
            # A grouped convolution is counted as if it had one group.
            floor = None if released else 1000 * ledger.seconds
            yield Counted(name, way, ledger.kernels.total(), ledger.peak, ledger.moved, floor)


# ------------------------------------------------------------------------------------------------ command line


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parts = [*PARTS, "counts"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="default: all")
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="bf16", help="besides the baseline's (default: bf16)"
    )
    parser.add_argument(
        "--launch",
        nargs="+",
        choices=LAUNCHES,
        help="how kernels are launched; inference knows plain and graph (default: plain, on a GPU also graph)",
    )
    sizes = "default: {}x{} on a GPU, else {}x{}".format(*SIZE, *SIZE_ON_CPU)
    parser.add_argument("--size", type=size, help=f"LR image to restore, HxW ({sizes})")
    parser.add_argument("--batch", type=integer(1), help="images in a step (default: published on a GPU, else 2)")
    parser.add_argument("--patch", type=integer(1), help="side of an LR patch (default: published on a GPU, else 24)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="(default: %(default)s)")
    parser.add_argument("--runs", type=integer(1), help="runs in a round (default: 20 on a GPU, else 1)")
    parser.add_argument("--quick", action="store_true", help="few networks, small images, three rounds")
    add_cpu(parser)
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="write the results there, with a plot beside it")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


def run(given: Namespace) -> None:
    """Measure and print what the command line asks for."""
    if given.page is not None:
        check_picture("`page`", given.page, [".md"])
    device = torch.device("cpu" if given.cpu or not torch.cuda.is_available() else "cuda")
    torch.set_flush_denormal(True)
    if device.type == "cpu":
        torch.set_num_threads(1)
    given.launch = given.launch or ["plain", *(["graph"] if device.type == "cuda" else [])]
    where = environment()
    given.draws, counted = 6, [*STEPS]
    if given.quick:
        given.network = [title for title in given.network if title in ("KDSR-M", "CDSR")]
        given.size = given.size or (24, 32)
        given.rounds, given.draws, counted = min(given.rounds, 3), 2, ["KDSR_S M", "CDSR"]
    runs = given.runs or (20 if device.type == "cuda" else 1)
    print(f"{given.rounds} rounds of {runs}, threads: {torch.get_num_threads()}, PyTorch {torch.__version__}")
    figures: list[Figure] = []
    for part, rows in PARTS.items():
        for row in rows(given, device) if part in given.parts else ():
            figures += (found := measure(row, given.rounds, runs, device))
            print(render(found), flush=True)
    counts = []
    for found in count(counted, given.network) if "counts" in given.parts else ():
        counts.append(found)
        print(render([found]), flush=True)
    needs = NEEDS_A_GPU if device.type == "cpu" else ()
    if needs:
        print("needs a GPU: " + "; ".join(needs))
    if given.page is not None:
        write_page(given.page, figures, counts, needs, where)


if __name__ == "__main__":
    main()
