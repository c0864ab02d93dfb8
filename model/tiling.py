"""Super-resolution of images of any size: by tiles where the whole does not fit the memory, and ×8 self-ensemble.

A tile is handed to the network with a halo of the pixels around it, of which the result is then stripped. Where a halo
would leave the image there is none, so that the network pads the image's border, and nothing else, as it always does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from math import ceil, isqrt
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.layer import BlindSR, receptive_field

SMALLEST = 16  # LR pixels a side: halving a smaller tile leaves its halo, and that is most of it
PROBE = 24  # pixels a side of the image on which a network's memory is estimated
SAFETY = 2  # on top come the workspaces of the convolutions and the gaps of the allocator: 1.1 to 1.7 on a CPU
MEMINFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup/memory.max")
UNKNOWN = 4 * 2**30  # bytes, where the system does not say what is free
NO_MEMORY = (  # what PyTorch's RuntimeErrors say: the allocators, cuBLAS and cuDNN, oneDNN
    *("out of memory", "can't allocate memory", "not enough memory"),
    *("ALLOC_FAILED", "could not create a primitive", "could not create a memory"),
)

Run = Callable[[Tensor], Tensor]


@torch.inference_mode()
def restore(
    net: BlindSR,
    lr: Tensor,
    *,
    hr: Tensor | None = None,
    tile: int | None = None,
    self_ensemble: bool = False,
    device: str | torch.device,
) -> Tensor:
    """Super-resolve (B, 3, H, W) in [0, 1] to (B, 3, s·H, s·W), not clamped, float32 or better, on the host.

    net: in eval mode and on `device`. lr and hr (for teachers) stay where they are; tiles travel.
    tile: side in LR pixels, without halo; None takes the whole image if it fits, else the largest tile that does.
    Either is halved for as long as the memory does not suffice.
    self_ensemble: the mean over the eight flips and rotations, eight times the work.

    The degradation is embedded from the whole image, so that all networks but one give what they give of the whole
    image, up to rounding. CDSR does not: each of its blocks asks the mean over all it sees what to do, which is its
    tile.

    Raises ValueError for images that the network does not take, MemoryError where not even a small tile fits.
    """
    net.check(lr)
    if tile is not None and tile < 1:
        raise ValueError(f"tile {tile}: its side is 1 LR pixel or more")
    once = partial(_restore, net, tile=tile, device=torch.device(device))
    return _ensemble(once, lr, hr) if self_ensemble else once(lr, hr)


def _restore(net: BlindSR, lr: Tensor, hr: Tensor | None, *, tile: int | None, device: torch.device) -> Tensor:
    code = net.embed(lr, hr, partial(_mean, tile=tile, device=device)).code
    (b, _, h, w), s = lr.shape, net.scale
    sr = torch.empty(b, 3, s * h, s * w, dtype=torch.promote_types(lr.dtype, torch.float32))

    def run(window: Tensor) -> Tensor:
        return net.restore(window, code)

    def fill(side: int) -> Tensor:
        for rows, columns in _tiles(h, w, side, net.halo):
            part = run(lr[..., rows.window, columns.window].to(device))
            sr[..., rows.enlarged(s), columns.enlarged(s)] = part[..., rows.own(s), columns.own(s)]
        return sr

    return _shrinking(fill, tile or _affordable(run, lr, net.halo, device), device)


def _mean(features: nn.Module, x: Tensor, *, tile: int | None, device: torch.device) -> Tensor:
    """A `Pool` that works tile by tile: the sum over all pixels of all tiles, over their number."""
    radius, stride = receptive_field(features)
    h, w, step = x.shape[2], x.shape[3], int(stride)  # a tile begins where a strided layer has a pixel
    halo = _multiple(radius, step)

    def average(side: int) -> Tensor:
        total, count = torch.zeros((), device=device), 0
        for rows, columns in _tiles(h, w, _multiple(side, step), halo):
            part = features(x[..., rows.window, columns.window].to(device))
            part = part[..., rows.own(1 / stride), columns.own(1 / stride)]
            total = total + part.sum((2, 3), dtype=torch.promote_types(part.dtype, torch.float32))
            count += part.shape[2] * part.shape[3]
        return (total / count).to(x.dtype)

    return _shrinking(average, tile or _affordable(features, x, halo, device), device)


# ------------------------------------------------------------------------------------------------------- tiles


class Span(NamedTuple):
    """A tile along one axis: it owns the pixels from start to stop, and sees those from low to high."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def window(self) -> slice:
        return slice(self.low, self.high)

    def own(self, ratio: Fraction | int) -> slice:
        """Its own pixels in what a network makes of the window, at `ratio` output pixels an input pixel."""
        return slice(ceil(ratio * (self.start - self.low)), ceil(ratio * (self.stop - self.low)))

    def enlarged(self, scale: int) -> slice:
        """Its own pixels in the whole output."""
        return slice(scale * self.start, scale * self.stop)


def _tiles(height: int, width: int, side: int, halo: int) -> Iterator[tuple[Span, Span]]:
    """Tiles that cover the image once, as (rows, columns)."""
    return product(_spans(height, side, halo), _spans(width, side, halo))


def _spans(size: int, side: int, halo: int) -> Iterator[Span]:
    for start in range(0, size, side):
        stop = min(start + side, size)
        yield Span(start, stop, max(start - halo, 0), min(stop + halo, size))


def _multiple(n: int, step: int) -> int:
    """The least multiple of `step` that is not below n."""
    return ceil(n / step) * step


# ------------------------------------------------------------------------------------------------------ memory


def _shrinking(attempt: Callable[[int], Tensor], side: int, device: torch.device) -> Tensor:
    """What `attempt` gives for tiles of this side, or of the first half, quarter, ... of it that fits the memory."""
    while isinstance(result := _try(attempt, side), str):
        if side <= SMALLEST:
            raise MemoryError(f"{device} has too little free memory for tiles of {side} LR pixels: {result}")
        side = max(side // 2, SMALLEST)
        torch.cuda.empty_cache()
    return result


def _try(attempt: Callable[[int], Tensor], side: int) -> Tensor | str:
    """Its result, or what the allocator said. The tensors of a failed attempt are gone with the error's frames."""
    try:
        return attempt(side)
    except (MemoryError, RuntimeError) as error:
        message = str(error).strip().split("\n")[0]
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in message for words in NO_MEMORY):
            return message
        raise


def _affordable(run: Run, x: Tensor, halo: int, device: torch.device) -> int:
    """The side of the largest tile of x that should fit the free memory; all of x where that fits."""
    h, w = x.shape[2:]
    pixels = int(_free(device) / (SAFETY * _bytes_per_pixel(run, x[..., :PROBE, :PROBE].to(device))))
    return max(h, w) if h * w <= pixels else max(isqrt(pixels) - 2 * halo, SMALLEST)


class Alive(TorchFunctionMode):
    """Watches the tensors that are made in its block: `peak` is the most bytes that they ever held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: WeakKeyDictionary[torch.UntypedStorage, int] = WeakKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def _bytes_per_pixel(run: Run, probe: Tensor) -> float:
    """What a network holds at once for each pixel of its input, measured on a small one."""
    with Alive() as alive:
        run(probe)
    return alive.peak / (probe.shape[2] * probe.shape[3])


def _free(device: torch.device) -> int:
    """Bytes that can be had on the device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    free = []
    if MEMINFO.exists():
        free += [1024 * int(kib) for kib in re.findall(r"MemAvailable: *(\d+)", MEMINFO.read_text())]
    if CONTAINER.exists() and (limit := CONTAINER.read_text().strip()) != "max":
        free.append(int(limit) // 2)  # what it has used counts its file cache, which would be given up
    return min(free, default=UNKNOWN)


# ---------------------------------------------------------------------------------------------------- ensemble


def _ensemble(once: Callable[[Tensor, Tensor | None], Tensor], lr: Tensor, hr: Tensor | None) -> Tensor:
    """The mean of what `once` makes of the eight flips and rotations of the image, each turned back."""
    total = None
    for transposed, axes in product((False, True), ((), (2,), (3,), (2, 3))):

        def turn(image: Tensor, transposed: bool = transposed, axes: tuple[int, ...] = axes) -> Tensor:
            return (image.mT if transposed else image).flip(axes)

        turned = once(turn(lr), None if hr is None else turn(hr)).flip(axes)
        sr = turned.mT if transposed else turned
        total = sr if total is None else total.add_(sr)
    assert total is not None
    return total.div_(8)
