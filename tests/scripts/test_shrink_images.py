"""Photographs shrunk by a whole factor: MATLAB's bicubic, a copy of nothing overwritten."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.degradation.resize import bicubic
from data.images import read_image, write_image
from scripts.shrink_images import main, shrink, tiles


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    write_image(folder / "a.png", np.ascontiguousarray(photo[:61, :83]))
    Image.fromarray(photo[100:180, 100:200]).save(folder / "b.jpg")
    return folder


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_it_is_bicubic_of_what_the_factor_divides(factor, photo):
    pixels = photo[:61, :83]
    height, width = 61 // factor, 83 // factor
    cut = torch.from_numpy(pixels[: factor * height, : factor * width].copy()).permute(2, 0, 1).double()
    expected = bicubic(cut[None], 1 / factor)[0].round().clamp(0, 255).permute(1, 2, 0)
    found = shrink(pixels, factor)
    assert found.shape == (height, width, 3)
    assert np.abs(found - expected.numpy()).max() <= 1  # a tie of rounding in float32
    assert (found == expected.numpy()).mean() > 0.999


def test_colour_stays_and_noise_averages_out():
    noisy = np.random.default_rng(0).integers(90, 111, (64, 64, 3)).astype(np.uint8)
    small = shrink(noisy, 4)
    assert abs(small.mean() - noisy.mean()) < 0.5
    assert small.std() < 0.4 * noisy.std()


def test_a_folder_becomes_png_files(photos, tmp_path, capsys):
    main([str(photos), "--factor", "2", "--out", str(tmp_path / "HR")])
    assert "2 images written to" in capsys.readouterr().out
    for name in ("a.png", "b.jpg"):
        small = read_image((tmp_path / "HR" / name).with_suffix(".png"))
        assert np.array_equal(small, shrink(read_image(photos / name), 2))


def test_what_is_there_stays_and_the_rest_is_written(photos, tmp_path, capsys):
    (tmp_path / "HR").mkdir()
    (tmp_path / "HR" / "a.png").write_bytes(b"precious")
    main([str(photos), "--factor", "2", "--out", str(tmp_path / "HR")])
    assert "1 images written to" in (out := capsys.readouterr().out)
    assert "1 were there already" in out
    assert (tmp_path / "HR" / "a.png").read_bytes() == b"precious"


def test_tiles_are_the_image_and_of_like_sizes(photo):
    found = tiles(photo, 100)
    sides = [side for tile in found.values() for side in tile.shape[:2]]
    assert (min(sides), max(sides)) == (102, 103)
    rows = [np.hstack([found[f"{i:02d}_{j:02d}"] for j in range(5)]) for i in range(5)]
    assert np.array_equal(np.vstack(rows), photo)
    assert [*tiles(photo[:60, :80], 100)] == ["00_00"]


def test_a_call_that_was_interrupted_between_tiles_goes_on(photos, tmp_path, photo):
    folder = tmp_path / "HR"
    write_image(photos / "c.png", photo)
    words = [str(photos), "--factor", "2", "--tile", "64", "--out", str(folder)]
    main(words)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a_00_00.png", "b_00_00.png", *(f"c_{i:02d}_{j:02d}.png" for i in range(4) for j in range(4))]
    (folder / "c_00_00.png").unlink()
    (folder / "c_00_01.png").unlink()
    main(words)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert np.array_equal(read_image(folder / "c_03_03.png"), tiles(shrink(photo, 2), 64)["03_03"])


def test_bad_photographs_are_all_named_and_the_rest_is_shrunk(photos, tmp_path, capsys):
    (photos / "bad.png").write_text("no image")
    write_image(photos / "tiny.png", np.zeros((3, 9, 3), np.uint8))
    words = [str(photos), "--factor", "4", "--out", str(tmp_path / "HR")]
    with pytest.raises(SystemExit, match=r"2 photographs were left out; .*--skip_bad_images"):
        main(words)
    assert sorted(path.name for path in (tmp_path / "HR").iterdir()) == ["a.png", "b.png"]
    first = capsys.readouterr().out
    main([*words, "--skip_bad_images"])
    for out in (first, capsys.readouterr().out):
        assert f"left out: {photos / 'bad.png'} cannot be read as an image" in out
        assert "tiny.png is 3 x 9 pixels" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere --factor 2 --out HR", "PHOTOS: there is no folder nowhere"),
        ("photos --factor 1 --out HR", "1 is not a whole number in 2..16"),
        ("photos --factor 2.5 --out HR", "2.5 is not a whole number in 2..16"),
        ("photos --factor 2 --out photos", "is the folder of the photographs"),
        ("photos --factor 2 --out photos/a.png", "is a file, and no folder"),
        ("twins --factor 2 --out HR", "these would get one name: a.jpg, a.png"),
    ],
)
def test_nonsense_is_refused(arguments, message, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twins").mkdir()
    for suffix in ("jpg", "png"):
        (tmp_path / "twins" / f"a.{suffix}").write_bytes(b"")
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert message in f"{caught.value}{capsys.readouterr().err}"
    assert not (tmp_path / "HR").exists()
