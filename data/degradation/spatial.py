"""The spatially variant recipes: a kernel for every block of an image (MANet, ICCV 2021; CDSR, ACM MM 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, pi

import torch
from torch import Tensor

from data.degradation.blur import pad
from data.degradation.finish import finish
from data.degradation.kernel import manet_kernel
from data.degradation.params import Params, check_hr, check_recipe, move_all, uniform
from runtime.precision import full_precision

MODES = range(1, 7)
_BLOCK = 40
"""Side of a block, HR pixels."""
_CHUNK = 2**24
"""Most values of a chunk of gathered neighbourhoods."""


@dataclass(frozen=True, kw_only=True)
class SpatiallyVariant:
    """Test modes 1 to 6 for HR images of one size; kernels, padding, sampling and ending are those of `MANet`.

    Every HR pixel is blurred with the kernel of its own block of 40×40. Over the h-th of nH rows and w-th of nW columns
    of blocks, with a = 2.325·s and b = 0.175·s, the variances v₁, v₂ and the rotation θ are

    1. v₁ = a + b, v₂ = a·h/nH + b, θ = 0
    2. v₁ = a·w/nW + b, v₂ = a·h/nH + b, θ = 0
    3. v₁ = a + b, v₂ = b, θ = π·h/nH
    4. v₁ = a·w/nW + b, v₂ = a·h/nH + b, θ = π·h/nH
    5. v₁, v₂ ~ U(b, a + b), θ ~ U(0, π)
    6. v₁ = a + b, v₂ = b, θ = π/4 where h + w is even, else 3π/4

    With `sig` every mode has the same isotropic kernel in all blocks, as CDSR's code with isotropic blur.

    Examples:
        >>> recipe, generator = SpatiallyVariant(mode=6, scale=2, height=80, width=120), torch.Generator()
        >>> params = recipe.sample(1, generator=generator)
        >>> params.width.shape, recipe.apply(torch.rand(1, 3, 80, 120), params, generator=generator).shape
        (torch.Size([1, 2, 3, 2]), torch.Size([1, 3, 40, 60]))
    """

    mode: int
    scale: int
    height: int
    """HR height, pixels."""
    width: int
    """HR width, pixels."""
    noise: float = 0.0
    """Standard deviation, the same for all images, image range [0, 1]; the strongest with `noise_var`."""
    noise_var: bool = False
    """Another noise level in every block of 20×20 LR pixels, drawn by `apply`."""
    sig: float | None = None
    """Standard deviation of an isotropic kernel for all blocks, HR pixels; None: the kernels of the mode."""
    size: int = 21
    """Side of the window that holds a kernel."""

    def __post_init__(self) -> None:
        check_recipe(scale=self.scale, width=(0.0, self.sig or 0.0), noise=self.noise, quality=None)
        if self.mode not in MODES:
            raise ValueError(f"`sv_mode`: expected {MODES[0]} to {MODES[-1]}, got {self.mode}")

    @property
    def smallest(self) -> int:
        """The least HR side that `apply` takes, pixels."""
        return self.scale

    def sample(self, batch: int, *, generator: torch.Generator) -> Params:
        """Draw widths (B, nH, nW, 2), rotations (B, nH, nW) and the noise (B,), on the generator's device."""
        device = generator.device
        noise = torch.full((batch,), self.noise, dtype=torch.float64, device=device) if self.noise else None
        if self.sig is not None:
            width = torch.full((batch, *self._blocks, 2), self.sig, dtype=torch.float64, device=device)
            return Params(width, None, noise)
        grid = (batch, *self._blocks)
        a, b = 2.325 * self.scale, 0.175 * self.scale
        rows, columns = (torch.arange(n, dtype=torch.float64, device=device) for n in self._blocks)
        down = (rows / len(rows))[:, None].expand(grid)  # (B, nH, nW) in [0, 1)
        across = (columns / len(columns)).expand(grid)
        top, none = torch.ones_like(down), torch.zeros_like(down)
        if self.mode == 5:
            down, across, theta = (uniform(0.0, 1.0, grid, generator) for _ in range(3))
        elif self.mode == 6:
            theta = (0.25 + 0.5 * ((rows[:, None] + columns) % 2)).expand(grid)  # a chessboard
        else:
            theta = down if self.mode in (3, 4) else none
        first = top if self.mode in (1, 3, 6) else across
        second = none if self.mode in (3, 6) else down
        variance = a * torch.stack([first, second], dim=-1) + b
        return Params(variance.sqrt(), pi * theta, noise)

    def apply(self, hr: Tensor, params: Params, *, generator: torch.Generator) -> Tensor:
        """Degrade (B, 3, s·H, s·W) in [0, 1] to (B, 3, H, W), multiples of 1/255. ValueError for another size."""
        check_hr(hr, self.scale, len(params.width))
        if hr.shape[-2:] != (self.height, self.width) or params.width.shape[1:3] != self._blocks:
            raise ValueError(
                f"`hr`: expected {self.height}×{self.width} pixels and {self._blocks} blocks, "
                f"got {tuple(hr.shape[-2:])} and {tuple(params.width.shape[1:3])}"
            )
        params = move_all(params, hr.device)
        kernels = manet_kernel(params.width, params.theta, self.size, self.scale)
        lr = _blur_blocks(255 * hr, kernels, self.scale)
        return finish(lr, params, generator, noise_var=self.noise_var)

    @property
    def _blocks(self) -> tuple[int, int]:
        return ceil(self.height / _BLOCK), ceil(self.width / _BLOCK)


@full_precision
def _blur_blocks(x: Tensor, kernels: Tensor, stride: int) -> Tensor:
    """Correlate every stride-th pixel of (B, C, H, W) with its block's kernel out of (B, nH, nW, k, k)."""
    size = kernels.shape[-1]
    kernels = kernels.to(x)
    row, column = (torch.arange(0, side, stride, device=x.device) // _BLOCK for side in x.shape[-2:])
    patches = pad(x, size, "replicate").unfold(2, size, stride).unfold(3, size, stride)  # (B, C, h, w, k, k), a view
    chunk = max(1, _CHUNK // patches[:, :, 0].numel())
    lr = [
        torch.einsum("bchwij,bhwij->bchw", part, kernels[:, rows][:, :, column])
        for part, rows in zip(patches.split(chunk, dim=2), row.split(chunk), strict=True)
    ]
    return torch.cat(lr, dim=2)
