"""Test protocols: kernels, downsampler, noise and JPEG under a name, so that a score says how it was made."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import pi, radians
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data.degradation import DEGRADATIONS, IKC, Degradation, Gaussian, MANet, Params, SpatiallyVariant
from data.degradation.params import check_lr
from data.degradation.recipe import read_recipe
from utility import argument, printable, taken

VERSION = 1  # of what the definitions below mean; raise it when a pixel changes
CROPPED = "crop128"  # the protocol that tests the centre of real pairs, too
DRAWN = "one draw"  # the case of a recipe that draws its degradation
NO_SETTINGS = ("scale", "draw_per")  # parameters of builders that change nothing of a single image of known scale

GAUSSIAN8 = {  # σ in HR pixels; ×2 as in KDSR's code
    2: (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6),
    3: (1.35, 1.5, 1.65, 1.8, 1.95, 2.1, 2.25, 2.4),
    4: (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2),
}
IKC8 = {**GAUSSIAN8, 2: tuple(0.8 + 0.8 * i / 7 for i in range(8))}
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
    width: tuple[float, float] | None  # standard deviations, HR pixels; None: the recipe chooses the kernels
    theta: float = 0.0  # radians


@dataclass(frozen=True)
class Protocol:
    """The definition of a test, in plain values; its `digest` tells whether two numbers were made alike."""

    name: str
    scale: int
    recipe: str  # gaussian, gaussian s-fold, manet, ikc, manet_sv, or, with the case DRAWN, a name in DEGRADATIONS
    cases: tuple[Case, ...]
    noise: float = 0.0  # σ, image range [0, 1]
    quality: float | None = None  # of JPEG, 1..100
    sv_mode: int = 0  # of manet_sv, 1..6
    noise_var: bool = False  # another noise level in every block of 20×20 LR pixels (manet and manet_sv)
    settings: tuple[tuple[str, Any], ...] = ()  # flags of a recipe that draws, where they differ from its defaults
    crop: int = 0  # side of the centre of each LR image that is tested, pixels; 0: all of it

    def __str__(self) -> str:
        """Return `gaussian8`, `manet9 noise 15`, `bicubic JPEG 75`, `box radius 3`."""
        words = [self.name, *(f"{key} {value}" for key, value in self.settings if not isinstance(value, Mapping))]
        if self.noise:
            words.append(f"{'noise_var' if self.noise_var else 'noise'} {255 * self.noise:g}")
        if self.quality:
            words.append(f"JPEG {self.quality:g}")
        return " ".join(words)

    @property
    def definition(self) -> dict[str, Any]:
        """Everything that decides the pixels, and the name, as values that JSON has."""
        values = {"version": VERSION, **asdict(self), "settings": dict(self.settings)}
        # These fields are newer than the first published digests: left out where empty, they do not change those.
        return {key: value for key, value in values.items() if value or key not in ("noise_var", "settings", "crop")}

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of the definition; the name is not part of it."""
        meaning = {key: value for key, value in self.definition.items() if key != "name"}
        if self.quality is not None:
            meaning["codec"] = "libjpeg"  # the first digests were of Real-ESRGAN's
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def smallest(self) -> int:
        """The least HR side that can be degraded, pixels."""
        return max(self._degradation(self.scale, self.scale).smallest, self.crop * self.scale)

    @property
    def draws(self) -> bool:
        """True where the recipe draws everything itself, noise and JPEG too."""
        return self.cases[0].width is None and not self.sv_mode

    def degrade(self, hr: Tensor, case: Case, *, seed: str) -> Tensor:
        """Degrade (3, s·H, s·W), 8-bit levels / 255, to (3, H, W), likewise, on the same device.

        The pixels are the same on any device: they are computed in float64, so that no tie of rounding hangs on the
        order of a sum, and the noise is drawn on the CPU. `seed` names the random draws.
        """
        number = zlib.crc32(printable(f"{seed}/{case.name}").encode())
        generator = torch.Generator().manual_seed(number)  # always on the CPU
        recipe = self._degradation(hr.shape[1], hr.shape[2])
        if case.width is None or self.sv_mode:
            params = recipe.sample(1, generator=generator)
        else:
            params = Params(width=_one(case.width), theta=_one(case.theta) if case.theta else None)  # None is quicker
        if self.noise:
            params = params._replace(noise=_one(self.noise))
        if self.quality is not None:
            params = params._replace(quality=_one(self.quality))
        exact = (255 * hr.double()).round() / 255
        return check_lr(recipe.apply(exact[None], params, generator=generator), exact[None], recipe)[0]

    def _degradation(self, height: int, width: int) -> Degradation[Any]:
        if self.sv_mode:
            sig = self.cases[0].width[0] if self.cases[0].width else None
            return SpatiallyVariant(
                mode=self.sv_mode, scale=self.scale, height=height, width=width, sig=sig, noise_var=self.noise_var
            )
        if self.cases[0].width is None:
            return DEGRADATIONS[self.recipe](scale=self.scale, **dict(self.settings))
        if self.recipe == "manet":
            return MANet(scale=self.scale, iso=False, width=(0, 0), noise_var=self.noise_var)
        if self.recipe == "ikc":
            return IKC(scale=self.scale)
        sampling = "s-fold" if self.recipe == "gaussian s-fold" else "bicubic"
        return Gaussian(scale=self.scale, iso=False, width=(0, 0), sampling=sampling)


def _one(value: float | tuple[float, ...]) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def bicubic(scale: int) -> Protocol:
    """Return plain MATLAB bicubic, no blur.

    Examples:
        >>> bicubic(4).digest
        '4c95185d1767f812'
    """
    return Protocol("bicubic", scale, "gaussian", (Case("bicubic", (0.0, 0.0)),))


def gaussian8(scale: int) -> Protocol:
    """Return eight isotropic kernels (IKC, DASR, KDSR Table 1).

    Examples:
        >>> [case.name for case in gaussian8(4).cases][:3]
        ['1.80', '2.00', '2.20']
    """
    return Protocol("gaussian8", scale, "gaussian", tuple(Case(f"{s:.2f}", (s, s)) for s in GAUSSIAN8[scale]))


def ikc8(scale: int) -> Protocol:
    """Return eight isotropic kernels under IKC's own recipe, which truncates to 8 bits and shrinks as Pillow does.

    Examples:
        >>> [case.name for case in ikc8(2).cases][:3]
        ['0.80', '0.91', '1.03']
    """
    return Protocol("ikc8", scale, "ikc", tuple(Case(f"{s:.2f}", (s, s)) for s in IKC8[scale]))


def aniso9(scale: int) -> Protocol:
    """Return nine anisotropic kernels, made for ×4.

    Examples:
        >>> aniso9(4).cases[0]
        Case(name='2.0_0.2_0', width=(2.0, 0.2), theta=0.0)
    """
    cases = tuple(Case(f"{a}_{b}_{degrees}", (a, b), radians(degrees)) for a, b, degrees in ANISO9)
    return Protocol("aniso9", scale, "gaussian", cases)


def manet9(scale: int) -> Protocol:
    """Return nine kernels an image (CDSR Table 2): variances 1, 1+s, 1+2s, and rotations 0 and 45 degrees.

    Examples:
        >>> manet9(4).cases[1]
        Case(name='5.0_1.0_0.0', width=(2.23606797749979, 1.0), theta=0.0)
    """
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


def manet_sv(scale: int, mode: int, *, sig: float | None = None) -> Protocol:
    """Return spatially variant blur, mode 1 to 6 (CDSR, MANet).

    Args:
        scale: HR pixels per LR pixel, along each side.
        mode: see `SpatiallyVariant`.
        sig: standard deviation of an isotropic kernel for all blocks, HR pixels; None: the kernels of the mode.

    Examples:
        >>> str(manet_sv(4, 6)), str(manet_sv(4, 6, sig=1.5))
        ('manet_sv6', 'manet_sv6 sig 1.5')
    """
    if sig is None:
        return Protocol(f"manet_sv{mode}", scale, "manet_sv", (Case(f"sv{mode}", None),), sv_mode=mode)
    case = Case(f"sv{mode}_{sig:g}", (sig, sig))
    return Protocol(f"manet_sv{mode} sig {sig:g}", scale, "manet_sv", (case,), sv_mode=mode)


def one_draw(name: str, scale: int, flags: Mapping[str, Any] | None = None) -> Protocol:
    """Return a registered recipe as a protocol: one draw for each test image, fixed by the seed.

    It serves for validation where there are no real pairs. Raises KeyError for an unknown name.

    Args:
        name: of the recipe, in `DEGRADATIONS`.
        scale: HR pixels per LR pixel, along each side.
        flags: in published units. Those that the builder takes and that differ from its defaults enter the definition.

    Examples:
        >>> one_draw("second_order", 4).digest
        'dc009128f40707e4'
        >>> str(one_draw("second_order", 4, {"codec": "libjpeg"}))
        'second_order codec libjpeg'
        >>> str(one_draw("second_order", 4, {"recipe": "light"}))
        'second_order light'
    """
    known = taken(DEGRADATIONS[name])
    chosen = {key: value for key, value in (flags or {}).items() if key in known and key not in NO_SETTINGS}
    title = name
    if "recipe" in chosen:  # its content decides the pixels; what the name stands for may change
        with argument("recipe"):
            recipe = read_recipe(chosen.pop("recipe"))
        if recipe.changes:
            title, chosen["recipe"] = f"{name} {recipe.name}", recipe.changes
    settings = tuple(sorted((key, value) for key, value in chosen.items() if value != known[key].default))
    rule = Protocol(title, scale, name, (Case(DRAWN, None),), settings=settings)
    _ = rule.smallest  # builds the recipe: its errors come now, and not with the first image
    return rule


def crop128(scale: int) -> Protocol:
    """Return the protocol of recent real-world papers at ×4: the centre 512 × 512 of each HR image, 128 × 128 in LR.

    Real pairs are cut to it; other HR images get one draw of `second_order` each.

    Examples:
        >>> crop128(4).crop, crop128(4).smallest
        (128, 512)
    """
    return replace(one_draw("second_order", scale), name=CROPPED, crop=128)


NAMED: dict[str, Callable[[int], Protocol]] = {
    "bicubic": bicubic,
    "gaussian8": gaussian8,
    "ikc8": ikc8,
    "aniso9": aniso9,
    "manet9": manet9,
    CROPPED: crop128,
}
