"""The ranges and probabilities of `second_order` as data: presets, and users' own JSON files, which are checked.

A file names only what differs from the preset `realesrgan`, whose file names everything:

    {"second": {"noise": {"sigma": [1, 8]}, "jpeg": {"quality": [60, 95]}}}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from data.degradation.second_order_params import FAMILIES, WINDOW, Mode

FOLDER = Path(__file__).with_name("recipes")
PRESETS = ("realesrgan", "light", "none-jpeg")
PUBLISHED = PRESETS[0]
SMALLEST_FACTOR = 0.1  # of a resize: 11 pixels, the least side that can be blurred, become one

Range = tuple[float, float]
S = TypeVar("S", bound="Section")


def _number(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(f"expected a number in {low:g}..{high:g}, found {value}")
    return float(value)


def _range(value: Any, low: float, high: float, *, around_one: bool = False) -> Range:
    wanted = f"{low:g} <= min <= {'1 <= ' if around_one else ''}max <= {high:g}"
    try:
        least, most = (_number(one, low, high) for one in value)
    except (TypeError, ValueError):
        raise ValueError(f"expected [min, max] with {wanted}, found {value}") from None
    if least > most or (around_one and not least <= 1 <= most):
        raise ValueError(f"expected [min, max] with {wanted}, found {value}")
    return least, most


def _words(value: Any, known: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"expected a list of {', '.join(map(str, known))}, found {value}")
    for one in value:
        if one not in known:
            raise ValueError(f"{one} is none of {', '.join(map(str, known))}{_nearest(one, known)}")
    return tuple(value)


def _shares(value: Any, known: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a share for each of {', '.join(known)}, found {value}")
    _ = _words(list(value), known)
    shares = {name: _number(value.get(name, 0), 0, 1) for name in known}
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"expected shares with the sum 1, found {sum(shares.values()):g}")
    return shares


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a word, found {value}")
    return value


def _nearest(word: Any, known: Iterable[Any]) -> str:
    close = difflib.get_close_matches(str(word), [str(name) for name in known], 1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _checked(check: Callable[..., Any], *limits: Any, **more: Any) -> Any:
    return field(metadata={"check": partial(check, **more), "limits": limits})


def _share() -> Any:
    return _checked(_number, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a recipe whose values are checked. Raises ValueError, naming the key, for one that is impossible."""

    def __post_init__(self) -> None:
        for key in fields(self):
            if "check" in key.metadata:
                try:
                    value = key.metadata["check"](getattr(self, key.name), *key.metadata["limits"])
                except ValueError as error:
                    raise ValueError(f"{key.name}: {error}") from None
                object.__setattr__(self, key.name, value)


@dataclass(frozen=True, kw_only=True)
class Blur(Section):
    """The blur of a pass, a kernel of `mixed.draw_blurs` for each image."""

    share: float = _share()
    """Share of the batches that are blurred."""
    width: Range = _checked(_range, 0, 100)
    """Standard deviations along each axis, pixels."""
    families: Mapping[str, float] = _checked(_shares, FAMILIES)
    """Share of each family of kernels; one that is left out never occurs."""
    generalised: Range = _checked(_range, 0.1, 10, around_one=True)
    """Exponents of the generalised families: one half from the smallest to 1, the other from 1 to the largest."""
    plateau: Range = _checked(_range, 0.1, 10, around_one=True)
    """Exponents of the plateau families, likewise."""
    cutoff: Range = _checked(_range, 0.05, 1)
    """Cutoffs of the sinc, in units of π radians per pixel."""
    cutoff_large: Range = _checked(_range, 0.05, 1)
    """The same for kernels of 13×13 and more."""
    sizes: tuple[int, ...] = _checked(_words, tuple(range(3, WINDOW + 1, 2)))
    """Sides of the kernels; all entries are equally likely."""


@dataclass(frozen=True, kw_only=True)
class Resize(Section):
    """The resize of a pass, one for a batch. The second pass resizes to LR size times the factor."""

    up: float = _share()
    """Share of the batches that are enlarged, uniformly from 1 to the largest factor."""
    down: float = _share()
    """Share of the batches that are shrunk, uniformly from 1 to the smallest factor; the others keep their size."""
    factor: Range = _checked(_range, SMALLEST_FACTOR, 4, around_one=True)
    modes: tuple[Mode, ...] = _checked(_words, get_args(Mode))
    """Interpolations; all entries are equally likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.up + self.down > 1 + 1e-9:
            raise ValueError(f"up {self.up:g} and down {self.down:g}: their sum is more than 1")


@dataclass(frozen=True, kw_only=True)
class Noise(Section):
    """The noise of a pass: its kind for a batch, its strength for each image."""

    share: float = _share()
    """Share of the batches that are noisy."""
    poisson: float = _share()
    """Share of those whose noise is Poisson's; that of the others is Gaussian."""
    sigma: Range = _checked(_range, 0, 255)
    """Standard deviations of the Gaussian noise, grey levels of 255."""
    strength: Range = _checked(_range, 0, 100)
    """Strengths of the Poisson noise; 1: as photons make it."""
    grey: float = _share()
    """Share of the images with the same noise in all channels."""


@dataclass(frozen=True, kw_only=True)
class Jpeg(Section):
    """The JPEG of a pass, a quality for each image."""

    share: float = _share()
    """Share of the batches that are compressed."""
    quality: Range = _checked(_range, 1, 100)


@dataclass(frozen=True, kw_only=True)
class Pass(Section):
    """Blur, resize, noise, JPEG."""

    share: float = _share()
    """Share of the batches that go through this pass; the others skip it."""
    blur: Blur
    resize: Resize
    noise: Noise
    jpeg: Jpeg


@dataclass(frozen=True, kw_only=True)
class Last(Section):
    """The end: the resize to LR and a filter, before or after the JPEG of the second pass."""

    sinc: float = _share()
    """Share of the images that are filtered by a sinc."""
    cutoff: Range = _checked(_range, 0.05, 1)
    """Cutoffs of that sinc, in units of π radians per pixel."""
    sizes: tuple[int, ...] = _checked(_words, tuple(range(3, WINDOW + 1, 2)))
    modes: tuple[Mode, ...] = _checked(_words, get_args(Mode))
    """Interpolations of the resize to LR."""
    jpeg_last: float = _share()
    """Share of the batches whose JPEG comes after resize and filter."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Section):
    """All ranges and probabilities of `second_order`, as `read_recipe` returns them."""

    name: str = _checked(_text)
    first: Pass
    second: Pass
    last: Last

    @property
    def changes(self) -> dict[str, Any]:
        """The differences from the published recipe, as a file has them; the name is no part of them.

        Examples:
            >>> read_recipe("none-jpeg").changes
            {'first': {'jpeg': {'share': 0.0}}, 'second': {'jpeg': {'share': 0.0}}}
        """
        return _changes(asdict(replace(self, name=PUBLISHED)), asdict(read_recipe(PUBLISHED)))


def read_recipe(recipe: str | Mapping[str, Any]) -> Recipe:
    """Return a preset by its name, or the recipe that the content of a file describes.

    Args:
        recipe: a name in `PRESETS`, or what differs from the published recipe; `name` may name it.

    Raises:
        ValueError: there is no such preset, a key is unknown or a value impossible; the nearest known one is named.

    Examples:
        >>> read_recipe({"second": {"jpeg": {"quality": [60, 95]}}}).second.jpeg.quality
        (60.0, 95.0)
        >>> read_recipe("lihgt")
        Traceback (most recent call last):
        ValueError: lihgt is neither a file nor one of realesrgan, light, none-jpeg; did you mean light?
    """
    if isinstance(recipe, str):
        if recipe not in PRESETS:
            known = ", ".join(PRESETS)
            raise ValueError(f"{recipe} is neither a file nor one of {known}{_nearest(recipe, PRESETS)}")
        content = json.loads((FOLDER / f"{recipe}.json").read_text(encoding="utf-8"))
        if recipe == PUBLISHED:
            return _make(Recipe, {"name": recipe, **content})
        recipe = {"name": recipe, **content}
    return _make(Recipe, {"name": "custom", **recipe}, base=read_recipe(PUBLISHED))


def _make(kind: type[S], values: Any, *, base: S | None = None, place: str = "") -> S:
    """Build a section of values, and of those of `base` where they say nothing."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{place.removesuffix('.')}: expected keys and values, found {values}")
    kinds = get_type_hints(kind)
    for key in values:
        if key not in kinds:
            raise ValueError(f"{place}{key} is unknown{_nearest(key, kinds)}; known are {', '.join(kinds)}")
    parts = {} if base is None else {key: getattr(base, key) for key in kinds}
    for key, value in values.items():
        if isinstance(kinds[key], type) and issubclass(kinds[key], Section):
            parts[key] = _make(kinds[key], value, base=parts.get(key), place=f"{place}{key}.")
        else:
            parts[key] = value
    try:
        return kind(**parts)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def _changes(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(usual[key], Mapping) and key != "families":
            value = _changes(value, usual[key])
            if value:
                changed[key] = value
        elif value != usual[key]:
            changed[key] = value
    return changed
