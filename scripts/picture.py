"""Draw a photograph with enlarged pixels beside bicubic, the results of networks, and the HR image if there is one.

    python scripts/picture.py LR.png kdsr_s.pt [more.pt] --out picture.jpg [--names KDSR ...] [--hr HR.png]
                              [--crop TOP LEFT SIDE]

Below each stands the crop, in HR pixels (default: where the image changes most). With --hr each title tells PSNR on
luma (`matlab`).
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.degradation.resize import bicubic
from data.photo import read_to_show
from data.testset import to_tensor
from evaluation import metric
from evaluation.results import run_of
from model import BlindSR, load_model
from runtime.precision import ieee_products
from scripts.drawing import enlarge, side_by_side
from scripts.program import add_cpu, check_picture, device_of, one_line, program, words_of
from utility import argument, listing

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".pdf")

Crop = tuple[int, int, int]  # top, left, side


def read(path: Path) -> Tensor:
    """Read a photograph as (1, 3, H, W) in [0, 1], on white where it is transparent."""
    return to_tensor(read_to_show(path), torch.device("cpu"))[None]


def titles(parser: ArgumentParser, names: Sequence[str] | None, networks: Sequence[Path]) -> list[str]:
    """Return the titles of networks: --names, or their runs or files. End the program if two are the same."""
    places = [(path.stem, run_of(path)) for path in networks]
    found = list(names or [run.name if run else stem for stem, run in places])
    if not names and len({*found}) < len(found):  # checkpoints of one run
        found = [f"{run.name} {stem}" if run else stem for stem, run in places]
    if len(found) != len(networks) or len({*found, "LR", "bicubic", "HR"}) < len(found) + 3:
        told = "" if names else f"; without it they are called {', '.join(found)}"
        count = f"{len(networks)} different names, one for each network" if len(networks) > 1 else "one name"
        parser.error(f"--names: expected {count}, and none of LR, bicubic and HR{told}")
    return found


def load_networks(paths: Sequence[Path], names: Sequence[str], *, cpu: bool) -> dict[str, BlindSR]:
    """Load networks by their titles, onto the GPU if there is one. Raise ValueError or OSError for a bad file."""
    device = device_of(cpu=cpu)
    with argument("networks"):
        return {name: load_model(path, device) for name, path in zip(names, paths, strict=True)}


def scale_of(nets: Mapping[str, BlindSR]) -> int:
    """Return the factor that all networks enlarge by. Raise ValueError if there are several."""
    first, *others = {net.scale for net in nets.values()}
    if others:
        factors = listing([f"{name} by {net.scale}" for name, net in nets.items()])
        raise ValueError(f"the networks enlarge by different factors, {factors}: choose those of one")
    return first


def restored(lr: Tensor, hr: Tensor | None, nets: Mapping[str, BlindSR]) -> dict[str, Tensor]:
    """Return what bicubic and each network make of (1, 3, H, W) in [0, 1], by name; `hr` is for teachers."""
    with ieee_products():
        images = {"bicubic": bicubic(lr, scale_of(nets))}
    for name, net in nets.items():
        images[name] = net.upscale(lr, hr=hr if net.sees_hr else None)
    return images


def liveliest(lr: Tensor, scale: int) -> Crop:
    """Return where (1, 3, H, W) changes most from pixel to pixel, a quarter of its shorter side, in HR pixels.

    Examples:
        >>> x = torch.zeros(1, 3, 40, 60)
        >>> x[..., 20:30:2, 40:50:2] = 1
        >>> liveliest(x, 4)
        (80, 160, 40)
    """
    side = max(1, min(lr.shape[-2:]) // 4)
    luma = lr.mean(1)
    change = luma.diff(dim=1).abs()[..., 1:] + luma.diff(dim=2).abs()[:, 1:]  # (1, H - 1, W - 1)
    sums = F.avg_pool2d(change, max(1, side - 1), 1)[0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return scale * top, scale * left, scale * side


def draw(out: Path, lr: Tensor, hr: Tensor | None, nets: Mapping[str, BlindSR], crop: Crop) -> None:
    """Draw the picture.

    Args:
        lr, hr: (1, 3, H, W) and (1, 3, s·H, s·W) in [0, 1].
        crop: in HR pixels.
    """
    scale = scale_of(nets)
    shown = {"LR": enlarge(lr[0], scale)}
    for name, image in restored(lr, hr, nets).items():
        psnr = "" if hr is None else f"\n{metric.psnr(image, hr, border=scale).item():.2f} dB"
        shown[name + psnr] = image[0].float().clamp(0, 1)
    side_by_side(out, shown if hr is None else shown | {"HR": hr[0]}, crop)


def run(given: Namespace, names: Sequence[str]) -> None:
    """Restore and draw. Raise ValueError or OSError that names the argument to mend."""
    check_picture("--out", given.out, PICTURES)
    if given.out.resolve() in [path.resolve() for path in (given.lr, given.hr) if path is not None]:
        raise ValueError(f"--out {given.out} is one of the photographs")
    nets = load_networks(given.networks, names, cpu=given.cpu)
    lr, hr = read(given.lr), None if given.hr is None else read(given.hr)
    height, width = (scale_of(nets) * side for side in lr.shape[-2:])
    if hr is None and (teachers := [name for name, net in nets.items() if net.sees_hr]):
        raise ValueError(f"{', '.join(teachers)}: a teacher sees the HR image, which --hr names")
    if hr is not None and hr.shape[-2:] != (height, width):
        found = "{} x {}".format(*hr.shape[-2:])
        raise ValueError(f"--hr {given.hr}: {found} pixels, {height} x {width} would fit the LR image")
    top, left, side = given.crop or liveliest(lr, scale_of(nets))
    if min(top, left, side - 1, height - top - side, width - left - side) < 0:
        raise ValueError(f"--crop {top} {left} {side}: the image has {height} x {width} pixels")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(given.out, lr, hr, nets, (top, left, side))


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("lr", type=Path, metavar="LR.png", help="the photograph, as it is")
    parser.add_argument("networks", type=Path, nargs="+", metavar="MODEL.pt", help="checkpoints, ours or official ones")
    parser.add_argument("--out", type=Path, required=True, help=f"picture to write: {', '.join(PICTURES)}")
    parser.add_argument("--names", nargs="+", help="of the networks, as titles (default: their runs or files)")
    parser.add_argument("--hr", type=Path, help="the HR image, if there is one")
    place = "in HR pixels (default: a square of much detail)"
    parser.add_argument("--crop", type=int, nargs=3, metavar=("TOP", "LEFT", "SIDE"), help=place)
    add_cpu(parser)
    given = parser.parse_args(argv)
    names = titles(parser, given.names, given.networks)
    with one_line(parser.prog, words_of(parser)):
        run(given, names)
        print(given.out)


if __name__ == "__main__":
    main()
