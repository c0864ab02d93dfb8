"""The gallery: what is on the page, what its numbers are, how a browser shows it, and what is refused."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import write_image
from data.protocol import gaussian8
from data.testset import Degraded
from evaluation import evaluate
from model import build, save_model
from scripts import gallery, picture

HEIGHT, WIDTH = 64, 80


@pytest.fixture
def files(photo, tmp_path):
    (tmp_path / "hr").mkdir()
    for i in range(2):
        write_image(tmp_path / "hr" / f"{i}.png", np.ascontiguousarray(photo[:HEIGHT, 100 * i : 100 * i + WIDTH]))
    for name, scale in (("KDSR_T", 2), ("KDSR_S", 2), ("KDSR_S", 3)):
        torch.manual_seed(0)
        save_model(build(name, scale=scale, n_feats=4, n_blocks=1, n_resblocks=1), tmp_path / f"{name}_{scale}.pt")
    return tmp_path


def made(files, arguments, out="page.html"):
    """Run the program, file names taken from the folder, and return the page."""
    there = {path.name for path in files.iterdir()} | {"none.pt"}
    words = [str(files / word) if word in there else word for word in arguments.split()]
    gallery.main([*words, "--out", str(files / out)])
    return (files / out).read_text(encoding="utf-8")


def test_a_page_holds_all_and_needs_nothing_else(files):
    page = made(files, "hr --networks KDSR_S_2.pt KDSR_T_2.pt --names <S> T --sig 1.2")
    assert page.count('class="slider"') == 2 * 2
    assert page.count("<h3>") == page.count("HR</figcaption>") == 2
    assert len(re.findall(r">bicubic [\d.]+ dB \| &lt;S&gt; [\d.]+ dB", page)) == 2
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "http" not in page
    assert "HR images, degraded by sig 1.2<" in page


def test_db_is_that_of_the_tests(files):
    page = made(files, "hr --networks KDSR_S_2.pt --names S --protocol gaussian8 --crop 16")
    net = gallery.load_networks([files / "KDSR_S_2.pt"], ["S"], cpu=True)["S"]
    test_set = Degraded("hr", sorted((files / "hr").iterdir()), gaussian8(2))
    common = {"scale": 2, "planes": "matlab", "device": torch.device("cpu"), "metrics": ["psnr"]}
    scores = evaluate(lambda lr, hr: net(lr, hr).image, test_set, **common)
    middle = [f"{score.values['psnr']:.2f}" for score in scores if score.case == "1.30"]
    assert re.findall(r"S ([\d.]+) dB<", page) == middle
    assert "gaussian8, kernel 1.30" in page


def test_of_large_photographs_the_middle_is_shown(files, photo):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(photo[:HEIGHT, :WIDTH]).save(files / "a.jpg", exif=turned)
    sizes = []
    embedded = gallery.report.embedded
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery.report, "embedded", lambda pixels: sizes.append(pixels.shape) or embedded(pixels))
        page = made(files, "a.jpg --networks KDSR_S_2.pt --crop 150")
    assert sizes == [(150, 2 * HEIGHT, 3)] * 2  # upright
    assert "bicubic | KDSR_S_2<" in page
    assert " dB" not in page


def test_a_photograph_that_cannot_be_read_does_not_stop_the_others(files, capsys):
    (files / "hr" / "bad.png").write_bytes(b"no image")
    page = made(files, "hr --networks KDSR_S_2.pt")
    assert page.count("<h3>") == 2
    assert "left out: " in capsys.readouterr().out
    for path in (files / "hr").glob("[01].png"):
        path.unlink()
    with pytest.raises(SystemExit, match="none of the photographs can be shown"):
        made(files, "hr --networks KDSR_S_2.pt")


def test_what_test_py_enlarges_is_shown_and_what_it_does_not_is_named(files, photo, capsys):
    cut = photo[:HEIGHT, :WIDTH]
    Image.fromarray(cut).save(files / "hr/2.gif")
    Image.fromarray(cut).save(files / "hr/3.jfif", "JPEG")
    (files / "hr/4.jp2").touch()
    shown = made(files, "hr --networks KDSR_S_2.pt")
    assert re.findall("<h3>(.*?)</h3>", shown) == ["0", "1", "2", "3"]
    assert "4.jp2" in capsys.readouterr().out
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    Image.fromarray(np.concatenate((cut, alpha), axis=2)).save(files / "clear.png")
    assert picture.read(files / "clear.png").min() == 1  # on white


@pytest.mark.slow
def test_in_a_browser_all_pictures_zoom_and_move_in_step(files, in_browser):
    page = made(files, "hr --networks KDSR_S_2.pt --sig 1.2")
    found = in_browser(
        page,
        """
        const all = [...document.querySelectorAll(".row img")], bar = document.querySelector("#zoom");
        const input = document.querySelector(".slider input"), top = all[1];
        const place = image => image.getBoundingClientRect(), before = place(all[0]);
        input.value = 75; input.oninput();
        bar.value = 2; bar.oninput();
        const wide = all.every(image => Math.abs(place(image).width - 4 * before.width) < 1);
        const centred = Math.abs(place(all[0]).left + 1.5 * before.width - before.left) < 1;
        const move = {pointerId: 1, buttons: 1, movementX: 40, movementY: 0, bubbles: true};
        all[4].dispatchEvent(new PointerEvent("pointermove", move));
        const moved = all.every(image => getComputedStyle(image).transform === getComputedStyle(top).transform) &&
            Math.abs(place(all[0]).left + 1.5 * before.width - 40 - before.left) < 1;
        const at = x => document.elementFromPoint(before.left + x * before.width, before.top + before.height / 2);
        const line = at(0.7) === all[0] && at(0.8) === all[1] && at(1.01) !== all[1];
        const shown = all.every(image => image.complete && image.naturalWidth > 0);
        return [all.length, shown, wide, centred, moved, line].join(" ");
        """,
    )
    assert found == "6 true true true true true"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("hr --networks KDSR_T_2.pt", "KDSR_T_2: a teacher sees the HR image; name --protocol or --sig"),
        (
            "hr --networks KDSR_S_2.pt KDSR_S_3.pt",
            "by different factors, KDSR_S_2 by 2, KDSR_S_3 by 3",
        ),
        ("hr --networks none.pt", "--networks: there is no .*none.pt"),
        ("hr --networks KDSR_S_2.pt --protocol none", "--protocol none is none of"),
        ("none.png --networks KDSR_S_2.pt", "no file or folder .*none.png"),
    ],
)
def test_what_is_refused(arguments, message, files):
    with pytest.raises(SystemExit, match=message):
        made(files, arguments)


def test_a_page_is_html(files):
    with pytest.raises(SystemExit, match=r"expected a name that ends in \.html"):
        made(files, "hr --networks KDSR_S_2.pt", out="page.png")
