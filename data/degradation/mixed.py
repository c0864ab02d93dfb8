"""Real-ESRGAN's mixture of blur kernels (ICCVW 2021, section 3): six families around the Gaussian, and the sinc."""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import torch
from torch import Tensor

from data.degradation.kernel import offsets, quadratic_form
from data.degradation.params import uniform

FAMILIES = (
    "iso",
    "aniso",
    "generalised iso",
    "generalised aniso",
    "plateau iso",
    "plateau aniso",
    "sinc",
)
SHARES = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
"""Share of each family: .45, .25, .12, .03, .12, .03 of the nine kernels in ten that are no sinc."""
SINC_SHARE = 0.8
"""Share of the last filters that are a sinc."""
SIZES = (7, 9, 11, 13, 15, 17, 19, 21)
_GENERALISED, _PLATEAU, _SINC = (FAMILIES.index(name) for name in ("generalised iso", "plateau iso", "sinc"))


class KernelParams(NamedTuple):
    """One kernel per sample. Fields that a family does not use hold a value without effect."""

    family: Tensor
    """(B,) index into `FAMILIES`, int64."""
    width: Tensor
    """(B, 2) standard deviations along the two axes, pixels. An iso kernel with 0 leaves the image as it is."""
    theta: Tensor
    """(B,) rotation in radians, from x (to the right) towards y (down)."""
    beta: Tensor
    """(B,) exponent of the generalised and plateau families."""
    cutoff: Tensor
    """(B,) cutoff of the sinc, radians per pixel."""
    size: Tensor
    """(B,) odd side of the kernel, int64."""


def mixed_kernel(params: KernelParams) -> Tensor:
    """Compute kernels of all families, each of its own size in the middle of a window of 21. They sum to 1.

    With q = pᵀΣ⁻¹p as in `gaussian_kernel` and r the distance from the centre: Gaussian exp(-q / 2), generalised
    exp(-q^β / 2), plateau 1 / (1 + q^β), sinc ω·J₁(ωr) / 2πr. Every family is computed for every sample and one is
    picked: a branch would read the families back to the host.

    Returns:
        (B, 21, 21) in float64. Values below float64 eps times the largest are 0, as in `gaussian_kernel`.

    Examples:
        >>> kernels = mixed_kernel(draw_blurs(4, (0.2, 3.0), torch.Generator().manual_seed(0)))
        >>> kernels.shape, kernels.sum((1, 2)).round(decimals=6).tolist()
        (torch.Size([4, 21, 21]), [1.0, 1.0, 1.0, 1.0])
    """
    family, beta, cutoff, size = (field[:, None, None] for field in (params.family, *params[3:]))
    q = quadratic_form(params.width, params.theta, SIZES[-1])
    powered = q.pow(beta.where(family >= _GENERALISED, 1.0))
    kernel = torch.where(family >= _PLATEAU, 1 / (1 + powered), torch.exp(-powered / 2))
    x = offsets(SIZES[-1], q.device)
    kernel = torch.where(family == _SINC, _sinc(torch.hypot(x, x[:, None]), cutoff), kernel)
    inside = torch.maximum(x.abs(), x.abs()[:, None]) <= size // 2
    kept = inside & (kernel.abs() >= torch.finfo(kernel.dtype).eps * kernel.abs().amax((1, 2), keepdim=True))
    kernel = kernel.where(kept, 0.0)
    return kernel / kernel.sum((1, 2), keepdim=True)


def draw_blurs(batch: int, width: tuple[float, float], generator: torch.Generator) -> KernelParams:
    """Draw kernels of the mixture: widths uniform in their range, rotations in (-π, π), sizes in 7, 9, ..., 21.

    β of a generalised kernel is U(0.5, 1) or U(1, 4), that of a plateau 1 or U(1, 2), with even chances. A sinc's
    cutoff is U(π/3, π) in sizes below 13 and U(π/5, π) from there.

    Args:
        batch: number of kernels.
        width: range of the standard deviations, pixels.
        generator: on the CPU.

    Examples:
        >>> params = draw_blurs(100, (0.2, 3.0), torch.Generator().manual_seed(0))
        >>> bool(params.width.min() >= 0.2), bool(params.width.max() <= 3.0)
        (True, True)
    """

    def draw(low: Tensor | float, high: Tensor | float) -> Tensor:
        return uniform(low, high, (batch,), generator)

    family = torch.multinomial(torch.tensor(SHARES), batch, replacement=True, generator=generator)
    size = _draw_sizes(batch, generator)
    first, second = draw(*width), draw(*width)
    steep = draw(0.0, 1.0) < 0.5
    generalised = torch.where(steep, draw(1.0, 4.0), draw(0.5, 1.0))
    plateau = torch.where(steep, draw(1.0, 2.0), 1.0)
    return KernelParams(
        family,
        torch.stack([first, torch.where(family % 2 == 0, first, second)], dim=1),
        draw(-pi, pi),
        torch.where(family < _PLATEAU, generalised, plateau),
        draw(torch.where(size < 13, pi / 3, pi / 5), pi),
        size,
    )


def draw_last_filters(batch: int, generator: torch.Generator) -> KernelParams:
    """Draw a sinc with a cutoff of U(π/3, π) eight times in ten, of a size as in `draw_blurs`; else the identity.

    Examples:
        >>> params = draw_last_filters(1000, torch.Generator().manual_seed(0))
        >>> 0.75 < float((params.family == FAMILIES.index("sinc")).float().mean()) < 0.85
        True
    """
    sinc = uniform(0.0, 1.0, (batch,), generator) < SINC_SHARE
    zeros = torch.zeros(batch, dtype=torch.float64)
    cutoff = uniform(pi / 3, pi, (batch,), generator)
    family = torch.where(sinc, _SINC, FAMILIES.index("iso"))
    return KernelParams(family, zeros[:, None].expand(-1, 2), zeros, zeros + 1, cutoff, _draw_sizes(batch, generator))


def _draw_sizes(batch: int, generator: torch.Generator) -> Tensor:
    return torch.tensor(SIZES)[torch.randint(len(SIZES), (batch,), generator=generator)]


def _sinc(radius: Tensor, cutoff: Tensor) -> Tensor:
    """Compute the circular low-pass filter, ω·J₁(ωr) / 2πr, of (B, 1, 1) cutoffs at (k, k) radii; ω² / 4π at r = 0."""
    wave = torch.special.bessel_j1(cutoff * radius)
    return torch.where(radius > 0, cutoff * wave / (2 * pi * radius.clamp(min=1)), cutoff.square() / (4 * pi))
