"""Do the main job in miniature: train a small KDSR teacher, distil a student, and test it against bicubic.

×4 under isotropic Gaussian blur of unknown width, on photographs that come with scikit-image; those of the test are not
trained on. All of it takes --minutes at most, even on a machine that becomes busy; each line says what time is left.

    bash scripts/demo.sh [--minutes 5]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import skimage.data
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.degradation.resize import bicubic
from data.images import list_images, read_image, write_image
from data.protocol import gaussian8
from data.testset import Degraded, Sample
from evaluation import Restore, Score, evaluate, mean
from model import BlindSR, load_model
from scripts.clock import train
from scripts.drawing import enlarge, side_by_side
from scripts.program import check_folder, one_line, program, real, words_of
from utility import duration

SCALE = 4
TRAIN = (
    "camera.png",
    "coffee.png",
    "coins.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
TEST = ("astronaut.png", "chelsea.png")
TEACHER_SHARE = 0.4  # of the time of training
TESTING = 30  # seconds reserved for the test and the pictures, or a fifth of the demo if that is less
DRAWING = 3  # seconds of these for the pictures
EXAMPLE = ("astronaut", "2.60", (50, 165, 110))  # image, kernel; top, left and side of the crop
SIZE = ["--n_feats", "32", "--n_blocks", "6", "--n_resblocks", "1", "--patch_size", "24", "--batch_size", "8"]


def copy_photos(folder: Path) -> tuple[Path, Path]:
    """Write training and test photographs as PNG files into two folders, and return these."""
    source = Path(skimage.data.__file__).parent
    for part, names in (("train", TRAIN), ("test", TEST)):
        (folder / part).mkdir(parents=True)
        for name in names:
            write_image((folder / part / name).with_suffix(".png"), read_image(source / name))
    return folder / "train", folder / "test"


def table(baseline: Sequence[Score], ours: Sequence[Score]) -> str:
    """Return PSNR and SSIM of bicubic and of the student for each blur width, and their mean."""
    lines = [f"{'blur σ':>8}{'bicubic':>20}{'student':>20}{'gain':>10}"]
    for case in [*sorted({row.case for row in ours}), "mean"]:
        pair = [mean(row for row in rows if case in (row.case, "mean")) for rows in (baseline, ours)]
        values = "".join(f"{row['psnr']:>12.2f} /{row['ssim']:.4f}" for row in pair)
        lines.append(f"{case:>8}{values}{pair[1]['psnr'] - pair[0]['psnr']:>+9.2f} dB")
    return "\n".join(lines)


def titled(images: dict[str, Tensor], scores: dict[str, list[Score]]) -> dict[str, Tensor]:
    """Return the images in the order in which they are drawn, by titles that tell the blur and the scores."""
    titles = {"LR": f"LR x{SCALE}, blur σ {float(EXAMPLE[1]):g}", "HR": "HR"}
    for name, rows in scores.items():
        (row,) = (row for row in rows if (row.image, row.case) == EXAMPLE[:2])
        titles[name] = f"{name}, {row.values['psnr']:.2f} dB"
    return {titles[name]: images[name] for name in ("LR", *scores, "HR")}


def of_network(net: BlindSR) -> Restore:
    """Return the restoration of a network as `evaluate` takes it."""
    return lambda lr, hr: net(lr, hr).image


def test(
    restores: dict[str, Restore], photos: Sequence[Path], *, until: float
) -> tuple[dict[str, list[Score]], dict[str, Tensor]]:
    """Score restorations under the kernels of `gaussian8`, as many as there is time for; one in any case.

    Args:
        restores: by their names.
        photos: HR images.
        until: when to begin with no other kernel, by `time.perf_counter`.

    Returns:
        The scores of each, and the images to be drawn.
    """
    scores: dict[str, list[Score]] = {name: [] for name in restores}
    images: dict[str, Tensor] = {}
    rule = gaussian8(SCALE)
    for case in sorted(rule.cases, key=lambda case: case.name != EXAMPLE[1]):  # the one to be drawn comes first
        if images and time.perf_counter() > until:
            print(f"time is up: {case.name} and the kernels after it are left out of the test")
            break
        test_set = Degraded("photographs", photos, replace(rule, cases=(case,)))
        for name, restore in restores.items():

            def keep(sample: Sample, sr: Tensor, name: str = name) -> None:
                if (sample.image, sample.cases[0]) == EXAMPLE[:2]:
                    images.update({"LR": enlarge(sample.lr[0], SCALE), name: sr[0], "HR": sample.hr})

            cpu = torch.device("cpu")
            scores[name] += evaluate(restore, test_set, scale=SCALE, planes="kdsr", device=cpu, on_image=keep)
    return scores, images


def run(seconds: float, folder: Path, begun: float) -> None:
    """Train, test, draw and print.

    Args:
        seconds: for the whole demo.
        folder: for everything that is written.
        begun: when the demo began, by `time.perf_counter`.
    """
    end = begun + seconds
    trained = end - min(TESTING, seconds / 5)  # when training must have ended
    photos, unseen = copy_photos(folder / "photos")
    common = ["--scale", str(SCALE), "--blur_type", "iso_gaussian", "--sig_min", "0.2", "--sig_max", "4.0"]
    common += ["--dir_data", str(photos), "--data_cache", str(folder / "cache"), "--data_test", str(unseen)]
    common += ["--sig", "2.6", "--draw_per", "image", "--dir_experiment", str(folder), *SIZE]

    print(f"1 of 3: the teacher, which sees the HR image too. {left(end)}")
    share = TEACHER_SHARE * (trained - time.perf_counter())
    teacher = train(["--model", "KDSR_T", "--save", "teacher", *common], seconds=share, job="demo", end=end)

    print(f"\n2 of 3: the student, which learns from the teacher and sees the LR image alone. {left(end)}")
    distil = ["--model", "KDSR_S", "--save", "student", "--pre_train_TA", str(teacher), *common]
    student = train(distil, seconds=trained - time.perf_counter(), job="demo", end=end)

    print(f"\n3 of 3: the test. {left(end)}")
    restores = {"bicubic": lambda lr, hr: bicubic(lr, SCALE), "KDSR student": of_network(load_model(student))}
    scores, images = test(restores, list_images(unseen), until=end - DRAWING)
    text = table(*scores.values())
    (folder / "table.txt").write_text(text + "\n", encoding="utf-8")
    side_by_side(folder / "side_by_side.png", titled(images, scores), EXAMPLE[2])
    runs = student.parent.parent
    print(f"\nphotographs not trained on: {', '.join(TEST)}; PSNR (dB) / SSIM on luma\n{text}\n")
    print(f"pictures: {folder / 'side_by_side.png'}\ncurves:   {runs / 'psnr.png'}, {runs / 'loss.png'}")
    print(f"time:     {duration(time.perf_counter() - begun)} of {duration(seconds)}")
    print("\nnext, super-resolve images of your own:")
    print(f"  .venv/bin/python test.py --pre_train {student} --data_test Demo --dir_demo FOLDER")


def left(end: float) -> str:
    """Return in words how long the demo will still take."""
    return f"{duration(max(0.0, end - time.perf_counter()))} left of the demo"


def main() -> None:
    begun = time.perf_counter() - (time.time() - psutil.Process().create_time())  # before the imports
    parser = program(__file__, __doc__)
    minutes = "of the whole demo, without the installation (default: %(default)s)"
    parser.add_argument("--minutes", type=real(0, 60 * 24, above=True), default=5.0, help=minutes)
    parser.add_argument("--out", type=Path, help="folder for everything (default: experiment/demo_<date>_<time>)")
    given = parser.parse_args()
    if given.out is not None and given.out.exists():
        parser.error(f"--out {given.out} is there already; name another folder")
    with one_line(parser.prog, words_of(parser)):
        out = given.out or Path("experiment") / time.strftime("demo_%Y%m%d_%H%M%S")
        check_folder("--out", out)
        run(60 * given.minutes, out, begun)


if __name__ == "__main__":
    main()
