"""EDSR's upsampler and the convolution after it, which together are linear: in inference one convolution does.

For ×4 and C channels the layers take 180·C² + 432·C multiplications per LR pixel, and their largest maps have 16·C
values for it; the one convolution takes 1200·C, and its map has 48.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autocast import in_float32
from .convolution import Conv2d
from .layer import conv
from .op import last_convolution, shuffled_convolutions

FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}  # of the enlargements, one after the other, that make a scale
FOLD_FROM = 32  # LR pixels a side, on a CPU; below, the borders cost more than the rest saves
FOLD_FROM_ON_GPU = 512  # below, a GPU waits for the host, which would have 44 more kernels to launch
REACH = 2  # LR pixels that an output pixel sees on each side of its own
STRIP = 1 + REACH  # LR pixels, from the border inwards, of which the outermost output pixels are made


class Upsampler(nn.Sequential):
    """EDSR's upsampler: [conv, PixelShuffle] once for ×2 and ×3, twice for ×4.

    https://arxiv.org/abs/1707.02921
    """

    def __init__(self, scale: int, n_feats: int) -> None:
        stages = ((conv(n_feats, r * r * n_feats), nn.PixelShuffle(r)) for r in FACTORS[scale])
        super().__init__(*(layer for stage in stages for layer in stage))

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, s·H, s·W)."""
        stages = [(layer.parameters_for(input), shuffle.upscale_factor) for layer, shuffle in self.stages]
        return shuffled_convolutions(input, cast(list[tuple[tuple[Tensor, Tensor], int]], stages))

    @property
    def stages(self) -> list[tuple[Conv2d, nn.PixelShuffle]]:
        """Return each convolution with the shuffle after it."""
        layers = list(self)
        return [(cast(Conv2d, a), cast(nn.PixelShuffle, b)) for a, b in zip(layers[::2], layers[1::2], strict=True)]


def upsample_to_image(upsample: Upsampler, tail: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `tail(upsample(x))`, with the last convolution in float32 under autocast.

    Without gradients one convolution does it all for large images but their border, in float32, too. It rounds in
    another order than the layers.

    Args:
        upsample: enlarges s times.
        tail: a 3×3 convolution.
        x: (B, C, H, W).

    Returns:
        (B, 3, s·H, s·W).
    """
    large = min(x.shape[2:]) >= (FOLD_FROM if x.device.type == "cpu" else FOLD_FROM_ON_GPU)
    if torch.is_grad_enabled() or tail.weight.dtype.itemsize < 4 or not large:
        return _layers(upsample, tail, x)
    image = in_float32(partial(_folded, upsample, tail), x)  # (B, 3, s·H, s·W)
    # Each layer pads its own input with zeros, which one convolution cannot: the outermost pixels come from the layers.
    s = image.shape[2] // x.shape[2]
    for axis in (2, 3):
        for start, outermost in ((0, 0), (x.shape[axis] - STRIP, REACH)):
            strip = _layers(upsample, tail, x.narrow(axis, start, STRIP))
            image.narrow(axis, s * (start + outermost), s).copy_(strip.narrow(axis, s * outermost, s))
    return image


def _layers(upsample: Upsampler, tail: nn.Conv2d, x: Tensor) -> Tensor:
    return last_convolution(tail, upsample(x))  # (B, 3, s·H, s·W)


def _folded(upsample: Upsampler, tail: nn.Conv2d, x: Tensor) -> Tensor:
    kernel, bias = fold(upsample, tail)
    image = F.conv2d(x, kernel, bias, padding=REACH)  # (B, 3·s², H, W)
    for _, shuffle in upsample.stages:
        image = shuffle(image)  # (B, 3, s·H, s·W) after the last
    return image


def fold(upsample: Upsampler, tail: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return kernel (3·s², C, 5, 5) and bias (3·s²) of the convolution that, shuffled as `upsample` does, equals both.

    It equals them where no layer sees past the border.
    """
    kernel, bias = tail.weight, cast(Tensor, tail.bias)  # (O, C, k, k), (O)
    for layer, shuffle in reversed(upsample.stages):
        r = shuffle.upscale_factor
        # What makes one pixel of the shuffled map makes r² channels of the map before, each with the kernel shifted.
        shifts = [(j, r - 1 - j, i, r - 1 - i) for i in range(r) for j in range(r)]
        kernel = torch.stack([F.pad(kernel, shift) for shift in shifts], 1).flatten(0, 1)  # (O·r², C, k + r - 1, ...)
        margin = (kernel.shape[-1] - r) // 2  # pixels around the r×r ones
        kernel = F.pixel_unshuffle(F.pad(kernel, [-margin % r] * 4), r)  # (O·r², C·r², k', k')
        bias = bias.repeat_interleave(r * r) + kernel.sum((2, 3)) @ cast(Tensor, layer.bias)
        kernel = F.conv_transpose2d(kernel, layer.weight)  # (O·r², C, k' + 2, k' + 2)
    return kernel, bias
