"""The parts that all degradation recipes share: their interface, the parameters of one Gaussian blur, the draws."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache, wraps
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor

BLURS = ("iso_gaussian", "aniso_gaussian")
DRAWS = ("image", "batch")
_ALIGNED = 16  # bytes: any dtype may begin there

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", bound="tuple[Any, ...]")  # a named tuple whose tensors hold one entry per sample


class Degradation(Protocol[D]):
    """A recipe that turns HR images into LR images; drawing the parameters is separate from applying them.

    A recipe that draws some of its choices once for a whole batch may say in an attribute `group` for how many images
    at most; `data.pairs.Pairs` then draws for each such group by itself.
    """

    @property
    def scale(self) -> int:
        """HR pixels per LR pixel, along each side."""
        ...

    @property
    def smallest(self) -> int:
        """The least HR side that `apply` takes, pixels."""
        ...

    def sample(self, batch: int, *, generator: torch.Generator) -> D:
        """Draw the degradations of a batch, on the generator's device: a named tuple, its tensors with one entry each.

        Every recipe takes a generator on the CPU.
        """
        ...

    def apply(self, hr: Tensor, params: D, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. The generator draws the noise."""
        ...


class Params(NamedTuple):
    """One Gaussian degradation per sample; a field is None where no sample of the batch has any.

    An unrotated blur is separable, which is faster. Only `theta=None` says that it is unrotated: to look at the values
    would read them back to the host. Zeros in theta give the same image, more slowly.

    Examples:
        >>> Params(torch.tensor([[1.0, 2.0], [3.0, 3.0]])).width.shape
        torch.Size([2, 2])
    """

    width: Tensor
    """(B, 2) standard deviations of the Gaussian along its two axes (x and y if not rotated), HR pixels; 0: no blur.
    Spatially variant: (B, nH, nW, 2), one pair per block."""
    theta: Tensor | None = None
    """(B,) rotation in radians, or (B, nH, nW). None: not rotated."""
    noise: Tensor | None = None
    """(B,) standard deviation of the Gaussian noise, image range [0, 1]."""
    quality: Tensor | None = None
    """(B,) JPEG quality, 1..100."""


def uniform(low: Tensor | float, high: Tensor | float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw U(low, high) of the given shape, float64 on the generator's device; the limits may be one per sample.

    Examples:
        >>> uniform(2.0, 3.0, (4,), torch.Generator().manual_seed(0)).floor().tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
    draw = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * draw


def map_tensors(fields: D, change: Callable[[Tensor], Tensor]) -> D:
    """Return a named tuple with its tensors changed, also those of named tuples in it; everything else stays.

    Examples:
        >>> map_tensors(Params(torch.ones(1, 2)), lambda field: 3 * field).width.tolist()
        [[3.0, 3.0]]
    """

    def changed(field: Any) -> Any:
        if isinstance(field, Tensor):
            return change(field)
        return map_tensors(field, change) if isinstance(field, tuple) else field

    return type(fields)(*map(changed, fields))


def repeat(params: D, views: int) -> D:
    """Return the same for V crops of each image, view-major: entry v·B + b is the degradation of image b.

    Examples:
        >>> repeat(Params(torch.tensor([[1.0, 2.0], [3.0, 3.0]])), 2).width.tolist()
        [[1.0, 2.0], [3.0, 3.0], [1.0, 2.0], [3.0, 3.0]]
    """
    return map_tensors(params, lambda field: torch.cat([field] * views))


def part(params: D, start: int, stop: int) -> D:
    """Return samples start, ..., stop - 1: the share of a rank or of a micro-batch.

    Examples:
        >>> part(Params(torch.tensor([[1.0, 2.0], [3.0, 3.0]])), 1, 2).width.tolist()
        [[3.0, 3.0]]
    """
    return map_tensors(params, lambda field: field[start:stop])


def concatenate(draws: Sequence[Any]) -> Any:
    """Concatenate the draws of several groups of images, in their order.

    Returns:
        The named tuple of all of them, or None where they differ in a choice that holds for a whole group.

    Examples:
        >>> concatenate([Params(torch.ones(1, 2)), Params(torch.zeros(2, 2))]).width.shape
        torch.Size([3, 2])
        >>> concatenate([Params(torch.ones(1, 2)), Params(torch.ones(1, 2), theta=torch.ones(1))]) is None
        True
    """
    first = draws[0]
    if len(draws) == 1:
        return first
    fields = []
    for values in zip(*draws, strict=True):
        if all(isinstance(value, Tensor) for value in values):
            fields.append(torch.cat(values))
        elif all(isinstance(value, tuple) for value in values):
            fields.append(concatenate(values))
            if fields[-1] is None:
                return None
        elif any(isinstance(value, Tensor) for value in values) or any(value != values[0] for value in values):
            return None
        else:
            fields.append(values[0])
    return type(first)(*fields)


def move(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on `device`, without the host waiting for an accelerator that is busy.

    Examples:
        >>> move(torch.ones(2), torch.device("cpu")).device.type
        'cpu'
    """
    return x.to(device, non_blocking=device.type != "cpu")


def move_all(fields: D, device: torch.device) -> D:
    """Return a named tuple with its tensors on `device`, also those of named tuples in it, by a single copy.

    From pinned memory, so that the host waits for no accelerator. On the CPU nothing is copied.

    Examples:
        >>> move_all(Params(torch.ones(1, 2)), torch.device("meta")).width.device.type
        'meta'
    """
    if device.type == "cpu":
        return map_tensors(fields, lambda field: move(field, device))
    places: list[slice] = []

    def reserve(field: Tensor) -> Tensor:
        start = -(-places[-1].stop // _ALIGNED) * _ALIGNED if places else 0
        places.append(slice(start, start + field.numel() * field.element_size()))
        return field

    map_tensors(fields, reserve)
    size = places[-1].stop if places else 0
    buffer = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    free, taken = iter(places), iter(places)
    map_tensors(fields, lambda field: buffer[next(free)].view(field.dtype).view(field.shape).copy_(field))
    moved = move(buffer, device)
    return map_tensors(fields, lambda field: moved[next(taken)].view(field.dtype).view(field.shape))


def constant(most: int) -> Callable[[F], F]:
    """Decorate a function that makes tensors from plain values: keep its results for the last `most` arguments.

    They are made on the CPU unless it says otherwise, and serve autograd, even if inference mode was on at the time.

    Examples:
        >>> @constant(most=1)
        ... def ramp(length: int) -> Tensor:
        ...     return torch.arange(length)
        >>> ramp(3) is ramp(3)
        True
    """

    def decorate(make: F) -> F:
        @lru_cache(maxsize=most)
        @wraps(make)
        def made(*args: Any) -> Any:
            with torch.inference_mode(False), torch.device("cpu"):
                return make(*args)

        return cast(F, made)

    return decorate


def in_parts(work: Callable[..., Tensor], x: Tensor, *params: Tensor, most: int) -> Tensor:
    """Return work(x, *params), on a CPU for some images at a time: what is computed on the way fits into its cache.

    Args:
        work: what is done to each image, whatever others are beside it.
        x: (B, C, H, W).
        params: (B, ...) each.
        most: number of images that each thread works on at a time.

    Examples:
        >>> in_parts(lambda x, factor: x * factor, torch.ones(3, 1), torch.arange(3.0)[:, None], most=2).tolist()
        [[0.0], [1.0], [2.0]]
    """
    most *= torch.get_num_threads()
    if x.device.type != "cpu" or len(x) <= most:
        return work(x, *params)
    parts = zip(*(tensor.split(most) for tensor in (x, *params)), strict=True)
    return torch.cat([work(*part) for part in parts])


def check_recipe(*, scale: int, width: tuple[float, float], noise: float, quality: float | None) -> None:
    """Raise ValueError where the ranges of a recipe make no sense.

    Examples:
        >>> check_recipe(scale=4, width=(0.2, 4.0), noise=15, quality=None)
        Traceback (most recent call last):
        ValueError: `noise`: expected a standard deviation in [0, 1], got 15; divide 8-bit units by 255
    """
    if scale < 1 or scale != int(scale):
        raise ValueError(f"`scale`: expected a whole number, 1 or more, got {scale}")
    if not 0 <= width[0] <= width[1]:
        raise ValueError(f"`width`: expected 0 <= min <= max (standard deviations, HR pixels), got {width}")
    if not 0 <= noise <= 1:
        raise ValueError(f"`noise`: expected a standard deviation in [0, 1], got {noise}; divide 8-bit units by 255")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"`quality`: expected the lowest JPEG quality, 1..100, got {quality}")


def description(recipe: Any) -> dict[str, Any]:
    """Return a recipe and its ranges in plain values, for checkpoints.

    Examples:
        >>> description(Ranges(scale=4, iso=True, width=(0.2, 4.0)))["width"]
        (0.2, 4.0)
    """
    return {"name": type(recipe).__name__, **(asdict(recipe) if is_dataclass(type(recipe)) else {})}


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The ranges that the recipes of one Gaussian blur draw from, in the units of their fields, not of the flags.

    Raises:
        ValueError: a range makes no sense.
    """

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

    @property
    def smallest(self) -> int:
        """The least HR side that `apply` takes, pixels: a reflected border is narrower than the image."""
        return self.size // 2 + 1


def one_of(known: Collection[str], **flag: str) -> str:
    """Return the value of a flag. Raise ValueError, naming the flag, if it is not one of those that are known.

    Examples:
        >>> one_of(("image", "batch"), draw_per="batches")
        Traceback (most recent call last):
        ValueError: `draw_per` batches is neither image nor batch
    """
    ((name, value),) = flag.items()
    if value not in known:
        raise ValueError(f"`{name}` {value} is neither {' nor '.join(known)}")
    return value


def given_range(low: float | None, high: float | None, *, names: tuple[str, str], recipe: str) -> tuple[float, float]:
    """Return (low, high) as floats. Raise ValueError, naming both flags, where one is None or low the larger.

    Examples:
        >>> given_range(0.2, None, names=("sig_min", "sig_max"), recipe="gaussian")
        Traceback (most recent call last):
        ValueError: `sig_min` and `sig_max`: the range that gaussian draws its kernels from needs both
    """
    if low is None or high is None:
        raise ValueError(f"`{names[0]}` and `{names[1]}`: the range that {recipe} draws its kernels from needs both")
    if low > high:
        raise ValueError(f"`{names[0]}` {low:g} is more than `{names[1]}` {high:g}")
    return float(low), float(high)


def given_quality(value: float, name: str) -> float | None:
    """Return a JPEG quality, None for 0. Raise ValueError, naming the flag, for what is neither 0 nor 1..100.

    Examples:
        >>> given_quality(50, "jpeg_low"), given_quality(0, "jpeg_low")
        (50.0, None)
    """
    if value and not 1 <= value <= 100:
        raise ValueError(f"`{name}` {value:g} must be in 1..100, or 0 for no JPEG")
    return float(value) or None


def refuse(what: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError if any of these settings, which `what` does not take, is another than none.

    Examples:
        >>> refuse("`protocol` ikc8", {"noise": 0.0, "sample_mode": "bicubic"})
        >>> refuse("`protocol` ikc8", {"noise": 15.0, "sample_mode": "bicubic"})
        Traceback (most recent call last):
        ValueError: `protocol` ikc8 takes no `noise`: leave it out
    """
    if given := [f"`{name}`" for name, value in settings.items() if value and value != "bicubic"]:
        raise ValueError(f"{what} takes no {' and no '.join(given)}: leave {'it' if len(given) == 1 else 'them'} out")


def check_lr(lr: Tensor, hr: Tensor, recipe: Any) -> Tensor:
    """Return what `recipe` has made of (B, 3, s·H, s·W). Raise ValueError unless it is (B, 3, H, W) in float32.

    Examples:
        >>> from data.degradation import Gaussian
        >>> recipe = Gaussian(scale=4, iso=True, width=(0.2, 4.0))
        >>> check_lr(torch.zeros(2, 3, 6, 6), torch.zeros(2, 3, 24, 24), recipe).shape
        torch.Size([2, 3, 6, 6])
    """
    expected = (*hr.shape[:2], hr.shape[2] // recipe.scale, hr.shape[3] // recipe.scale)
    if tuple(lr.shape) != expected or lr.dtype != torch.float32:
        raise ValueError(
            f"{type(recipe).__name__}.apply: expected to get {expected} in float32, got {tuple(lr.shape)} in "
            f"{str(lr.dtype).removeprefix('torch.')}; let it end with `quantize(...).float()`"
        )
    return lr


def check_hr(hr: Tensor, scale: int, draws: int) -> None:
    """Raise ValueError unless `hr` is (B, 3, s·H, s·W) in float32 or float64 and B degradations were drawn.

    Examples:
        >>> check_hr(torch.zeros(2, 3, 48, 48), scale=4, draws=2)
    """
    if hr.ndim != 4 or hr.shape[1] != 3:
        raise ValueError(f"`hr`: expected (B, 3, s·H, s·W), got {tuple(hr.shape)}")
    if hr.dtype not in (torch.float32, torch.float64):
        kind = str(hr.dtype).removeprefix("torch.")
        raise ValueError(f"`hr`: expected float32 or float64 in [0, 1], got {kind}; of 8 bits: `hr.float() / 255`")
    if hr.shape[2] % scale or hr.shape[3] % scale:
        raise ValueError(
            f"`hr`: expected sides that are multiples of the scale {scale}, got {tuple(hr.shape)}; crop it"
        )
    if draws != len(hr):
        raise ValueError(f"`params`: expected one degradation for each of {len(hr)} images, got {draws}")
