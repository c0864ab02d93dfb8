"""Train small KDSR, CDSR, DASR and EDSR for equal time, on the same images and degradation, and test them alike.

    python scripts/compare.py --dir_data DIR [--data_train NAME] [--minutes 4] [--out DIR]

×4, isotropic Gaussian blur of unknown width; tested under `gaussian8`, beside bicubic, on those of Set5, Set14 and B100
that are there. KDSR's time is shared between its teacher and its student. Equal time is no fair race on a CPU, where
the networks' cost per step is very different: it shows how the machinery behaves, not which paper is right.
"""

from __future__ import annotations

import re
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.find_testsets import named_test_sets
from data.images import list_images
from data.protocol import gaussian8
from data.testset import Sample, TestSet
from data.training_folders import training_folder
from evaluation import Score, evaluate, tables
from model import BlindSR, build, load_model
from scripts.clock import train
from scripts.demo import SCALE
from scripts.drawing import enlarge, side_by_side
from scripts.program import add_cpu, check_folder, device_of, one_line, program, real, words_of
from utility import Run, read_rows, write_text

TEST_SETS = "Set5+Set14+B100"
COMMON = ["--patch_size", "24", "--batch_size", "8", "--draw_per", "image", "--degradation", "gaussian", "--sig", "2.6"]
BLIND = ["--epochs_encoder", "-1"]
KDSR = [*BLIND, "--n_feats", "32", "--n_blocks", "6", "--n_resblocks", "1"]
METHODS = 4
TEACHER_SHARE = 0.4  # of KDSR's time
EXAMPLE = ("butterfly", "2.60", (60, 90, 100))  # image of Set5, kernel; top, left and side of the crop


class Point(NamedTuple):
    """A validation of a method."""

    step: int
    minutes: float  # since the method began to train, its teacher included
    psnr: float  # dB


def trained(common: Sequence[str], seconds: float, end: float) -> dict[str, Path]:
    """Train each method; return the files of the networks."""
    job = {"job": "comparison", "end": end}
    teacher = ["--model", "KDSR_T", "--save", "kdsr_teacher", *common, *KDSR]
    file = train(teacher, seconds=TEACHER_SHARE * seconds, **job)
    student = ["--model", "KDSR_S", "--save", "kdsr", *common, *KDSR, "--pre_train_TA", str(file)]
    cdsr = ["--model", "CDSR", "--save", "cdsr", *common, *BLIND, "--n_feats", "32", "--n_blocks", "1"]
    dasr = ["--model", "DASR", "--save", "dasr", *common, *BLIND, "--n_feats", "32", "--n_blocks", "1"]
    edsr = ["--model", "EDSR", "--save", "edsr", *common, "--n_feats", "32", "--n_blocks", "16"]
    return {
        "KDSR": train(student, seconds=(1 - TEACHER_SHARE) * seconds, **job),
        "CDSR": train(cdsr, seconds=seconds, **job),
        "DASR": train(dasr, seconds=seconds, **job),
        "EDSR": train(edsr, seconds=seconds, **job),
    }


def course(run: Path, set_name: str, minutes_before: float = 0.0) -> list[Point]:
    """Return the validations of a run on a test set, from its logs.

    Args:
        run: its directory.
        set_name: of the test set.
        minutes_before: what the method had trained before this run.
    """
    lines = (run / "log.txt").read_text(encoding="utf-8").splitlines()
    first, *_ = times = [datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in lines]
    validated = {
        int(found[1]): minutes_before + (moment - first).total_seconds() / 60
        for moment, line in zip(times, lines, strict=True)
        if (found := re.match(rf"epoch (\d+)  {re.escape(set_name)}  ", line[20:]))
    }
    rows = [row for row in read_rows(Run(run).psnr_log) if row["set"] == set_name]
    return [Point(int(row["step"]), validated[int(row["epoch"])], float(row["psnr"])) for row in rows]


def curves(courses: dict[str, list[Point]], set_name: str, out: Path) -> None:
    """Draw PSNR over the steps, which differ between the methods, and over the time, which is the same for all."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, field in zip(figure.subplots(1, 2, sharey=True), ("step", "minutes"), strict=True):
        for name, points in courses.items():
            axes.plot([getattr(p, field) for p in points], [p.psnr for p in points], marker=".", label=name)
        axes.set_xlabel({"step": "step", "minutes": "minutes of training, KDSR's with its teacher"}[field])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"PSNR on {set_name}, σ 2.6, dB")
    figure.axes[0].legend()
    figure.savefig(out, dpi=100)


def find_test_sets(given: Namespace) -> list[TestSet]:
    """Return the test sets that are there. Raise ValueError or OSError if there is none, or nothing to train on."""
    list_images(training_folder(given.dir_data, given.data_train))
    found, missing = named_test_sets(TEST_SETS, dir_data=given.dir_data, protocol=gaussian8(SCALE), seed=1)
    if not found:
        raise FileNotFoundError(
            f"`dir_data` {given.dir_data}: none of {', '.join(missing)} lies in benchmark/ there, beside it or above"
        )
    return found


def score(
    networks: dict[str, BlindSR], test_sets: Sequence[TestSet], *, cpu: bool
) -> tuple[list[Score], dict[str, Tensor]]:
    """Return all scores, with the network's name before that of the set, and the images to be drawn."""
    device = device_of(cpu=cpu)
    images: dict[str, Tensor] = {}
    scores: list[Score] = []
    for name, net in networks.items():
        net.to(device)

        def keep(sample: Sample, sr: Tensor, name: str = name) -> None:
            if sample.image == EXAMPLE[0]:
                at = sample.cases.index(EXAMPLE[1])
                images.setdefault("LR", enlarge(sample.lr[at], SCALE).cpu())
                images.update({name: sr[at].cpu(), "HR": sample.hr.cpu()})

        for test_set in test_sets:
            found = evaluate(
                lambda lr, hr, net=net: net(lr, hr).image,
                test_set,
                scale=SCALE,
                planes="kdsr",
                device=device,
                on_image=keep,
            )
            scores += [row._replace(set=f"{name}, {row.set}") for row in found]
    return scores, images


def run(given: Namespace) -> None:
    """Train, test, draw and print. Raise ValueError or OSError that names the argument to mend."""
    test_sets = find_test_sets(given)
    check_folder("--out", given.out)
    given.out.mkdir(parents=True)
    seconds, begun = 60 * given.minutes, time.perf_counter()
    common = ["--dir_data", str(given.dir_data), "--dir_experiment", str(given.out), "--scale", str(SCALE)]
    common += ["--data_cache", str(given.out / "cache"), "--data_test", test_sets[0].name, *COMMON]
    common += ["--data_train", given.data_train] if given.data_train else []
    common += ["--cpu"] if given.cpu else []
    files = trained(common, seconds, begun + METHODS * seconds)
    networks = {"bicubic": build("BICUBIC", scale=SCALE)}
    networks |= {name: load_model(path) for name, path in files.items()}
    scores, images = score(networks, test_sets, cpu=given.cpu)
    table = tables.render([row for row in tables.rows(scores) if row.case == "all"], "markdown")
    write_text(given.out / "table.md", table + "\n")
    name = test_sets[0].name
    before = {"KDSR": TEACHER_SHARE * given.minutes}
    courses = {key: course(path.parent.parent, name, before.get(key, 0.0)) for key, path in files.items()}
    curves(courses, name, given.out / "curves.png")
    if images:
        order = ["LR", *networks, "HR"]
        side_by_side(given.out / "side_by_side.png", {name: images[name] for name in order}, EXAMPLE[2])
    print(f"\n{table}\nwritten to {given.out}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--dir_data", required=True, type=Path, help="as main.py takes it")
    parser.add_argument("--data_train", help="training set under --dir_data, if it is not DF2K")
    minutes = "minutes of training for each method (default: %(default)g)"
    parser.add_argument("--minutes", type=real(0, above=True), default=4.0, help=minutes)
    parser.add_argument(
        "--out", type=Path, default=Path("experiment/compare"), help="folder for everything (%(default)s)"
    )
    add_cpu(parser)
    given = parser.parse_args(argv)
    if given.out.exists():
        parser.error(f"--out {given.out} is there already; name another folder")
    with one_line(parser.prog, words_of(parser)):
        run(given)


if __name__ == "__main__":
    main()
