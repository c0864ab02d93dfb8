"""The picture of networks beside each other: what is drawn, and what is refused."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import write_image
from model import build, checkpoint
from scripts import picture

SIDE = 40


@pytest.fixture
def files(photo, tmp_path):
    hr = np.ascontiguousarray(photo[: 2 * SIDE, : 2 * SIDE])
    write_image(tmp_path / "hr.png", hr)
    write_image(tmp_path / "lr.png", np.ascontiguousarray(hr[::2, ::2]))
    for name, scale in (("KDSR_T", 2), ("KDSR_S", 2), ("KDSR_S", 3)):
        torch.manual_seed(0)
        net = build(name, scale=scale, n_feats=4, n_blocks=1, n_resblocks=1)
        torch.save(checkpoint(net), tmp_path / f"{name}_{scale}.pt")
    return tmp_path


def words(files, arguments):
    out = ["--out", str(files / "picture.jpg")]
    return [str(files / word) if "." in word else word for word in arguments.split()] + out


@pytest.fixture
def drawn(monkeypatch):
    """Return the parts of the picture."""
    found = []
    monkeypatch.setattr(picture, "side_by_side", lambda out, images, crop: found.append((images, crop)))
    return found


def test_a_picture_is_written(files):
    picture.main(words(files, "lr.png KDSR_S_2.pt --hr hr.png"))
    with Image.open(files / "picture.jpg") as image:
        assert image.format == "JPEG"
        assert min(image.size) > 100


def test_a_pdf_is_written(files):
    picture.main([*words(files, "lr.png KDSR_S_2.pt")[:-1], str(files / "picture.pdf")])
    assert (files / "picture.pdf").read_bytes().startswith(b"%PDF")


def test_long_names_do_not_overlap(files, monkeypatch):
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *where, **how: figures.append(figure))
    names = ["kdsr_s_x4_bicubic_iso_with_a_larger_batch_and_more", "kdsrwithoutanyplacewhereitsnamecouldbebroken"]
    picture.main(words(files, f"lr.png KDSR_S_2.pt KDSR_T_2.pt --hr hr.png --names {' '.join(names)}"))
    figures[0].draw_without_rendering()
    titles = [axes.title for axes in figures[0].axes[:5]]
    boxes = [title.get_window_extent() for title in titles]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    for name, title in zip(names, titles[2:4], strict=True):
        assert title.get_text().replace("\n", "").startswith(name)


def test_each_network_under_its_name_with_its_score(files, drawn):
    picture.main(words(files, "lr.png KDSR_T_2.pt KDSR_S_2.pt --names T S --hr hr.png --crop 8 6 20"))
    images, crop = drawn[0]
    assert [title.partition("\n")[0] for title in images] == ["LR", "bicubic", "T", "S", "HR"]
    assert all("dB" in title for title in list(images)[1:-1])
    assert {tuple(image.shape) for image in images.values()} == {(3, 2 * SIDE, 2 * SIDE)}
    assert crop == (8, 6, 20)


def test_without_an_hr_image_nothing_is_scored(files, drawn):
    picture.main(words(files, "lr.png KDSR_S_2.pt"))
    images, (top, left, side) = drawn[0]
    assert list(images) == ["LR", "bicubic", "KDSR_S_2"]
    assert (top, left, side) == picture.liveliest(picture.read(files / "lr.png"), 2)
    assert side == 2 * SIDE // 4
    assert max(top, left) <= 2 * SIDE - side


def test_networks_of_runs_are_titled_by_their_runs(files, drawn):
    for run, name in (("a_x2", "model_best"), ("b_x2", "model_best"), ("a_x2", "model_latest")):
        (files / run / "model").mkdir(parents=True, exist_ok=True)
        shutil.copy(files / "KDSR_S_2.pt", files / run / "model" / f"{name}.pt")
    for asked, titles in (
        ("a_x2/model/model_best.pt b_x2/model/model_best.pt", ["a_x2", "b_x2"]),
        ("a_x2/model/model_best.pt a_x2/model/model_latest.pt", ["a_x2 model_best", "a_x2 model_latest"]),
    ):
        picture.main(words(files, f"lr.png {' '.join(str(files / path) for path in asked.split())}"))
        assert list(drawn[-1][0])[2:] == titles


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lr.png KDSR_T_2.pt", "KDSR_T_2: a teacher sees the HR image, which --hr names"),
        ("lr.png KDSR_S_2.pt KDSR_S_3.pt", "the networks enlarge by different factors, KDSR_S_2 by 2, KDSR_S_3 by 3"),
        ("lr.png KDSR_S_3.pt --hr hr.png", "hr.png: 80 x 80 pixels, 120 x 120 would fit"),
        ("lr.png KDSR_S_2.pt --crop 70 0 20", "--crop 70 0 20: the image has 80 x 80 pixels"),
        ("none.png KDSR_S_2.pt", "none.png"),
        ("lr.png none.pt", "MODEL.pt: there is no .*none.pt"),
    ],
)
def test_what_is_refused(arguments, message, files):
    with pytest.raises(SystemExit, match=message):
        picture.main(words(files, arguments))


def test_a_photograph_is_not_overwritten(files):
    with pytest.raises(SystemExit, match=r"--out .*lr.png is one of the photographs"):
        picture.main([str(files / name) for name in ("lr.png", "KDSR_S_2.pt")] + ["--out", str(files / "lr.png")])


@pytest.mark.parametrize("names", ["one", "same same", "bicubic S"])
def test_names_must_tell_the_networks_apart(names, files, capsys):
    with pytest.raises(SystemExit):
        picture.main(words(files, f"lr.png KDSR_T_2.pt KDSR_S_2.pt --names {names}"))
    assert "--names: expected 2 different names, one for each network, and none of LR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "message"),
    [("picture.txt", "expected a name that ends in .png"), ("folder.png", "is a folder; name a file")],
)
def test_a_place_that_is_no_picture_is_refused_first(out, message, files):
    (files / "folder.png").mkdir()
    with pytest.raises(SystemExit, match=message):
        picture.main([str(files / name) for name in ("none.png", "none.pt")] + ["--out", str(files / out)])
