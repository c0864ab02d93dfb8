"""Test sets are found by their names: prepared ones, real pairs, folders of HR images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.find_testsets import check_test_sets, find, missing_test_sets, named_test_sets
from data.images import BadImage, write_image
from data.protocol import bicubic, gaussian8, manet9
from data.testset import Degraded, Prepared
from tests.data.random_images import noise_image, write_all

CPU = torch.device("cpu")


def test_test_sets_are_found_and_checked(tmp_path):
    write_all(tmp_path / "benchmark/Set5/HR", ["0", "1"], 24)
    found, missing = named_test_sets("Set5+Set14", dir_data=tmp_path, protocol=bicubic(2), seed=1, log=print)
    assert ([one.name for one in found], missing) == (["Set5"], ["Set14"])
    check_test_sets(found, at_least=24)
    with pytest.raises(BadImage, match=r"^`data_test`: .*0\.png is 24 x 24 pixels; 25 a side are needed"):
        check_test_sets(found, at_least=25)
    with pytest.raises(ValueError, match=r"^`data_test`: two sets are called Set5"):
        named_test_sets(f"Set5+{tmp_path}/benchmark/Set5", dir_data=tmp_path, protocol=bicubic(2), seed=1, log=print)
    assert named_test_sets("held-out", dir_data=tmp_path, protocol=bicubic(2), seed=1) == ([], [])
    with pytest.raises(ValueError, match="held-out stands alone"):
        named_test_sets("Set5+held-out", dir_data=tmp_path, protocol=bicubic(2), seed=1)
    for names in ("Set5+", "+Set5", "Set5++Set14", ""):
        with pytest.raises(ValueError, match="one of them is empty"):
            named_test_sets(names, dir_data=tmp_path, protocol=bicubic(2), seed=1, log=print)
    assert "there are Set5. Did you mean Set5?" in missing_test_sets(["set5"], tmp_path)
    assert "no test set Set5,Set14 (names are joined by +)" in missing_test_sets(["Set5,Set14"], None)
    assert named_test_sets("Set5", dir_data=None, protocol=bicubic(2), seed=1, log=print) == ([], ["Set5"])


def test_a_folder_without_a_name_is_told_with_its_flag(tmp_path):
    places = Path(f"{tmp_path}/a++{tmp_path}/b")
    with pytest.raises(ValueError, match=r"^`dir_data`: .*expected names of folders joined by \+, and one of them is"):
        named_test_sets("Set5", dir_data=places, protocol=bicubic(2), seed=1)
    assert named_test_sets("held-out", dir_data=places, protocol=bicubic(2), seed=1) == ([], [])


@pytest.mark.parametrize("below", [".", "DF2K", "DF2K/HR"])
def test_benchmark_is_looked_for_under_the_data_and_beside_it(below, hr_folder):
    root = hr_folder / below
    roots = [root, root.parent, root.parent.parent]
    assert find("Set5", roots, bicubic(2), seed=1) is not None
    assert find("Set14", roots, bicubic(2), seed=1) is None


def test_a_folder_by_its_path(hr_folder):
    for path in (hr_folder / "benchmark/Set5", hr_folder / "benchmark/Set5/HR"):
        benchmark = find(str(path), [], bicubic(2), seed=1)
        assert benchmark is not None
        assert len(benchmark.hr_paths) == 2


def test_prepared_sets_go_first_and_are_paired_by_name(hr_folder, prepared_folder):
    benchmark = find("Set5", [hr_folder], manet9(2), seed=1)
    assert isinstance(benchmark, Prepared)
    samples = list(benchmark.samples(CPU))
    assert [(s.image, s.cases[0]) for s in samples] == [
        ("baby", "1.0_1.0_0.0"),
        ("baby", "5.0_1.0_0.8"),
        ("old_man", "1.0_1.0_0.0"),
    ]
    assert isinstance(find("Set5", [hr_folder], gaussian8(2), seed=1), Degraded)  # another protocol's


def test_a_prepared_set_of_other_noise_leaves_the_hr_images(hr_folder, prepared_folder):
    assert isinstance(find("Set5", [hr_folder], replace(manet9(2), noise=15 / 255), seed=1), Degraded)


def test_a_set_is_named_by_its_own_folder(hr_folder):
    for path in ("benchmark/Set5", "benchmark/Set5/HR"):
        benchmark = find(str(hr_folder / path), [], bicubic(2), seed=1)
        assert benchmark is not None
        assert benchmark.name == "Set5"


@pytest.mark.parametrize("lr", ["LR", "LR_x2"])
def test_a_folder_of_real_pairs_is_found_by_its_name(lr, tmp_path):
    root = tmp_path / "NTIRE2020"
    write_all(root / lr, ["a", "b"], 10)
    write_all(root / "HR", ["a", "b"], 20)
    write_all(root / "LR_x4", ["a", "b"], 5)
    benchmark = find("NTIRE2020", [tmp_path], gaussian8(2), seed=1)
    assert isinstance(benchmark, Prepared)
    assert (benchmark.name, benchmark.protocol) == ("NTIRE2020", "paired")
    sample = next(iter(benchmark.samples(CPU)))
    assert (sample.lr.shape, sample.hr.shape) == ((1, 3, 10, 10), (3, 20, 20))
    digest = benchmark.digest
    write_image(root / lr / "a.png", noise_image(9, 10, 10))
    again = find("NTIRE2020", [tmp_path], gaussian8(2), seed=1)
    assert again is not None
    assert again.digest != digest


def test_a_linked_set_has_the_name_and_the_prepared_set_of_the_link(hr_folder, prepared_folder, tmp_path):
    (tmp_path / "benchmark/Mine").symlink_to(hr_folder / "benchmark/Set5")
    benchmark = find("Mine", [tmp_path], bicubic(2), seed=1)
    assert benchmark is not None
    assert benchmark.name == "Mine"
    (tmp_path / "benchmark/Mine_x2").symlink_to(prepared_folder)
    assert isinstance(find("Mine", [tmp_path], manet9(2), seed=1), Prepared)
