"""Properties of every recipe, and the draws of `gaussian` and `manet`."""

from __future__ import annotations

from math import pi, radians
from pathlib import Path

import numpy as np
import pytest
import torch

from data.degradation import DEGRADATIONS, Degradation, Gaussian, MANet, Params, SpatiallyVariant, quantize
from data.degradation.params import part, repeat
from data.degradation.resize import bicubic

PARITY = Path(__file__).parents[2] / "parity"
KDSR = np.load(PARITY / "degradation_kdsr.npz")
MANET = np.load(PARITY / "degradation_manet.npz")
RECIPES: dict[str, Degradation] = {
    "gaussian iso": Gaussian(scale=4, iso=True, width=(0.2, 4.0), noise=0.1, quality=30),
    "gaussian aniso": Gaussian(scale=3, iso=False, width=(0.2, 4.0), noise=0.1),
    "gaussian s-fold": Gaussian(scale=2, iso=False, width=(0.2, 4.0), sampling="s-fold"),
    "manet iso": MANet(scale=4, iso=True, width=(0.8, 3.2), noise=0.1),
    "manet aniso": MANet(scale=3, iso=False, width=(0.7, 2.7), noise=0.1, quality=75),
    "manet blocks of noise": MANet(scale=2, iso=False, width=(0.7, 2.7), noise=0.1, noise_var=True),
    "spatial": SpatiallyVariant(mode=5, scale=2, height=48, width=60, noise=0.1),
    "spatial iso": SpatiallyVariant(mode=5, scale=2, height=48, width=60, noise=0.1, noise_var=True, sig=1.5),
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, 48, 60, generator=rng())


def photograph() -> torch.Tensor:
    return torch.from_numpy(KDSR["hr"]).float() / 255


def assert_same_levels(lr: torch.Tensor, reference: np.ndarray, share: float = 1e-4) -> None:
    """Equal but for ties of rounding: by one level, on less than this share of the pixels (never above 5e-4)."""
    assert lr.shape == reference.shape
    difference = ((lr * 255).round() - torch.from_numpy(reference).float()).abs()
    assert difference.max() <= 1
    assert difference.mean() < share


@pytest.mark.parametrize("theta", [None, 0.3])
@pytest.mark.parametrize("key", [key for key in KDSR if key.startswith("lr_iso/")])
def test_gaussian_iso_parity(key, theta):
    scale, sigma = key.removeprefix("lr_iso/x").split("_sig=")
    recipe = Gaussian(scale=int(scale), iso=True, width=(0.2, 4.0))
    params = Params(row(float(sigma), float(sigma)), None if theta is None else row(theta)[0])
    lr = recipe.apply(photograph(), params, generator=rng())
    assert_same_levels(lr, KDSR[key], share=5e-4 if theta is None else 1e-4)  # the separable products round otherwise


@pytest.mark.parametrize("key", [key for key in KDSR if key.startswith("lr_aniso")])
def test_gaussian_aniso_parity(key):
    scale, first, second, degrees = key.partition("/x")[2].split("_")
    sampling = "s-fold" if "sfold" in key else "bicubic"
    recipe = Gaussian(scale=int(scale), iso=False, width=(0.2, 4.0), sampling=sampling)
    params = Params(row(float(first), float(second)), row(radians(float(degrees)))[0])
    assert_same_levels(recipe.apply(photograph(), params, generator=rng()), KDSR[key])


@pytest.mark.parametrize("key", [key for key in MANET if key.startswith("lr/")])
def test_manet_parity(key):
    scale, sig1, sig2, theta = key.removeprefix("lr/x").split("_")
    params = Params(row(float(sig1), float(sig2)).sqrt(), row(pi / 4 if float(theta) else 0.0)[0])
    recipe = MANet(scale=int(scale), iso=False, width=(0.1, 4.0))
    assert_same_levels(recipe.apply(photograph(), params, generator=rng()), MANET[key])


@pytest.mark.parametrize("key", [key for key in MANET if key.startswith("lr_sv")])
def test_spatially_variant_parity(key):
    mode, scale = key.removeprefix("lr_sv").split("/x")
    recipe = SpatiallyVariant(mode=int(mode), scale=int(scale), height=96, width=120)
    params = recipe.sample(1, generator=rng())
    lr = recipe.apply(photograph()[..., :96, :120], params, generator=rng())
    assert_same_levels(lr, MANET[key], share=5e-4)  # one pixel of these small images is 2.6e-4


@pytest.mark.parametrize("name", RECIPES)
def test_result_is_8_bit_and_repeats_with_its_generator(name):
    recipe = RECIPES[name]

    def run(seed: int) -> torch.Tensor:
        generator = rng(seed)
        params = recipe.sample(3, generator=generator)
        return recipe.apply(images(3), params, generator=generator)

    lr = run(1)
    assert lr.shape == (3, 3, 48 // recipe.scale, 60 // recipe.scale)
    assert lr.dtype == torch.float32
    assert lr.amin() >= 0
    assert lr.amax() <= 1
    assert torch.equal(lr, quantize(lr))
    assert torch.equal(lr, run(1))
    assert not torch.equal(lr, run(2))


@pytest.mark.parametrize("name", RECIPES)
def test_batch_equals_one_by_one(name):
    recipe = RECIPES[name]
    params = recipe.sample(4, generator=rng())._replace(noise=None, quality=None)
    together = recipe.apply(images(4), params, generator=rng())
    apart = [recipe.apply(images(4)[i : i + 1], part(params, i, i + 1), generator=rng()) for i in range(4)]
    difference = (together - torch.cat(apart)).abs() * 255
    assert difference.max() < 1.5
    assert (difference > 0.5).float().mean() < 1e-3  # ties of rounding


@pytest.mark.parametrize("name", RECIPES)
def test_memory_format_does_not_matter(name):
    recipe = RECIPES[name]
    params = recipe.sample(2, generator=rng())
    contiguous = recipe.apply(images(2), params, generator=rng())
    other = recipe.apply(images(2).to(memory_format=torch.channels_last), params, generator=rng())
    assert ((contiguous - other).abs() > 0.5 / 255).float().mean() < 1e-3  # ties of rounding


@pytest.mark.parametrize("name", RECIPES)
def test_wrong_images_and_params(name):
    recipe = RECIPES[name]
    params = recipe.sample(2, generator=rng())
    with pytest.raises(ValueError, match=r"multiples of the scale .* \(2, 3, 48, 61\)"):
        recipe.apply(torch.zeros(2, 3, 48, 61), params, generator=rng())
    with pytest.raises(ValueError, match="each of 3 images, got 2"):
        recipe.apply(images(3), params, generator=rng())
    with pytest.raises(ValueError, match=r"expected \(B, 3"):
        recipe.apply(torch.zeros(2, 1, 48, 60), params, generator=rng())
    for dtype in (torch.uint8, torch.float16):
        with pytest.raises(ValueError, match=f"expected float32 or float64 in .*, got {str(dtype)[6:]}"):
            recipe.apply(torch.zeros(2, 3, 48, 60, dtype=dtype), params, generator=rng())


@pytest.mark.parametrize("recipe", [Gaussian, MANet])
@pytest.mark.parametrize(
    "field", [{"noise": 15.0}, {"width": (3.0, 1.0)}, {"quality": 0}, {"scale": 0}, {"scale": 2.5}]
)
def test_wrong_ranges(recipe, field):
    with pytest.raises(ValueError, match=next(iter(field))):
        recipe(**({"scale": 4, "iso": True, "width": (0.2, 4.0)} | field))


def test_wrong_choices():
    with pytest.raises(ValueError, match="sampling"):
        Gaussian(scale=4, iso=True, width=(0.2, 4.0), sampling="nearest")  # pyright: ignore[reportArgumentType]
    for name in ("gaussian", "manet"):
        for flag in ({"blur_type": "iso"}, {"draw_per": "batches"}, {"sample_mode": "nearest"}):
            with pytest.raises(ValueError, match="`{}` {}".format(*next(iter(flag.items())))):
                DEGRADATIONS[name](scale=4, sig_min=0.2, sig_max=4.0, **flag)
    with pytest.raises(ValueError, match="sv_mode"):
        SpatiallyVariant(mode=7, scale=4, height=48, width=48)


def test_what_validation_has_cached_serves_a_loss():
    """Caches that are filled in inference mode hold tensors that autograd may use."""
    hr = torch.rand(1, 3, 40, 36, generator=rng())
    with torch.inference_mode():
        bicubic(hr, 1 / 2)
    x = hr.clone().requires_grad_()
    bicubic(x, 1 / 2).mean().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", [*RECIPES, "second_order"])
def test_the_defaults_of_pytorch_do_not_matter(name):
    recipe = RECIPES.get(name) or DEGRADATIONS["second_order"](scale=2)
    hr = images(2) if name in RECIPES else images(2).repeat(1, 1, 2, 2)

    def degraded():
        generator = rng()
        return recipe.apply(hr, recipe.sample(2, generator=generator), generator=generator)

    expected = degraded()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = degraded()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


def test_params_are_honoured_whatever_the_recipe_draws():
    narrow, wide = row(0.5, 3.0), torch.tensor([0.7], dtype=torch.float64)
    for recipe in (Gaussian, MANet):
        iso, aniso = (recipe(scale=2, iso=iso, width=(1.0, 1.0)) for iso in (True, False))
        for params in (Params(narrow), Params(narrow, wide), Params(narrow, 0 * wide, quality=row(40)[0])):
            assert torch.equal(*(r.apply(photograph(), params, generator=rng()) for r in (iso, aniso)))
        rotated = iso.apply(photograph(), Params(narrow, wide), generator=rng())
        assert not torch.equal(rotated, iso.apply(photograph(), Params(narrow), generator=rng()))


def test_no_theta_is_theta_zero():
    params = Params(row(0.5, 3.0))
    for recipe in (
        Gaussian(scale=2, iso=True, width=(1, 1)),
        Gaussian(scale=2, iso=True, width=(1, 1), sampling="s-fold"),
        MANet(scale=2, iso=True, width=(1, 1)),
    ):
        unrotated = recipe.apply(photograph(), params, generator=rng())
        zero = recipe.apply(photograph(), params._replace(theta=row(0.0)[0]), generator=rng())
        assert_same_levels(unrotated, (zero * 255).round().numpy())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_no_width_is_plain_bicubic(scale):
    recipe = Gaussian(scale=scale, iso=True, width=(0.0, 0.0))
    lr = recipe.apply(photograph(), Params(row(0.0, 0.0)), generator=rng())
    reference = (KDSR[f"bicubic_down/x{scale}"].clip(0, 1) * 255).round()
    assert_same_levels(lr, reference)


def test_noise_comes_after_sampling():
    recipe = MANet(scale=4, iso=True, width=(1.0, 1.0))
    hr = torch.full((1, 3, 192, 192), 0.5)
    lr = recipe.apply(hr, Params(row(1.0, 1.0), noise=row(0.05)[0]), generator=rng())
    assert float((lr - 0.5).std()) == pytest.approx(0.05, rel=0.05)
    neighbours = torch.corrcoef(torch.stack([lr[..., 1:].flatten(), lr[..., :-1].flatten()]))[0, 1]
    assert abs(neighbours) < 0.05


def test_jpeg_comes_last():
    recipe = Gaussian(scale=2, iso=True, width=(1.0, 1.0))
    clean, coded = (
        recipe.apply(photograph(), Params(row(1.0, 1.0), quality=q), generator=rng()) for q in (None, row(20)[0])
    )
    assert float((clean - coded).abs().mean()) > 2 / 255


def test_repeat_is_view_major():
    params = RECIPES["manet aniso"].sample(3, generator=rng())
    views = repeat(params, 2)
    for one, two in zip(params, views, strict=True):
        assert one is not None
        assert two is not None
        assert torch.equal(two.unflatten(0, (2, 3)), torch.stack([one, one]))
    assert repeat(Params(params.width), 2).theta is None


def test_gaussian_draws(assert_uniform):
    params = Gaussian(scale=4, iso=False, width=(0.2, 4.0), noise=0.1, quality=75).sample(4000, generator=rng())
    assert params.theta is not None
    assert params.noise is not None
    assert params.quality is not None
    for draws, low, high in (
        (params.width[:, 0], 0.2, 4.0),
        (params.width[:, 1], 0.2, 4.0),
        (params.theta, 0.0, pi),
        (params.noise, 0.0, 0.1),
        (params.quality, 75.0, 100.0),
    ):
        assert_uniform(draws, low, high)
    table = torch.stack([*params.width.T, params.theta, params.noise, params.quality])
    assert (torch.corrcoef(table) - torch.eye(5)).abs().max() < 0.06


def test_gaussian_iso_draws(assert_uniform):
    params = Gaussian(scale=4, iso=True, width=(0.2, 4.0)).sample(4000, generator=rng())
    assert_uniform(params.width[:, 0], 0.2, 4.0)
    assert torch.equal(params.width[:, 0], params.width[:, 1])
    assert params[1:] == (None, None, None)


def test_manet_draws(assert_uniform):
    params = MANet(scale=4, iso=False, width=(0.7**0.5, 10**0.5), noise=0.1).sample(4000, generator=rng())
    assert params.theta is not None
    assert params.noise is not None
    first, second = params.width.square().T
    assert_uniform(first, 0.7, 10)
    assert_uniform((second - 0.7) / (first - 0.7), 0, 1)
    assert_uniform(params.theta, 0, pi)
    assert float((params.noise == 0).double().mean()) == pytest.approx(0.2, abs=0.02)
    assert_uniform(params.noise[params.noise > 0], 0, 0.1)


def test_manet_iso_draws(assert_uniform):
    """Published ranges of iso kernels are standard deviations, those of aniso ones variances."""
    params = MANet(scale=4, iso=True, width=(1.0, 3.0)).sample(4000, generator=rng())
    assert_uniform(params.width[:, 0], 1.0, 3.0)
    assert torch.equal(params.width[:, 0], params.width[:, 1])
    assert params.theta is None


@pytest.mark.parametrize("recipe", [Gaussian, MANet])
def test_one_degradation_for_the_batch(recipe):
    for per_batch in (True, False):
        degradation = recipe(scale=4, iso=False, width=(0.2, 4), noise=0.1, quality=50, per_batch=per_batch)
        params = degradation.sample(5, generator=rng())
        for field in params:
            assert len(field) == 5
        assert (len(params.width.unique(dim=0)) == 1) is per_batch
        assert (len(params.theta.unique()) == 1) is per_batch


def test_quantize():
    x = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.3])
    torch.testing.assert_close(quantize(x) * 255, torch.tensor([0.0, 0.0, 0.0, 1.0, 255.0, 255.0]))


@pytest.mark.parametrize("name", RECIPES)
def test_applying_reads_nothing_back_to_the_host(name):
    """On the meta device there are shapes and no values: whatever looks at one fails."""
    recipe = RECIPES[name]
    params = recipe.sample(2, generator=rng())
    lr = recipe.apply(images(2).to("meta"), params, generator=rng())
    assert lr.shape == (2, 3, 48 // recipe.scale, 60 // recipe.scale)
