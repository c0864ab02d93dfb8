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
OPERATORS = ("depthwise", "outer", "dense", "attended")  # files beside this one, each with a `disagreement`
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INDEX = 2**31  # kernels address what they read and write by 32 bits
_switched_on = set(OPERATORS) if importlib.util.find_spec("triton") is not None else set()


def operator(fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function to be an operator of PyTorch's without a gradient; `fake` makes its results without data.

    `torch.library.custom_op` would do the same, but takes more than twice as long for each call, and small images wait
    for the host that launches.
    """

    def register(compute: Callable[..., Any]) -> Any:
        name = f"{NAMESPACE}::{compute.__name__}"
        torch.library.define(name, torch.library.infer_schema(compute, mutates_args=()))
        torch.library.impl(name, ("cpu", "cuda"), compute)
        torch.library.register_fake(name, fake)
        return getattr(getattr(torch.ops, NAMESPACE), compute.__name__).default

    return register


def layout(x: Tensor) -> torch.memory_format:
    """Return how kernels lay x (B, C, H, W) out: as PyTorch does by default, if x is laid out so, or channels last."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def switch_off(names: Iterable[str]) -> None:
    """Let GPUs run PyTorch's own operators in place of the Triton kernels of these `OPERATORS`."""
    _switched_on.difference_update(names)


def has_kernels(name: str, x: Tensor) -> bool:
    """Return True if the Triton kernels of an operator may run where x is, as long as they pass the self-check."""
    return name in _switched_on and x.is_cuda


def runs_kernels(name: str, x: Tensor) -> bool:
    """Return True if the Triton kernels of an operator run where x is."""
    return has_kernels(name, x) and name not in self_check(x.device)


@functools.cache
def self_check(device: torch.device) -> frozenset[str]:
    """Return the `OPERATORS` whose Triton kernels do not give on this GPU what PyTorch's own give, with a warning each.

    The check runs at the first call; later calls return its answer. Ranks that compute together must agree: call it on
    all before they begin, and `switch_off` on all what one of them returns.
    """
    wrong = {name: reason for name in OPERATORS if (reason := _disagreement(name, device))}
    for name, reason in wrong.items():
        warnings.warn(f"the networks run without Triton's kernels for {name}, more slowly: {reason}", stacklevel=2)
    return frozenset(wrong)


def _disagreement(name: str, device: torch.device) -> str:
    try:
        kernels = importlib.import_module(f"{__package__}.{name}_triton")
        return importlib.import_module(f"{__package__}.{name}").disagreement(kernels, device)
    except Exception as error:  # no Triton, no compiler, a GPU it does not know: it fails in a dozen ways
        return f"they fail: {type(error).__name__}: {str(error).strip()[:200]}"
