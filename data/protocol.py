"""Test protocols: which kernels, which downsampler, how much noise. Named, so that a number says how it was made."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi, radians
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from data.degradation import Degradation, Gaussian, MANet, Params, SpatiallyVariant

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
    """name: as it is reported. family: whose prepared images fit. recipe: (HR height, width) to the degradation.

    noise: σ in [0, 1]. quality: of JPEG, 1..100.
    """

    name: str
    family: Literal["gaussian", "manet"]
    scale: int
    recipe: Callable[[int, int], Degradation]
    cases: tuple[Case, ...]
    noise: float | None = None
    quality: float | None = None

    def __str__(self) -> str:
        """`gaussian8`, `manet9 noise 15`, `bicubic JPEG 75`."""
        noise = f" noise {255 * self.noise:g}" if self.noise else ""
        return self.name + noise + (f" JPEG {self.quality:g}" if self.quality else "")

    def degrade(self, hr: Tensor, case: Case, *, seed: str) -> Tensor:
        """(3, s·H, s·W), 8-bit levels / 255 -> (3, H, W), likewise, on the same device.

        The same pixels on any device: computed in float64, so that no tie of rounding hangs on the order of a sum, with
        noise drawn on the CPU. `seed` is the name of the random draws.
        """
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{case.name}".encode()))  # always on the CPU
        recipe = self.recipe(hr.shape[1], hr.shape[2])
        if case.width is None:
            params = recipe.sample(1, generator=generator)
        else:
            params = Params(width=_one(case.width), theta=_one(case.theta))
        if self.noise is not None:
            params = params._replace(noise=_one(self.noise))
        if self.quality is not None:
            params = params._replace(quality=_one(self.quality))
        exact = (255 * hr.double()).round() / 255
        return recipe.apply(exact[None], params, generator=generator)[0]


def _one(value: float | tuple[float, ...]) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def under_gaussian(name: str, scale: int, *cases: Case) -> Protocol:
    """These kernels, then MATLAB bicubic."""
    recipe = Gaussian(scale=scale, iso=False, width=(0, 0))
    return Protocol(name, "gaussian", scale, lambda height, width: recipe, cases)


def under_manet(name: str, scale: int, *cases: Case) -> Protocol:
    """These kernels, off-centre as CDSR has them, then every s-th pixel."""
    recipe = MANet(scale=scale, iso=False, width=(0, 0))
    return Protocol(name, "manet", scale, lambda height, width: recipe, cases)


def s_fold(rule: Protocol) -> Protocol:
    """A `gaussian` protocol that takes every s-th pixel instead of bicubic interpolation."""
    recipe = Gaussian(scale=rule.scale, iso=False, width=(0, 0), sampling="s-fold")
    return replace(rule, name=f"{rule.name} s-fold", recipe=lambda height, width: recipe)


def bicubic(scale: int) -> Protocol:
    """Plain MATLAB bicubic, no blur."""
    return under_gaussian("bicubic", scale, Case("bicubic", (0.0, 0.0)))


def gaussian8(scale: int) -> Protocol:
    """Eight isotropic kernels (IKC, DASR, KDSR Table 1)."""
    return under_gaussian("gaussian8", scale, *(Case(f"{sigma:.2f}", (sigma, sigma)) for sigma in GAUSSIAN8[scale]))


def aniso9(scale: int) -> Protocol:
    """Nine anisotropic kernels, made for ×4."""
    cases = (Case(f"{a}_{b}_{degrees}", (a, b), radians(degrees)) for a, b, degrees in ANISO9)
    return under_gaussian("aniso9", scale, *cases)


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
    cases = (Case(f"{a:.1f}_{b:.1f}_{theta:.1f}", (a**0.5, b**0.5), theta) for a, b, theta in kernels)
    return under_manet("manet9", scale, *cases)


def manet_sv(scale: int, mode: int) -> Protocol:
    """Spatially variant blur, mode 1 to 5 (CDSR, MANet)."""

    def recipe(height: int, width: int) -> SpatiallyVariant:
        return SpatiallyVariant(mode=mode, scale=scale, height=height, width=width)

    return Protocol(f"manet_sv{mode}", "manet", scale, recipe, (Case(f"sv{mode}", None),))


NAMED: dict[str, Callable[[int], Protocol]] = {
    "bicubic": bicubic,
    "gaussian8": gaussian8,
    "aniso9": aniso9,
    "manet9": manet9,
}
