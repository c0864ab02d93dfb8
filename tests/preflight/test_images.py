"""Every kind of bad training and test image is found and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from data.images import write_image
from option import TrainOptions
from preflight import inputs
from preflight.finding import Finding

Options = Callable[..., TrainOptions]
Checked = Callable[..., str]


@pytest.fixture
def root(photo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small photographs to spoil."""
    return Path(shutil.copytree(photo_folder, tmp_path / "data"))


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "train" / "HR"


@pytest.fixture
def checked(options: Options, told: Callable[[Iterable[Finding]], str], root: Path) -> Checked:
    """Return the findings about the images of `root`."""
    return lambda arguments="", **more: told(
        inputs.images(options(arguments, root=root, **more), need_test_sets="--data_test" in arguments)
    )


def line(text: str, part: str) -> str:
    """The one line with this part in it."""
    (found,) = (line for line in text.splitlines() if part in line)
    return found


def test_good_images(checked: Checked, folder: Path) -> None:
    text = checked()
    assert "note" not in text
    assert "error" not in text
    assert "ok: 5 training images in" in text
    assert "sides of 96 to 112 pixels, median 96 x 112 (height x width)" in text
    assert "ok: test set Set5: 2 images, gaussian8" in text
    assert "ok: none of 5 training images shows what one of 2 test images shows" in text


def test_sizes(checked: Checked, folder: Path, photo: np.ndarray) -> None:
    for i, side in enumerate((200, 300, 400, 500, 40, 30)):
        write_image(folder / f"more{i}.png", np.ascontiguousarray(photo[:side, : side + 10]))
    assert "sides of 30 to 510 pixels, median 96 x 112 (height x width)" in checked()


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "small"])
def test_unusable_images(kind: str, checked: Checked, folder: Path) -> None:
    whole = (folder / "0.png").read_bytes()
    if kind == "small":
        write_image(folder / "odd.png", np.zeros((20, 30, 3), np.uint8))
    else:
        content = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"this is no image"}[kind]
        (folder / "odd.png").write_bytes(content)
    text = checked()
    assert "error: unusable images; repair or remove them, or set --skip_bad_images" in text
    assert "odd.png" in text.split("--skip_bad_images")[1]
    text = checked("--skip_bad_images")
    assert "error" not in text
    assert "odd.png" in line(text, "note: left out")
    assert "ok: 5 training images" in text


def test_no_usable_image(checked: Checked, folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")
    assert "error: all 5 images are unusable" in checked("--skip_bad_images")
    assert "ok: test set Set5" in checked()


def test_what_is_no_folder_of_images(checked: Checked, folder: Path) -> None:
    assert "error: --data_train nowhere: there is neither" in checked("--data_train nowhere")
    for path in folder.iterdir():
        path.unlink()
    assert "holds no image" in line(checked(), "error")


def test_odd_forms(checked: Checked, folder: Path, photo: np.ndarray) -> None:
    deep = photo[:96, 300:412].astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep.png"), deep)
    cv2.imwrite(str(folder / "deep2.png"), deep[::-1])
    Image.fromarray(photo[400:496, :112]).convert("LA").save(folder / "grey.png")
    text = checked()
    assert "note: 2 of the training images: 16-bit; training rounds them to 8 bits" in text
    assert "note: 1 of the training images: alpha; training drops it" in text
    assert "note: 1 of the training images: grey; training repeats the channel" in text


def test_strays_and_copies(checked: Checked, folder: Path) -> None:
    (folder / "nested.png").mkdir()
    shutil.copy(folder / "0.png", folder / "again.png")
    text = checked()
    assert line(text, "but no files").endswith(": nested.png")
    assert line(text, "several names").endswith(": 0.png = again.png")


def test_a_batch_of_more_than_all_images(checked: Checked) -> None:
    assert "--batch_size" not in checked("--batch_size 5")
    assert "note: --batch_size 6 takes some of the 5 training images twice" in checked("--batch_size 6")


def test_large_images_and_the_cache(checked: Checked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "LARGE", 96 * 112 - 1)
    assert "--data_cache decodes each image once" in checked()
    assert "decodes" not in checked("--data_cache")
    for free, grade in ((2**30, "ok"), (5 * 96 * 112 * 3, "error")):
        monkeypatch.setattr(inputs.shutil, "disk_usage", lambda place, free=free: SimpleNamespace(free=free))
        assert line(checked(f"--data_cache {folder.parent / 'cache'}"), "--data_cache: ").startswith(grade)


def test_a_cache_that_cannot_be_written(checked: Checked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "why_unwritable", lambda place: "Read-only file system")
    found = line(checked("--data_cache"), "error")
    assert found.endswith(
        f"{folder.parent} cannot be written to (Read-only file system): name a place with --data_cache"
    )


# ------------------------------------------------------------------------------------------------ test sets


def test_test_sets_that_are_not_there(checked: Checked, root: Path) -> None:
    text = checked("--data_test Set5+Urban100+Set14")
    assert "error: --data_test: there is no test set Urban100, Set14: no folder of this name" in text
    assert "held out" not in text
    noisy = checked("--blur_type aniso_gaussian --noise 25")  # validated on Set14 where nothing else is asked for
    assert "note: --data_test: Set14 not found" in noisy
    shutil.rmtree(root / "benchmark")
    assert "held out" in line(checked(), "note: --data_test: Set5 not found")


def test_a_broken_test_image(checked: Checked, root: Path) -> None:
    (root / "benchmark" / "Set5" / "HR" / "1.png").write_bytes(b"")
    text = checked()
    assert "1.png" in line(text, "error")
    assert "test set Set5" not in text
    assert "ok: none of 5 training images shows what one of 1 test images shows" in text


def test_lr_that_does_not_fit_hr(checked: Checked, root: Path, photo: np.ndarray) -> None:
    prepared = root / "benchmark" / "Set5_x2"
    for sub in ("HR_si", "LR_mode0_noise0"):
        (prepared / sub).mkdir(parents=True)
    write_image(prepared / "HR_si" / "a.png", np.ascontiguousarray(photo[:96, :96]))
    write_image(prepared / "LR_mode0_noise0" / "a.png", np.ascontiguousarray(photo[:48, :47]))
    text = checked("--protocol manet9 --degradation manet")
    assert "is 96 x 96 pixels (height x width), not 2 times the 48 x 47" in line(text, "error: --data_test")
    write_image(prepared / "HR_si" / "b.png", np.ascontiguousarray(photo[:96, :96]))
    assert "lack their partner" in checked("--protocol manet9 --degradation manet")


def test_training_on_a_test_image(checked: Checked, folder: Path, root: Path) -> None:
    test = root / "benchmark" / "Set5" / "HR" / "1.png"
    Image.open(test).resize((70, 60)).save(folder / "innocent.jpg", quality=60)
    text = checked("--patch_size 20")
    found = line(text, "error")
    assert found.startswith(f"error: {folder / 'innocent.jpg'} shows what the test image {test} shows (likeness ")
    assert "none of" not in text


def test_hr_images_of_a_prepared_set_count_once(checked: Checked, root: Path, photo: np.ndarray) -> None:
    prepared = root / "benchmark" / "Set5_x2"
    for sub, size in (("HR_si", 96), ("LR_mode0_noise0", 48)):
        (prepared / sub).mkdir(parents=True)
        for case in ("0.6_0.6_0.0", "1.2_1.2_0.0"):
            write_image(prepared / sub / f"a_{case}.png", np.ascontiguousarray(photo[400 : 400 + size, :size]))
    text = checked("--protocol manet9 --degradation manet")
    assert "ok: test set Set5: 2 images, manet9 (prepared)" in text
    assert "what one of 1 test images shows" in text


@pytest.fixture
def pairs(root: Path, photo: np.ndarray) -> Path:
    """Pairs for scale 2 in pairs/HR and pairs/LR of the root, one of them shifted by 3 LR pixels."""
    for part in ("HR", "LR"):
        (root / "pairs" / part).mkdir(parents=True)
    for i in range(3):
        moved = 6 * (i == 1)
        write_image(root / f"pairs/HR/{i}.png", np.ascontiguousarray(photo[120 * i : 120 * i + 64, 100:164]))
        lr = photo[120 * i + moved : 120 * i + 64 + moved, 100:164]
        write_image(root / f"pairs/LR/{i}x2.png", lr.reshape(32, 2, 32, 2, 3).mean((1, 3)).astype(np.uint8))
    return root / "pairs"


def test_given_pairs_are_all_compared(checked: Checked, pairs: Path) -> None:
    words = f"--data_train pairs --dir_lr {pairs}/LR"
    text = checked(words)
    assert f"ok: 3 training images in {pairs}/HR" in text
    assert f"ok: 3 training images in {pairs}/LR" in text
    assert "note: --dir_lr: 1 of the pairs that were compared are shifted" in text
    (pairs / "LR/1x2.png").unlink()
    assert "error: among 2 LR and 3 HR images, 1 have no partner" in checked(words)
    (pairs / "HR/1.png").unlink()
    assert f"ok: 2 given pairs in {pairs}/LR and {pairs}/HR, none of them shifted" in checked(words)
    write_image(pairs / "LR/0x2.png", np.zeros((30, 32, 3), np.uint8))
    assert "HR/0.png is 64 x 64 pixels (height x width), not 2 times the 30 x 32" in checked(words)
    assert "note: left out: " in checked(f"{words} --skip_bad_images")
