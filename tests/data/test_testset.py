"""Test sets: found by name, paired by name."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.folders import find, paired, read_manifest
from data.images import BadImage, write_image
from data.protocol import bicubic, gaussian8, manet9, manet_sv
from data.testset import Degraded, Prepared, pixel_digest

CPU = torch.device("cpu")


def noise_image(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def hr_folder(tmp_path):
    folder = tmp_path / "benchmark" / "Set5" / "HR"
    folder.mkdir(parents=True)
    write_image(folder / "a.png", noise_image(0, 50, 43))
    write_image(folder / "b.png", noise_image(1, 40, 60))
    return tmp_path


@pytest.fixture
def prepared_folder(tmp_path):
    folder = tmp_path / "benchmark" / "Set5_x2"
    for part, side in (("HR_si", 40), ("LR_mode0_noise0", 20)):
        (folder / part).mkdir(parents=True)
        for i, name in enumerate(("baby_1.0_1.0_0.0", "baby_5.0_1.0_0.8", "old_man_1.0_1.0_0.0")):
            write_image(folder / part / f"{name}.png", noise_image(i, side, side))
    return folder


def test_degraded_on_the_fly(hr_folder):
    benchmark = find("Set5", [hr_folder], gaussian8(4), seed=1)
    assert isinstance(benchmark, Degraded)
    assert len(benchmark.hr_paths) == 2
    first, second = benchmark.samples(CPU)
    assert (first.image, second.image) == ("a", "b")
    assert first.hr.shape == (3, 48, 40)  # cropped to multiples of the scale
    assert first.lr.shape == (8, 3, 12, 10)
    assert first.cases == [case.name for case in gaussian8(4).cases]


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


def test_pairs_without_a_partner_are_named(prepared_folder):
    (prepared_folder / "LR_mode0_noise0" / "baby_5.0_1.0_0.8.png").rename(
        prepared_folder / "LR_mode0_noise0" / "bady_5.0_1.0_0.8.png"
    )
    with pytest.raises(ValueError, match=r"baby_5\.0_1\.0_0\.8, bady_5\.0_1\.0_0\.8"):
        find(str(prepared_folder), [], manet9(2), seed=1)


def test_missing_noise_level_tells_what_is_there(prepared_folder):
    with pytest.raises(ValueError, match=r"holds LR_mode0_noise0, and none.*manet9 noise 15.*LR_mode0_noise15"):
        find(str(prepared_folder), [], replace(manet9(2), noise=15 / 255), seed=1)


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


def test_a_prepared_set_of_other_noise_leaves_the_hr_images(hr_folder, prepared_folder):
    assert isinstance(find("Set5", [hr_folder], replace(manet9(2), noise=15 / 255), seed=1), Degraded)


def test_published_sets_have_no_jpeg(prepared_folder):
    with pytest.raises(ValueError, match="JPEG 30"):
        find(str(prepared_folder), [], replace(manet9(2), quality=30.0), seed=1)


def test_a_set_is_named_by_its_own_folder(hr_folder):
    for path in ("benchmark/Set5", "benchmark/Set5/HR"):
        benchmark = find(str(hr_folder / path), [], bicubic(2), seed=1)
        assert benchmark is not None
        assert benchmark.name == "Set5"


def write_all(folder, names, side):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        write_image(folder / f"{name}.png", noise_image(i, side, side))
    return folder


@pytest.mark.parametrize(
    ("lr", "hr", "images"),
    [
        (["0801", "0802"], ["0801", "0802"], ["0801", "0802"]),
        (["0801x2", "0802x2"], ["0801", "0802"], ["0801", "0802"]),
        (["0801_x2", "0802_x2"], ["0801_HR", "0802_HR"], ["0801", "0802"]),
        (["Canon_001_LR2", "Nikon_001_LR2"], ["Canon_001_HR", "Nikon_001_HR"], ["Canon_001", "Nikon_001"]),
        (["box", "box2"], ["box", "box2"], ["box", "box2"]),  # that 2 belongs to the name
        (["a", "a_x2"], ["a", "a_x2"], ["a", "a_x2"]),  # and this ending to the image
    ],
)
def test_real_pairs_by_name(lr, hr, images, tmp_path):
    pairs = paired(write_all(tmp_path / "low", lr, 10), write_all(tmp_path / "high", hr, 20), 2).pairs
    assert [pair.image for pair in pairs] == images
    assert [(pair.lr.stem, pair.hr.stem) for pair in pairs] == list(zip(lr, hr, strict=True))


@pytest.mark.parametrize(
    ("lr", "hr", "wrong"),
    [
        (["a", "b"], ["a", "c"], ["low/b", "high/c"]),
        (["a", "b"], ["a"], ["low/b"]),
        (["a_x2", "a_LR"], ["a_HR"], ["low/a_LR", "low/a_x2", "high/a_HR"]),  # which of the two?
        (["a_x3"], ["a"], ["low/a_x3", "high/a"]),  # of another scale
    ],
)
def test_real_images_without_one_partner_are_named(lr, hr, wrong, tmp_path):
    folders = write_all(tmp_path / "low", lr, 10), write_all(tmp_path / "high", hr, 20)
    listed = ", ".join(str(tmp_path / f"{name}.png") for name in wrong)
    with pytest.raises(ValueError, match=rf"^{len(wrong)} of .* no partner.*: {re.escape(listed)}$"):
        paired(*folders, 2)


def test_real_pairs_of_one_folder(tmp_path):
    """RealSR keeps both there."""
    folder = write_all(tmp_path, ["Canon_001_LR2", "Canon_002_LR2"], 10)
    write_all(tmp_path, ["Canon_001_HR", "Canon_002_HR"], 20)
    benchmark = paired(folder, folder, 2)
    benchmark.check(at_least=20)
    assert [pair.hr.stem for pair in benchmark.pairs] == ["Canon_001_HR", "Canon_002_HR"]


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


@pytest.mark.parametrize(
    ("lr", "name"), [("LR", "track"), ("LR_x2", "track"), ("LR_clean", "track_LR_clean"), ("photos", "photos")]
)
def test_results_of_several_lr_folders_have_names_of_their_own(lr, name, tmp_path):
    track = tmp_path / "track"
    assert paired(write_all(track / lr, ["a"], 10), write_all(track / "HR", ["a"], 20), 2).name == name


def test_images_that_differ_by_their_endings_alone_are_refused(hr_folder):
    folder = hr_folder / "benchmark/Set5/HR"
    (folder / "a.bmp").write_bytes((folder / "a.png").read_bytes())
    benchmark = find("Set5", [hr_folder], bicubic(2), seed=1)
    assert benchmark is not None
    with pytest.raises(BadImage, match=r"Set5 differ by their endings alone: a\.bmp, a\.png"):
        benchmark.check(at_least=1)


def test_a_linked_set_has_the_name_and_the_prepared_set_of_the_link(hr_folder, prepared_folder, tmp_path):
    (tmp_path / "benchmark/Mine").symlink_to(hr_folder / "benchmark/Set5")
    benchmark = find("Mine", [tmp_path], bicubic(2), seed=1)
    assert benchmark is not None
    assert benchmark.name == "Mine"
    (tmp_path / "benchmark/Mine_x2").symlink_to(prepared_folder)
    assert isinstance(find("Mine", [tmp_path], manet9(2), seed=1), Prepared)


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


def test_real_pairs_of_another_scale_name_both_files(tmp_path):
    benchmark = paired(write_all(tmp_path / "low", ["a"], 10), write_all(tmp_path / "high", ["a"], 30), 2)
    with pytest.raises(BadImage, match=r"high/a\.png is 30 x 30 pixels, not 2 times the 10 x 10 of .*low/a\.png"):
        benchmark.check(at_least=1)


def test_a_missing_hr_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none"):
        paired(write_all(tmp_path / "low", ["a"], 10), tmp_path / "none", 2)


# ------------------------------------------------------------------------------------------------ manifests


@pytest.fixture
def manifest_of(prepared_folder):
    """Write the manifest of a prepared set, with the changes that are given for its first image."""

    def write(rule=None, **changes):
        rule = rule or manet9(2)
        images = []
        for i, name in enumerate(("baby_1.0_1.0_0.0", "baby_5.0_1.0_0.8", "old_man_1.0_1.0_0.0")):
            lr, hr = (pixel_digest(noise_image(i, side, side)) for side in (20, 40))
            image, case = name[: -len("_1.0_1.0_0.0")], name[-len("1.0_1.0_0.0") :]
            images.append({"name": name, "image": image, "case": case, "lr_sha256": lr, "hr_sha256": hr})
        images[0] |= changes
        made = {"protocol": str(rule), "digest": rule.digest, "seed": 1, "source": "", "images": images}
        (prepared_folder / "manifest.json").write_text(json.dumps({"LR_mode0_noise0": made}))
        return prepared_folder

    return write


def test_the_images_of_a_manifest_are_verified(manifest_of):
    folder = manifest_of()
    test_set = find(str(folder), [], manet9(2), seed=1)
    assert test_set is not None
    assert test_set.digest == manet9(2).digest
    assert len(list(test_set.samples(CPU))) == 3
    for part, side in (("LR_mode0_noise0", 20), ("HR_si", 40)):
        write_image(folder / part / "baby_5.0_1.0_0.8.png", noise_image(7, side, side))
        with pytest.raises(BadImage, match=rf"{part}/baby_5\.0_1\.0_0\.8\.png is not the image that manifest\.json"):
            list(test_set.samples(CPU))
        write_image(folder / part / "baby_5.0_1.0_0.8.png", noise_image(1, side, side))
    assert len(list(test_set.samples(CPU))) == 3


def test_older_manifests_without_hashes_are_read(manifest_of):
    test_set = find(str(manifest_of(lr_sha256=None, hr_sha256=None)), [], manet9(2), seed=1)
    assert test_set is not None
    assert len(list(test_set.samples(CPU))) == 3


@pytest.mark.parametrize("key", ["name", "image", "case"])
@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "..", ".", "", "a\\b", "a\n", 7, None])
def test_names_that_lead_out_of_the_folder_are_refused(key, name, manifest_of):
    folder = manifest_of(**{key: name})
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .* is not a plain file name"):
        find(str(folder), [], manet9(2), seed=1)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"LR_mode0_noise0": {}}', '{"LR_mode0_noise0": 3}'])
def test_a_damaged_manifest_is_named(content, prepared_folder):
    (prepared_folder / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        read_manifest(prepared_folder)


def test_published_sets_have_one_noise_level_for_an_image(prepared_folder):
    (prepared_folder / "LR_mode0_noise0").rename(prepared_folder / "LR_mode0_noise15")
    assert find(str(prepared_folder), [], replace(manet9(2), noise=15 / 255), seed=1) is not None
    with pytest.raises(ValueError, match="manet9 noise_var 15"):
        find(str(prepared_folder), [], replace(manet9(2), noise=15 / 255, noise_var=True), seed=1)


def test_isotropic_blocks_are_not_the_published_ones(prepared_folder):
    for part in ("HR", "LR"):
        old = next(prepared_folder.glob(f"{part}_*"))
        old.rename(prepared_folder / {"HR": "HR_sv", "LR": "LR_mode3_noise0"}[part])
    assert find(str(prepared_folder), [], manet_sv(2, 3), seed=1) is not None
    with pytest.raises(ValueError, match=r"manet_sv3 sig 2"):
        find(str(prepared_folder), [], manet_sv(2, 3, sig=2.0), seed=1)
