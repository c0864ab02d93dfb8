"""Score a checkpoint on test sets under a protocol or on real pairs, or super-resolve a folder of images.

python test.py --pre_train experiment/cdsr_x4_bicubic_aniso/model/model_best.pt --dir_data DIR
python test.py --pre_train MODEL.pt --data_test LR_DIR --hr_dir HR_DIR
python test.py --pre_train MODEL.pt --data_test Demo --dir_demo DIR
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import option
from data import factory as data_factory
from data.degradation import DEGRADATIONS
from data.degradation.resize import bicubic
from data.folders import paired
from data.images import BadImage, Photo, list_images, read_image, read_photo, write_photo
from data.protocol import CROPPED, crop128
from data.testset import PAIRED, Sample, TestSet, to_tensor
from evaluation import Score, best_step, cost, evaluate, metric, page, report, results, score_image, smallest_hr
from loss.factory import require
from model import IKC, NETWORKS, BlindSR, build, load_model, name_of, zoo
from model.memory import out_of_memory
from option import EvalOptions, Given
from runtime.device import device as choose_device
from runtime.precision import Precision
from runtime.signals import INTERRUPTED
from utility import Run, argument, atomic_write

NAMES = {"model": [*NETWORKS, "blindsr"], "degradation": [*DEGRADATIONS]}
LUMA_OF_PAIRS = "matlab"  # of the tables of real photographs
KERNELS = ("protocol", "sample_mode", "noise", "sv_mode", "sig", "lambda_1", "lambda_2", "theta", "jpeg_quality")
TRAINED_FOR = ("degradation", "recipe", "blur_type", "noise")  # decide what a network is tested on


def say(text: str) -> None:
    """Print a line of the rooms as users of the command line know it."""
    print(option.as_flags(text))


# ------------------------------------------------------------------------------------------------------- scores


def restore(lr: Tensor, hr: Tensor, net: BlindSR, options: EvalOptions, precision: Precision) -> Tensor:
    """Return SR images of (N, 3, H, W), by tiles or as an ensemble where that is asked for; `hr` is for teachers."""
    testing = options.testing
    with precision.autocast(lr.device):
        if testing.oracle and isinstance(net, IKC):
            return best_step(net, lr, hr)
        if testing.tile is None and not testing.self_ensemble:
            return net(lr, hr).image
        sr = net.upscale(lr, hr=hr if net.sees_hr else None, tile=testing.tile, self_ensemble=testing.self_ensemble)
        return sr.to(lr.device)


def metrics_of(options: EvalOptions) -> list[str]:
    """Return the names of the metrics that were asked for."""
    testing, demo = options.testing, options.images.data_test == "Demo"
    names = metric.split_names(testing.score) if testing.score else [] if demo else ["psnr", "ssim"]
    names += [f"lpips_{testing.lpips}"] if testing.lpips else []
    names += metric.split_names(testing.no_reference) if testing.no_reference else []
    if options.test_degradation.metric == metric.ALL_PLANES:
        names = metric.side_by_side(names)
    return list(dict.fromkeys(names))


def score(
    net: BlindSR,
    test_sets: Sequence[TestSet],
    crops: Mapping[str, page.Crops],
    options: EvalOptions,
    precision: Precision,
    device: torch.device,
) -> list[Score]:
    """Return every score of every test set; with --save_results write the images as they come.

    crops: by protocol; they are shown all images.
    """
    planes = options.test_degradation.metric
    with argument("score"):
        measures = [metric.make(n, device=device, planes=planes, border=net.scale) for n in metrics_of(options)]
    scores: list[Score] = []
    for test_set in test_sets:
        folder = results.set_folder(results_dir(options, net), test_set) if options.testing.save_results else None
        scores += evaluate(
            partial(restore, net=net, options=options, precision=precision),
            test_set,
            scale=net.scale,
            planes=planes,
            device=device,
            metrics=measures,
            on_image=partial(see, crops=crops[test_set.protocol], folder=folder),
        )
    return scores


def see(sample: Sample, sr: Tensor, *, crops: page.Crops, folder: Path | None) -> None:
    """Keep a crop of an image for the report, and write the whole image where there is a folder for it."""
    crops(sample, sr)
    if folder is not None:
        results.save_images(folder, sample, sr)


def results_dir(options: EvalOptions, net: BlindSR) -> Path:
    """Return the folder of all results of this checkpoint."""
    testing = options.testing
    return results.results_dir(
        dir_experiment=testing.dir_experiment,
        pre_train=testing.pre_train,
        scale=net.scale,
        save=testing.save,
        weights=testing.weights,
    )


def made_by(options: EvalOptions, net: BlindSR) -> dict[str, Any]:
    """Return for the result's JSON files how it was made."""
    testing = options.testing
    return results.made_by(
        net,
        pre_train=testing.pre_train,
        weights=testing.weights,
        precision=options.machine.precision,
        self_ensemble=testing.self_ensemble,
        tile=testing.tile,
        oracle=testing.oracle,
    )


def report_scores(
    scores: Sequence[Score],
    test_sets: Sequence[TestSet],
    crops: Mapping[str, page.Crops],
    options: EvalOptions,
    net: BlindSR,
) -> None:
    """Print the table of all scores, then write those of each test set, and report.html for each protocol."""
    planes, testing = options.test_degradation.metric, options.testing
    note = ", the best of seven steps, chosen by the HR image: an oracle" if testing.oracle else ""
    print(f"{name_of(net)} x{net.scale}, {planes}{note}")
    print(report.render(report.rows(scores)))
    name = results.scores_name(
        planes=planes,
        precision=options.machine.precision,
        self_ensemble=testing.self_ensemble,
        tile=testing.tile,
        oracle=testing.oracle,
    )
    folder = results_dir(options, net)
    for test_set in test_sets:
        own = [score for score in scores if score.set == test_set.name]
        results.write_test_set(
            folder, test_set, own, name=name, metric=f"{planes}, border {net.scale}", made=made_by(options, net)
        )
    for protocol, shown in crops.items():
        own = [score for score in scores if score.protocol == protocol]
        made = {"metric": planes, **made_by(options, net)}
        page.write_results(folder / results.slug(protocol), own, shown, made=made, log=print)
    print(f"written to {folder}")


# ------------------------------------------------------------------------------------------------ own photographs


def upscale(net: BlindSR, photo: Photo, options: EvalOptions, precision: Precision, device: torch.device) -> Photo:
    """Return the photo super-resolved, grey as grey, at its own bit depth; alpha is resized bicubically."""
    testing = options.testing
    lr = torch.from_numpy(photo.rgb).permute(2, 0, 1)  # 3 H W
    with precision.autocast(device):
        sr = net.upscale(lr, tile=testing.tile, self_ensemble=testing.self_ensemble)
    alpha = None
    if photo.alpha is not None:
        resized = bicubic(torch.from_numpy(photo.alpha)[None, None], net.scale)[0, 0]
        alpha = resized.clamp(0, 1).numpy()
    return photo._replace(rgb=sr.clamp(0, 1).permute(1, 2, 0).contiguous().numpy(), alpha=alpha)


def demo(net: BlindSR, options: EvalOptions, precision: Precision, device: torch.device) -> None:
    """Super-resolve every image of --dir_demo into results/Demo, and score what was written where that is asked for.

    Nothing is lost silently: a result that is there stays unless --overwrite is given, no two images share one, a file
    that cannot be read is named at the end and does not stop the others. Exits with 1 if there was such a file.
    """
    source, folder = options.testing.dir_demo, results_dir(options, net) / "Demo"
    if source is None:
        raise ValueError("--data_test Demo: name the folder of images with --dir_demo")
    if net.sees_hr:
        raise ValueError(f"--data_test Demo: {name_of(net)} is a teacher and needs the HR image; use its student")
    with argument("dir_demo"):
        paths = list_images(source, log=print)
    with argument("no_reference" if options.testing.no_reference else "score"):
        measures = [metric.make(name, device=device) for name in metrics_of(options)]
    folder.mkdir(parents=True, exist_ok=True)
    by_stem = len({path.stem.lower() for path in paths}) == len(paths)
    scores, failures = list[Score](), list[str]()
    for path in paths:
        out = folder / f"{path.stem if by_stem else path.name}_x{net.scale}.png"
        if out.exists() and not options.testing.overwrite:
            say(f"{path}: {out} is there already; `overwrite` replaces it")
            continue
        try:
            photo = read_photo(path, log=print)
            height, width, _ = photo.rgb.shape
            if min(height, width) < net.min_size:
                raise BadImage(f"{path} is {height} x {width}; {name_of(net)} needs {net.min_size} a side")
        except BadImage as error:
            failures.append(str(error))
            continue
        with atomic_write(out) as temporary:
            write_photo(temporary, upscale(net, photo, options, precision, device))
        print(f"{path} -> {out}")
        if measures:
            values = score_image(to_tensor(read_image(out), device), measures)
            scores.append(Score("Demo", "own images", out.stem, "as they are", values))
    if scores:
        print(report.render_images({score.image: score.values for score in scores}))
        results.write_images_scores(folder / "no_reference", scores, made=made_by(options, net))
        print(f"written to {folder / 'no_reference'}.csv, .json and others")
    if failures:
        sys.exit("test.py: error: not super-resolved:\n  " + "\n  ".join(failures))


# ------------------------------------------------------------------------------------------- what is to be tested


def released_words(words: Sequence[str]) -> list[str]:
    """Return a command line of the released KDSR, `main.py --test_only`, as one of this program.

    Flags that only training reads are left out.
    """
    parser_words = [word for word in words if word != "--test_only"]
    ours, theirs = option.flags_of(EvalOptions), option.flags_of(option.TrainOptions)
    known = {alias for name, field in ours.items() for alias in (name, *field.metadata["flag"].also)}
    dropped = {alias for name, field in theirs.items() for alias in (name, *field.metadata["flag"].also)} - known
    kept: list[str] = []
    skipping = False
    for word in parser_words:
        name = word.removeprefix("--").split("=")[0] if word.startswith("--") else None
        if name is not None:
            skipping = name in dropped
        if not skipping:
            kept.append(word)
    return kept


def load(argv: Sequence[str] | None) -> tuple[Given, EvalOptions, BlindSR]:
    """Return what a command line asks for, and the network of its checkpoint, on which the defaults depend."""
    given = option.parse(EvalOptions, argv, prog="test.py", names=NAMES)
    option.released_test(given)
    path, name, scale = (given.get(key) for key in ("pre_train", "model", "scale"))
    if path is None and name == "BICUBIC" and scale is not None:
        net = build(name, scale=scale)
    elif path is None:
        raise ValueError("--pre_train: name the checkpoint to test (only --model BICUBIC --scale 4 needs none)")
    else:
        given |= option.weights(given)
        with argument("pre_train"):
            given["pre_train"] = path = zoo.resolve(given["pre_train"])
            net = load_model(path, weights=given.get("weights", "auto"))
        sizes = {key: given.get(key) for key in ("n_feats", "n_blocks", "n_resblocks")}
        require(net, "pre_train", path, model=name, scale=scale, **sizes)
    options = option.eval_options(given, model=name_of(net), scale=net.scale)
    if options.testing.oracle and not isinstance(net, IKC):
        raise ValueError(f"--oracle: {name_of(net)} has no steps to choose from; IKC has")
    for note in option.notes(given, options):
        print(f"note: {note}")
    return given, options, net


def is_real(test_set: TestSet) -> bool:
    """Tell real pairs from images that a protocol has degraded."""
    return test_set.protocol.startswith(PAIRED)


def with_luma_of_pairs(options: EvalOptions, test_sets: Sequence[TestSet], given: Given) -> EvalOptions:
    """Return the options with the luma that tables of real pairs use, whatever network restores them.

    Raises ValueError if images that are measured otherwise are to be scored beside them.
    """
    real, planes = [is_real(test_set) for test_set in test_sets], options.test_degradation.metric
    if "metric" in given or not any(real) or planes == LUMA_OF_PAIRS:
        return options
    if not all(real):
        raise ValueError(
            f"--data_test {options.images.data_test}: real pairs are measured by --metric {LUMA_OF_PAIRS}, images that "
            f"are degraded here by {planes}: test them apart, or name one --metric for all"
        )
    changed = dataclasses.replace(options.test_degradation, metric=LUMA_OF_PAIRS)
    return dataclasses.replace(options, test_degradation=changed)


def remarks(options: EvalOptions, test_sets: Sequence[TestSet], given: Given) -> list[str]:
    """Return what the user may not have meant: a test of other degradations than the network was trained for."""
    found = []
    protocol = [f"--{name}" for name in (*KERNELS, "blur_type", "degradation") if name in given]
    if given.get("protocol") == CROPPED:
        protocol.remove("--protocol")
    if protocol and all(is_real(test_set) for test_set in test_sets) and options.testing.hr_dir is None:
        found.append(f"real pairs are scored as they are: {', '.join(protocol)} has no effect")
    for test_set in test_sets:
        if not is_real(test_set) and test_set.hr_paths[0].parent.name.startswith("LR"):
            found.append(f"the images of {test_set.hr_paths[0].parent} are degraded; --hr_dir names their HR images")
    run = None if options.testing.pre_train is None else results.run_of(options.testing.pre_train)
    if run is not None and not protocol and any(not is_real(test_set) for test_set in test_sets):
        tested, trained = vars(options.degradation), {}
        with suppress(ValueError):  # any folder may hold a config.json
            trained = Run(run).config()
        other = [name for name in TRAINED_FOR if trained.get(name, tested[name]) != tested[name]]
        if other:
            values = {name: trained[name] for name in other}
            if isinstance(recipe := values.get("recipe"), dict):
                values["recipe"] = recipe["name"]  # its ranges are in config.json
            told = " ".join(f"--{name} {value}" for name, value in values.items())
            found.append(f"the network was trained with {told}, which is not what this tests")
    return found


def real_pairs(lr_dir: Path, hr_dir: Path, scale: int, *, crop: int) -> TestSet:
    """Return the pairs of --data_test and --hr_dir, `crop` LR pixels a side of their centre; 0: all of them."""
    if not lr_dir.is_dir():
        raise NotADirectoryError(
            f"--data_test {lr_dir}: beside --hr_dir it names one folder, that of the LR images. Several sets "
            "are joined by + without --hr_dir, each a folder with LR/ and HR/"
        )
    if not hr_dir.is_dir():
        raise NotADirectoryError(f"--hr_dir: there is no folder {hr_dir}")
    return paired(lr_dir, hr_dir, scale, crop=crop)


def find_test_sets(given: Given, options: EvalOptions, net: BlindSR) -> list[TestSet]:
    """Return the checked test sets. One that was asked for and is missing is an error."""
    hr_dir, names = options.testing.hr_dir, options.images.data_test
    missing: list[str] = []
    if hr_dir is not None:
        crop = crop128(net.scale).crop if options.test_degradation.protocol == CROPPED else 0
        test_sets = [real_pairs(Path(names), hr_dir, net.scale, crop=crop)]
    else:
        protocol = data_factory.protocol(
            options.test_degradation.protocol,
            scale=net.scale,
            **dataclasses.asdict(options.degradation),
            **dataclasses.asdict(options.test_degradation),
        )
        test_sets, missing = data_factory.test_sets(
            names, dir_data=options.images.dir_data, protocol=protocol, seed=options.testing.seed, log=say
        )
    if missing and ("data_test" in given or not test_sets):
        raise FileNotFoundError(option.missing_test_sets(missing, options.images.dir_data))
    if missing:
        print(f"test sets that were not found: {', '.join(missing)}")
    data_factory.check_test_sets(test_sets, at_least=smallest_hr(net))
    return test_sets


def run(argv: Sequence[str] | None) -> None:
    """Do what a command line asks for."""
    given, options, net = load(argv)
    machine = options.machine
    precision = Precision(precision=machine.precision, deterministic=machine.deterministic)
    device = choose_device(cpu=machine.cpu, n_GPUs=min(machine.n_GPUs, 1), precision=precision, log=say)
    net.to(device).to(memory_format=precision.inference_format(device))
    if options.testing.complexity:
        found = cost.measure_cost(net, *cost.SIZE, device, precision=machine.precision)
        print(cost.render_cost(net, found))
        return
    if options.images.data_test == "Demo":
        demo(net, options, precision, device)
        return
    test_sets = find_test_sets(given, options, net)
    options = with_luma_of_pairs(options, test_sets, given)
    for remark in remarks(options, test_sets, given):
        print(f"note: {remark}")
    crops = {test_set.protocol: page.Crops(net.scale) for test_set in test_sets}
    scores = score(net, test_sets, crops, options, precision, device)
    report_scores(scores, test_sets, crops, options, net)


def main(argv: Sequence[str] | None = None) -> None:
    try:
        run(argv)
    except KeyboardInterrupt:
        print("test.py: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError) as error:
        sys.exit(f"test.py: error: {option.as_flags(error)}")
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        sys.exit(f"test.py: error: out of memory; --tile 256, or a smaller one, needs less ({error})")


if __name__ == "__main__":
    main()
