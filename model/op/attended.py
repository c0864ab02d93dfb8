"""The end of DASR's degradation-aware convolution: a 1×1 convolution, a channel attention beside it, and LeakyReLU.

On a GPU one kernel does what follows the convolution: bias, attention, sum and activation.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autocast import to_autocast
from . import conv, dispatch

DTYPES = dispatch.DTYPES


def attended_pointwise(
    y: Tensor, parameters: tuple[Tensor, Tensor], x: Tensor, attention: Tensor, slope: float
) -> Tensor:
    """Return LeakyReLU(W·y + b + attention·x), (B, C', H, W); under autocast all of them but b are rounded.

    Args:
        y: (B, C, H, W).
        parameters: weight (C', C, 1, 1) and bias (C',).
        x: (B, C', H, W).
        attention: (B, C', 1, 1).
        slope: of LeakyReLU below 0, positive.

    Examples:
        >>> x, nothing = torch.rand(2, 4, 5, 6), torch.zeros(2, 4, 1, 1)
        >>> identity = torch.eye(4)[:, :, None, None], torch.zeros(4)
        >>> torch.equal(attended_pointwise(x, identity, x, nothing, 0.1), x)
        True
    """
    weight, bias = parameters
    y, weight, x, attention = map(to_autocast, (y, weight, x, attention))
    return cast(Tensor, _AttendedPointwise.apply(y, weight, bias, x, attention, slope))


class _AttendedPointwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, x: Tensor, attention: Tensor, slope: float
    ) -> Tensor:
        if _has_kernel(x):
            out = attend(F.conv2d(y, weight), bias, x, attention, slope)
        else:
            # Not in place: PyTorch 2.11 would lose the gradients when it compiles this.
            out = F.leaky_relu(F.conv2d(y, weight, to_autocast(bias)) + x * attention, slope)
        ctx.slope = slope
        ctx.save_for_backward(y, weight, x, attention, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y, weight, x, attention, out = ctx.saved_tensors
        *of_convolution, of_x, of_attention, _ = ctx.needs_input_grad
        d, dy, dweight, dbias = conv.backward_before(gradients[0], out, ctx.slope, y, weight, of_convolution)
        dx = d * attention if of_x else None
        dattention = (d * x).sum((2, 3), keepdim=True) if of_attention else None
        return dy, dweight, dbias, dx, dattention, None


def plain(y: Tensor, bias: Tensor, x: Tensor, attention: Tensor, slope: float) -> Tensor:
    """Return what `attend` returns, by PyTorch's own operators."""
    return F.leaky_relu(y + bias[:, None, None] + x * attention, slope).to(x.dtype)


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare the Triton kernel with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    maps, vector, weights = (2, 33, 19, 37), (33,), (2, 33, 1, 1)
    exact = [torch.randn(size, generator=generator) for size in (maps, vector, maps, weights)]
    for layout in (torch.contiguous_format, torch.channels_last):
        y, _, x, attention = (t.to(device, dtype) for t in exact)
        y, bias, x = y.contiguous(memory_format=layout), exact[1].to(device), x.contiguous(memory_format=layout)
        found = kernels.attend(y, bias, x, attention, 0.1).cpu().double()
        y, bias, x, attention = (t.cpu().double() for t in (y, bias, x, attention))
        expected = plain(y, bias, x, attention, 0.1)
        if not (found - expected).abs().max() <= torch.finfo(dtype).eps * expected.abs().max():
            return f"their sum with an attention in {dtype} is not that of PyTorch"
    return ""


# ----------------------------------------------------------------------------------------------- the operator


def _fake(y: Tensor, bias: Tensor, x: Tensor, attention: Tensor, slope: float) -> Tensor:
    return torch.empty_like(x, memory_format=dispatch.layout(x))


@dispatch.operator(_fake)
def attend(y: Tensor, bias: Tensor, x: Tensor, attention: Tensor, slope: float) -> Tensor:
    """Return LeakyReLU(y + bias + attention·x), (B, C, H, W), in the `layout` of x.

    Args: y and x (B, C, H, W), bias (C,), attention (B, C, 1, 1).
    """
    if dispatch.runs_kernels("attended", x, x.dtype):
        from . import attended_triton as kernels

        return kernels.attend(y, bias, x, attention, slope)
    return plain(y, bias, x, attention, slope).contiguous(memory_format=dispatch.layout(x))


def _has_kernel(x: Tensor) -> bool:
    return dispatch.has_kernels("attended", x) and x.dtype in dispatch.DTYPES and x.numel() < dispatch.INDEX
