"""Degradations compute in full float32, whatever the network around them is told to do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")

_SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.mkldnn.matmul,  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.mkldnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
)


def full_precision(
    operation: Callable[Concatenate[Tensor, P], Tensor],
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Decorator of an operation on a tensor, its first argument: no autocast, and products without TF32 or bf16.

    An 8-bit level is 4e-3 wide; TF32 rounds its factors to 5e-4, which moves pixels to the neighbouring level.
    """

    @functools.wraps(operation)
    def exact(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        kind = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"  # meta has none
        with torch.autocast(kind, enabled=False), ieee_products():
            return operation(x, *args, **kwargs)

    return exact


@contextmanager
def ieee_products() -> Iterator[None]:
    """In this context float32 products are not rounded to TF32 or bf16."""
    # Only what is reduced gets touched: reading a switch resolves what it inherits, so writing it back would pin it.
    reduced = [(switch, switch.fp32_precision) for switch in _SWITCHES]
    reduced = [(switch, precision) for switch, precision in reduced if precision not in ("none", "ieee")]
    try:
        for switch, _ in reduced:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in reduced:
            switch.fp32_precision = precision
