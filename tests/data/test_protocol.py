"""Test protocols: their kernels, their seeds, and that they give what the recipes give."""

import math
from dataclasses import replace

import pytest
import torch

from data.degradation import quantize
from data.degradation.resize import bicubic
from data.protocol import NAMED, aniso9, gaussian8, manet9, manet_sv, read_protocol

DIGESTS = {
    "second_order": "dc009128f40707e4",
    "bicubic": "4c95185d1767f812",
    "gaussian8": "473fedb71e1a3679",
    "aniso9": "b3bff0419a942ebd",
    "manet9": "84b3a2b59ee6b591",
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


def test_the_digest_is_of_the_meaning():
    assert gaussian8(4).digest == replace(gaussian8(4), name="mine").digest
    others = [gaussian8(2), aniso9(4), manet9(4), replace(gaussian8(4), noise=0.1), replace(gaussian8(4), quality=75.0)]
    assert len({rule.digest for rule in (gaussian8(4), *others)}) == 6


def test_digests_stay_what_they_are():
    """Results that were published with a digest must find it again: whoever changes these raises VERSION."""
    digests = {name: rule(4).digest for name, rule in NAMED.items()}
    assert digests == DIGESTS


def test_a_protocol_of_ones_own(tmp_path, hr):
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "gaussian", "kernels": [[2.6, 2.6, 0], [4.0, 1.5, 120]], "noise": 10, "jpeg": 75}')
    rule = read_protocol(path, 4)
    assert str(rule) == "mine noise 10 JPEG 75"
    assert [case.name for case in rule.cases] == ["2.6_2.6_0", "4_1.5_120"]
    path.write_text('{"recipe": "gaussian", "kernels": [[2.6, 2.6, 0]]}')
    rule, named = read_protocol(path, 4), gaussian8(4)
    assert torch.equal(rule.degrade(hr, rule.cases[0], seed="a"), named.degrade(hr, named.cases[4], seed="a"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"recipe": "gaussian"}',
        '{"recipe": "sinc", "kernels": [[1, 1, 0]]}',
        '{"recipe": "manet", "kernels": []}',
        '{"recipe": "manet", "kernels": [[1, 1, 0]], "nosie": 3}',
        '{"recipe": "manet", "kernels": [[1, 1]]}',
    ],
)
def test_protocol_files_that_are_none(content, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"--protocol .*mine\.json"):
        read_protocol(path, 4)
