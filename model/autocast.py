"""Arithmetic under autocast: what is rounded, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def spatial_mean(x: Tensor) -> Tensor:
    """Average (B, C, H, W) over all pixels; under autocast in float32 or better."""
    return x.mean((2, 3), dtype=_float32_at_least(x) if _autocasts(x.device.type) else None)  # (B, C)


def in_float32(compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `compute(*inputs)`, in float32 where autocast would round its products.

    Use it for what costs little and matters much. An embedding steers every pixel, so all that is computed from it is
    exact; so is the last convolution. The first convolution is too: bfloat16 would round the images by up to half a
    grey level. Its output starts the trunk to which all residual blocks add, which thus stays float32: rounded at every
    block, errors would accumulate.
    """
    kind = inputs[0].device.type
    if not _autocasts(kind):
        return compute(*inputs)
    with torch.autocast(kind, enabled=False):
        return compute(*(x.to(_float32_at_least(x)) for x in inputs))


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype to which autocast would round x; its own without autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if _autocasts(kind) else x.dtype


def to_autocast(x: Tensor) -> Tensor:
    """Convert x to the dtype to which autocast would round it; return it unchanged without autocast."""
    return x.to(autocast_dtype(x))


def _autocasts(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _float32_at_least(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
