"""Test sets: what they are made of, and what is no part of one."""

from dataclasses import replace

import pytest
import torch

from data.find_testsets import find
from data.folders import paired
from data.images import BadImage, read_image, write_image
from data.protocol import bicubic, gaussian8, manet9
from data.testset import Degraded, to_tensor
from tests.data.random_images import noise_image, write_all

CPU = torch.device("cpu")


def test_degraded_on_the_fly(hr_folder):
    benchmark = find("Set5", [hr_folder], gaussian8(4), seed=1)
    assert isinstance(benchmark, Degraded)
    assert len(benchmark.hr_paths) == 2
    first, second = benchmark.samples(CPU)
    assert (first.image, second.image) == ("a", "b")
    assert first.hr.shape == (3, 48, 40)  # cropped to multiples of the scale
    assert first.lr.shape == (8, 3, 12, 10)
    assert first.cases == [case.name for case in gaussian8(4).cases]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_hold_whole_images_in_turn(parts, prepared_folder):
    """So that `Ranks.gather` puts their scores together in order."""
    benchmark = find(str(prepared_folder), [], manet9(2), seed=1)
    assert benchmark is not None
    shares = [[sample.image for sample in benchmark.part(i, parts).samples(CPU)] for i in range(parts)]
    images = ["baby", "old_man"]
    assert [list(dict.fromkeys(share)) for share in shares] == [images[i::parts] for i in range(parts)]
    assert sum(map(len, shares)) == len(benchmark.hr_paths) == 3


def test_sizes_that_do_not_fit_are_named(prepared_folder):
    write_image(prepared_folder / "HR_si" / "baby_1.0_1.0_0.0.png", noise_image(3, 42, 40))
    benchmark = find(str(prepared_folder), [], manet9(2), seed=1)
    assert benchmark is not None
    with pytest.raises(ValueError, match=r"baby_1\.0_1\.0_0\.0\.png is 42 x 40.*not 2 times the 20 x 20"):
        benchmark.check(at_least=1)


def test_check_names_what_is_damaged_or_too_small(hr_folder):
    benchmark = find("Set5", [hr_folder], bicubic(2), seed=1)
    assert benchmark is not None
    benchmark.check(at_least=40)
    with pytest.raises(BadImage, match=r"b\.png is 40 x 60 pixels; 41 a side"):
        benchmark.check(at_least=41)
    path = benchmark.hr_paths[1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadImage, match=r"b\.png"):
        benchmark.check(at_least=1)


def test_images_that_differ_by_their_endings_alone_are_refused(hr_folder):
    folder = hr_folder / "benchmark/Set5/HR"
    (folder / "a.bmp").write_bytes((folder / "a.png").read_bytes())
    benchmark = find("Set5", [hr_folder], bicubic(2), seed=1)
    assert benchmark is not None
    with pytest.raises(BadImage, match=r"Set5 differ by their endings alone: a\.bmp, a\.png"):
        benchmark.check(at_least=1)


def test_the_centre_of_real_pairs_and_of_degraded_images(tmp_path):
    rule = replace(bicubic(2), crop=6)
    low, high = write_all(tmp_path / "low", ["a"], 13), write_all(tmp_path / "high", ["a"], 26)
    (whole,) = paired(low, high, 2).samples(CPU)
    pairs = paired(low, high, 2, crop=6)
    pairs.check(at_least=12)
    (cut,) = pairs.samples(CPU)
    assert pairs.protocol == "paired crop6"
    assert torch.equal(cut.lr, whole.lr[..., 3:9, 3:9])
    assert torch.equal(cut.hr, whole.hr[..., 6:18, 6:18])
    with pytest.raises(BadImage, match=r"high/a\.png is 26 x 26 pixels; 28 a side are needed"):
        paired(low, high, 2, crop=14).check(at_least=1)
    degraded = Degraded("a", [high / "a.png"], rule)
    (made,) = degraded.samples(CPU)
    assert torch.equal(made.hr, cut.hr)
    assert torch.equal(made.lr[0], rule.degrade(made.hr, rule.cases[0], seed="1/a"))
    with pytest.raises(BadImage, match="28 a side are needed"):
        replace(degraded, rule=replace(rule, crop=14)).check(at_least=1)


def test_hr_images_of_pairs_may_have_rows_and_columns_too_many(tmp_path):
    low, high = write_all(tmp_path / "low", ["a"], 10), write_all(tmp_path / "high", ["a"], 23)
    benchmark = paired(low, high, 2)
    with pytest.raises(BadImage, match="not 2 times"):
        benchmark.check(at_least=1)
    benchmark = paired(low, write_all(tmp_path / "fits", ["a"], 21), 2)
    benchmark.check(at_least=1)
    (sample,) = benchmark.samples(CPU)
    assert sample.lr.shape[2:] == (10, 10)
    assert torch.equal(sample.hr, to_tensor(read_image(tmp_path / "fits/a.png"), CPU)[:, :20, :20])


def test_real_pairs_of_another_scale_name_both_files(tmp_path):
    benchmark = paired(write_all(tmp_path / "low", ["a"], 10), write_all(tmp_path / "high", ["a"], 30), 2)
    with pytest.raises(BadImage, match=r"high/a\.png is 30 x 30 pixels .*, not 2 times the 10 x 10 of .*low/a\.png"):
        benchmark.check(at_least=1)
