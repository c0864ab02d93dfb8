from __future__ import annotations

from math import pi

import pytest
import torch

from data.degradation.kernel import gaussian_kernel
from data.degradation.mixed import (
    draw_blurs,
    draw_last_filters,
    mixed_kernel,
)
from data.degradation.recipe import read_recipe
from data.degradation.second_order_params import FAMILIES, KernelParams

DOUBLE = torch.float64
PUBLISHED = read_recipe("realesrgan")
SHARES = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
SIZES = (7, 9, 11, 13, 15, 17, 19, 21)
CUTOFFS = {"1.047198": pi / 3, "1.570796": pi / 2, "2.400000": 2.4}


def one(family: str, *width: float, theta=0.0, beta=1.0, cutoff=1.0, size=21) -> KernelParams:
    theta, beta, cutoff = (torch.tensor([value], dtype=DOUBLE) for value in (theta, beta, cutoff))
    widths = torch.tensor([width or (1.0, 1.0)], dtype=DOUBLE)
    return KernelParams(torch.tensor([FAMILIES.index(family)]), widths, theta, beta, cutoff, torch.tensor([size]))


def named(name: str) -> KernelParams | None:
    """The parameters of an official kernel; None for what is no kernel."""
    kind, _, values = name.partition("/")
    if kind == "sinc":
        cutoff, size = values.split("_")
        return one("sinc", cutoff=CUTOFFS[cutoff], size=int(size))
    if kind == "iso":
        return one("iso", float(values), float(values))
    family = {"aniso": "aniso", "generalized": "generalised aniso", "plateau": "plateau aniso"}.get(kind)
    if family is None:
        return None
    first, second, theta, *beta = map(float, values.split("_"))
    return one(family, first, second, theta=theta, beta=beta[0] if beta else 1.0)


def join(kernels: list[KernelParams]) -> KernelParams:
    return KernelParams(*map(torch.cat, zip(*kernels, strict=True)))


def test_parity_of_all_families_in_one_batch(official_numbers):
    official = [(params, kernel) for name, kernel in official_numbers("realesrgan").items() if (params := named(name))]
    assert len(official) == 14
    kernels = mixed_kernel(join([params for params, _ in official]))
    torch.testing.assert_close(kernels, torch.stack([kernel for _, kernel in official]), rtol=0, atol=1e-6)


def test_sum_symmetry_and_size():
    params = draw_blurs(500, PUBLISHED.first.blur, torch.Generator().manual_seed(0))
    kernels = mixed_kernel(params)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(500, dtype=DOUBLE))
    torch.testing.assert_close(kernels, kernels.flip(1, 2))
    for size in SIZES:
        chosen = kernels[params.size == size]
        margin = (21 - size) // 2
        inner = chosen[:, margin : 21 - margin, margin : 21 - margin]
        assert inner.count_nonzero() == chosen.count_nonzero() > 0
    plateaus = kernels[(params.size == 13) & ((params.family == 4) | (params.family == 5))]
    assert (plateaus[:, 4, 4:17] > 0).all()  # their tails are long: they fill their size


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "sinc"])
def test_rotation(family):
    def kernel_at(angle: float) -> torch.Tensor:
        return mixed_kernel(one(family, 0.7, 2.5, theta=angle, beta=1.6))

    kernel = kernel_at(0.4)
    torch.testing.assert_close(kernel_at(0.4 + pi), kernel)
    torch.testing.assert_close(kernel_at(-0.4), kernel.flip(1))
    torch.testing.assert_close(kernel_at(0.4 + pi / 2), kernel.rot90(-1, (1, 2)))
    torch.testing.assert_close(kernel_at(pi / 2), kernel_at(0.0).mT)
    assert (kernel - kernel.mT).abs().max() > 1e-3


def test_beta_1_is_the_gaussian_and_its_cousin():
    gaussian = gaussian_kernel(torch.tensor([[0.7, 2.5]], dtype=DOUBLE), torch.tensor([0.4], dtype=DOUBLE), 21)
    for family, beta in (("aniso", 1.0), ("aniso", 3.0), ("generalised aniso", 1.0)):
        torch.testing.assert_close(mixed_kernel(one(family, 0.7, 2.5, theta=0.4, beta=beta)), gaussian)
    plateau = mixed_kernel(one("plateau aniso", 0.7, 2.5, theta=0.4))
    ratio = plateau / plateau[:, 10:11, 10:11]
    q = -2 * (gaussian / gaussian[:, 10:11, 10:11]).log()
    near = gaussian > 1e-9
    torch.testing.assert_close(ratio[near], (1 / (1 + q))[near])


def test_beta_steepens():
    for family in ("generalised iso", "plateau iso"):
        kernels = torch.cat([mixed_kernel(one(family, 2.0, 2.0, beta=beta)) for beta in (0.5, 1.0, 2.0, 4.0)])
        corner = kernels[:, 0, 0]
        assert corner.tolist() == sorted(corner.tolist(), reverse=True)
        inside = kernels[:, 10, 8] / kernels[:, 10, 10]
        edge = kernels[:, 10, 7] / kernels[:, 10, 9]
        assert inside.max() < 1  # one standard deviation away
        assert edge.tolist() == sorted(edge.tolist(), reverse=True)


@pytest.mark.parametrize("cutoff", [pi / 5, pi / 3, 2.0, pi])
def test_sinc_is_radial(cutoff):
    kernel = mixed_kernel(one("sinc", cutoff=cutoff, size=21))[0]
    torch.testing.assert_close(kernel, kernel.mT)
    torch.testing.assert_close(kernel, kernel.flip(0))
    torch.testing.assert_close(kernel[10, 15], kernel[13, 14])  # 5 pixels from the centre, both
    small = mixed_kernel(one("sinc", cutoff=cutoff, size=11))[0, 5:16, 5:16]
    torch.testing.assert_close(small * kernel[10, 10], kernel[5:16, 5:16] * small[5, 5])  # cut out of the same


def test_sinc_lets_low_frequencies_pass():
    kernel = mixed_kernel(one("sinc", cutoff=pi / 2))[0]
    x = torch.arange(-10, 11, dtype=DOUBLE)
    assert float((kernel * torch.cos(pi / 4 * x)).sum()) == pytest.approx(1, abs=0.1)
    assert float((kernel * torch.cos(3 * pi / 4 * x)).sum()) == pytest.approx(0, abs=0.1)


def test_no_width_is_a_delta():
    kernel = mixed_kernel(one("iso", 0.0, 0.0, size=7))[0]
    assert kernel[10, 10] == 1
    assert kernel.count_nonzero() == 1


def test_no_denormal_numbers():
    kernels = mixed_kernel(draw_blurs(500, PUBLISHED.first.blur, torch.Generator().manual_seed(0))).float()
    assert kernels[kernels != 0].abs().min() > 1e-19


def test_batch_equals_one_by_one():
    params = draw_blurs(40, PUBLISHED.first.blur, torch.Generator().manual_seed(1))
    single = [mixed_kernel(KernelParams(*(field[i : i + 1] for field in params))) for i in range(40)]
    torch.testing.assert_close(mixed_kernel(params), torch.cat(single))


def test_ten_thousand_blurs(assert_shares, assert_uniform):
    family, width, theta, beta, cutoff, size = draw_blurs(
        10_000, PUBLISHED.first.blur, torch.Generator().manual_seed(0)
    )
    gaussians = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    assert pytest.approx([0.9 * share for share in gaussians] + [0.1]) == list(SHARES)
    assert_shares(family, dict(enumerate(SHARES)))
    assert_shares(size, dict.fromkeys(SIZES, 1 / 8))
    assert_shares(family[size < 13], dict(enumerate(SHARES)))  # not by size
    iso = (family == 0) | (family == 2) | (family == 4)
    aniso = (family == 1) | (family == 3) | (family == 5)
    assert torch.equal(width[iso, 0], width[iso, 1])
    assert not (width[aniso, 0] == width[aniso, 1]).any()
    for chosen in (iso, aniso):
        assert_uniform(width[chosen, 0], 0.2, 3.0)
        assert_uniform(width[chosen, 1], 0.2, 3.0)
    assert_uniform(theta[aniso], -pi, pi)
    sinc = family == 6
    assert_uniform(cutoff[sinc & (size < 13)], pi / 3, pi)
    assert_uniform(cutoff[sinc & (size >= 13)], pi / 5, pi)
    generalised, plateau = beta[(family == 2) | (family == 3)], beta[(family == 4) | (family == 5)]
    assert_shares((generalised < 1).int(), {0: 0.5, 1: 0.5})
    assert_uniform(generalised[generalised < 1], 0.5, 1.0)
    assert_uniform(generalised[generalised >= 1], 1.0, 4.0)
    assert_shares((plateau == 1).int(), {0: 0.5, 1: 0.5})
    assert_uniform(plateau[plateau > 1], 1.0, 2.0)


def test_ten_thousand_last_filters(assert_shares, assert_uniform):
    params = draw_last_filters(10_000, PUBLISHED.last, torch.Generator().manual_seed(0))
    assert_shares(params.family, {0: 0.2, 6: 0.8})
    assert_uniform(params.cutoff, pi / 3, pi)
    assert_shares(params.size, dict.fromkeys(SIZES, 1 / 8))
    identity = KernelParams(*(field[params.family == 0][:5] for field in params))
    kernels = mixed_kernel(identity)
    assert kernels.count_nonzero() == 5
    assert (kernels[:, 10, 10] == 1).all()
