"""A convolution and what follows it: its bias, LeakyReLU, and the sum with a residual connection's map.

PyTorch launches a kernel for each of them, and the backward sums the gradient of the bias up by a slow one. On a GPU
one kernel of ours follows the convolution, and one precedes its backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import winograd
from ..autocast import add_scaled, float32_at_least, to_autocast
from . import dispatch

DTYPES = dispatch.DTYPES


def convolution(
    x: Tensor,
    parameters: tuple[Tensor, Tensor | None],
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    slope: float = 1.0,
    add_to: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Return LeakyReLU(W∗x + b), or add_to + scale·(W∗x + b), (B, C', H', W').

    Args:
        x: (B, C, H, W).
        parameters: weight W (C', C, k, k) and bias b (C',) or None; under autocast W is rounded, as x is.
        stride, padding: of the convolution.
        slope: of LeakyReLU below 0, positive; 1 leaves it out.
        add_to: (B, C', H', W'), not rounded; None leaves the sum out.
        scale: factor of the result of the convolution in the sum.

    Raises:
        ValueError: both LeakyReLU and the sum are asked for.

    Examples:
        >>> x, ones = torch.rand(2, 4, 5, 6), torch.ones(4)
        >>> identity = torch.eye(4)[:, :, None, None]
        >>> torch.equal(convolution(x, (identity, ones)), x + 1)
        True
        >>> torch.equal(convolution(x, (-identity, None), add_to=x, scale=2.0), -x)
        True
    """
    if slope != 1 and add_to is not None:
        raise ValueError(f"`slope` {slope}: LeakyReLU cannot come before a sum")
    weight, bias = parameters
    followed = torch.is_grad_enabled() or slope != 1 or add_to is not None
    if followed and bias is not None and not torch.compiler.is_compiling() and _has_kernel(x):  # compilers fuse, too
        x, weight = to_autocast(x), to_autocast(weight)
        if x.dtype in DTYPES and _suits(x, len(weight)):
            how = weight, bias, add_to, stride, padding, slope, scale
            return cast(Tensor, _Convolution.apply(x, *how)) if torch.is_grad_enabled() else _convolve(x, *how)
    if stride == padding == (1, 1) and winograd.suits(x, weight):
        y = winograd.convolve(x, weight, bias)
    else:
        # Not by autocast itself, which would keep the rounded bias, whatever becomes of the other.
        y = F.conv2d(x, weight, None if bias is None else to_autocast(bias), stride, padding)
    y = y if slope == 1 else F.leaky_relu_(y, slope)
    if add_to is None:
        return y
    return add_to + y if scale == 1 else add_scaled(add_to, y, scale)


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    add_to: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    slope: float,
    scale: float,
) -> Tensor:
    y = F.conv2d(x, weight, None, stride, padding).contiguous(memory_format=torch.channels_last)
    out = y if add_to is None else torch.empty_like(y, dtype=torch.promote_types(y.dtype, add_to.dtype))
    follow(y, bias, add_to, slope, scale, out)
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, add_to: Tensor | None, *how: Any) -> Tensor:
        out = _convolve(x, weight, bias, add_to, *how)
        ctx.how = how
        _, _, slope, _ = how
        ctx.save_for_backward(x, weight, None if slope == 1 else out)
        return out

    @staticmethod
    @once_differentiable  # kernels have no gradient of their own
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        stride, padding, slope, scale = ctx.how
        (d,) = gradients
        of_x, of_weight, of_bias, of_add_to, *_ = ctx.needs_input_grad
        dy, dbias = precede(d, out, slope, scale, x.dtype)
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            *(dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [of_x, of_weight, False])
        )
        of_others = None, None, None, None
        return dx, dweight, dbias if of_bias else None, d if of_add_to else None, *of_others


def backward_before(
    d: Tensor, out: Tensor, slope: float, x: Tensor, weight: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of y, x, weight and bias from that of out = LeakyReLU(y), y = W∗x + b; W is 1×1.

    `wanted`: which of the last three.
    """
    how = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    if _has_kernel(d) and _suits(d):
        dy, dbias = precede(d, out, slope, 1.0, out.dtype)
        dx, dweight, _ = torch.ops.aten.convolution_backward(dy, x, weight, None, *how, [*wanted[:2], False])
        return dy, dx, dweight, dbias if wanted[2] else None
    dy = torch.ops.aten.leaky_relu_backward(d, out, slope, True)
    return dy, *torch.ops.aten.convolution_backward(dy, x, weight, [len(weight)], *how, wanted)


def plain(y: Tensor, bias: Tensor, add_to: Tensor | None, slope: float, scale: float) -> Tensor:
    """Return what `follow` writes, by PyTorch's own operators."""
    exact = y.to(float32_at_least(y)) + bias[:, None, None]
    if add_to is None:
        return F.leaky_relu(exact, slope).to(y.dtype)
    return (add_to + scale * exact).to(torch.promote_types(y.dtype, add_to.dtype))


def plain_backward(
    d: Tensor, out: Tensor | None, slope: float, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return what `precede` returns, by PyTorch's own operators."""
    exact = scale * d.to(float32_at_least(d))
    exact = exact if out is None else torch.where(out > 0, exact, slope * exact)
    return exact.to(dtype), exact.sum((0, 2, 3))


def disagreement(kernels: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Compare the Triton kernels with float64 on the CPU; return what differs, or ""."""
    generator = torch.Generator().manual_seed(0)
    y, add_to, d = (
        torch.randn(2, 33, 19, 37, generator=generator).contiguous(memory_format=torch.channels_last) for _ in range(3)
    )
    bias = torch.randn(33, generator=generator)
    for added, slope, scale in ((None, 0.1, 1.0), (add_to, 1.0, 0.2)):
        maps, there = y.to(device, dtype), None if added is None else added.to(device)
        result = torch.empty_like(maps, dtype=dtype if added is None else torch.float32)
        kernels.follow(maps, bias.to(device), there, slope, scale, result)
        gradient, out = d.to(device, result.dtype), None if slope == 1 else result
        ours = result, *kernels.precede(gradient, out, slope, scale, dtype)
        expected = (
            plain(maps.cpu().double(), bias.double(), None if added is None else added.double(), slope, scale),
            *plain_backward(gradient.cpu().double(), None if out is None else out.cpu(), slope, scale, torch.float64),
        )
        for name, found, theirs in zip(("result", "gradient", "sum of gradients"), ours, expected, strict=True):
            tolerance = max(torch.finfo(found.dtype).eps, 1e-5)
            if not (found.cpu().double() - theirs).abs().max() <= tolerance * theirs.abs().max():
                return f"the {name} after a convolution in {dtype} is not that of PyTorch"
    return ""


# ----------------------------------------------------------------------------------------------- the operators


def _fake(y: Tensor, bias: Tensor, add_to: Tensor | None, slope: float, scale: float, out: Tensor) -> None: ...


@dispatch.operator(_fake, mutates=("out",))
def follow(y: Tensor, bias: Tensor, add_to: Tensor | None, slope: float, scale: float, out: Tensor) -> None:
    """Write LeakyReLU(y + b), or add_to + scale·(y + b), to out, which may be y itself.

    Args: y, add_to (or None) and out (B, C, H, W), y and out channels last; bias (C,).
    """
    if dispatch.runs_kernels("conv", y, y.dtype):
        from . import conv_triton as kernels

        kernels.follow(y, bias, add_to, slope, scale, out)
    else:
        out.copy_(plain(y, bias, add_to, slope, scale))


def _fake_backward(
    d: Tensor, out: Tensor | None, slope: float, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    dy = torch.empty_like(d, dtype=dtype, memory_format=torch.channels_last)
    return dy, d.new_empty(d.shape[1], dtype=float32_at_least(d))


@dispatch.operator(_fake_backward)
def precede(d: Tensor, out: Tensor | None, slope: float, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the gradients of y, (B, C, H, W) of `dtype`, channels last, and of the bias, (C,).

    `out`: the result of `follow`, whose sign tells what LeakyReLU did; None where there was none.
    """
    if dispatch.runs_kernels("conv", d, dtype):
        from . import conv_triton as kernels

        return kernels.precede(d, out, slope, scale, dtype)
    dy, dbias = plain_backward(d, out, slope, scale, dtype)
    return dy.contiguous(memory_format=torch.channels_last).clone(), dbias


def _has_kernel(x: Tensor) -> bool:
    return dispatch.has_kernels("conv", x)


def _suits(x: Tensor, channels: int = 0) -> bool:
    """Return True for maps that are laid out channels last, and that 32 bits address with so many channels."""
    largest = x.numel() // x.shape[1] * max(channels, x.shape[1])
    return dispatch.is_channels_last(x) and largest < dispatch.INDEX
