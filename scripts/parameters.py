"""Describe the parameters of one draw of a degradation in words, for any recipe, by the names of their fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import degrees, pi
from typing import Any, NamedTuple

from torch import Tensor

from data.degradation import IKC, Degradation, Gaussian, MANet, SecondOrderParams
from data.degradation.ikc import SIZE as KERNEL
from data.degradation.kernel import gaussian_kernel, manet_kernel
from data.degradation.mixed import mixed_kernel
from data.degradation.second_order_params import FAMILIES, PassParams
from scripts.drawing import widths

Values = Mapping[str, Any]


class Leaf(NamedTuple):
    """One parameter of one draw."""

    path: tuple[str, ...]
    """The names of the fields that lead to it."""
    value: Any
    """A number, a list of numbers, a truth or a word."""
    beside: Values
    """The values of its own tuple, and of those around it."""


def leaves(params: Any, path: tuple[str, ...] = (), around: Values | None = None) -> Iterator[Leaf]:
    """Yield the parameters of a batch of one, from named tuples of tensors (1, ...) and plain values, without None."""
    fields = {name: field for name, field in params._asdict().items() if field is not None}
    values = {name: field[0].tolist() if isinstance(field, Tensor) else field for name, field in fields.items()}
    beside = {**(around or {}), **values}
    for name, value in values.items():
        if isinstance(value, tuple):
            yield from leaves(value, (*path, name), beside)
        else:
            yield Leaf((*path, name), value, beside)


def _family(beside: Values) -> str:
    """Return the family of a kernel, `none` if it has no effect; in a recipe without families kernels are `aniso`."""
    family = FAMILIES[beside["family"]] if "family" in beside else "aniso"
    passed_over = not beside.get("blurred", True)
    return "none" if passed_over or (family == "iso" and beside["width"] == [0, 0]) else family


def _noise(noise: float, beside: Values) -> str:
    if not beside.get("noisy", True):
        return ""
    return f"Poisson {noise:.2f}" if beside.get("poisson") else f"noise {255 * noise:.1f}"


def _order(last: bool, second: PassParams) -> str:
    if not (second.applied and second.compressed):
        return ""
    return "JPEG after it" if last else "JPEG before it"


# By the name of the field, in the unit that people think in; "" if the field has no effect beside the others, or if one
# of them tells it already.
READABLE: dict[str, Callable[[Any, Values], str]] = {
    "applied": lambda applied, beside: "",
    "blurred": lambda blurred, beside: "",
    "noisy": lambda noisy, beside: "",
    "compressed": lambda compressed, beside: "",
    "family": lambda family, beside: _family(beside),
    "width": lambda width, beside: "" if _family(beside) in ("none", "sinc") else widths(*width),
    "theta": lambda theta, beside: f"θ {degrees(theta):.0f}°" if "aniso" in _family(beside) else "",
    "beta": lambda beta, beside: f"β {beta:.2f}" if _family(beside).split()[0] in ("generalised", "plateau") else "",
    "cutoff": lambda cutoff, beside: f"cutoff {cutoff / pi:.2f}π" if _family(beside) == "sinc" else "",
    "size": lambda size, beside: "" if _family(beside) == "none" else f"{size}×{size}",
    "code": lambda code, beside: "",
    "factor": lambda factor, beside: f"×{factor:.2f}",
    "mode": lambda mode, beside: mode,
    "poisson": lambda poisson, beside: "",
    "noise": _noise,
    "grey": lambda grey, beside: "grey" if grey and beside.get("noisy", True) else "",
    "quality": lambda quality, beside: f"JPEG {quality:.0f}" if beside.get("compressed", True) else "",
    "last_mode": lambda mode, beside: f"last resize {mode}",
    "jpeg_last": lambda last, beside: _order(last, beside["second"]),
}


def readable(leaf: Leaf) -> str:
    """Return `σ 2.31 × 0.84`, `θ 37°`, `noise 12.3` (grey levels), `JPEG 57`; unknown fields come with their names."""
    name, value = leaf.path[-1], leaf.value
    if not leaf.beside.get("applied", True):
        return ""
    return READABLE[name](value, leaf.beside) if name in READABLE else f"{name} {plain(value)}"


def plain(value: Any) -> str:
    """Return a value as digits or as a word, without what Python writes around it."""
    if isinstance(value, list):
        return " ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def described(params: Any) -> list[str]:
    """Return the parameters that have an effect, in short: a line for each of the recipe's steps."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for leaf in leaves(params):
        if text := readable(leaf):
            lines.setdefault(leaf.path[:-1], []).append(text)
    return [": ".join(filter(None, [_name(path), ", ".join(parts)])) for path, parts in lines.items()]


def _name(path: tuple[str, ...]) -> str:
    return " ".join(path).replace("_", " ")


def table(params: Any) -> str:
    """Return all parameters, one a line: the field, its value in the recipe's own unit, and the readable form."""
    rows = [(".".join(leaf.path), plain(leaf.value), readable(leaf)) for leaf in leaves(params)]
    wide = [2 + max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{row[0]:<{wide[0]}}{row[1]:<{wide[1]}}{row[2]}".rstrip() for row in rows)


def kernels(recipe: Degradation[Any], params: Any) -> dict[str, Tensor]:
    """Return the (k, k) kernels that filter a batch of one, by name; none for recipes that are not known here."""
    if isinstance(params, SecondOrderParams):
        passes = {"first blur": params.first, "second blur": params.second}
        drawn = {name: each.kernel for name, each in passes.items() if each.applied and each.blurred}
        return {name: mixed_kernel(kernel)[0] for name, kernel in {**drawn, "last filter": params.last_filter}.items()}
    if isinstance(recipe, MANet):
        return {"blur": manet_kernel(params.width, params.theta, recipe.size, recipe.scale)[0]}
    if isinstance(recipe, IKC):
        return {"blur": gaussian_kernel(params.width, None, KERNEL)[0]}
    if isinstance(recipe, Gaussian):
        return {"blur": gaussian_kernel(params.width, params.theta, recipe.size)[0]}
    return {}
