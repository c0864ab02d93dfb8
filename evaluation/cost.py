"""The cost of a network: parameters, multiply-adds and time, beside the published figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model import BlindSR, name_of
from model.layer import DynamicDepthwise, MeanShift
from runtime.precision import Precision

SIZE = (180, 320)  # LR (height, width) of the published figures: 1280 x 720 at scale 4
WARM_UP, RUNS = 2, 5


class Cost(NamedTuple):
    """The cost of super-resolving one LR image of height x width pixels."""

    height: int
    width: int
    parameters: int  # without a teacher or a momentum encoder, which only training needs
    macs: int  # multiply-adds of convolutions and matrix products
    dynamic_macs: int  # the part of `macs` in convolutions whose weights the network computes for each image
    seconds: float  # the median of some runs
    machine: str  # the GPU or CPU that was timed
    precision: str = "fp32"  # at which the network was timed


class Published(NamedTuple):
    """The figures of a paper, at scale 4 and LR `SIZE`."""

    title: str
    network: str
    sizes: dict[str, int]  # arguments of the network that are not the defaults
    parameters: float  # in millions
    macs: float  # multiply-adds, in 1e9
    note: str = ""


UNEXPLAINED = "The published multiply-adds do not fit the released code, whose network is the one counted here."
PUBLISHED = (
    Published("DASR", "DASR", {}, 5.84, 185.66),
    Published("IKC", "IKC", {}, 5.32, 2528.03, "The published multiply-adds include an unused seventh correction."),
    Published("KDSR-M", "KDSR_S", {}, 5.80, 191.42, UNEXPLAINED),
    Published(
        "KDSR-L",
        "KDSR_S",
        {"n_feats": 128, "n_blocks": 28, "n_resblocks": 5},
        14.19,
        623.61,
        "The published multiply-adds are those without the dynamic convolutions.",
    ),
    Published("KDSR-GAN", "KDSR_S", {"n_feats": 128, "n_blocks": 42, "n_resblocks": 6}, 18.85, 640.84, UNEXPLAINED),
)


def measure_cost(net: BlindSR, height: int, width: int, device: torch.device, *, precision: str = "fp32") -> Cost:
    """Count the parameters and multiply-adds of a network, and time it on a random LR image of height x width.

    Leaves `net` on `device` and in eval mode. A teacher is given an HR image too. precision: one of
    `runtime.precision.PRECISIONS`, at which the network is timed.

    Examples:
        >>> from model import build
        >>> cost = measure_cost(build("BICUBIC", scale=4), 24, 24, torch.device("cpu"))
        >>> cost.parameters, cost.seconds > 0
        (0, True)
    """
    macs, dynamic_macs = count_macs(net, height, width)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    arithmetic = Precision(precision)
    net.eval().to(device).to(memory_format=arithmetic.inference_format(device))
    with arithmetic.autocast(device):
        seconds = _seconds(net, height, width, device)
    return Cost(height, width, parameters, macs, dynamic_macs, seconds, _machine(device), precision)


def count_macs(net: BlindSR, height: int, width: int) -> tuple[int, int]:
    """Return the multiply-adds for one LR image of height x width, and the part of them in dynamic convolutions.

    As usual, only convolutions and matrix products are counted. Nothing is computed or allocated. Tools that count by
    layer miss the dynamic convolutions, which are not `nn.Conv2d`.

    Examples:
        >>> from model import build
        >>> net = build("EDSR", scale=2, n_feats=8, n_blocks=1)
        >>> count_macs(net, 10, 10)
        (511200, 0)
    """
    twin = _weightless(net, **net.config).requires_grad_(False)  # the counter's hooks trip over bare parameters
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which takes a while

    with FlopCounterMode(display=False) as counter:
        twin(*_images(net, height, width, torch.device("meta")))
    by_module = counter.get_flop_counts()
    dynamic = [name for name, module in twin.named_modules() if isinstance(module, DynamicDepthwise)]
    convolution = torch.ops.aten.convolution
    dynamic_flops = sum(by_module[f"{type(twin).__name__}.{name}"][convolution] for name in dynamic)
    return counter.get_total_flops() // 2, dynamic_flops // 2


def published(net: BlindSR) -> Published | None:
    """Return the paper's figures for a network of exactly this size and scale, None if there are none.

    Examples:
        >>> from model import build
        >>> published(build("KDSR_S", scale=4)).title
        'KDSR-M'
    """
    rows = [row for row in PUBLISHED if row.network == name_of(net)]
    return next((row for row in rows if _weightless(net, scale=4, **row.sizes).config == net.config), None)


def render_cost(net: BlindSR, cost: Cost) -> str:
    """Return the cost as a table beside the published figures for this network and LR size, and why they differ.

    Examples:
        >>> from model import build
        >>> net = build("EDSR", scale=4, n_feats=8, n_blocks=2)
        >>> table = render_cost(net, measure_cost(net, device=torch.device("cpu"), height=16, width=16))
        >>> table.splitlines()[2].split()
        ['parameters', '0.008', 'M']
    """
    row = published(net) if (cost.height, cost.width) == SIZE else None
    titles = ("counted", f"published ({row.title})" if row else "")
    theirs = (f"{row.parameters:.2f} M", f"{row.macs:.2f} G") if row else ("", "")
    lines = [
        ("", *titles),
        ("parameters", f"{cost.parameters / 1e6:.3f} M", theirs[0]),
        ("multiply-adds", f"{cost.macs / 1e9:.2f} G", theirs[1]),
        ("time", f"{1000 * cost.seconds:.1f} ms", ""),
    ]
    if cost.dynamic_macs:
        lines.insert(3, ("  without dynamic convolutions", f"{(cost.macs - cost.dynamic_macs) / 1e9:.2f} G", ""))
    machine = f"{cost.precision} on {cost.machine}"
    text = [f"{name_of(net)} x{net.scale}, one LR image of {cost.height} x {cost.width}, {machine}"]
    text += [f"{name:<32}{ours:>12}{theirs:>24}".rstrip() for name, ours, theirs in lines]
    if shifts := sum(isinstance(module, MeanShift) for module in net.modules()):
        text.append(
            f"Published parameter counts include {12 * shifts} of mean-shift convolutions, which are constants here."
        )
    if row is None:
        text.append("For this network, size and scale nothing is published.")
    elif row.note:
        text.append(row.note)
    return "\n".join(text)


def _weightless(net: BlindSR, **config: Any) -> BlindSR:
    """Return a network of the same class on the meta device: it has shapes and no weights."""
    with torch.device("meta"):
        return type(net)(**config).eval()


def _images(net: BlindSR, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return a random LR image and, for a teacher, an HR image."""
    lr = torch.rand(1, 3, height, width, device=device)
    return lr, torch.rand(1, 3, net.scale * height, net.scale * width, device=device) if net.sees_hr else None


def _seconds(net: BlindSR, height: int, width: int, device: torch.device) -> float:
    images = _images(net, height, width, device)
    times = _time_on_gpu if device.type == "cuda" else _time_on_cpu
    with torch.inference_mode():
        for _ in range(WARM_UP):
            net(*images)
        return median(times(lambda: net(*images)))


def _time_on_cpu(run: Callable[[], object]) -> list[float]:
    moments = [time.perf_counter()]
    for _ in range(RUNS):
        run()
        moments.append(time.perf_counter())
    return [end - start for start, end in pairwise(moments)]


def _time_on_gpu(run: Callable[[], object]) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(RUNS + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1000 for start, end in pairwise(events)]


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU, {torch.get_num_threads()} thread(s)"
