"""Folders of test images: real pairs by name, prepared sets and their manifests."""

import json
import re
from dataclasses import replace

import pytest
import torch

from data.find_testsets import find
from data.folders import paired, read_manifest
from data.images import BadImage, write_image
from data.protocol import manet9, manet_sv
from data.testset import pixel_digest
from tests.data.random_images import noise_image, write_all

CPU = torch.device("cpu")


def test_pairs_without_a_partner_are_named(prepared_folder):
    (prepared_folder / "LR_mode0_noise0" / "baby_5.0_1.0_0.8.png").rename(
        prepared_folder / "LR_mode0_noise0" / "bady_5.0_1.0_0.8.png"
    )
    with pytest.raises(ValueError, match=r"baby_5\.0_1\.0_0\.8, bady_5\.0_1\.0_0\.8"):
        find(str(prepared_folder), [], manet9(2), seed=1)


def test_missing_noise_level_tells_what_is_there(prepared_folder):
    with pytest.raises(ValueError, match=r"holds LR_mode0_noise0, and none.*manet9 noise 15.*LR_mode0_noise15"):
        find(str(prepared_folder), [], replace(manet9(2), noise=15 / 255), seed=1)


def test_published_sets_have_no_jpeg(prepared_folder):
    with pytest.raises(ValueError, match="JPEG 30"):
        find(str(prepared_folder), [], replace(manet9(2), quality=30.0), seed=1)


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
    with pytest.raises(ValueError, match=rf"^among .*, {len(wrong)} have no partner.*: {re.escape(listed)}$"):
        paired(*folders, 2)


def test_real_pairs_of_one_folder(tmp_path):
    """RealSR keeps both there."""
    folder = write_all(tmp_path, ["Canon_001_LR2", "Canon_002_LR2"], 10)
    write_all(tmp_path, ["Canon_001_HR", "Canon_002_HR"], 20)
    benchmark = paired(folder, folder, 2)
    benchmark.check(at_least=20)
    assert [pair.hr.stem for pair in benchmark.pairs] == ["Canon_001_HR", "Canon_002_HR"]


@pytest.mark.parametrize(
    ("lr", "name"), [("LR", "track"), ("LR_x2", "track"), ("LR_clean", "track_LR_clean"), ("photos", "photos")]
)
def test_results_of_several_lr_folders_have_names_of_their_own(lr, name, tmp_path):
    track = tmp_path / "track"
    assert paired(write_all(track / lr, ["a"], 10), write_all(track / "HR", ["a"], 20), 2).name == name


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
