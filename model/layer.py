"""The base class of all networks, and layers that several networks share.

Each network's file names its paper; layers name theirs here where it differs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import zip_longest
from math import ceil
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import winograd
from .autocast import in_float32, keep_and_round, spatial_mean, to_autocast
from .convolution import Conv2d
from .naming import Foreign
from .op import attended_pointwise, dense_maps, dynamic_depthwise, two_layers

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, range [0, 1]
SLOPE = 0.1  # of LeakyReLU in KDSR, CDSR and DASR
Image = TypeVar("Image", Tensor, np.ndarray)  # an image comes out in the kind that went in


class Embedding(NamedTuple):
    """A network's estimate of the degradation of its input; networks that are not blind have (B, 0) twice."""

    code: Tensor  # (B, D), steers the restoration
    projection: Tensor  # (B, P), what losses compare: CDSR and DASR contrast it, KDSR distils it (D', before the code)


class Restored(NamedTuple):
    """The output of a network, in training and in evaluation."""

    image: Tensor  # (B, 3, s·H, s·W), RGB, nominally in [0, 1], not clamped
    embedding: Embedding


Pool = Callable[[nn.Module, Tensor], Tensor]  # (features, x (B, C, H, W)) -> mean of features(x) over all pixels


def global_mean(features: nn.Module, x: Tensor) -> Tensor:
    """Apply `features` to (B, C, H, W) and average over all pixels: the plain `Pool`."""
    return spatial_mean(features(x))  # (B, C')


class BlindSR(nn.Module):
    """Base class of the networks: `embed` estimates the degradation of the input, `restore` super-resolves with it.

    Networks that are not blind (EDSR, RRDB) inherit `embed` from here, and their `restore` ignores the code.
    Constructors are keyword-only and pass all their arguments on to this one, which keeps them in `config`.
    `type(net)(**net.config)` is a fresh network of the same shape; checkpoints store just that.
    """

    learns: ClassVar[bool] = True  # has weights
    __call__: Callable[..., Restored]  # what `forward` returns
    sees_hr: ClassVar[bool] = False  # a teacher needs the ground truth too
    teacher: ClassVar[str] = ""  # of a student: the name of the network that teaches it, with the same sizes
    min_size: ClassVar[int] = 1  # LR pixels a side
    window: ClassVar[int] = 1  # LR pixels a side of attention windows from the top left corner, which tiles must keep
    foreign: ClassVar[tuple[Foreign, ...]] = ()  # formats of published weights; the first is the one that is written

    def __init__(self, *, scale: int, **config: Any) -> None:
        super().__init__()
        if not isinstance(scale, int) or scale not in (2, 3, 4):
            raise ValueError(f"`scale`: expected 2, 3 or 4, got {scale!r}")
        self.scale = scale
        self.config: dict[str, Any] = {"scale": scale, **config}

    @property
    def halo(self) -> int:
        """Return the LR pixels that a tile needs on each side to be restored as in the whole image."""
        restoration = getattr(self, "restoration", self)  # networks without an encoder are all restoration
        return receptive_field(restoration).radius

    def check(self, lr: Tensor) -> None:
        """Raise ValueError unless the network can take these images."""
        if lr.ndim != 4 or lr.shape[1] != 3 or not len(lr) or min(lr.shape[2:]) < self.min_size:
            least = f", {self.min_size} LR pixels a side or more" if self.min_size > 1 else ""
            raise ValueError(f"`lr`: expected (B, 3, H, W){least}, got {tuple(lr.shape)}")

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        """Embed the degradation of images.

        Args:
            lr: (B, 3, H, W), RGB in [0, 1].
            hr: (B, 3, s·H, s·W), for teachers only.
            pool: averages features over all pixels. Pixels must not be read in any other way, so that a pool can work
                tile by tile.

        Returns:
            The embedding; networks that are not blind have (B, 0) twice.
        """
        nothing = lr.new_empty(len(lr), 0)
        return Embedding(code=nothing, projection=nothing)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) with codes (B, D) to (B, 3, s·H, s·W)."""
        raise NotImplementedError

    def forward(self, lr: Tensor, hr: Tensor | None = None) -> Restored:
        """Super-resolve (B, 3, H, W) in [0, 1]; only teachers use `hr` (B, 3, s·H, s·W).

        Raises:
            ValueError: the images have another shape, are too small, or a teacher gets no HR image of the right size.
        """
        self.check(lr)
        embedding = self.embed(lr, hr)
        return Restored(self.restore(lr, embedding.code), embedding)

    def recompute(self, on: bool) -> None:
        """Compute the maps of the blocks twice in training, which saves memory, or keep them all; see `Trunk`."""
        for module in self.modules():
            if isinstance(module, Trunk):
                module.recompute = on

    def upscale(
        self,
        image: Image,
        *,
        tile: int | None = None,
        self_ensemble: bool = False,
        hr: Image | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Image:
        """Super-resolve an image of any size in bounded memory, on the network's device.

        Args:
            image: (H, W, 3) RGB array of uint8 or uint16, or float tensor (3, H, W) or (B, 3, H, W) in [0, 1].
            tile: side of a tile in LR pixels; None takes the whole image, or the largest tiles that fit the memory.
            self_ensemble: average over the eight flips and transpositions, which takes eight times as long.
            hr: the ground truth, (s·H, s·W) pixels; only teachers need it.
            progress: called as progress(done, total) after each tile.

        Returns:
            An array of the same dtype, (s·H, s·W, 3), or a float tensor on the CPU, not clamped.

        Raises:
            ValueError: the image is of another kind, out of range, or smaller than the network takes.
            MemoryError: not even a small tile fits the memory.
        """
        from .tiling import upscale  # tiling needs this class

        return upscale(self, image, tile=tile, self_ensemble=self_ensemble, hr=hr, progress=progress)

    def upscale_rows(
        self,
        image: np.ndarray,
        write: Callable[[np.ndarray], None],
        *,
        tile: int | None = None,
        self_ensemble: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Super-resolve an image that is too large to be whole in memory; see `tiling.upscale_rows`."""
        from .tiling import upscale_rows  # tiling needs this class

        upscale_rows(self, image, write, tile=tile, self_ensemble=self_ensemble, progress=progress)


def conv(n_in: int, n_out: int, kernel_size: int = 3, *, stride: int = 1, bias: bool = True) -> Conv2d:
    """Return a convolution that keeps the size of its input at stride 1."""
    return Conv2d(n_in, n_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias)


def lrelu(slope: float = SLOPE) -> nn.LeakyReLU:
    """Return LeakyReLU, by default as in KDSR, CDSR and DASR."""
    return nn.LeakyReLU(slope, inplace=True)


class Layers(nn.Sequential):
    """Layers in a row, of which a convolution and the LeakyReLU after it run as one."""

    def forward(self, input: Tensor) -> Tensor:
        x, before = input, None
        for layer, after in zip_longest(self, [*self][1:]):
            if isinstance(layer, Conv2d) and isinstance(after, nn.LeakyReLU):
                x = layer(x, slope=after.negative_slope)
            elif not (isinstance(before, Conv2d) and isinstance(layer, nn.LeakyReLU)):
                x = layer(x)
            before = layer
        return x


class SideBranch(Layers):
    """A branch that runs beside the layers registered before it and reaches no further than they do."""


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm, LeakyReLU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        layers = {"conv": convolution, "norm": nn.BatchNorm2d(convolution.out_channels), "act": lrelu()}
        super().__init__(OrderedDict(layers))


class Trunk(nn.ModuleList):
    """Blocks in a row, which training may compute twice instead of keeping their maps.

    Args:
        blocks: each maps x (B, C, H, W), and what steers it, to (B, C, H, W).
        group: number of blocks that keep their maps at once while `recompute` is on; by default the square root of
            all, which is best for blocks that hold little more than their output.
    """

    recompute: bool = False  # keep only the input of each group of blocks; compute the rest anew in the backward pass

    def __init__(self, blocks: Iterable[nn.Module], *, group: int | None = None) -> None:
        super().__init__(blocks)
        self.group = group or ceil(len(self) ** 0.5)

    def forward(self, x: Tensor, steerings: Sequence[Sequence[Tensor]] | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W); `steerings` are the further arguments of each block."""
        steered = list(zip(self, steerings or [()] * len(self), strict=True))
        if not (self.recompute and torch.is_grad_enabled()):
            return _run(x, steered)
        for i in range(0, len(self), self.group):
            part = steered[i : i + self.group]
            x = cast(Tensor, checkpoint(_run, x, part, use_reentrant=False, preserve_rng_state=False))
        return x


def _run(x: Tensor, steered: Sequence[tuple[nn.Module, Sequence[Tensor]]]) -> Tensor:
    for block, steering in steered:
        x = block(x, *steering)  # (B, C, H, W)
    return x


class DynamicDepthwise(nn.Module):
    """Depthwise 3×3 convolution and LeakyReLU; the convolution's weights W2·LReLU(W1·code) follow from a code."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(  # read, not called: `weights` and `weights_of_all` take its layers
            nn.Linear(n_feats, n_feats, bias=False), lrelu(), nn.Linear(n_feats, 9 * n_feats, bias=False)
        )

    def forward(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve x (B, C, H, W) with weights (B, C, 3, 3), such as `weights` returns, and apply LeakyReLU.

        Return x and the result. Branches beside this layer take that x: then `op.dynamic_depthwise` adds the gradients
        of both in one pass.
        """
        return dynamic_depthwise(x, kernel, SLOPE)

    def weights(self, code: Tensor) -> Tensor:
        """Map the code (B, C) to (B, C, 3, 3)."""
        first, second = (cast(nn.Linear, self.kernel[i]).weight for i in (0, 2))
        return two_layers(code, first, second, SLOPE).unflatten(1, (-1, 3, 3))  # (B, C, 3, 3)


def apply_all(mlps: Sequence[Iterable[nn.Module]], x: Tensor) -> Tensor:
    """Apply N multi-layer perceptrons of one shape, each layer of all N by one product; in float32 under autocast.

    Embeddings are small: applied one by one, such layers would cost a GPU little but their launches.

    Args:
        mlps: their layers: `Linear` or 1×1 `Conv2d`, `PReLU`, and activations without weights.
        x: (B, C) for all of them, or (N, B, C).

    Returns:
        (N, B, C').

    Examples:
        >>> mlps = [nn.Sequential(nn.Linear(4, 5), nn.PReLU()) for _ in range(3)]
        >>> apply_all(mlps, torch.rand(2, 4)).shape
        torch.Size([3, 2, 5])
    """

    def columns(x: Tensor) -> Tensor:
        y = x.mT  # (C, B) or (N, C, B). In this order the gradient of each weight is laid out as the weight.
        for layers in zip(*mlps, strict=True):
            _check_alike(layers)
            weights = [cast(Tensor, weight) for weight in (getattr(layer, "weight", None) for layer in layers)]
            if isinstance(layers[0], nn.PReLU):
                y = F.prelu(y.transpose(0, 1), torch.cat(weights)).transpose(0, 1)  # (N, C', B)
            elif isinstance(layers[0], nn.Linear | nn.Conv2d):
                y = torch.stack([weight.flatten(1) for weight in weights]) @ y  # (N, C', B)
                if layers[0].bias is not None:
                    y += torch.stack([cast(Tensor, layer.bias) for layer in layers])[:, :, None]
            else:
                y = layers[0](y)
        return y.mT.contiguous()  # (N, B, C')

    return in_float32(columns, x)


def _check_alike(layers: Sequence[nn.Module]) -> None:
    """Raise TypeError for layers, put in place of ours, that one product cannot apply."""
    kind = next((kind for kind in (nn.PReLU, nn.Linear | nn.Conv2d) if isinstance(layers[0], kind)), None)
    if kind is None and not any(True for _ in layers[0].parameters()):
        kind = type(layers[0])
    if kind is None or not all(isinstance(layer, kind) for layer in layers):
        kinds = " and ".join(sorted({type(layer).__name__ for layer in layers}))
        raise TypeError(f"{kinds}: such layers cannot be applied for all blocks at once (docs/python.md)")


def weights_of_all(layers: Sequence[DynamicDepthwise], code: Tensor) -> tuple[Tensor, ...]:
    """Map one code (B, C) to the weights of each of N layers, N times (B, C, 3, 3)."""
    return apply_all([layer.kernel for layer in layers], code).unflatten(2, (-1, 3, 3)).unbind()


def attentions_of_all(layers: Sequence[DAConv], code: Tensor) -> tuple[Tensor, ...]:
    """Map one code (B, C), or one for each of N layers, (N, B, C), to N channel attentions (B, C, 1, 1)."""
    return to_autocast(apply_all([layer.channel for layer in layers], code)[..., None, None]).unbind()


class DAConv(nn.Module):
    """DASR's degradation-aware convolution (section 3.2): a dynamic one plus a channel attention, then LeakyReLU.

    https://arxiv.org/abs/2104.00416

    Args:
        n_feats: channels C.
        reduction: the channel attention has C / reduction channels inside, at least one.
    """

    def __init__(self, n_feats: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, n_feats // reduction)
        self.depthwise = DynamicDepthwise(n_feats)
        self.pointwise = conv(n_feats, n_feats, 1)
        self.channel = nn.Sequential(
            conv(n_feats, inner, 1, bias=False), lrelu(), conv(inner, n_feats, 1, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor, kernel: Tensor, attention: Tensor) -> Tensor:
        """Map x (B, C, H, W), with what follows from the code, to (B, C, H, W).

        Args:
            kernel: weights of the dynamic convolution, (B, C, 3, 3).
            attention: weights of the channels, (B, C, 1, 1).
        """
        x = to_autocast(x)  # once for both branches
        x, y = self.depthwise(x, kernel)  # (B, C, H, W) each
        parameters = cast(tuple[Tensor, Tensor], self.pointwise.parameters_for(y))
        return attended_pointwise(y, parameters, x, attention, SLOPE)  # (B, C, H, W)


class RDB(nn.Module):
    """ESRGAN's residual dense block: x + 0.2·(the last of five convolutions), each of which sees all earlier maps.

    https://arxiv.org/abs/1809.00219
    """

    def __init__(self, n_feats: int, growth: int = 32) -> None:
        super().__init__()
        widths = [growth] * 4 + [n_feats]
        self.convs = nn.ModuleList(conv(n_feats + i * growth, width) for i, width in enumerate(widths))
        for layer in cast(Sequence[Conv2d], self.convs):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data *= 0.1  # the residuals start small
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        x, seen = keep_and_round(x)
        *growing, last = cast(Sequence[Conv2d], self.convs)
        parameters = [cast(tuple[Tensor, Tensor], layer.parameters_for(seen)) for layer in growing]
        if winograd.suits_dense(seen, last.weight):
            return torch.add(x, winograd.dense_block(seen, [*parameters, last.parameters_for(seen)], 0.2), alpha=0.2)
        seen = dense_maps(seen, parameters, 0.2)  # (B, C + 4·growth, H, W)
        return last(seen, add_to=x, scale=0.2)  # (B, C, H, W)


class MeanShift(nn.Module):
    """The addition of `sign` times the mean colour of DIV2K to (B, 3, H, W)."""

    mean: Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        mean = torch.tensor([sign * level for level in DIV2K_MEAN])  # products of tensors without data take a second
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 3, H, W)."""
        return x + self.mean


class ReceptiveField(NamedTuple):
    """The reach of a chain of convolutions."""

    radius: int  # input pixels that one output pixel sees on each side of its position
    stride: Fraction  # input pixels from one output pixel to the next


def receptive_field(layers: nn.Module) -> ReceptiveField:
    """Return the receptive field of a chain of convolutions whose modules are registered in the order they run in.

    Skip connections and a `SideBranch` change nothing. Pooling over the whole map is not counted.

    Examples:
        >>> receptive_field(nn.Sequential(conv(3, 8, 3), conv(8, 8, 5)))
        ReceptiveField(radius=3, stride=Fraction(1, 1))
    """
    radius, stride = Fraction(0), Fraction(1)
    aside = {layer for branch in layers.modules() if isinstance(branch, SideBranch) for layer in branch.modules()}
    for layer in layers.modules():
        if layer in aside:
            continue
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
