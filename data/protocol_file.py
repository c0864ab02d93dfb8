"""Protocol files: a user's own test protocol, written as JSON."""

from __future__ import annotations

from math import inf, isfinite, radians
from pathlib import Path

from data.protocol import Case, Protocol, one_draw
from utility import read_json

RECIPES = ("gaussian", "gaussian s-fold", "manet", "ikc")  # those that a protocol file may name


def read_protocol(path: Path, scale: int) -> Protocol:
    """Read a user's own protocol from a JSON file such as

        {"recipe": "gaussian", "kernels": [[2.0, 2.0, 0], [4.0, 1.5, 120]], "noise": 10, "jpeg": 75}

    recipe: "gaussian", "gaussian s-fold", "manet" or "ikc". kernels: two standard deviations in HR pixels and a
    rotation in degrees each. noise (grey levels) and jpeg (quality) may be left out; ikc has neither. The file may also
    be a recipe of second_order (see `read_recipe`), of which every image gets one draw. Raises ValueError naming the
    file and the key.

    Examples:
        >>> read_protocol(Path("nowhere.json"), 4)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ValueError: nowhere.json is not a protocol
    """
    try:
        content = read_json(path)
        if not content.keys() & {"kernels", "recipe"}:  # which a protocol needs, and a recipe does not have
            return one_draw("second_order", scale, {"recipe": {"name": path.stem, **content}})
        kernels = [(float(a), float(b), float(degrees)) for a, b, degrees in content.pop("kernels")]
        recipe, noise = content.pop("recipe"), float(content.pop("noise", 0))
        quality = float(content.pop("jpeg")) if "jpeg" in content else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a protocol ({type(error).__name__}: {error})") from error
    sound = all(min(a, b) >= 0 and max(a, b) < inf and isfinite(degrees) for a, b, degrees in kernels)
    sound &= 0 <= noise <= 255 and (quality is None or 1 <= quality <= 100)
    if content or recipe not in RECIPES or not kernels or not sound:
        raise ValueError(
            f"{path} is not a protocol: expected recipe (one of {', '.join(RECIPES)}), kernels with widths from "
            f"0 on, and perhaps noise in 0..255 and jpeg in 1..100; found recipe {recipe}, kernels {kernels}, "
            f"noise {noise:g}, jpeg {quality}" + (f", and {', '.join(content)}" if content else "")
        )
    if recipe == "ikc" and (noise or quality is not None or any(a != b for a, b, _ in kernels)):
        raise ValueError(f"{path} is not a protocol: ikc has isotropic kernels, no noise and no jpeg")
    cases = tuple(Case(f"{a:g}_{b:g}_{degrees:g}", (a, b), radians(degrees)) for a, b, degrees in kernels)
    return Protocol(path.stem, scale, recipe, cases, noise / 255, quality)
