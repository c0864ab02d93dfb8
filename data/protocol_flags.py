"""From flags in published units, the name of a protocol, or a protocol file to the protocol of tests and validation."""

from __future__ import annotations

from dataclasses import replace
from math import radians
from pathlib import Path
from typing import Any

from data.degradation import DEGRADATIONS
from data.degradation.params import given_quality, refuse
from data.protocol import NAMED, Case, Protocol, manet_sv, one_draw
from data.protocol_file import read_protocol
from utility import argument, taken


def build_protocol(
    name: str,
    /,
    *,
    scale: int,
    degradation: str = "gaussian",
    blur_type: str = "iso_gaussian",
    sample_mode: str = "bicubic",
    noise: float = 0.0,
    noise_var: bool = False,
    sv_mode: int = 0,
    sig: float | None = None,
    lambda_1: float | None = None,
    lambda_2: float | None = None,
    theta: float = 0.0,
    jpeg_quality: float = 0.0,
    **flags: Any,
) -> Protocol:
    """Build the protocol of tests and validation.

    Args:
        name: a name in `NAMED`; a recipe in `DEGRADATIONS`, of which every test image gets one draw; `flags`, which is
            the one kernel of `sig`, or of `lambda_1`, `lambda_2` and `theta`; or a protocol file.
        scale: HR pixels per LR pixel, along each side.
        degradation: gaussian, manet or ikc, for `flags`.
        blur_type: iso_gaussian or aniso_gaussian, for `flags` and `sv_mode`.
        sample_mode: bicubic or s-fold, for kernels of the gaussian recipe.
        noise: σ in grey levels of 255.
        noise_var: another noise level in every block of 20×20 LR pixels, up to `noise` (manet).
        sv_mode: 1 to 6 take the place of `name` by spatially variant blur; iso_gaussian gives every block `sig`.
        sig: standard deviation of an iso kernel, HR pixels.
        lambda_1, lambda_2: axes of an aniso kernel: standard deviations in HR pixels (gaussian), variances (manet).
        theta: rotation of an aniso kernel, degrees.
        jpeg_quality: 1..100; 0: no JPEG.
        flags: further flags of a recipe that draws, as `degradation` takes them.

    Raises:
        ValueError: a value is missing, or contradicts another one.

    Examples:
        >>> str(build_protocol("manet9", scale=4, noise=15))
        'manet9 noise 15'
        >>> build_protocol("flags", scale=4, degradation="gaussian", sig=2.6).cases
        (Case(name='sig 2.6', width=(2.6, 2.6), theta=0.0),)
    """
    quality = given_quality(jpeg_quality, "jpeg_quality")
    changes = {"noise": noise, "noise_var": noise_var, "sample_mode": sample_mode, "jpeg_quality": jpeg_quality}
    if sv_mode:
        rule = manet_sv(scale, sv_mode, sig=_sig_of_blocks(sig) if blur_type == "iso_gaussian" else None)
    elif name == "flags":
        rule = _protocol_of_flags(scale, degradation, blur_type, sig, lambda_1, lambda_2, theta)
    elif name in NAMED:
        rule = NAMED[name](scale)
        if rule.draws:
            refuse(f"`protocol` {name}", changes)
            return rule
    elif name in DEGRADATIONS:
        known = taken(DEGRADATIONS[name])
        refuse(f"`protocol` {name}", {key: value for key, value in changes.items() if key not in known})
        return one_draw(name, scale, {**flags, **changes, "blur_type": blur_type})
    elif Path(name).is_file():
        refuse(f"`protocol` {name}", changes)
        with argument("protocol"):
            return read_protocol(Path(name), scale)
    else:
        raise ValueError(f"`protocol` {name} is none of {', '.join((*NAMED, *DEGRADATIONS))}, flags, and no file")
    if rule.recipe == "ikc":
        refuse(f"`protocol` {rule}", changes)
    if sample_mode == "s-fold":
        if rule.recipe != "gaussian":
            raise ValueError(f"`sample_mode` s-fold: {rule} takes every s-th pixel already")
        rule = replace(rule, name=f"{rule.name} s-fold", recipe="gaussian s-fold")
    if noise_var and rule.recipe not in ("manet", "manet_sv"):
        raise ValueError(f"`noise_var` belongs to the degradations of CDSR (manet); {rule} is another one")
    return replace(rule, noise=noise / 255, noise_var=bool(noise_var and noise), quality=quality)


def _sig_of_blocks(sig: float | None) -> float:
    if sig is None:
        raise ValueError(
            "`sv_mode` with `blur_type` iso_gaussian gives every block the kernel of `sig`, which is missing; "
            "the published kernels of the modes go with aniso_gaussian"
        )
    return float(sig)


def _protocol_of_flags(
    scale: int,
    degradation: str,
    blur_type: str,
    sig: float | None,
    lambda_1: float | None,
    lambda_2: float | None,
    theta: float,
) -> Protocol:
    if degradation not in ("gaussian", "manet", "ikc"):
        raise ValueError(f"`protocol` flags: one kernel goes with gaussian, manet or ikc; {degradation} draws its own")
    iso = blur_type == "iso_gaussian"
    if degradation == "ikc" and not iso:
        raise ValueError("`blur_type` aniso_gaussian: ikc has isotropic kernels")
    first, second = (sig, sig) if iso else (lambda_1, lambda_2)
    if first is None or second is None:
        needed = "`sig`" if iso else "`lambda_1` and `lambda_2`"
        raise ValueError(f"`protocol` flags with `blur_type` {blur_type} needs {needed}")
    first, second = float(first), float(second)
    name = f"sig {first:g}" if iso else f"lambda {first:g} {second:g} theta {theta:g}"
    turned = 0.0 if iso else radians(theta)
    if degradation == "manet":
        width = (first, second) if iso else (first**0.5, second**0.5)  # published: iso σ, aniso variances
        return Protocol(f"manet {name}", scale, "manet", (Case(name, width, turned),))
    title = f"ikc {name}" if degradation == "ikc" else name
    return Protocol(title, scale, degradation, (Case(name, (first, second), turned),))
