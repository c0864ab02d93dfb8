"""Folders of test images: plain HR images, and a prepared set in the published layout."""

import pytest

from data.images import write_image
from tests.data.random_images import noise_image


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
