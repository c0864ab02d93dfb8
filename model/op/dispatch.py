"""Where the Triton kernels run: on GPUs where they are switched on and give what the plain references give."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings

import torch
from torch import Tensor

# Operators are opaque to torch.compile, unlike a `triton_op`: there is nothing to fuse them with, and the self-check
# can decide what is run when it is run. Named after the package, which goes by two names (`model`, `blindsr`).
NAMESPACE = __name__.partition(".")[0]
OPERATORS = ("depthwise", "outer", "dense")  # files beside this one, each with a `disagreement`; their kernels: `..._triton`
_switch = {"kernels": importlib.util.find_spec("triton") is not None}


def use_kernels(enabled: bool) -> None:
    """Let GPUs run the Triton kernels or, if not `enabled`, PyTorch's own; without Triton they always run PyTorch's."""
    _switch["kernels"] = enabled and importlib.util.find_spec("triton") is not None


def has_kernels(x: Tensor) -> bool:
    """Return True if the Triton kernels may run where x is, as long as they pass the self-check."""
    return _switch["kernels"] and x.is_cuda


def runs_kernels(x: Tensor) -> bool:
    """Return True if the Triton kernels run where x is."""
    return has_kernels(x) and self_check(x.device)


@functools.cache
def self_check(device: torch.device) -> bool:
    """Return True if the Triton kernels give on this GPU what the plain references give; else warn.

    The check runs at the first call; later calls return its answer. Ranks that compute together must agree: call it on
    all before they begin, and `use_kernels(False)` on all if it is False on one.
    """
    try:
        wrong = next(filter(None, (_disagreement(name, device) for name in OPERATORS)), "")
    except Exception as error:  # no Triton, no compiler, a GPU it does not know: it fails in a dozen ways
        wrong = f"they fail: {type(error).__name__}: {str(error).strip()[:200]}"
    if wrong:
        warnings.warn(f"the networks run without Triton's kernels, more slowly: {wrong}", stacklevel=2)
    return not wrong


def _disagreement(name: str, device: torch.device) -> str:
    kernels = importlib.import_module(f"{__package__}.{name}_triton")
    return importlib.import_module(f"{__package__}.{name}").disagreement(kernels, device)
