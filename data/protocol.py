"""Test protocols: which kernels, which downsampler, how much noise. Named, so that a number says how it was made."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import inf, isfinite, pi, radians
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from data.degradation import Degradation, Gaussian, MANet, Params, SecondOrder, SpatiallyVariant

VERSION = 1  # of what the definitions below mean; a change of any pixel raises it
Recipe = Literal["gaussian", "gaussian s-fold", "manet", "manet_sv", "second_order"]

GAUSSIAN8 = {  # σ in HR pixels; ×2 as in KDSR's code (IKC has eight in [0.8, 1.6])
    2: (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6),
    3: (1.35, 1.5, 1.65, 1.8, 1.95, 2.1, 2.25, 2.4),
    4: (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2),
}
ANISO9 = (  # λ1, λ2 in HR pixels, θ in degrees (DASR, Table 3; KDSR does not publish its nine)
    (2.0, 0.2, 0),
    (2.0, 1.0, 10),
    (3.5, 1.5, 30),
    (3.5, 2.0, 45),
    (3.5, 2.0, 90),
    (4.0, 1.5, 120),
    (4.0, 2.0, 135),
    (4.0, 3.0, 165),
    (4.0, 4.0, 180),
)


class Case(NamedTuple):
    """One kernel of a protocol."""

    name: str
    width: tuple[float, float] | None  # standard deviations, HR pixels; None: the recipe has kernels of its own
    theta: float = 0.0  # radians


@dataclass(frozen=True)
class Protocol:
    """A definition, plain values only: its `digest` tells whether two numbers were made alike."""

    name: str
    scale: int
    recipe: Recipe
    cases: tuple[Case, ...]
    noise: float = 0.0  # σ, image range [0, 1]
    quality: float | None = None  # of JPEG, 1..100
    sv_mode: int = 0  # of manet_sv, 1..5

    def __str__(self) -> str:
        """`gaussian8`, `manet9 noise 15`, `bicubic JPEG 75`."""
        noise = f" noise {255 * self.noise:g}" if self.noise else ""
        return self.name + noise + (f" JPEG {self.quality:g}" if self.quality else "")

    @property
    def definition(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of the definition; the name is not part of it."""
        meaning = {key: value for key, value in self.definition.items() if key != "name"}
        if self.quality is not None:
            meaning["codec"] = "libjpeg"  # former ones were Real-ESRGAN's
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def smallest(self) -> int:
        """Least HR side that can be degraded, pixels."""
        return self._degradation(self.scale, self.scale).smallest

    def degrade(self, hr: Tensor, case: Case, *, seed: str) -> Tensor:
        """(3, s·H, s·W), 8-bit levels / 255 -> (3, H, W), likewise, on the same device.

        The same pixels on any device: computed in float64, so that no tie of rounding hangs on the order of a sum, with
        noise drawn on the CPU. `seed` is the name of the random draws.
        """
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{case.name}".encode()))  # always on the CPU
        recipe = self._degradation(hr.shape[1], hr.shape[2])
        if case.width is None:
            params = recipe.sample(1, generator=generator)
        else:
            params = Params(width=_one(case.width), theta=_one(case.theta) if case.theta else None)  # None is quicker
        if self.noise:
            params = params._replace(noise=_one(self.noise))
        if self.quality is not None:
            params = params._replace(quality=_one(self.quality))
        exact = (255 * hr.double()).round() / 255
        return recipe.apply(exact[None], params, generator=generator)[0]

    def _degradation(self, height: int, width: int) -> Degradation[Any]:
        if self.recipe == "manet_sv":
            return SpatiallyVariant(mode=self.sv_mode, scale=self.scale, height=height, width=width)
        if self.recipe == "second_order":
            return SecondOrder(scale=self.scale)
        if self.recipe == "manet":
            return MANet(scale=self.scale, iso=False, width=(0, 0))
        sampling = "s-fold" if self.recipe == "gaussian s-fold" else "bicubic"
        return Gaussian(scale=self.scale, iso=False, width=(0, 0), sampling=sampling)


def _one(value: float | tuple[float, ...]) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def bicubic(scale: int) -> Protocol:
    """Plain MATLAB bicubic, no blur."""
    return Protocol("bicubic", scale, "gaussian", (Case("bicubic", (0.0, 0.0)),))


def gaussian8(scale: int) -> Protocol:
    """Eight isotropic kernels (IKC, DASR, KDSR Table 1)."""
    return Protocol("gaussian8", scale, "gaussian", tuple(Case(f"{s:.2f}", (s, s)) for s in GAUSSIAN8[scale]))


def aniso9(scale: int) -> Protocol:
    """Nine anisotropic kernels, made for ×4."""
    cases = tuple(Case(f"{a}_{b}_{degrees}", (a, b), radians(degrees)) for a, b, degrees in ANISO9)
    return Protocol("aniso9", scale, "gaussian", cases)


def manet9(scale: int) -> Protocol:
    """Nine kernels an image (CDSR Table 2): variances 1, 1+s, 1+2s, and rotations 0 and 45 degrees."""
    levels = [1 + i * scale for i in range(3)]
    kernels = [
        (sig1, sig2, theta)
        for sig1 in levels
        for sig2 in levels
        for theta in (0.0, pi / 4)
        if sig2 < sig1 or (sig2 == sig1 and theta == 0.0)
    ]
    cases = tuple(Case(f"{a:.1f}_{b:.1f}_{theta:.1f}", (a**0.5, b**0.5), theta) for a, b, theta in kernels)
    return Protocol("manet9", scale, "manet", cases)


def manet_sv(scale: int, mode: int) -> Protocol:
    """Spatially variant blur, mode 1 to 5 (CDSR, MANet)."""
    return Protocol(f"manet_sv{mode}", scale, "manet_sv", (Case(f"sv{mode}", None),), sv_mode=mode)


def second_order(scale: int) -> Protocol:
    """One draw of Real-ESRGAN's degradations for each image: something to validate on where there are no real pairs."""
    return Protocol("second_order", scale, "second_order", (Case("one draw", None),))


NAMED: dict[str, Callable[[int], Protocol]] = {
    "bicubic": bicubic,
    "gaussian8": gaussian8,
    "aniso9": aniso9,
    "manet9": manet9,
    "second_order": second_order,
}


def read_protocol(path: Path, scale: int) -> Protocol:
    """A protocol of one's own, from a JSON file like

        {"recipe": "gaussian", "kernels": [[2.0, 2.0, 0], [4.0, 1.5, 120]], "noise": 10, "jpeg": 75}

    recipe: "gaussian", "gaussian s-fold" or "manet". kernels: two standard deviations in HR pixels and a rotation in
    degrees each. noise (grey levels) and jpeg (quality) may be left out. Raises ValueError naming the file and the key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kernels = [(float(a), float(b), float(degrees)) for a, b, degrees in content.pop("kernels")]
        recipe, noise = content.pop("recipe"), float(content.pop("noise", 0))
        quality = float(content.pop("jpeg")) if "jpeg" in content else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"--protocol {path}: not a protocol ({type(error).__name__}: {error})") from error
    sound = all(min(a, b) >= 0 and max(a, b) < inf and isfinite(degrees) for a, b, degrees in kernels)
    sound &= 0 <= noise <= 255 and (quality is None or 1 <= quality <= 100)
    if content or recipe not in get_args(Recipe)[:3] or not kernels or not sound:
        raise ValueError(
            f"--protocol {path}: expected recipe (one of {', '.join(get_args(Recipe)[:3])}), kernels with widths from "
            f"0 on, and perhaps noise in 0..255 and jpeg in 1..100; found recipe {recipe}, kernels {kernels}, "
            f"noise {noise:g}, jpeg {quality}" + (f", and {', '.join(content)}" if content else "")
        )
    cases = tuple(Case(f"{a:g}_{b:g}_{degrees:g}", (a, b), radians(degrees)) for a, b, degrees in kernels)
    return Protocol(path.stem, scale, recipe, cases, noise / 255, quality)
