"""Pieces that several networks are made of, and the signature that all networks share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, range [0, 1]


class Embedding(NamedTuple):
    """What a network knows of the degradation of its input; (B, 0) twice where it knows nothing."""

    code: Tensor  # (B, D), steers the restoration
    projection: Tensor  # (B, P), only losses use it


class Restored(NamedTuple):
    image: Tensor  # (B, 3, s·H, s·W), RGB, nominally in [0, 1], not clamped
    embedding: Embedding


Pool = Callable[[nn.Module, Tensor], Tensor]  # features and x (B, C, H, W) to the features' mean over all pixels


def global_mean(features: nn.Module, x: Tensor) -> Tensor:
    """The plain `Pool`: (B, C, H, W) -> (B, C')."""
    return spatial_mean(features(x))


def spatial_mean(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C), under autocast in float32 at least."""
    return x.mean((2, 3), dtype=_float32_at_least(x) if _autocasts(x.device.type) else None)


def in_float32(compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`compute(*inputs)` in float32 where autocast would round its products; unchanged without autocast.

    For what costs little and matters much: what is computed of an embedding, since it steers every pixel; the last
    convolution; the first one too, as bfloat16 would round the images by up to half a grey level. From it the trunk of
    residual blocks is float32, into which each block adds: rounded at every block, errors would pile up.
    """
    kind = inputs[0].device.type
    if not _autocasts(kind):
        return compute(*inputs)
    with torch.autocast(kind, enabled=False):
        return compute(*(x.to(_float32_at_least(x)) for x in inputs))


def rounded(x: Tensor) -> Tensor:
    """x as autocast is going to round it; unchanged without autocast."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if _autocasts(kind) else x


def _autocasts(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _float32_at_least(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class BlindSR(nn.Module):
    """A network that finds out the degradation of its input and super-resolves with that knowledge.

    One that asks nothing (EDSR, RRDB) leaves `embed` as it is here, and its `restore` ignores the code.
    Constructors are keyword-only and hand their arguments to this one, which keeps them in `config`:
    `type(net)(**net.config)` is a fresh network of the same shape, and a checkpoint stores just that.
    """

    sees_hr: ClassVar[bool] = False  # a teacher looks at the ground truth too
    min_size: ClassVar[int] = 1  # LR pixels a side

    def __init__(self, *, scale: int, **config: Any) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale {scale}: {type(self).__name__} exists for 2, 3 and 4")
        self.scale = scale
        self.config: dict[str, Any] = {"scale": scale, **config}

    @property
    def halo(self) -> int:
        """LR pixels that a tile needs on each side to be restored as in the whole image."""
        return receptive_field(
            getattr(self, "restoration", self)
        ).radius  # networks without an encoder are all restoration

    def check(self, lr: Tensor) -> None:
        """ValueError unless these are images that the network takes."""
        if lr.ndim != 4 or lr.shape[1] != 3 or min(lr.shape[2:]) < self.min_size:
            raise ValueError(
                f"{type(self).__name__} takes (B, 3, H, W), {self.min_size} LR pixels a side or more, "
                f"got {tuple(lr.shape)}"
            )

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        """The degradation embedding of (B, 3, H, W) images in [0, 1]; a teacher needs their HR (B, 3, s·H, s·W).

        All that looks at pixels goes through `pool`, which may do it tile by tile. Networks that are not blind have an
        empty embedding, (B, 0).
        """
        nothing = lr.new_empty(len(lr), 0)
        return Embedding(code=nothing, projection=nothing)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) with the codes (B, D): (B, 3, s·H, s·W)."""
        raise NotImplementedError

    def forward(self, lr: Tensor, hr: Tensor | None = None) -> Restored:
        """(B, 3, H, W) in [0, 1] to `Restored`; `hr` (B, 3, s·H, s·W) is for teachers and for nobody else."""
        self.check(lr)
        embedding = self.embed(lr, hr)
        return Restored(self.restore(lr, embedding.code), embedding)


def conv(n_in: int, n_out: int, kernel_size: int = 3, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size of its input (at stride 1)."""
    return nn.Conv2d(n_in, n_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias)


def lrelu() -> nn.LeakyReLU:
    """The slope that KDSR, CDSR and DASR use."""
    return nn.LeakyReLU(0.1, inplace=True)


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm, LeakyReLU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        layers = {"conv": convolution, "norm": nn.BatchNorm2d(convolution.out_channels), "act": lrelu()}
        super().__init__(OrderedDict(layers))


def depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel of each sample with its own k×k kernel, zero padding k//2.

    x (B, C, H, W), kernel (B, C, k, k) -> (B, C, H, W). One grouped convolution over B·C groups.
    """
    b, c, h, w = x.shape
    k = kernel.shape[-1]
    out = F.conv2d(x.reshape(1, b * c, h, w), kernel.reshape(b * c, 1, k, k), padding=k // 2, groups=b * c)
    return out.view(b, c, h, w)


class DynamicDepthwise(nn.Module):
    """Depthwise 3×3 convolution whose weights are a small network's reading of the code: W2·LReLU(W1·code)."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(
            nn.Linear(n_feats, n_feats, bias=False), lrelu(), nn.Linear(n_feats, 9 * n_feats, bias=False)
        )

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, C) -> (B, C, H, W)."""
        kernel = in_float32(self.kernel, code).unflatten(1, (-1, 3, 3))  # (B, C, 3, 3)
        return depthwise(x, kernel)


class DAConv(nn.Module):
    """DASR's degradation-aware convolution (CVPR 2021, section 3.2): a dynamic convolution plus a channel attention.

    reduction: how many times narrower the channel attention is inside.
    """

    def __init__(self, n_feats: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, n_feats // reduction)
        self.depthwise = DynamicDepthwise(n_feats)
        self.act = lrelu()
        self.pointwise = conv(n_feats, n_feats, 1)
        self.channel = nn.Sequential(
            conv(n_feats, inner, 1, bias=False), lrelu(), conv(inner, n_feats, 1, bias=False), nn.Sigmoid()
        )

    def convolve(self, x: Tensor, code: Tensor) -> Tensor:
        return self.pointwise(self.act(self.depthwise(x, code)))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x (B, C, H, W), code (B, C) -> (B, C, H, W)."""
        return self.convolve(x, code) + x * in_float32(self.channel, code[:, :, None, None]).to(x.dtype)


class RDB(nn.Module):
    """ESRGAN's residual dense block: five convolutions that see all that came before, 0.2 of the last is added."""

    def __init__(self, n_feats: int, growth: int = 32) -> None:
        super().__init__()
        widths = [growth] * 4 + [n_feats]
        self.convs = nn.ModuleList(conv(n_feats + i * growth, width) for i, width in enumerate(widths))
        self.act = nn.LeakyReLU(0.2, inplace=True)
        for layer in self.convs:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data *= 0.1  # keeps the sum of the residuals small at the start
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        seen = [rounded(x)]
        for layer in self.convs[:-1]:
            seen.append(self.act(layer(torch.cat(seen, 1))))
        return x + 0.2 * self.convs[-1](torch.cat(seen, 1))


class MeanShift(nn.Module):
    """Adds `sign` times the DIV2K mean colour."""

    mean: Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("mean", sign * torch.tensor(DIV2K_MEAN).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mean


class Upsampler(nn.Sequential):
    """EDSR's: [conv, PixelShuffle] once for ×2 and ×3, twice for ×4."""

    def __init__(self, scale: int, n_feats: int) -> None:
        factors = {2: (2,), 3: (3,), 4: (2, 2)}[scale]
        super().__init__(*(layer for r in factors for layer in (conv(n_feats, r * r * n_feats), nn.PixelShuffle(r))))


class ReceptiveField(NamedTuple):
    radius: int  # input pixels that one output pixel sees on each side of its place
    stride: Fraction  # input pixels from one output pixel to the next


def receptive_field(layers: nn.Module) -> ReceptiveField:
    """How far a chain of convolutions sees, whose modules were made in the order in which they run.

    Skip connections change nothing; what pools the whole map is not counted.
    """
    radius, stride = Fraction(0), Fraction(1)
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            (k, *_), (step, *_), padding = layer.kernel_size, layer.stride, layer.padding[0]
            assert isinstance(padding, int)
            radius += stride * max(padding, k - 1 - padding)
            stride *= step
        elif isinstance(layer, DynamicDepthwise):
            radius += stride
        elif isinstance(layer, nn.PixelShuffle):
            stride /= layer.upscale_factor
    return ReceptiveField(ceil(radius), stride)
