"""The main job in miniature, on photographs that come with scikit-image: a small KDSR teacher, then its student.

×4 under isotropic Gaussian blur of unknown width. Tested on photographs that training never saw, against bicubic.

    bash scripts/demo.sh [--minutes 5]
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import skimage.data
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forecast import dry_run

import main
from data.degradation.resize import bicubic
from data.images import list_images, read_image, write_image
from data.protocol import gaussian8
from data.testset import Degraded
from evaluation.evaluate import Restore, Score, evaluate, mean
from model import load_model
from scripts.drawing import enlarge, side_by_side

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
EPOCHS = 8  # of each stage; the learning rate is halved every second one
TEACHER_SHARE = 0.4  # of the time
SHOWN = ("astronaut", "2.60", (50, 165, 110))  # image, kernel; top, left and side of the crop
SIZE = ["--n_feats", "32", "--n_blocks", "6", "--n_resblocks", "1", "--patch_size", "24", "--batch_size", "8"]
SCHEDULE = ["--lr_sr", "1e-3", "--epochs_sr", str(EPOCHS), "--lr_decay_sr", "2"]


def copy_photos(folder: Path) -> tuple[Path, Path]:
    """Training and test photographs as PNG files in two folders."""
    source = Path(skimage.data.__file__).parent
    for part, names in (("train", TRAIN), ("test", TEST)):
        (folder / part).mkdir(parents=True)
        for name in names:
            write_image((folder / part / name).with_suffix(".png"), read_image(source / name))
    return folder / "train", folder / "test"


def train(arguments: Sequence[str], seconds: float) -> Path:
    """One stage, of as many steps as fit into the time; the network's file."""
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = main.prepare(*main.options_of([*arguments, "--dry_run"]))
        per_step = dry_run(trainer) / trainer.plan.steps
    epoch = max(1, int(seconds / per_step / EPOCHS))
    stage = [
        *arguments,
        "--epochs_sr",
        str(EPOCHS),
        "--test_every",
        str(epoch),
        "--print_every",
        str(max(1, epoch // 2)),
    ]
    print(f"\npython main.py {' '.join(stage)}\n")
    main.main(stage)
    return main.options_of(stage)[1].run_dir / "model" / "model_latest.pt"


def table(baseline: Sequence[Score], ours: Sequence[Score]) -> str:
    """PSNR and SSIM of bicubic and of the student for each blur width, and their mean."""
    lines = [f"{'blur σ':>8}{'bicubic':>20}{'student':>20}{'gain':>10}"]
    for case in [*dict.fromkeys(row.case for row in ours), "mean"]:
        pair = [mean(row for row in rows if case in (row.case, "mean")) for rows in (baseline, ours)]
        values = "".join(f"{psnr:>12.2f} /{ssim:.4f}" for psnr, ssim in pair)
        lines.append(f"{case:>8}{values}{pair[1][0] - pair[0][0]:>+9.2f} dB")
    return "\n".join(lines)


def run(minutes: float, folder: Path) -> None:
    photos, unseen = copy_photos(folder / "photos")
    common = ["--scale", str(SCALE), "--blur_type", "iso_gaussian", "--sig_min", "0.2", "--sig_max", "4.0"]
    common += ["--dir_data", str(photos), "--data_cache", str(folder / "cache"), "--data_test", str(unseen)]
    common += ["--sig", "2.6", "--draw_per", "image", "--dir_experiment", str(folder), *SIZE, *SCHEDULE]
    seconds = 60 * minutes
    teacher = train(["--model", "KDSR_T", "--save", "teacher", *common], TEACHER_SHARE * seconds)
    distil = ["--model", "KDSR_S", "--save", "student", "--pre_train_TA", str(teacher), *common]
    student = train(distil, (1 - TEACHER_SHARE) * seconds)

    net = load_model(student)
    benchmark = Degraded("photographs", list_images(unseen), gaussian8(SCALE))
    shown: dict[str, Tensor] = {}

    def scores(name: str, restore: Restore) -> list[Score]:
        def keep(sample, sr) -> None:
            if sample.image == SHOWN[0]:
                at = sample.cases.index(SHOWN[1])
                shown.update({"LR": enlarge(sample.lr[at], SCALE), name: sr[at], "HR": sample.hr})

        return evaluate(
            restore, benchmark, scale=SCALE, metric_protocol="kdsr", device=torch.device("cpu"), on_image=keep
        )

    baseline = scores("bicubic", lambda lr, hr: bicubic(lr, SCALE))
    ours = scores("KDSR student", lambda lr, hr: net(lr).image)
    text = table(baseline, ours)
    (folder / "table.txt").write_text(text + "\n", encoding="utf-8")
    order = ("LR", "bicubic", "KDSR student", "HR")
    side_by_side(folder / "side_by_side.png", {name: shown[name] for name in order}, SHOWN[2])
    runs = student.parent.parent
    print(f"\nphotographs not trained on: {', '.join(TEST)}; PSNR (dB) / SSIM on luma\n{text}\n")
    print(f"pictures: {folder / 'side_by_side.png'}\ncurves:   {runs / 'psnr.png'}, {runs / 'loss.png'}")
    print("\nnext, super-resolve images of your own:")
    print(f"  .venv/bin/python test.py --pre_train {student} --data_test Demo --dir_demo FOLDER")


if __name__ == "__main__":
    parser = program(__file__, __doc__)
    parser.add_argument("--minutes", type=float, default=4.5, help="of training, both stages together (default: 4.5)")
    parser.add_argument("--out", type=Path, help="folder for everything (default: experiment/demo_<date>_<time>)")
    given = parser.parse_args()
    if given.out is not None and given.out.exists():
        parser.error(f"--out {given.out} is there already; name another folder")
    if not given.minutes > 0:
        parser.error(f"--minutes {given.minutes}: must be more than 0")
    run(given.minutes, given.out or Path("experiment") / time.strftime("demo_%Y%m%d_%H%M%S"))
