"""Two small layers, by which CDSR's DQA makes the weights of its dynamic convolution from the code that it has queried.

Each needs the features before it, so they cannot be computed for all DQAs at once. PyTorch launches three kernels for
them, twenty times in a network; on a GPU one kernel of ours does it, in float32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import in_float32
from . import dispatch

DTYPES = (torch.float32,)
LARGEST = 64  # channels: a program of the kernel holds the first layer


def two_layers(x: Tensor, first: Tensor, second: Tensor, slope: float) -> Tensor:
    """Return W₂·LeakyReLU(W₁·x), (B, C''); in float32 under autocast.

    Args:
        x: (B, C).
        first: W₁, (C', C).
        second: W₂, (C'', C').
        slope: of LeakyReLU below 0, positive.

    Examples:
        >>> two_layers(torch.tensor([[2.0], [-2.0]]), torch.ones(1, 1), torch.ones(1, 1), 0.5)
        tensor([[ 2.],
                [-1.]])
    """

    def compute(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if _has_kernel(x, first):
            return cast(Tensor, _TwoLayers.apply(x, first, second, slope))
        return plain(x, first, second, slope)[0]

    return in_float32(compute, x, first, second)


def plain(x: Tensor, first: Tensor, second: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Return what `mlp` returns, by PyTorch's own operators."""
    hidden = F.leaky_relu_(F.linear(x, first), slope)
    return F.linear(hidden, second), hidden


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare the Triton kernel with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    for c in (64, 33):
        sizes = (3, c), (c, c), (9 * c, c)
        x, first, second = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
        ours = kernels.mlp(*(t.to(device, torch.float32) for t in (x, first, second)), 0.1)
        for found, expected in zip(ours, plain(x, first, second, 0.1), strict=True):
            if not (found.cpu().double() - expected).abs().max() <= 1e-5 * expected.abs().max():
                return "their layers do not give what PyTorch's give"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(x: Tensor, first: Tensor, second: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(x), len(second)), x.new_empty(len(x), len(first))


@dispatch.operator(_fake)
def mlp(x: Tensor, first: Tensor, second: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Return what `two_layers` returns, (B, C''), and LeakyReLU(W₁·x), (B, C')."""
    if dispatch.runs_kernels("mlp", x, x.dtype):
        from . import mlp_triton as kernels

        return kernels.mlp(x, first, second, slope)
    return plain(x, first, second, slope)


class _TwoLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, slope: float) -> Tensor:
        y, hidden = mlp(x, first, second, slope)
        ctx.slope = slope
        ctx.save_for_backward(x, first, second, hidden)
        return y

    @staticmethod
    @once_differentiable  # the kernel has no gradient of its own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, first, second, hidden = ctx.saved_tensors
        (dy,) = gradients
        d = torch.ops.aten.leaky_relu_backward(dy @ second, hidden, ctx.slope, True)  # (B, C')
        return d @ first, d.T @ x, dy.T @ hidden, None


def _has_kernel(x: Tensor, first: Tensor) -> bool:
    return dispatch.has_kernels("mlp", x) and x.dtype == torch.float32 and max(first.shape) <= LARGEST
