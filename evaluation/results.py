"""The folders for the results of a test, and the files that say what was measured and how: written and read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, count
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from data.images import write_image
from data.testset import Sample, TestSet, to_pixels
from evaluation import tables
from evaluation.evaluate import Score, mean
from evaluation.statistics import confidence_interval, image_means
from model import BlindSR, name_of
from model.checkpoint import FOLDER_WEIGHTS, read_file
from utility import Run, append_rows, atomic_write, environment, file_name, listing, read_json, read_rows, write_text

LABELS = ("set", "protocol", "image", "case")
TRACED = ("seed", "lr_sr", "objective")  # of the run that a checkpoint lies in
ALIKE = ("digest", "images", "metric")  # of a test, which must be the same for two scores to be compared
SAME = (*ALIKE, "sha256")  # of two tests whose scores are of the same restored images
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins with one of these


@cache
def sha256(path: Path) -> str:
    """Return the SHA-256 of a checkpoint as 64 hex digits; of a folder, that of its weights. Each is read once."""
    return hashlib.sha256((path / FOLDER_WEIGHTS if path.is_dir() else path).read_bytes()).hexdigest()


def run_of(checkpoint: Path) -> Path | None:
    """Return the directory of the run that wrote a checkpoint, None if it lies elsewhere.

    Examples:
        >>> run_of(Path("experiment/cdsr_x4/model/model_best.pt")).as_posix()
        'experiment/cdsr_x4'
        >>> run_of(Path("downloads/cdsr.pt")) is None
        True
    """
    return checkpoint.parent.parent if checkpoint.parent.name == "model" else None


@cache
def training_of(checkpoint: Path) -> dict[str, Any]:
    """Return what is known of the training behind a checkpoint, as JSON can hold it; {} for weights that tell nothing.

    The run that it lies in tells seed, learning rate and objective. A file of ours tells its degradation anywhere.
    """
    run, told = run_of(checkpoint), dict[str, Any]()
    with suppress(ValueError):  # any folder may hold a config.json
        config = {} if run is None else Run(run).config()
        told = {name: config[name] for name in TRACED if name in config}
    contents = read_file(checkpoint) if checkpoint.is_file() else {}
    if "degradation" in contents:
        told["degradation"] = contents["degradation"]
    # A file from elsewhere may hold tensors there, or nan.
    return json.loads(json.dumps(told, default=str, skipkeys=True), parse_constant=lambda _: None)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that decides a result of test.py, except the images: a checkpoint, and how it restores.

    Attributes:
        pre_train: the checkpoint; None: bicubic interpolation.
        weights: which of its weights, one of `model.checkpoint.WEIGHTS`.
        precision, self_ensemble, tile, oracle, seed: see the flags of test.py.
    """

    pre_train: Path | None = None
    weights: str = "auto"
    precision: str = "fp32"
    self_ensemble: bool = False
    tile: int | None = None
    oracle: bool = False
    seed: int = 1

    def folder(self, dir_experiment: Path, *, scale: int, save: str | None = None) -> Path:
        """Return `results/<checkpoint>/` in the directory `save`, or in that of the run that the checkpoint lies in.

        With neither, the directory is test_<checkpoint>_<8 digits of its SHA-256>, since files of different networks
        may have the same name.

        Examples:
            >>> Setup().folder(Path("experiment"), scale=4).as_posix()
            'experiment/test_bicubic_x4/results/bicubic_x4'
            >>> best = Path("experiment/run_x4/model/model_best.pt")
            >>> Setup(pre_train=best, weights="params").folder(Path("experiment"), scale=4).as_posix()
            'experiment/run_x4/results/model_best_params'
        """
        if self.pre_train is None:
            name = f"bicubic_x{scale}"
            return dir_experiment / (save or f"test_{name}") / "results" / name
        run = dir_experiment / save if save else run_of(self.pre_train)
        run = run or dir_experiment / f"test_{self.pre_train.stem}_{sha256(self.pre_train)[:8]}"
        return run / "results" / (self.pre_train.stem + ("" if self.weights == "auto" else f"_{self.weights}"))

    def stem(self, planes: str) -> str:
        """Return the stem of the files of scores on these planes.

        Examples:
            >>> Setup().stem("kdsr"), Setup(precision="bf16", tile=64).stem("rgb")
            ('scores_kdsr', 'scores_rgb_tile64_bf16')
        """
        return "_".join(filter(None, ("scores", planes, self.variant)))

    @property
    def variant(self) -> str:
        """The settings that differ from the defaults, as a part of file names; "" if none does."""
        parts = ["oracle"] if self.oracle else []
        parts += ["ensemble"] if self.self_ensemble else []
        parts += [f"tile{self.tile}"] if self.tile else []
        parts += [self.precision] if self.precision != "fp32" else []
        parts += [f"seed{self.seed}"] if self.seed != 1 else []
        return "_".join(parts)

    def about(self, net: BlindSR) -> dict[str, Any]:
        """Return what a result's JSON file says of the network that made it, and how."""
        return {
            "network": name_of(net),
            **net.config,
            "checkpoint": self.pre_train and str(self.pre_train),
            "weights": self.weights,
            "sha256": self.pre_train and sha256(self.pre_train),
            "training": training_of(self.pre_train) if self.pre_train else {},
            "precision": self.precision,
            "self_ensemble": self.self_ensemble,
            "tile": self.tile,
            "oracle": self.oracle,
            "seed": self.seed,
            **environment(),
        }


def slug(text: str) -> str:
    """Return a text as part of a file's name: `file_name` without parentheses, and with _ for spaces.

    Examples:
        >>> slug("manet9 (prepared)"), slug("phone/night")
        ('manet9_prepared', 'phone_night')
    """
    return "_".join(file_name(text.replace("(", "").replace(")", "")).split())


def set_folder(results: Path, test_set: TestSet) -> Path:
    """Return the folder of a test set's scores and images."""
    return results / slug(test_set.protocol) / test_set.name


def write_test_set(
    results: Path, test_set: TestSet, scores: Sequence[Score], *, name: str, metric: str, made: Mapping[str, Any]
) -> list[Score]:
    """Write the scores of one test set into its folder under `results`, and return what the files hold.

    The files keep earlier scores of other metrics, if these are of the same images restored by the same weights.

    Args:
        results: as `Setup.folder` returns it.
        test_set: what was tested; its digests are noted.
        scores: those of this set.
        name: stem of the files, as `Setup.stem` returns it.
        metric: how PSNR and SSIM were measured, for the JSON file: "matlab, border 4".
        made: as `Setup.about` returns it.

    Raises OSError, naming the file, if it cannot be written. No file is left half written.
    """
    about = {
        "protocol": test_set.protocol,
        "digest": test_set.digest,
        "images": test_set.images,
        "metric": metric,
    }
    stem = set_folder(results, test_set) / name
    scores = _with_former(Path(f"{stem}.csv"), scores, {**about, **made})
    table = tables.rows(scores)
    images = image_means(scores).values()
    intervals = {name: confidence_interval([image[name] for image in images]) for name in scores[0].values}
    intervals = {name: ends for name, ends in intervals.items() if isfinite(ends[0])}
    told = {**table[0].means, "interval_95": intervals, **about, **made}
    _write(stem, scores, partial(tables.render, table), told)
    return scores


def _with_former(path: Path, scores: Sequence[Score], about: Mapping[str, Any]) -> list[Score]:
    """Return the scores, before them those of other metrics that the file holds, if it is of the same test."""
    try:
        former = _read(path)
    except (OSError, ValueError):  # none, or damaged: it is replaced
        return list(scores)
    rows = {score[:4]: score.values for score in former.scores}
    cases = [score._replace(**dict(zip(LABELS, map(harmless, score[:4]), strict=True)))[:4] for score in scores]
    if any(former.about.get(key) != about.get(key) for key in SAME) or rows.keys() != set(cases):
        return list(scores)
    return [score._replace(values={**rows[case], **score.values}) for case, score in zip(cases, scores, strict=True)]


def write_images_scores(stem: Path, scores: Sequence[Score], *, made: Mapping[str, Any]) -> Path:
    """Write the scores of single images, such as own photographs, and return the path of the files without suffix.

    It is `stem`, or `stem`_2, `stem`_3, ... where there are scores already: they may be of other photographs. Raises
    OSError, naming the file, if it cannot be written.
    """
    names = chain([stem], (stem.with_name(f"{stem.name}_{number}") for number in count(2)))
    free = next(name for name in names if not name.with_name(f"{name.name}.csv").exists())
    table = partial(tables.render_images, {score.image: score.values for score in scores})
    _write(free, scores, table, {**mean(scores), **made})
    return free


class Tested(NamedTuple):
    """The scores of one test set, and where they lie."""

    folder: Path
    about: dict[str, Any]  # the JSON file: the test, and the network that was tested
    scores: list[Score]
    variant: str = ""  # see `Setup.variant`


def of_checkpoint(path: Path) -> Path:
    """Return the folder `results/<checkpoint>` of the one checkpoint of a run that was tested.

    `path` is the run, or already such a folder. Raise FileNotFoundError if it is neither, and ValueError if several
    checkpoints were tested, or none.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if path.absolute().parent.name == "results":
        return path
    tested = [folder for folder in sorted(path.glob("results/*")) if any(folder.rglob("scores_*.csv"))]
    if len(tested) != 1:
        found = f"one of {', '.join(map(str, tested))}" if tested else "a run that test.py has scored"
        raise ValueError(f"{path} has scores of {len(tested)} checkpoints: name {found}")
    return tested[0]


def read(results: Path) -> dict[str, Tested]:
    """Read the scores of a checkpoint's test sets, by the path of their CSV file in its results.

    Raise ValueError if a file is damaged or there is none, and FileNotFoundError if a JSON file is missing.
    """
    found = {}
    for path in sorted(results.rglob("scores_*.csv")):
        found[path.relative_to(results).as_posix()] = _read(path)
    if not found:
        raise ValueError(
            f"{results} holds no scores; `python test.py --dir_data DIR --pre_train CHECKPOINT` writes them"
        )
    return found


def _read(path: Path) -> Tested:
    """Read one CSV file of scores and the JSON file beside it; errors are those of `read`."""
    try:
        scores = [
            Score(
                row["set"],
                row["protocol"],
                row["image"],
                row["case"],
                {name: float(value) for name, value in row.items() if name not in LABELS},
            )
            for row in read_rows(path)
        ]
        about = read_json(path.with_suffix(".json"))
        if not isinstance(about, dict):
            raise ValueError(f"it holds {type(about).__name__} instead of an object")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} or its .json is damaged ({error}); test again") from error
    if not scores:
        raise ValueError(f"{path} holds no scores; test again")
    return Tested(path.parent, about, scores, path.stem.removeprefix("scores_").partition("_")[2])


def outdated(results: Path, tested: Mapping[str, Tested]) -> str:
    """Say which test sets of a checkpoint were scored before it was trained further, "" if none.

    A checkpoint that is no longer there cannot tell.
    """
    model, old = results.parent.parent / "model", []
    for key, each in tested.items():
        checkpoint = model / Path(each.about.get("checkpoint") or "").name
        if checkpoint.is_file() and each.about.get("sha256") != sha256(checkpoint):
            old.append(key)
    return f"{results}: {listing(old)}: scores of older weights than those of the run; test again" if old else ""


def image_file(folder: Path, image: str, case: str, variant: str = "") -> Path:
    """Return the file of an SR image: <image>_<case>.png, or <image>_<case>_<variant>.png; see `Setup.variant`."""
    return folder / ("_".join(filter(None, (image, slug(case), variant))) + ".png")


def save_images(folder: Path, sample: Sample, sr: Tensor, variant: str = "") -> None:
    """Write the SR images (N, 3, s·H, s·W) of a sample, each to its `image_file`."""
    folder.mkdir(parents=True, exist_ok=True)
    for case, image in zip(sample.cases, sr, strict=True):
        with atomic_write(image_file(folder, sample.image, case, variant)) as temporary:
            write_image(temporary, to_pixels(image))


def _write(stem: Path, scores: Sequence[Score], table: Callable[[tables.Form], str], made: Mapping[str, Any]) -> None:
    """Write scores as <stem>.csv, their table in every form, and how they were made as <stem>.json."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**dict(zip(LABELS, map(harmless, score[:4]), strict=True)), **score.values} for score in scores]
    with atomic_write(Path(f"{stem}.csv")) as temporary:
        append_rows(temporary, rows)
    for form, suffix in tables.FORMS.items():
        write_text(Path(f"{stem}{suffix}"), table(form) + "\n")
    odd = {key for key, value in made.items() if isinstance(value, float) and not isfinite(value)}
    told = {**made, **dict.fromkeys(odd)}  # JSON knows neither nan nor infinity
    write_text(Path(f"{stem}.json"), json.dumps(told, indent=1, allow_nan=False))


def harmless(cell: str) -> str:
    """Return a name for a CSV cell, with an apostrophe before it if a spreadsheet would run it as a formula.

    Examples:
        >>> harmless("=1+1"), harmless("baby")
        ("'=1+1", 'baby')
    """
    return f"'{cell}" if cell.startswith(FORMULA) else cell
