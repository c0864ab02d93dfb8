"""What every degradation recipe shares: the seam, the parameters of one Gaussian blur, and the draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

D = TypeVar("D", bound="Draw")
T = TypeVar("T", bound="tuple[Any, ...]")


class Draw(Protocol):
    """The degradations of a batch as they were drawn: a named tuple whose tensors hold one entry per sample."""

    def repeat(self: D, views: int) -> D:
        """The same for V crops of each image, view-major: entry v·B + b is the degradation of image b."""
        ...

    def to(self: D, device: torch.device) -> D:
        """The same on `device`."""
        ...

    def part(self: D, start: int, stop: int) -> D:
        """Those of the samples start, ..., stop - 1: the share of a rank or of a micro-batch."""
        ...


class Degradation(Protocol[D]):
    """A recipe, with the draws that are its own: the random choice apart from its application."""

    @property
    def scale(self) -> int:
        """How many HR pixels make one LR pixel, along each side."""
        ...

    def sample(self, batch: int, *, generator: torch.Generator) -> D:
        """Draw the degradations of a batch, on the generator's device. Every recipe takes a generator of the CPU."""
        ...

    def apply(self, hr: Tensor, params: D, *, generator: torch.Generator) -> Tensor:
        """(B, 3, s·H, s·W) in [0, 1] -> (B, 3, H, W), multiples of 1/255. The generator draws the noise."""
        ...


class Params(NamedTuple):
    """One degradation per sample; None where no sample of the batch has any.

    An unrotated blur is separable, which is faster. It is told by the None of theta: choosing by the values would read
    them back to the host. Zeros in theta give the same image, slower.
    """

    width: Tensor
    """(B, 2) standard deviations of the Gaussian along its two axes (x and y if not rotated), HR pixels; 0: no blur.
    Spatially variant: (B, nH, nW, 2), one per block."""
    theta: Tensor | None = None
    """(B,) rotation in radians, or (B, nH, nW). None: not rotated."""
    noise: Tensor | None = None
    """(B,) standard deviation of the Gaussian noise, image range [0, 1]."""
    quality: Tensor | None = None
    """(B,) JPEG quality, 1..100."""

    def repeat(self, views: int) -> Params:
        return map_tensors(self, lambda field: torch.cat([field] * views))

    def to(self, device: torch.device) -> Params:
        return map_tensors(self, lambda field: move(field, device))

    def part(self, start: int, stop: int) -> Params:
        return map_tensors(self, lambda field: field[start:stop])


def uniform(low: Tensor | float, high: Tensor | float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """U(low, high) of the given shape, float64 on the generator's device; the limits may be one per sample."""
    draw = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * draw


def map_tensors(fields: T, change: Callable[[Tensor], Tensor]) -> T:
    """A named tuple with its tensors changed, also those of named tuples in it; everything else stays."""

    def changed(field: Any) -> Any:
        if isinstance(field, Tensor):
            return change(field)
        return map_tensors(field, change) if isinstance(field, tuple) else field

    return type(fields)(*map(changed, fields))


def move(x: Tensor, device: torch.device) -> Tensor:
    """`x` on `device`, without the host waiting for an accelerator that is busy."""
    return x.to(device, non_blocking=device.type != "cpu")


def check_recipe(*, scale: int, width: tuple[float, float], noise: float, quality: float | None) -> None:
    """Raise ValueError where the ranges of a recipe make no sense."""
    if scale < 1:
        raise ValueError(f"scale: expected 1 or more, got {scale}")
    if not 0 <= width[0] <= width[1]:
        raise ValueError(f"width: expected 0 <= min <= max (standard deviations, HR pixels), got {width}")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise: expected a standard deviation in [0, 1], got {noise}; divide 8-bit units by 255")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality: expected the lowest JPEG quality, 1..100, got {quality}")


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """What the recipes of one Gaussian blur are drawn from."""

    scale: int
    iso: bool
    """One width for both axes and no rotation, instead of two and U(0, π)."""
    width: tuple[float, float]
    """Range of the standard deviations, HR pixels; where published ranges are variances, their roots."""
    noise: float = 0.0
    """Largest standard deviation, image range [0, 1]."""
    size: int = 21
    """Side of the kernel, or of the window that holds it."""
    quality: float | None = None
    """Lowest JPEG quality; None: no JPEG."""
    per_batch: bool = False
    """One degradation for the whole batch, as in KDSR's official training."""

    def __post_init__(self) -> None:
        check_recipe(scale=self.scale, width=self.width, noise=self.noise, quality=self.quality)


def check_hr(hr: Tensor, scale: int, draws: int) -> None:
    """Raise ValueError unless `hr` is (B, 3, s·H, s·W) and so many degradations were drawn."""
    if hr.ndim != 4 or hr.shape[1] != 3:
        raise ValueError(f"hr: expected (B, 3, s·H, s·W), got {tuple(hr.shape)}")
    if hr.shape[2] % scale or hr.shape[3] % scale:
        raise ValueError(f"hr: expected sides that are multiples of the scale {scale}, got {tuple(hr.shape)}; crop it")
    if draws != len(hr):
        raise ValueError(f"params: expected one degradation for each of {len(hr)} images, got {draws}")
