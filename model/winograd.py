"""3×3 convolutions of many channels on a CPU, by fewer multiplications (Winograd; Lavin and Gray, CVPR 2016).

https://arxiv.org/abs/1509.09308

Cut the image into tiles of 6×6 pixels that overlap by two. Transform them and the kernels: then a product of both,
number by number, is the transform of the 4×4 pixels that a kernel gives in the tile. It takes 36 multiplications, not
144, and over all channels they are 36 products of matrices. The transforms move more memory than a convolution, so
only layers with many channels gain by them, and dense blocks, which transform each map once for all layers that see it.
Results differ from PyTorch's by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from .autocast import autocasts

PIXELS = 64**2  # an image has more, for what is computed so: the network's memory is estimated on one that has not
CHANNELS = 96  # before and after a convolution, at least
DENSE = 192  # maps that a dense block has in the end, at least
TILES = 1024  # at a time in a convolution: those of a large image would take four times the memory of its maps

_STEP, _TILE = 4, 6  # pixels that a tile gives, and those that it takes, each way
_OF_TILE = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    device="cpu",
)
_OF_KERNEL = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], device="cpu") / 24
_OF_PRODUCT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], device="cpu"
)
# The same for tiles, kernels and products whose rows lie one after another
_TO_TILES, _TO_WEIGHTS, _TO_PIXELS = (torch.kron(m.float(), m.float()) for m in (_OF_TILE, _OF_KERNEL, _OF_PRODUCT))


def suits(x: Tensor, weight: Tensor) -> bool:
    """Return True if x (B, C, H, W) is convolved faster so with a weight (C', C, 3, 3), stride 1 and padding 1."""
    return min(weight.shape[:2]) >= CHANNELS and _suits(x, weight)


def suits_dense(x: Tensor, last: Tensor) -> bool:
    """Return True if this is faster for a dense block of x (B, C, H, W), by the weight of its last layer."""
    return last.shape[1] >= DENSE and _suits(x, last)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what `torch.nn.functional.conv2d` does with a padding of 1, (B, C', H, W).

    Args:
        x: (B, C, H, W) float32.
        weight: (C', C, 3, 3).
        bias: (C',) or None.

    Examples:
        >>> x, weight = torch.rand(2, 8, 17, 20), torch.rand(4, 8, 3, 3)
        >>> torch.allclose(convolve(x, weight, None), F.conv2d(x, weight, padding=1), atol=1e-4)
        True
    """
    weights, height = _to_weights(weight), x.shape[2]
    rows = _STEP * max(1, TILES * _STEP // (len(x) * x.shape[3]))  # at a time
    size = len(x), len(weight), *x.shape[2:]
    result = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height))
        result[:, :, part] = _to_pixels(_to_tiles(x, part) @ weights, result[:, :, part].shape, bias)
    return result


def dense_block(x: Tensor, layers: Sequence[tuple[Tensor, Tensor | None]], slope: float) -> Tensor:
    """Return the map of the last layer of a dense block, (B, C', H, W), whose layers see all maps before them.

    Args:
        x: (B, C, H, W) float32.
        layers: weights (growth, C + growths before, 3, 3) and biases (growth,).
        slope: of LeakyReLU below 0, which follows all layers but the last.

    Examples:
        >>> weights = torch.rand(2, 4, 3, 3), torch.rand(5, 6, 3, 3)
        >>> dense_block(torch.rand(1, 4, 9, 9), [(weight, None) for weight in weights], 0.2).shape
        torch.Size([1, 5, 9, 9])
    """
    count = len(x) * ceil(x.shape[2] / _STEP) * ceil(x.shape[3] / _STEP)
    tiles = x.new_empty(_TILE**2, count, layers[-1][0].shape[1])
    y, seen = x, 0
    for i, (weight, bias) in enumerate(layers):
        tiles[..., seen : weight.shape[1]] = _to_tiles(F.leaky_relu_(y, slope) if i else y, slice(0, y.shape[2]))
        seen = weight.shape[1]
        y = _to_pixels(tiles[..., :seen] @ _to_weights(weight), x.shape, bias)
    return y


def _suits(x: Tensor, weight: Tensor) -> bool:
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if traced or torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32 or autocasts("cpu"):
        return False
    large = weight.shape[2:] == (3, 3) and x.shape[2] * x.shape[3] > PIXELS
    return large and torch.get_float32_matmul_precision() == "highest"  # else products may be of rounded numbers


def _to_tiles(x: Tensor, rows: slice) -> Tensor:
    """Map (B, C, H, W) to the transformed tiles (36, T, C) of h of its rows, T = B·⌈h/4⌉·⌈W/4⌉."""
    c, height, w = x.shape[1:]
    down, across = ceil((rows.stop - rows.start) / _STEP), ceil(w / _STEP)
    top, bottom = rows.start - 1, rows.start + down * _STEP + 1  # with the neighbours of the rows
    x = x[:, :, max(0, top) : min(bottom, height)]
    x = F.pad(x, (1, 1 + across * _STEP - w, max(0, -top), max(0, bottom - height)))
    x = x.permute(0, 2, 3, 1).contiguous()  # (B, h', W', C)
    tiles = x.unfold(1, _TILE, _STEP).unfold(2, _TILE, _STEP)  # (B, ⌈h/4⌉, ⌈W/4⌉, C, 6, 6), a view
    tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(_TILE**2, -1)  # (36, T·C)
    return (_TO_TILES @ tiles).view(_TILE**2, -1, c)


def _to_weights(weight: Tensor) -> Tensor:
    """Map (C', C, 3, 3) to (36, C, C')."""
    after, before = weight.shape[:2]
    return (_TO_WEIGHTS @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(_TILE**2, before, after)


def _to_pixels(products: Tensor, size: Sequence[int], bias: Tensor | None) -> Tensor:
    """Map products of tiles (36, T, C') to pixels (B, C', H, W), channels last; `size` has B, H and W."""
    b, _, h, w = size
    down, across = ceil(h / _STEP), ceil(w / _STEP)
    pixels = (_TO_PIXELS @ products.flatten(1)).view(_STEP, _STEP, b, down, across, -1)
    pixels = pixels.permute(2, 3, 0, 4, 1, 5).reshape(b, down * _STEP, across * _STEP, -1)
    y = pixels[:, :h, :w].permute(0, 3, 1, 2)
    return y if bias is None else y + bias[:, None, None]
