"""Write a page that compares networks on images: sliders between bicubic and each network, zoomed and moved together.

    python scripts/gallery.py PHOTO_OR_FOLDER [more] --networks kdsr_s_x4_light [more] --out gallery.html
    python scripts/gallery.py HR_FOLDER --protocol gaussian8 --networks kdsr_s_x4_iso --out gallery.html
    python scripts/gallery.py HR.png --sig 2.6 --networks ONE.pt TWO.pt --names KDSR CDSR --out gallery.html

Networks are checkpoints or names in the zoo. With --protocol or --sig the images are HR images: they are degraded, the
HR image stands beside the sliders, and captions tell PSNR of the whole image on luma (`matlab`). Of a protocol's
kernels the middle one is shown. The page is one file that needs nothing else, and holds pictures without loss.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images import BadImage, list_images
from data.outputs import check_there, list_photos
from data.photo import read_to_show
from data.protocol_flags import build_protocol
from data.testset import Degraded, to_pixels, to_tensor
from evaluation import metric, report, smallest_hr
from model import BlindSR, name_of
from scripts.picture import load_networks, restored, scale_of, titles
from scripts.program import add_cpu, check_picture, integer, one_line, program, real, words_of
from utility import write_text

CPU = torch.device("cpu")
# A picture keeps its place on the page; zoomed by --zoom and moved by (--x, --y), it is clipped to that place, and the
# upper one of a slider to what is right of the line. Insets are in the picture's own pixels, before zoom and move.
STYLE = """<style>
.bar { position: sticky; top: 0; background: #fff; padding: .5em 0; z-index: 1; border-bottom: 1px solid #ddd }
.row figure { flex: 1 1 300px; max-width: 540px } .row img, .row .slider { width: 100%; height: auto }
.row img { --left: 0% } .row .slider img + img { --left: var(--at) }
.row img, .row .slider img + img { transform-origin: 0 0; transform: translate(var(--x), var(--y)) scale(var(--zoom));
clip-path: inset(calc((0% - var(--y)) / var(--zoom)) calc(100% - (100% - var(--x)) / var(--zoom))
calc(100% - (100% - var(--y)) / var(--zoom)) calc((var(--left) - var(--x)) / var(--zoom)));
image-rendering: var(--rendering); cursor: move; touch-action: var(--touch) }
:root { --zoom: 1; --x: 0%; --y: 0%; --rendering: auto; --touch: auto }
</style>"""
BAR = (
    '<div class="bar"><label>Zoom <input type="range" id="zoom" min="0" max="4" step="0.5" value="0"></label> '
    "all pictures; drag one to move all.</div>"
)
SCRIPT = """<script>
const style = document.documentElement.style, bar = document.querySelector("#zoom");
let zoom = 1, x = 0, y = 0;  // x, y: how far pictures are moved, in parts of their sides
function inside(shift) { return Math.min(0, Math.max(1 - zoom, shift)); }
function show() {
    [x, y] = [inside(x), inside(y)];
    style.setProperty("--zoom", zoom);
    style.setProperty("--x", 100 * x + "%");
    style.setProperty("--y", 100 * y + "%");
    style.setProperty("--rendering", zoom < 4 ? "auto" : "pixelated");
    style.setProperty("--touch", zoom > 1 ? "none" : "auto");  // a finger moves pictures only if there is where to
}
bar.oninput = () => {
    const ratio = 2 ** bar.value / zoom;  // the middle stays where it is
    [zoom, x, y] = [zoom * ratio, 0.5 - (0.5 - x) * ratio, 0.5 - (0.5 - y) * ratio];
    show();
};
for (const picture of document.querySelectorAll(".row img")) {
    picture.draggable = false;
    picture.onpointerdown = event => picture.setPointerCapture(event.pointerId);
    picture.onpointermove = event => {
        if (event.buttons % 2 === 0) return;
        x += event.movementX / picture.offsetWidth;
        y += event.movementY / picture.offsetHeight;
        show();
    };
}
bar.oninput();
</script>"""


class View(NamedTuple):
    """An image, and what is made of it."""

    title: str
    lr: Tensor  # (1, 3, H, W) in [0, 1]
    hr: Tensor | None  # (1, 3, s·H, s·W) in [0, 1]


def middle(image: Tensor, side: int) -> Tensor:
    """Cut the middle of (..., H, W), `side` pixels a side, or what there is.

    Examples:
        >>> middle(torch.arange(5).expand(1, 2, 5), 3)[0, :, 0]
        tensor([1, 1])
    """
    rows, columns = (slice(cut := max(0, length - side) // 2, cut + side) for length in image.shape[-2:])
    return image[..., rows, columns]


def photographs(paths: Sequence[Path], nets: Mapping[str, BlindSR], crop: int) -> Iterator[View]:
    """Yield photographs, cut to the middle `crop` SR pixels a side; name those that are left out, and why."""
    least = max(net.min_size for net in nets.values())
    for path in paths:
        try:
            image = to_tensor(read_to_show(path), CPU)
        except BadImage as error:
            tqdm.write(f"left out: {error}")
            continue
        height, width = image.shape[1:]
        if min(height, width) < least:
            tqdm.write(f"left out: {path} is {height} x {width}; the networks need {least} pixels a side")
            continue
        yield View(path.stem, middle(image, max(least, crop // scale_of(nets)))[None], None)


def degraded(test_set: Degraded) -> Iterator[View]:
    """Yield HR images under the only case of the set's protocol."""
    for sample in test_set.samples(CPU):
        yield View(sample.image, sample.lr, sample.hr[None])


def section(view: View, nets: Mapping[str, BlindSR], crop: int) -> str:
    """Return the HTML of an image: a slider for each network, and the HR image where there is one."""
    hr, scale = view.hr, scale_of(nets)
    images = restored(view.lr, hr, nets)
    shown = {
        name: report.embedded(to_pixels(middle(image[0].float().clamp(0, 1), crop))) for name, image in images.items()
    }
    told = {
        name: name if hr is None else f"{name} {metric.psnr(image, hr, border=scale).item():.2f} dB"
        for name, image in images.items()
    }
    figures = [report.slider(shown["bicubic"], shown[name], f"{told['bicubic']} | {told[name]}") for name in nets]
    if hr is not None:
        figures.append(report.figure(report.embedded(to_pixels(middle(hr[0], crop))), "HR"))
    return f'<h3>{escape(view.title)}</h3><div class="row">{"".join(figures)}</div>'


def listed(paths: Sequence[Path], images_of: Callable[[Path], list[Path]]) -> list[Path]:
    """Return the files, and the images of the folders. Raise FileNotFoundError for a path that is not there."""
    for path in paths:
        check_there(path)
    return [image for path in paths for image in (images_of(path) if path.is_dir() else [path])]


def run(given: Namespace, names: Sequence[str]) -> None:
    """Restore and write. Raise ValueError or OSError that names the argument to mend."""
    check_picture("--out", given.out, (".html",))
    nets = load_networks(given.networks, names, cpu=given.cpu)
    scale = scale_of(nets)
    about = {
        name: f"{name_of(net)} ×{scale}, {sum(map(torch.numel, net.parameters())):,} parameters"
        for name, net in nets.items()
    }
    if given.protocol is None and given.sig is None:
        if teachers := [name for name, net in nets.items() if net.sees_hr]:
            raise ValueError(f"{', '.join(teachers)}: a teacher sees the HR image; name --protocol or --sig")
        images = listed(given.images, partial(list_photos, recursive=False, log=print))
        views = photographs(images, nets, given.crop)
    else:
        rule = build_protocol(given.protocol or "flags", scale=scale, sig=given.sig)
        case = rule.cases[len(rule.cases) // 2]
        kernel = "" if len(rule.cases) == 1 else f", kernel {case.name}"
        images = listed(given.images, partial(list_images, log=print))
        test_set = Degraded("the gallery", images, replace(rule, cases=(case,)))
        test_set.check(at_least=max(map(smallest_hr, nets.values())))
        views, about = degraded(test_set), {**about, "images": f"HR images, degraded by {rule}{kernel}"}
    sections = [section(view, nets, given.crop) for view in tqdm(views, total=len(images), unit="image", disable=None)]
    if not sections:
        raise BadImage("none of the photographs can be shown")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(given.out, report.document(given.out.stem, [STYLE, report.table(about), BAR, *sections, SCRIPT]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER", help="photographs, or HR images")
    parser.add_argument("--networks", type=Path, nargs="+", required=True, help="checkpoints, or names in the zoo")
    parser.add_argument("--names", nargs="+", help="of the networks, as captions (default: their runs or files)")
    parser.add_argument("--out", type=Path, required=True, help="page to write, .html")
    parser.add_argument(
        "--crop",
        type=integer(16),
        default=768,
        metavar="SIDE",
        help="HR pixels a side from the middle that are shown at most (default: %(default)s); of "
        "photographs only these are restored",
    )
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--protocol", help="of --protocol in test.py, or a file of one: degrade the images by it")
    rule.add_argument("--sig", type=real(0, above=True), help="blur by an isotropic Gaussian of this σ, HR pixels")
    add_cpu(parser)
    given = parser.parse_args(argv)
    names = titles(parser, given.names, given.networks)
    with one_line(parser.prog, words_of(parser)):
        run(given, names)
        print(given.out)


if __name__ == "__main__":
    main()
