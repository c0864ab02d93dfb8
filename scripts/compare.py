"""KDSR, CDSR and DASR at small sizes, trained for equal time on the same images and degradation, and tested alike.

    python scripts/compare.py --dir_data DIR [--data_train NAME] [--minutes 4] [--out DIR]

×4, isotropic Gaussian blur of unknown width; `gaussian8` on those of Set5, Set14 and B100 that are there, and bicubic
beside. KDSR's time is shared between its teacher and its student. Equal time is no fair race on a CPU, where the
networks' cost per step is very different: it shows how the machinery behaves, not which paper is right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import build

from data.protocol import gaussian8
from data.testset import Sample, find, roots_around
from evaluation import report
from evaluation.evaluate import Score, evaluate
from model import BlindSR, load_model
from model import build as build_model
from option import Machine
from scripts.demo import EPOCHS, SCALE, train
from scripts.drawing import enlarge, side_by_side
from utility import Run, read_rows

SCHEDULE = ["--lr_sr", "1e-3", "--epochs_sr", str(EPOCHS), "--lr_decay_sr", "2", "--epochs_encoder", "-1"]
COMMON = ["--patch_size", "24", "--batch_size", "8", "--draw_per", "image", "--degradation", "gaussian", "--sig", "2.6"]
KDSR = ["--n_feats", "32", "--n_blocks", "6", "--n_resblocks", "1"]
SHOWN = ("butterfly", "2.60", (60, 90, 100))  # image of Set5, kernel; top, left and side of the crop


def trained(common: Sequence[str], seconds: float) -> dict[str, Path]:
    """The checkpoint of each method."""
    teacher = train(["--model", "KDSR_T", "--save", "kdsr_teacher", *common, *KDSR], 0.4 * seconds)
    student = ["--model", "KDSR_S", "--save", "kdsr", *common, *KDSR, "--pre_train_TA", str(teacher)]
    return {
        "KDSR": train(student, 0.6 * seconds),
        "CDSR": train(["--model", "CDSR", "--save", "cdsr", *common, "--n_blocks", "1"], seconds),
        "DASR": train(["--model", "DASR", "--save", "dasr", *common, "--n_feats", "32", "--n_blocks", "1"], seconds),
    }


def curves(runs: dict[str, Path], out: Path) -> None:
    """PSNR of each method over its epochs, all of equal time."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=f"epoch, of {EPOCHS}", ylabel="PSNR on Set5, σ 2.6, dB")
    for name, run in runs.items():
        rows = [row for row in read_rows(Run(run).psnr_log) if row["set"] == "Set5"]
        axes.plot([int(row["epoch"]) for row in rows], [float(row["psnr"]) for row in rows], marker=".", label=name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--dir_data", required=True, type=Path)
    parser.add_argument("--data_train", help="the training set under --dir_data, where it is not DF2K")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training for each method (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("experiment/compare"), help="(default: experiment/compare)")
    given = parser.parse_args()
    if given.out.exists():
        parser.error(f"--out {given.out} is there already; name another folder")
    given.out.mkdir(parents=True)
    common = ["--dir_data", str(given.dir_data), "--dir_experiment", str(given.out), "--scale", str(SCALE)]
    common += ["--data_cache", str(given.out / "cache"), "--data_test", "Set5", *COMMON, *SCHEDULE]
    common += ["--data_train", given.data_train] if given.data_train else []
    files = trained(common, 60 * given.minutes)
    networks: dict[str, BlindSR] = {"bicubic": build_model("BICUBIC", scale=SCALE)}
    networks |= {name: load_model(path) for name, path in files.items()}
    device = build.device(Machine(), print)
    shown: dict[str, Tensor] = {}
    scores: list[Score] = []
    for name, net in networks.items():
        net.to(device)

        def keep(sample: Sample, sr: Tensor, name: str = name) -> None:
            if sample.image == SHOWN[0]:
                at = sample.cases.index(SHOWN[1])
                shown.setdefault("LR", enlarge(sample.lr[at], SCALE).cpu())
                shown.update({name: sr[at].cpu(), "HR": sample.hr.cpu()})

        for test_set in ("Set5", "Set14", "B100"):
            benchmark = find(test_set, roots_around(given.dir_data), gaussian8(SCALE), seed=1)
            if benchmark is not None:
                found = evaluate(
                    lambda lr, hr, net=net: net(lr, hr).image,
                    benchmark,
                    scale=SCALE,
                    metric_protocol="kdsr",
                    device=device,
                    on_image=keep,
                )
                scores += [row._replace(set=f"{name}, {row.set}") for row in found]
    table = report.render([row for row in report.rows(scores) if row.case == "all"], "markdown")
    (given.out / "table.md").write_text(table + "\n", encoding="utf-8")
    curves({name: path.parent.parent for name, path in files.items()}, given.out / "curves.png")
    if shown:
        order = ["LR", *networks, "HR"]
        side_by_side(given.out / "side_by_side.png", {name: shown[name] for name in order}, SHOWN[2])
    print(f"\n{table}\nwritten to {given.out}")


if __name__ == "__main__":
    main()
