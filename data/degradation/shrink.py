"""Blur with one kernel per sample, then shrink by a bicubic: at the pixels of the result only, where a CPU can."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.blur import blur, check_kernels
from data.degradation.params import constant, in_parts
from runtime.precision import full_precision

_WIDE = 16
"""Rows from which the one in the middle of a bicubic matrix is far from both edges."""
_PLANES = 16
"""Planes that a CPU convolves at a time: they fill its vectors, and nothing that is made is large."""


@full_precision
def blur_and_shrink(x: Tensor, kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Blur with reflected borders, one kernel per sample, then shrink by a bicubic: R·(K ⋆ X)·Cᵀ.

    Away from the edges, all rows of R and of C are alike but for their place. So float32 images on a CPU are correlated
    there with one kernel that does both, at the pixels of the result only; the rows and columns near the edges have
    kernels of their own. Those of the rows shrink downwards alone: so the corners come out with them.

    Args:
        x: (B, C, H, W).
        kernel: (B, k, k), odd k.
        rows: (h, H) `bicubic_matrix`.
        columns: (w, W), likewise.

    Returns:
        (B, C, h, w).

    Raises:
        ValueError: the kernels do not fit the images, or the images are too small to be reflected.

    Examples:
        >>> from data.degradation.resize import bicubic_matrices
        >>> x = torch.ones(1, 3, 64, 96)
        >>> blur_and_shrink(x, torch.full((1, 3, 3), 1 / 9), *bicubic_matrices(x, 1 / 4)).shape
        torch.Size([1, 3, 16, 24])
    """
    check_kernels(x, kernel)
    margin, stride = kernel.shape[-1] // 2, x.shape[-1] // len(columns)
    integer = all(matrix.shape[1] == stride * len(matrix) for matrix in (rows, columns))
    small = min(len(rows), len(columns)) < _WIDE or min(x.shape[-2:]) <= margin
    if x.device.type != "cpu" or x.dtype != torch.float32 or not integer or small or stride == 1:
        return rows @ blur(x, kernel) @ columns.mT
    down, across, exact = _shrinking(rows, stride), _shrinking(columns, stride), kernel.double()
    blurs_across, blurs_down = _after(across.weights, exact.mT).mT, _after(down.weights, exact)
    kernels = (
        _after(down.weights, blurs_across),
        *(_after_each(edge.weights, exact) for edge in down.edges),
        *(_after_each(edge.weights, blurs_down.mT) for edge in across.edges),
    )
    kernels = (of.to(x)[:, None].expand(-1, x.shape[1], *of.shape[1:]).flatten(0, 1) for of in kernels)
    height, width = (side + 2 * margin for side in x.shape[-2:])

    @cache  # the parts share it: to get fresh memory costs a CPU more than to fill it
    def room(planes: int) -> Tensor:
        size = (1, planes, down.lead + height, across.lead + width)
        empty = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        return empty  # nothing reads what the lead makes of this

    work = partial(_shrunk, columns=columns, room=room, down=down, across=across, margin=margin, stride=stride)
    return in_parts(work, x.flatten(0, 1), *kernels, most=_PLANES).unflatten(0, x.shape[:2])


class _Edge(NamedTuple):
    """The rows of a bicubic matrix that one edge has changed: all is 0 but for `weights` in the columns `used`."""

    rows: slice
    used: slice
    weights: Tensor

    def reach(self, margin: int) -> slice:
        """Return the columns, after `margin` were added at both ends, that the rows need once these are blurred."""
        return slice(self.used.start, self.used.stop + 2 * margin)


class _Shrinking(NamedTuple):
    """A bicubic matrix whose rows in `inside` have the same `weights`, each from `stride` columns further on.

    With `lead` columns more in front, these places are multiples of the stride: `windows` of them.
    """

    length: int
    inside: slice
    weights: Tensor
    lead: int
    windows: slice
    edges: list[_Edge]


@constant(most=32)
def _shrinking(matrix: Tensor, stride: int) -> _Shrinking:
    length, middle = len(matrix), len(matrix) // 2
    used = _used(matrix[middle : middle + 1])
    offset = used.start - stride * middle
    lead = -offset % stride
    start = max(0, -(offset // stride))
    stop = min(length, (matrix.shape[1] - (used.stop - used.start) - offset) // stride + 1)
    first = (offset + lead) // stride
    edges = []
    for rows in (slice(0, start), slice(stop, length)):
        within = _used(matrix[rows])
        edges.append(_Edge(rows, within, matrix[rows, within]))
    windows = slice(start + first, stop + first)
    return _Shrinking(length, slice(start, stop), matrix[middle, used], lead, windows, edges)


def _used(matrix: Tensor) -> slice:
    """Return the columns from the first that is not all 0 to the last."""
    columns = matrix.any(0).nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1)


def _after(weights: Tensor, kernel: Tensor) -> Tensor:
    """Return (B, k + n - 1, k'): the correlation with kernels (B, k, k') and then, downwards, with n weights."""
    size, n = kernel.shape[1], len(weights)
    spread = F.pad(weights.double(), (size - 1, size - 1)).unfold(0, n + size - 1, 1).flip(0)  # (k, k + n - 1)
    return spread.mT @ kernel


def _after_each(weights: Tensor, kernel: Tensor) -> Tensor:
    """Return (B, m, k + n - 1, k'): `_after` for each of (m, n) weights."""
    return torch.stack([_after(each, kernel) for each in weights], 1)


def _shrunk(
    x: Tensor,
    inside: Tensor,
    top: Tensor,
    bottom: Tensor,
    left: Tensor,
    right: Tensor,
    *,
    columns: Tensor,
    room: Callable[[int], Tensor],
    down: _Shrinking,
    across: _Shrinking,
    margin: int,
    stride: int,
) -> Tensor:
    """Blur and shrink planes (P, H, W), each with its own kernels (P, ...), to (P, h, w).

    The planes lie as channels do, and those last: so they are convolved, sixteen to a vector, without a further copy.
    """
    planes = room(len(x))
    padded = planes[..., down.lead :, across.lead :]
    _reflect(x, padded, margin)
    result = x.new_empty(len(x), down.length, across.length)
    result[:, down.inside, across.inside] = _correlate(planes, inside, stride)[0, :, down.windows, across.windows]
    for edge, kernels in zip(across.edges, (left, right), strict=True):
        lines = _lines(planes[..., across.lead :][..., edge.reach(margin)].mT, kernels, stride)  # (P, m, windows)
        result[..., down.inside, edge.rows] = lines[..., down.windows].mT
    for edge, kernels in zip(down.edges, (top, bottom), strict=True):
        lines = _lines(padded[..., edge.reach(margin), :], kernels, 1)  # (P, m, W)
        result[..., edge.rows, :] = lines @ columns.mT
    return result


def _lines(strip: Tensor, kernels: Tensor, stride: int) -> Tensor:
    """Correlate planes (1, P, k, L) with m kernels each, (P, m, k, k'), to (P, m, windows)."""
    strip = strip.contiguous(memory_format=torch.channels_last)
    return torch.stack([_correlate(strip, each, stride)[0, :, 0] for each in kernels.unbind(1)], 1)


def _correlate(planes: Tensor, kernel: Tensor, stride: int) -> Tensor:
    planes = planes.contiguous(memory_format=torch.channels_last)
    return F.conv2d(planes, kernel[:, None], stride=stride, groups=len(kernel))


def _reflect(x: Tensor, padded: Tensor, margin: int) -> None:
    """Write planes (P, H, W) with reflected borders into (1, P, H + 2·margin, W + 2·margin)."""
    height, width = x.shape[-2:]
    lines = padded[..., margin : margin + height, :]
    lines[..., margin : margin + width] = x
    lines[..., :margin] = lines[..., margin + 1 : 2 * margin + 1].flip(-1)
    lines[..., margin + width :] = lines[..., width - 1 : margin + width - 1].flip(-1)
    padded[..., :margin, :] = padded[..., margin + 1 : 2 * margin + 1, :].flip(-2)
    padded[..., margin + height :, :] = padded[..., height - 1 : margin + height - 1, :].flip(-2)
