from __future__ import annotations

from math import pi, radians
from pathlib import Path

import numpy as np
import pytest
import torch

from data.degradation.kernel import gaussian_kernel, gaussian_profile, manet_kernel

PARITY = Path(__file__).parents[2] / "parity"
KDSR = np.load(PARITY / "degradation_kdsr.npz")
MANET = np.load(PARITY / "degradation_manet.npz")


def entries(file: np.lib.npyio.NpzFile, folder: str) -> list[str]:
    return [key for key in file if key.startswith(f"{folder}/")]


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def draws(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = torch.rand(batch, 3, generator=generator, dtype=torch.float64)
    return 0.2 + 3.8 * draw[:, :2], pi * draw[:, 2]


@pytest.mark.parametrize("key", entries(KDSR, "iso_kernel"))
def test_iso_parity(key):
    sigma = float(key.partition("=")[2])
    kernel = gaussian_kernel(row(sigma, sigma), None, 21)[0]
    torch.testing.assert_close(kernel, torch.from_numpy(KDSR[key]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("key", entries(KDSR, "aniso_kernel"))
def test_aniso_parity(key):
    first, second, degrees = map(float, key.partition("/")[2].split("_"))
    kernel = gaussian_kernel(row(first, second), row(radians(degrees))[0], 21)[0]
    torch.testing.assert_close(kernel, torch.from_numpy(KDSR[key]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("key", entries(MANET, "kernel"))
def test_manet_parity(key):
    scale, sig1, sig2, theta = key.partition("/x")[2].split("_")
    theta = pi / 4 if float(theta) else 0.0  # the name has four digits of it
    kernel = manet_kernel(row(float(sig1), float(sig2)).sqrt(), row(theta)[0], 21, int(scale))[0]
    torch.testing.assert_close(kernel, torch.from_numpy(MANET[key]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_sum_symmetry_and_corner(scale):
    kernel = manet_kernel(*draws(), 21, scale)
    side = 21 - scale + 1
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(6, dtype=torch.float64))
    assert kernel[:, side:].count_nonzero() == 0
    assert kernel[:, :, side:].count_nonzero() == 0
    corner = kernel[:, :side, :side]
    torch.testing.assert_close(corner, corner.flip(1, 2))


def test_rotation():
    width, theta = draws()
    kernel = gaussian_kernel(width, theta, 21)
    torch.testing.assert_close(gaussian_kernel(width, theta + pi, 21), kernel)
    torch.testing.assert_close(gaussian_kernel(width.flip(1), theta + pi / 2, 21), kernel)
    torch.testing.assert_close(gaussian_kernel(width, -theta, 21), kernel.flip(1))
    torch.testing.assert_close(gaussian_kernel(width, 0 * theta, 21), gaussian_kernel(width, None, 21))
    assert (gaussian_kernel(width, theta + 0.3, 21) - kernel).abs().amax() > 1e-3


def test_iso_ignores_rotation():
    width, theta = draws()
    width = width[:, :1].expand(-1, 2)
    torch.testing.assert_close(gaussian_kernel(width, theta, 21), gaussian_kernel(width, None, 21))


def test_first_width_is_horizontal_and_theta_turns_x_towards_y():
    kernel = gaussian_kernel(row(3.0, 0.5), None, 21)[0]
    assert kernel[10, 13] > 100 * kernel[13, 10]
    kernel = gaussian_kernel(row(3.0, 0.5), row(pi / 4)[0], 21)[0]
    assert kernel[13, 13] > 100 * kernel[13, 7]


def test_profiles_are_factors():
    width, _ = draws()
    profile = gaussian_profile(width, 21)
    product = profile[:, 1, :, None] * profile[:, 0, None, :]
    torch.testing.assert_close(product, gaussian_kernel(width, None, 21))


@pytest.mark.parametrize("theta", [None, 0.0, 0.5])
def test_no_width_is_a_delta(theta):
    kernel = gaussian_kernel(row(0.0, 0.0), None if theta is None else row(theta)[0], 21)[0]
    delta = torch.zeros(21, 21, dtype=torch.float64)
    delta[10, 10] = 1
    assert torch.equal(kernel, delta)


def test_no_denormal_numbers():
    kernel = gaussian_kernel(row(0.3, 1.0), row(0.4)[0], 21).float()
    assert kernel[kernel > 0].min() > 1e-17
