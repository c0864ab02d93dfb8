"""Tiles that fit the memory: an estimate of what a pixel takes, and halving where the estimate was wrong."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, inf
from pathlib import Path
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

ALIGNED = 8  # columns of a window: with some other widths, such as 363, bf16 convolutions take a CPU four times as long
SMALLEST = 16  # LR pixels a side: smaller tiles would save little, since most of their memory goes into the halo
PROBE = 64  # LR pixels a side of the image on which a network's memory is estimated
SAFETY = 2.25  # on top come reordered copies and workspaces of convolutions, and gaps between allocations
CPU_LIMIT = 6 * 2**27  # bytes: with PyTorch itself, and gaps between blocks, 1.5 GiB
KEPT_FROM = 2**14  # LR pixels: at 64 channels, maps of eight such images, one for each kernel of a test, have 32 MiB
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # as in malloc.h
MEMINFO = Path("/proc/meminfo")
CONTAINER = (  # the memory that a container may have, by version 2 and 1 of control groups
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
NO_MEMORY = (  # words of PyTorch's RuntimeErrors: the allocators, cuBLAS and cuDNN, oneDNN
    *("out of memory", "can't allocate memory", "not enough memory"),
    *("ALLOC_FAILED", "could not create a primitive", "could not create a memory"),
)

_keeping = 0  # blocks of `freed_blocks_kept` that have been entered: training validates
_measured: WeakKeyDictionary[nn.Module, dict[Any, float]] = WeakKeyDictionary()  # bytes per pixel


@contextmanager
def freed_blocks_kept(device: torch.device, pixels: float = inf) -> Iterator[None]:
    """Let large blocks of memory be used again once they are freed, in this block of the main thread, on a CPU.

    This is for glibc. By itself, it hands blocks of more than 32 MiB back to the system, and the next ones come page by
    page, filled with zeros: where maps are that large, a network spends a fifth of its time on it, or a third. Images
    of few LR `pixels` have no such maps.
    """
    global _keeping
    if device.type != "cpu" or pixels < KEPT_FROM:
        yield
        return
    _keeping += 1
    _glibc("mallopt", M_MMAP_MAX, 0)  # how many blocks may come from the system one by one, and go back there
    _glibc("mallopt", M_TRIM_THRESHOLD, 2**30)  # bytes that may be free at the end of all others
    try:
        yield
    finally:
        _keeping -= 1
        if not _keeping:  # glibc's defaults, or what it raises them to by itself
            _glibc("mallopt", M_MMAP_MAX, 2**16)
            _glibc("mallopt", M_MMAP_THRESHOLD, 2**25)
            _glibc("mallopt", M_TRIM_THRESHOLD, 2**26)
            return_freed_blocks(device)


def return_freed_blocks(device: torch.device) -> None:
    """Hand freed blocks of a CPU's memory back to the system; without this, the gaps between blocks add up."""
    if device.type == "cpu":
        _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), function):
        getattr(library, function)(*arguments)


def out_of_memory(error: BaseException) -> bool:
    """Return True for an error about a lack of memory; on the CPU PyTorch raises a bare RuntimeError.

    Examples:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), out_of_memory(RuntimeError("no"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def halving(attempt: Callable[[tuple[int, int]], Any], shape: tuple[int, int], device: torch.device) -> Any:
    """Return what `attempt` gives for tiles of this shape, or of a half, a quarter, ... of its sides, until they fit.

    Raise MemoryError if not even tiles of `SMALLEST` pixels a side fit the memory.
    """
    while isinstance(result := _try(attempt, shape), str):
        if max(shape) <= SMALLEST:
            raise MemoryError(f"{device} has too little free memory for tiles of {max(shape)} LR pixels: {result}")
        rows, columns = (min(side, max(side // 2, SMALLEST)) for side in shape)
        shape = rows, columns
        torch.cuda.empty_cache()
    return result


def _try(attempt: Callable[[tuple[int, int]], Any], shape: tuple[int, int]) -> Any:
    """Return the result, or the allocator's message. The tensors of a failed attempt go with the error's frames."""
    try:
        return attempt(shape)
    except (MemoryError, RuntimeError) as error:
        message = str(error).strip().split("\n")[0]
        if out_of_memory(error):
            return message
        raise


def tile_shape(
    module: nn.Module,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    halo: int,
    tile: int | None,
    device: torch.device,
) -> tuple[int, int]:
    """Return rows and columns of a tile: those asked for, else those that fit the memory with the least work.

    Args:
        module: the layers whose memory counts.
        run: what they do with a tile.
        x: the whole image, (B, C, H, W).
        halo: input pixels that `run` needs around a tile.
        tile: the side that was asked for, if one was.
        device: where `run` runs.
    """
    h, w = x.shape[2:]
    if tile is not None:
        return min(tile, h), min(tile, w)
    if max(h, w) <= PROBE:  # to measure it is to do it
        return h, w
    probe = x[..., :PROBE, :PROBE].contiguous().to(device)  # not a view, whose memory is that of the whole image
    pixels = int(budget(device) / bytes_per_pixel(module, run, probe))
    if h * w <= pixels:
        return h, w
    best = (float("inf"), SMALLEST, SMALLEST)
    for across in range(1, ceil(w / SMALLEST) + 1):
        columns = ceil(w / across)
        seen = min(w, multiple(columns + 2 * halo, ALIGNED))
        rows = h if h * seen <= pixels else pixels // seen - 2 * halo
        if rows >= SMALLEST:
            down = ceil(h / rows)
            rows = ceil(h / down)
            best = min(best, (across * down * seen * min(h, rows + 2 * halo), rows, columns))
    return best[1:]


def multiple(n: int, step: int) -> int:
    """Round n up to a multiple of `step`.

    Examples:
        >>> multiple(9, 8), multiple(16, 8)
        (16, 16)
    """
    return ceil(n / step) * step


def bytes_per_pixel(module: nn.Module, run: Callable[[Tensor], Tensor], probe: Tensor) -> float:
    """Estimate the memory at work per input pixel: the most that inputs and outputs of layers hold at once.

    It is measured once for each network, precision and device.
    """
    kind = probe.device.type
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    key, known = (len(probe), probe.dtype, autocast, kind), _measured.setdefault(module, {})
    if key not in known:
        alive: list[tuple[ref[Tensor], int, int]] = []  # tensors, addresses and bytes of their memory
        peak, thread = 0, get_ident()

        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal alive, peak
            if get_ident() != thread:  # another one restores its own image with the same layers
                return
            stores = [(ref(x), x.untyped_storage()) for x in (*inputs, output) if isinstance(x, Tensor)]
            alive = [entry for entry in alive if entry[0]() is not None]
            alive += [(x, store.data_ptr(), store.nbytes()) for x, store in stores]
            peak = max(peak, sum({address: size for _, address, size in alive}.values()))

        hooks = [layer.register_forward_hook(note) for layer in module.modules()]
        try:
            result = run(probe)
            peak = max(peak, probe.nbytes + result.nbytes)
        finally:
            for hook in hooks:
                hook.remove()
        known[key] = SAFETY * peak / (probe.shape[2] * probe.shape[3])
    return known[key]


def budget(device: torch.device) -> int:
    """Return the bytes that a tile's work may take: half of what is free, and on a CPU no more than `CPU_LIMIT`.

    Half of what a container may have is the most there, whatever its machine has.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + cached) // 2
    available = re.search(r"MemAvailable: *(\d+)", MEMINFO.read_text()) if MEMINFO.exists() else None
    free = [1024 * int(available[1])] if available else []
    free += [int(limit) for file in CONTAINER if file.exists() and (limit := file.read_text().strip()).isdecimal()]
    return min([CPU_LIMIT, *(size // 2 for size in free)])
