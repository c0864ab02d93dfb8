"""The `second_order` recipe: blur, resize, noise and JPEG, twice (Real-ESRGAN, ICCVW 2021; KDSR-GAN)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.blur import blur
from data.degradation.finish import quantize
from data.degradation.jpeg import Codec, jpeg
from data.degradation.mixed import SIZES, draw_blurs, draw_last_filters, mixed_kernel
from data.degradation.noise import add_noise, add_poisson
from data.degradation.params import check_hr, uniform
from data.degradation.second_order_params import Mode, PassParams, SecondOrderParams
from runtime.precision import full_precision

_REFLECTED = SIZES[-1] // 2 + 1
"""The least side of an image that can be blurred, pixels."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The ranges that one of the two passes is drawn from."""

    blur: float
    """Share of the batches that are blurred."""
    width: tuple[float, float]
    """Standard deviations of the blur, pixels."""
    resize: tuple[float, float]
    """Shares of the batches that are enlarged and that are shrunk; the others keep their size."""
    factor: tuple[float, float]
    """Smallest and largest factor of the resize; enlarging is uniform from 1 to the largest, shrinking down to the
    smallest."""
    noise: tuple[float, float]
    """Standard deviations of the Gaussian noise, image range [0, 1]."""
    poisson: tuple[float, float]
    """Strengths of the Poisson noise."""
    grey: float = 0.4
    """Share of the images with the same noise in all channels."""
    quality: tuple[float, float] = (30.0, 95.0)
    """JPEG."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("width", "factor", "noise", "poisson", "quality") and not 0 <= value[0] <= value[1]:
                raise ValueError(f"`{field.name}`: expected 0 <= min <= max, got {value}")

    def sample(self, batch: int, generator: torch.Generator) -> PassParams:
        """Draw one pass for a batch, on the CPU."""
        poisson = _chance(0.5, generator)
        return PassParams(
            blurred=_chance(self.blur, generator),
            kernel=draw_blurs(batch, self.width, generator),
            factor=self._sample_factor(generator),
            mode=_pick_mode(generator),
            poisson=poisson,
            noise=uniform(*(self.poisson if poisson else self.noise), (batch,), generator),
            grey=uniform(0.0, 1.0, (batch,), generator) < self.grey,
            quality=uniform(*self.quality, (batch,), generator),
        )

    def _sample_factor(self, generator: torch.Generator) -> float:
        (up, down), (low, high) = self.resize, self.factor
        kind, position = uniform(0.0, 1.0, (2,), generator).tolist()
        if kind < up:
            return 1 + (high - 1) * position
        return low + (1 - low) * position if kind < up + down else 1.0


FIRST = Pass(
    blur=1.0,
    width=(0.2, 3.0),
    resize=(0.2, 0.7),
    factor=(0.15, 1.5),
    noise=(1 / 255, 30 / 255),
    poisson=(0.05, 3.0),
)
SECOND = Pass(
    blur=0.8,
    width=(0.2, 1.5),
    resize=(0.3, 0.4),
    factor=(0.3, 1.2),
    noise=(1 / 255, 25 / 255),
    poisson=(0.05, 2.5),
)


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
    first: Pass = FIRST
    second: Pass = SECOND
    codec: Codec = "realesrgan"
    """Whose JPEG: Real-ESRGAN's approximation, as published, or one nearer to real files (see `jpeg`)."""

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise ValueError(f"`scale`: expected 1 or more, got {self.scale}")
        if self.codec not in get_args(Codec):
            raise ValueError(f"`codec`: expected one of {get_args(Codec)}, got {self.codec!r}")

    @classmethod
    def from_flags(cls, *, scale: int, codec: Codec = "realesrgan") -> SecondOrder:
        """Build the recipe as published, but for the codec. Raises ValueError for an unknown one.

        Examples:
            >>> SecondOrder.from_flags(scale=4).codec
            'realesrgan'
        """
        return cls(scale=scale, codec=codec)

    @property
    def smallest(self) -> int:
        """The least HR side that `apply` takes, pixels: after the strongest shrinking, kernels must still fit."""
        return max(ceil(_REFLECTED / self.first.factor[0]), _REFLECTED * self.scale)

    def sample(self, batch: int, *, generator: torch.Generator) -> SecondOrderParams:
        """Draw the degradations of a batch. Raises ValueError for a generator that is not on the CPU."""
        if generator.device.type != "cpu":
            raise ValueError(
                f"`generator`: expected one on the CPU, got {generator.device}: the host has to know what was drawn "
                "for the whole batch, and would wait for the device; `apply` moves the rest to the images"
            )
        return SecondOrderParams(
            self.first.sample(batch, generator),
            self.second.sample(batch, generator),
            draw_last_filters(batch, generator),
            _pick_mode(generator),
            _chance(0.5, generator),
        )

    def apply(self, hr: Tensor, params: SecondOrderParams, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. The generator draws the noise.

        Raises ValueError for sides that are no multiples of the scale, or below `smallest`.
        """
        check_hr(hr, self.scale, len(params.last_filter.size))
        if min(hr.shape[-2:]) < self.smallest:
            raise ValueError(f"`hr`: expected sides of at least {self.smallest} pixels, got {tuple(hr.shape)}")
        params = params.to(hr.device)
        first, second = params.first, params.second
        height, width = (side // self.scale for side in hr.shape[-2:])

        x = blur(hr, mixed_kernel(first.kernel)) if first.blurred else hr
        x = _resize(x, first.factor, first.mode)
        x = jpeg(_noisy(x, first, generator), first.quality, codec=self.codec)

        x = blur(x, mixed_kernel(second.kernel)) if second.blurred else x
        x = _resize(x, (int(height * second.factor), int(width * second.factor)), second.mode)
        x = _noisy(x, second, generator)
        if not params.jpeg_last:
            x = jpeg(x, second.quality, codec=self.codec)
        x = blur(_resize(x, (height, width), params.last_mode), mixed_kernel(params.last_filter))
        if params.jpeg_last:
            x = jpeg(x.clamp(0, 1), second.quality, codec=self.codec)
        return quantize(x).float()


@full_precision
def _resize(x: Tensor, to: float | tuple[int, int], mode: Mode) -> Tensor:
    """Resize by a factor, or to (height, width)."""
    if isinstance(to, tuple):
        return F.interpolate(x, size=to, mode=mode)
    return F.interpolate(x, scale_factor=to, mode=mode)


def _noisy(x: Tensor, params: PassParams, generator: torch.Generator) -> Tensor:
    add = add_poisson if params.poisson else add_noise
    return add(x, params.noise, generator, grey=params.grey).clamp(0, 1)


def _chance(share: float, generator: torch.Generator) -> bool:
    return uniform(0.0, 1.0, (1,), generator).item() < share


def _pick_mode(generator: torch.Generator) -> Mode:
    modes = get_args(Mode)
    return modes[int(torch.randint(len(modes), (1,), generator=generator))]
