"""Real-ESRGAN's mixture of blur kernels (ICCVW 2021, section 3): six families around the Gaussian, and the sinc."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from data.degradation.kernel import offsets, quadratic_form
from data.degradation.params import uniform
from data.degradation.recipe import Blur, Last
from data.degradation.second_order_params import FAMILIES, WINDOW, KernelParams

LARGE = 13
"""Side from which a sinc's cutoff has a range of its own, pixels."""
_GENERALISED, _PLATEAU, _SINC = (FAMILIES.index(name) for name in ("generalised iso", "plateau iso", "sinc"))


def mixed_kernel(params: KernelParams) -> Tensor:
    """Compute kernels of all families, each of its own size in the middle of a window of 21. They sum to 1.

    With q = pᵀΣ⁻¹p as in `gaussian_kernel` and r the distance from the centre: Gaussian exp(-q / 2), generalised
    exp(-q^β / 2), plateau 1 / (1 + q^β), sinc ω·J₁(ωr) / 2πr. Every family is computed for every sample and one is
    picked: a branch would read the families back to the host.

    Returns:
        (B, 21, 21) in float64. Values below float64 eps times the largest are 0, as in `gaussian_kernel`.

    Examples:
        >>> from data.degradation.recipe import read_recipe
        >>> published = read_recipe("realesrgan").first.blur
        >>> kernels = mixed_kernel(draw_blurs(4, published, torch.Generator().manual_seed(0)))
        >>> kernels.shape, kernels.sum((1, 2)).round(decimals=6).tolist()
        (torch.Size([4, 21, 21]), [1.0, 1.0, 1.0, 1.0])
    """
    family, beta, cutoff, size = (field[:, None, None] for field in (params.family, *params[3:]))
    q = quadratic_form(params.width, params.theta, WINDOW)
    powered = q.pow(beta.where(family >= _GENERALISED, 1.0))
    kernel = torch.where(family >= _PLATEAU, 1 / (1 + powered), torch.exp(-powered / 2))
    x = offsets(WINDOW, q.device)
    kernel = torch.where(family == _SINC, _sinc(torch.hypot(x, x[:, None]), cutoff), kernel)
    inside = torch.maximum(x.abs(), x.abs()[:, None]) <= size // 2
    kept = inside & (kernel.abs() >= torch.finfo(kernel.dtype).eps * kernel.abs().amax((1, 2), keepdim=True))
    kernel = kernel.where(kept, 0.0)
    return kernel / kernel.sum((1, 2), keepdim=True)


def draw_blurs(batch: int, ranges: Blur, generator: torch.Generator) -> KernelParams:
    """Draw kernels of the mixture: widths uniform in their range, rotations in (-π, π).

    β is drawn, with even chances, from below or above 1. Published: U(0.5, 1) or U(1, 4) for a generalised kernel, 1 or
    U(1, 2) for a plateau; sizes 7, 9, ..., 21; a sinc's cutoff of U(π/3, π) in sizes below 13 and U(π/5, π) from there.

    Args:
        batch: number of kernels.
        ranges: what to draw from, see `recipe.Blur`.
        generator: on the CPU.

    Examples:
        >>> from data.degradation.recipe import read_recipe
        >>> published = read_recipe("realesrgan").first.blur
        >>> params = draw_blurs(100, published, torch.Generator().manual_seed(0))
        >>> bool(params.width.min() >= 0.2), bool(params.width.max() <= 3.0)
        (True, True)
    """

    def draw(low: Tensor | float, high: Tensor | float) -> Tensor:
        return uniform(low, high, (batch,), generator)

    shares = torch.tensor([ranges.families[name] for name in FAMILIES], device=generator.device)
    family = torch.multinomial(shares, batch, replacement=True, generator=generator)
    size = _draw_sizes(batch, ranges.sizes, generator)
    first, second = draw(*ranges.width), draw(*ranges.width)
    steep = draw(0.0, 1.0) < 0.5
    (flat, narrow), (long, short) = ranges.generalised, ranges.plateau
    above, below = draw(1.0, narrow), draw(0.0, 1.0)  # `below` serves both: an image is of one family
    generalised = torch.where(steep, above, flat + (1 - flat) * below)
    plateau = torch.where(steep, draw(1.0, short), long + (1 - long) * below)
    theta = draw(-pi, pi)
    limits = zip(ranges.cutoff, ranges.cutoff_large, strict=True)
    cutoff = draw(*(torch.where(size < LARGE, pi * small, pi * large) for small, large in limits))
    return KernelParams(
        family,
        torch.stack([first, torch.where(family % 2 == 0, first, second)], dim=1),
        theta,
        torch.where(family < _PLATEAU, generalised, plateau),
        cutoff,
        size,
    )


def draw_last_filters(batch: int, ranges: Last, generator: torch.Generator) -> KernelParams:
    """Draw a sinc in the share of the images that `ranges` says, see `recipe.Last`; else the identity.

    Examples:
        >>> from data.degradation.recipe import read_recipe
        >>> params = draw_last_filters(1000, read_recipe("realesrgan").last, torch.Generator().manual_seed(0))
        >>> 0.75 < float((params.family == FAMILIES.index("sinc")).float().mean()) < 0.85
        True
    """
    sinc = uniform(0.0, 1.0, (batch,), generator) < ranges.sinc
    zeros = torch.zeros(batch, dtype=torch.float64, device=generator.device)
    cutoff = uniform(pi * ranges.cutoff[0], pi * ranges.cutoff[1], (batch,), generator)
    family = torch.where(sinc, _SINC, FAMILIES.index("iso"))
    sizes = _draw_sizes(batch, ranges.sizes, generator)
    return KernelParams(family, zeros[:, None].expand(-1, 2), zeros, zeros + 1, cutoff, sizes)


def _draw_sizes(batch: int, sizes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    drawn = torch.randint(len(sizes), (batch,), generator=generator, device=generator.device)
    return torch.tensor(sizes, device=generator.device)[drawn]


def _sinc(radius: Tensor, cutoff: Tensor) -> Tensor:
    """Compute the circular low-pass filter, ω·J₁(ωr) / 2πr, of (B, 1, 1) cutoffs at (k, k) radii; ω² / 4π at r = 0."""
    wave = torch.special.bessel_j1(cutoff * radius)
    return torch.where(radius > 0, cutoff * wave / (2 * pi * radius.clamp(min=1)), cutoff.square() / (4 * pi))
