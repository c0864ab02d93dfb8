"""Where the Triton kernels run: on GPUs where they are switched on and give what the plain references give."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Operators are opaque to torch.compile, unlike a `triton_op`: there is nothing to fuse them with, and the self-check
# can decide what is run when it is run. Named after the package, which goes by two names (`model`, `blindsr`).
NAMESPACE = __name__.partition(".")[0]
OPERATORS = {  # files beside this one, each with its `DTYPES` and a `disagreement`, and what they do
    "conv": "what follows convolutions",
    "depthwise": "dynamic convolutions",
    "outer": "content queries",
    "mlp": "weights from queried codes",
    "dense": "dense blocks",
    "attended": "channel attentions",
    "shuffle": "upsamplers",
    "last": "last convolutions",
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INDEX = 2**31  # kernels address what they read and write by 32 bits
_switched_on = set(OPERATORS) if importlib.util.find_spec("triton") is not None else set()


def operator(fake: Callable[..., Any], mutates: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function to be an operator of PyTorch's without a gradient; `fake` makes its results without data.

    It writes into those of its arguments that `mutates` names.

    `torch.library.custom_op` would do the same, but takes more than twice as long for each call, and small images wait
    for the host that launches.
    """

    def register(compute: Callable[..., Any]) -> Any:
        short, namespace = compute.__name__, getattr(torch.ops, NAMESPACE)
        name = f"{NAMESPACE}::{short}"
        libraries = vars(namespace).setdefault("libraries", {})  # outlives this module, which may be imported again
        if short in libraries:
            libraries.pop(short)._destroy()
        libraries[short] = library = torch.library.Library(NAMESPACE, "FRAGMENT")
        torch.library.define(name, torch.library.infer_schema(compute, mutates_args=mutates), lib=library)
        torch.library.impl(name, ("cpu", "cuda"), compute, lib=library)
        torch.library.register_fake(name, fake, lib=library)
        return getattr(namespace, short).default

    return register


def cdiv(n: int, size: int) -> int:
    """Return how many blocks of this size hold n: ⌈n / size⌉. Triton's own takes ten times as long for the host."""
    return -(-n // size)


def layout(x: Tensor) -> torch.memory_format:
    """Return how kernels lay x (B, C, H, W) out: as PyTorch does by default, if x is laid out so, or channels last."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def empty(like: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return a map of this size, (B, C, H, W), channels last, of the dtype of another."""
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def is_channels_last(x: Tensor) -> bool:
    """Return True if x lies channels last without gaps, and not also as PyTorch does by default."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def options(warps: int) -> dict[str, Any]:
    """Return how Triton compiles a kernel: with so many warps a program, and products that are added in one step (FMA).

    From version 3.10 on Triton takes two steps unless it is asked.
    """
    return {"num_warps": warps, "enable_fp_fusion": True}


def switch_off(names: Iterable[str]) -> None:
    """Let GPUs run PyTorch's own operators in place of the Triton kernels of these `OPERATORS`."""
    _switched_on.difference_update(names)


def has_kernels(name: str, x: Tensor) -> bool:
    """Return True if the Triton kernels of an operator may run where x is, as long as they pass the self-check."""
    return name in _switched_on and x.is_cuda


def runs_kernels(name: str, x: Tensor, dtype: torch.dtype) -> bool:
    """Return True if the Triton kernels of an operator run where x is: on the current GPU, where Triton launches."""
    return has_kernels(name, x) and x.get_device() == torch.cuda.current_device() and self_check(name, x.device, dtype)


def self_check(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Return True if the Triton kernels of an operator give on this GPU what PyTorch's own give; else warn.

    The check runs at the first call, with maps of this dtype, or of another if there are no kernels for it: to compile
    all kernels would take a minute or two. Later calls return its answer. Ranks that compute together must agree: call
    it on all before they begin, and `switch_off` on all what failed on one.
    """
    kinds = _kinds(name)
    return _check(name, device, dtype if dtype in kinds else kinds[0])


@functools.cache
def _kinds(name: str) -> tuple[torch.dtype, ...]:
    return importlib.import_module(f"{__package__}.{name}").DTYPES  # not looked for at each launch


@functools.cache
def _check(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    try:
        kernels = importlib.import_module(f"{__package__}.{name}_triton")
        wrong = importlib.import_module(f"{__package__}.{name}").disagreement(kernels, device, dtype)
    except Exception as error:  # no Triton, no compiler, a GPU it does not know: it fails in a dozen ways
        wrong = f"they fail: {type(error).__name__}: {str(error).strip()[:200]}"
    if wrong:
        warnings.warn(f"{OPERATORS[name]} run without Triton's kernels, more slowly: {wrong}", stacklevel=3)
    return not wrong
