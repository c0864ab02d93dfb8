"""Test protocols: their kernels, their seeds, and that they give what the recipes give."""

import math
from dataclasses import replace

import pytest
import torch

from data.degradation import IKC, quantize
from data.degradation.resize import bicubic
from data.protocol import NAMED, aniso9, gaussian8, manet9, manet_sv, one_draw
from data.protocol_flags import build_protocol

DIGESTS = {  # by the protocol in words: x2, x3, x4
    "bicubic": ("f77065262df15a6a", "5166311dc7414034", "4c95185d1767f812"),
    "gaussian8": ("591abe81dd49f2a0", "c3707ad9d7feca87", "473fedb71e1a3679"),
    "ikc8": ("4400e0fa9638cf5d", "77f090996563f0b7", "ad2300e835022d5a"),
    "aniso9": ("7977eccdc1b9ddd3", "4b646466790d6881", "b3bff0419a942ebd"),
    "manet9": ("53e22075e7a7b63a", "671584a235f507b4", "84b3a2b59ee6b591"),
    "second_order": ("8afac90a270f3e02", "e93b2f3ed0c9f042", "dc009128f40707e4"),
    "crop128": ("1134b66955362abe", "acd424311aa045c6", "0aae65c22d24ac02"),
    "manet_sv1": ("819109d11397b961", "3e4093a15044495f", "d8e3795e438ffb1f"),
    "manet_sv2": ("4a3b810bebd755c7", "528a8c1bafdf34f4", "27d51fb3384db76e"),
    "manet_sv3": ("06eb3ab83a3f9b47", "87c84dec6e02b4cb", "d87d6d46c04f829c"),
    "manet_sv4": ("d16e6560ba93ca02", "4e0ae26a38f52176", "a679976edd5dd9cd"),
    "manet_sv5": ("5414529de7eef699", "b6d9c0718bd556b1", "e097cd635a771ffe"),
    "manet9 noise 15": ("8a22dba86887f75e", "3259d8b3920f52b1", "5ea1a1d4d1b30f36"),
    "gaussian8 noise 10 JPEG 75": ("3484d72080a244d2", "79d24c9ec62597ea", "0927896298a51898"),
    "aniso9 s-fold": ("8c4c50d06268068a", "3f28b62aee579b1d", "aa83a4002bb13d0d"),
    "manet_sv5 noise 15": ("44c07e059d2fff11", "79e501e48a731e35", "f2e8b78378d70194"),
}


@pytest.fixture
def hr(photo):
    return torch.from_numpy(photo[60:156, 150:270]).permute(2, 0, 1) / 255


@pytest.mark.parametrize("scale", [2, 4])
def test_manet9_has_the_published_names_in_order(scale):
    a, b, c = (f"{1 + i * scale}.0" for i in range(3))
    kernels = [f"{a}_{a}_0.0", f"{b}_{a}_0.0", f"{b}_{a}_0.8", f"{b}_{b}_0.0"]
    kernels += [f"{c}_{a}_0.0", f"{c}_{a}_0.8", f"{c}_{b}_0.0", f"{c}_{b}_0.8", f"{c}_{c}_0.0"]
    assert [case.name for case in manet9(scale).cases] == kernels


def test_manet9_is_given_in_variances():
    case = manet9(4).cases[-2]
    assert case.width == (3.0, pytest.approx(math.sqrt(5)))
    assert case.theta == pytest.approx(math.pi / 4)


@pytest.mark.parametrize(("scale", "first", "last"), [(2, 0.9, 1.6), (3, 1.35, 2.4), (4, 1.8, 3.2)])
def test_gaussian8(scale, first, last):
    widths = [case.width[0] for case in gaussian8(scale).cases if case.width]
    assert len(widths) == 8
    assert (widths[0], widths[-1]) == (first, last)
    assert torch.tensor(widths).diff().std() < 1e-6  # evenly spaced


@pytest.mark.parametrize("scale", [2, 4])
def test_ikc8_has_the_recipe_of_ikc(scale, hr):
    rule = build_protocol("ikc8", scale=scale)
    widths = [case.width[0] for case in rule.cases if case.width]
    assert (len(widths), widths[0], widths[-1]) == (8, *{2: (0.8, pytest.approx(1.6)), 4: (1.8, 3.2)}[scale])
    one = build_protocol("flags", scale=scale, degradation="ikc", sig=widths[3])
    lr, same, other = (
        each.degrade(hr, case, seed="a")
        for each, case in ((rule, rule.cases[3]), (one, one.cases[0]), (gaussian8(scale), rule.cases[3]))
    )
    params = IKC(scale=scale).sample(1, generator=torch.Generator())
    params = params._replace(width=torch.full((1, 2), widths[3], dtype=torch.float64))
    expected = IKC(scale=scale).apply(hr[None].double(), params, generator=torch.Generator())[0]
    assert torch.equal(lr, expected)
    assert torch.equal(lr, same)
    assert 255 * (lr - other).mean() == pytest.approx(-0.5, abs=0.1)  # truncated, not rounded


def test_aniso9_is_given_in_degrees():
    assert len(aniso9(4).cases) == 9
    assert aniso9(4).cases[3].theta == pytest.approx(math.pi / 4)


@pytest.mark.parametrize("name", NAMED)
def test_every_case_gives_an_8_bit_image_of_its_own(name, hr):
    rule = NAMED[name](4)
    lr = torch.stack([rule.degrade(hr, case, seed="a") for case in rule.cases])
    assert lr.shape == (len(rule.cases), 3, 24, 30)
    torch.testing.assert_close(quantize(lr), lr, rtol=0, atol=0)
    assert len({tuple(image.flatten().tolist()) for image in lr}) == len(lr)


def test_bicubic_is_plain_bicubic(hr):
    rule = NAMED["bicubic"](4)
    lr = rule.degrade(hr, rule.cases[0], seed="a")
    expected = quantize(bicubic(hr[None], 1 / 4))[0]
    torch.testing.assert_close(lr, expected, rtol=0, atol=1.01 / 255)
    assert (lr != expected).float().mean() < 1e-3


def test_gaussian8_is_the_official_degradation(official_numbers):
    numbers = official_numbers("degradation_kdsr")
    rule = gaussian8(4)
    case = next(case for case in rule.cases if case.width == (2.6, 2.6))
    lr = rule.degrade(numbers["hr"][0] / 255, case, seed="a")
    difference = (lr * 255 - numbers["lr_iso/x4_sig=2.6"][0].float()).abs().round()
    assert difference.max() <= 1
    assert difference.mean() < 5e-4  # ties of rounding: protocols are exact, the official code sums in float32


@pytest.mark.parametrize("scale", [2, 4])
def test_manet9_is_the_official_degradation(scale, official_numbers):
    numbers = official_numbers("degradation_manet")
    rule, compared = manet9(scale), 0
    for case in rule.cases:
        sig1, sig2 = (round(width**2) for width in case.width or ())
        name = f"lr/x{scale}_{sig1}_{sig2}_{case.theta:.4f}"
        if name in numbers:
            lr = rule.degrade(numbers["hr"][0] / 255, case, seed="a")
            difference = (lr * 255 - numbers[name][0].float()).abs().round()
            assert difference.max() <= 1
            assert difference.mean() < 5e-4  # ties of rounding: protocols are exact, the official code sums in float32
            compared += 1
    assert compared == 5


def test_noise_depends_on_the_name_of_the_draw_alone(hr):
    rule = replace(manet9(4), noise=15 / 255)
    case = rule.cases[0]
    first = rule.degrade(hr, case, seed="1/baby")
    torch.testing.assert_close(rule.degrade(hr, case, seed="1/baby"), first, rtol=0, atol=0)
    assert not torch.equal(rule.degrade(hr, case, seed="1/bird"), first)
    clean = manet9(4).degrade(hr, case, seed="1/baby")
    assert 255 * (first - clean).std().item() == pytest.approx(15, rel=0.1)


def test_jpeg_of_a_protocol_shows(hr):
    rule = replace(gaussian8(4), quality=20.0)
    plain = gaussian8(4)
    assert not torch.equal(rule.degrade(hr, rule.cases[0], seed="a"), plain.degrade(hr, plain.cases[0], seed="a"))


@pytest.mark.parametrize("mode", [1, 4, 5])
def test_spatially_variant(mode, hr):
    rule = manet_sv(2, mode)
    assert [case.name for case in rule.cases] == [f"sv{mode}"]
    lr = rule.degrade(hr, rule.cases[0], seed="a")
    assert lr.shape == (3, 48, 60)
    torch.testing.assert_close(rule.degrade(hr, rule.cases[0], seed="a"), lr, rtol=0, atol=0)
    assert torch.equal(rule.degrade(hr, rule.cases[0], seed="b"), lr) == (mode != 5)  # mode 5 draws its kernels


@pytest.mark.parametrize("mode", [1, 5, 6])
def test_isotropic_blocks_are_those_of_one_kernel(mode, hr):
    blocks = build_protocol("", scale=2, sv_mode=mode, blur_type="iso_gaussian", sig=1.7)
    plain = build_protocol("flags", scale=2, degradation="manet", blur_type="iso_gaussian", sig=1.7)
    assert len({blocks.digest, plain.digest, manet_sv(2, mode).digest, manet_sv(2, mode, sig=1.8).digest}) == 4
    lr, expected = (rule.degrade(hr, rule.cases[0], seed="a") for rule in (blocks, plain))
    assert (lr - expected).abs().max() < 1.5 / 255
    assert (lr != expected).float().mean() < 1e-3


def test_noise_of_blocks_is_fixed_by_the_seed_and_within_its_range(hr):
    rule = build_protocol("manet9", scale=2, noise=15, noise_var=True)
    assert str(rule) == "manet9 noise_var 15"
    case = rule.cases[0]
    noisy = rule.degrade(hr, case, seed="a")
    assert torch.equal(noisy, rule.degrade(hr, case, seed="a"))
    noise = 255 * (noisy - manet9(2).degrade(hr, case, seed="a"))
    deviation = noise[:, :40, :60].unfold(1, 20, 20).unfold(2, 20, 20).transpose(0, 2).flatten(2).std(2).flatten()
    assert deviation.max() < 16.5
    assert deviation.max() - deviation.min() > 4  # another level in every block


def test_the_digest_is_of_the_meaning():
    assert gaussian8(4).digest == replace(gaussian8(4), name="mine").digest
    others = [gaussian8(2), aniso9(4), manet9(4), replace(gaussian8(4), noise=0.1), replace(gaussian8(4), quality=75.0)]
    assert len({rule.digest for rule in (gaussian8(4), *others)}) == 6


def test_digests_stay_what_they_are():
    """Results that were published with a digest must find it again: whoever changes these raises VERSION."""
    for place, scale in enumerate((2, 3, 4)):
        rules = [*(rule(scale) for rule in NAMED.values()), one_draw("second_order", scale)]
        rules += [manet_sv(scale, mode) for mode in range(1, 6)]
        rules += [
            build_protocol("manet9", scale=scale, noise=15),
            build_protocol("gaussian8", scale=scale, noise=10, jpeg_quality=75),
            build_protocol("aniso9", scale=scale, sample_mode="s-fold"),
            build_protocol("", scale=scale, blur_type="aniso_gaussian", sv_mode=5, noise=15),
        ]
        assert {str(rule): rule.digest for rule in rules} == {name: row[place] for name, row in DIGESTS.items()}


def test_what_is_younger_than_the_digests_is_no_part_of_old_definitions():
    old = {"version", "name", "scale", "recipe", "cases", "noise", "quality", "sv_mode"}
    assert manet9(4).definition.keys() == old
    assert "noise_var" in build_protocol("manet9", scale=4, noise=15, noise_var=True).definition
