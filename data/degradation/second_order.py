"""The `second_order` recipe: blur, resize, noise and JPEG, twice (Real-ESRGAN, ICCVW 2021; KDSR-GAN)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.blur import blur
from data.degradation.finish import quantize
from data.degradation.jpeg import Codec, jpeg
from data.degradation.mixed import draw_blurs, draw_last_filters, mixed_kernel
from data.degradation.noise import add_noise, add_poisson
from data.degradation.params import check_hr, move_all, uniform
from data.degradation.recipe import PUBLISHED, Pass, Recipe, Resize, read_recipe
from data.degradation.second_order_params import WINDOW, Mode, PassParams, SecondOrderParams
from runtime.precision import full_precision
from utility import argument

_REFLECTED = WINDOW // 2 + 1
"""The least side of an image that can be blurred, pixels."""


@dataclass(frozen=True, kw_only=True)
class SecondOrder:
    """Blur → resize → noise → JPEG, and again, with a sinc and the resize to LR before or after the last JPEG.

    A batch shares the factors and interpolations of its resizing, the kinds of noise, whether there is a second blur,
    and what comes last; kernels, noise levels and JPEG qualities are drawn for every image. Published training takes
    crops of 400 pixels at ×4, degrades them, crops once more, and mixes the batches in a pool; each GPU does so for
    its own nine images.

    Examples:
        >>> recipe, generator = SecondOrder(scale=4), torch.Generator().manual_seed(0)
        >>> params = recipe.sample(1, generator=generator)
        >>> recipe.apply(torch.rand(1, 3, 96, 120), params, generator=generator).shape
        torch.Size([1, 3, 24, 30])
    """

    group: ClassVar[int] = 9
    """Images of a GPU in published training: they are degraded, cropped and mixed together."""

    scale: int
    recipe: Recipe = field(default_factory=lambda: read_recipe(PUBLISHED))
    """The ranges and probabilities; published by default."""
    codec: Codec = "realesrgan"
    """Whose JPEG: Real-ESRGAN's approximation, as published, or one nearer to real files (see `jpeg`)."""

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise ValueError(f"`scale`: expected 1 or more, got {self.scale}")
        if self.codec not in get_args(Codec):
            raise ValueError(f"`codec`: expected one of {get_args(Codec)}, got {self.codec!r}")

    @classmethod
    def from_flags(
        cls, *, scale: int, codec: Codec = "realesrgan", recipe: str | Mapping[str, Any] = PUBLISHED
    ) -> SecondOrder:
        """Build the degradation of a preset, or of the content of a recipe file; see `read_recipe`.

        Raises ValueError for an unknown codec or recipe, and for a recipe with unknown keys or impossible ranges.

        Examples:
            >>> SecondOrder.from_flags(scale=4, recipe="light").recipe.first.share
            0.2
        """
        with argument("recipe"):
            ranges = read_recipe(recipe)
        return cls(scale=scale, codec=codec, recipe=ranges)

    @property
    def smallest(self) -> int:
        """The least HR side that `apply` takes, pixels: after the strongest shrinking, kernels must still fit."""
        first = self.recipe.first
        strongest = first.resize.factor[0] if first.share and first.resize.down else 1.0
        return max(ceil(_REFLECTED / strongest), _REFLECTED * self.scale)

    def sample(self, batch: int, *, generator: torch.Generator) -> SecondOrderParams:
        """Draw the degradations of a batch. Raises ValueError for a generator that is not on the CPU."""
        if generator.device.type != "cpu":
            raise ValueError(
                f"`generator`: expected one on the CPU, got {generator.device}: the host has to know what was drawn "
                "for the whole batch, and would wait for the device; `apply` moves the rest to the images"
            )
        return SecondOrderParams(
            _sample_pass(self.recipe.first, batch, generator),
            _sample_pass(self.recipe.second, batch, generator),
            draw_last_filters(batch, self.recipe.last, generator),
            _pick(self.recipe.last.modes, generator),
            _chance(self.recipe.last.jpeg_last, generator),
        )

    def apply(self, hr: Tensor, params: SecondOrderParams, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. The generator draws the noise.

        Raises ValueError for sides that are no multiples of the scale, or below `smallest`.
        """
        check_hr(hr, self.scale, len(params.last_filter.size))
        if min(hr.shape[-2:]) < self.smallest:
            raise ValueError(f"`hr`: expected sides of at least {self.smallest} pixels, got {tuple(hr.shape)}")
        params = move_all(params, hr.device)
        first, second = params.first, params.second
        height, width = (side // self.scale for side in hr.shape[-2:])

        x = hr
        if first.applied:
            x = blur(x, mixed_kernel(first.kernel)) if first.blurred else x
            x = _noisy(_resize(x, first.factor, first.mode), first, generator)
            x = jpeg(x, first.quality, codec=self.codec) if first.compressed else x

        compressed = second.applied and second.compressed
        if second.applied:
            x = blur(x, mixed_kernel(second.kernel)) if second.blurred else x
            size = int(height * second.factor), int(width * second.factor)
            x = _noisy(_resize(x, size, second.mode), second, generator)
            if compressed and not params.jpeg_last:
                x = jpeg(x, second.quality, codec=self.codec)
        x = blur(_resize(x, (height, width), params.last_mode), mixed_kernel(params.last_filter))
        if compressed and params.jpeg_last:
            x = jpeg(x.clamp(0, 1), second.quality, codec=self.codec)
        return quantize(x).float()


@full_precision
def _resize(x: Tensor, to: float | tuple[int, int], mode: Mode) -> Tensor:
    """Resize by a factor, or to (height, width); an image whose size stays the same is returned as it is."""
    if to in (1.0, tuple(x.shape[-2:])):
        return x
    if isinstance(to, tuple):
        return F.interpolate(x, size=to, mode=mode)
    return F.interpolate(x, scale_factor=to, mode=mode)


def _noisy(x: Tensor, params: PassParams, generator: torch.Generator) -> Tensor:
    """Add noise if the batch gets some, then clamp to [0, 1]."""
    add = add_poisson if params.poisson else add_noise
    return add(x, params.noise, generator, grey=params.grey).clamp_(0, 1) if params.noisy else x.clamp(0, 1)


def _sample_pass(ranges: Pass, batch: int, generator: torch.Generator) -> PassParams:
    """Draw one pass for a batch, on the CPU."""
    poisson = _chance(ranges.noise.poisson, generator)
    low, high = ranges.noise.strength if poisson else (sigma / 255 for sigma in ranges.noise.sigma)
    return PassParams(
        blurred=_chance(ranges.blur.share, generator),
        kernel=draw_blurs(batch, ranges.blur, generator),
        factor=_sample_factor(ranges.resize, generator),
        mode=_pick(ranges.resize.modes, generator),
        poisson=poisson,
        noise=uniform(low, high, (batch,), generator),
        grey=uniform(0.0, 1.0, (batch,), generator) < ranges.noise.grey,
        quality=uniform(*ranges.jpeg.quality, (batch,), generator),
        # These are certain in the published recipe and take no draw there: its random numbers stay what they were.
        applied=ranges.share == 1 or _chance(ranges.share, generator),
        noisy=ranges.noise.share == 1 or _chance(ranges.noise.share, generator),
        compressed=ranges.jpeg.share == 1 or _chance(ranges.jpeg.share, generator),
    )


def _sample_factor(ranges: Resize, generator: torch.Generator) -> float:
    low, high = ranges.factor
    kind, position = uniform(0.0, 1.0, (2,), generator).tolist()
    if kind < ranges.up:
        return 1 + (high - 1) * position
    return low + (1 - low) * position if kind < ranges.up + ranges.down else 1.0


def _chance(share: float, generator: torch.Generator) -> bool:
    return uniform(0.0, 1.0, (1,), generator).item() < share


def _pick(modes: tuple[Mode, ...], generator: torch.Generator) -> Mode:
    return modes[int(torch.randint(len(modes), (1,), generator=generator, device=generator.device))]
