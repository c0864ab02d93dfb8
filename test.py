"""Score a checkpoint on test sets under a protocol or on real pairs, or super-resolve photographs.

python test.py --pre_train experiment/cdsr_x4_bicubic_aniso/model/model_best.pt --dir_data DIR
python test.py --pre_train MODEL.pt --data_test LR_DIR --hr_dir HR_DIR
python test.py photo.jpg FOLDER --out RESULTS
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runtime.signals import INTERRUPTED, StopSignals, until_ready

if __name__ == "__main__":
    until_ready("test.py")

import torch
from torch import Tensor
from tqdm import tqdm

import option
import parts
import published
from data.degradation import DEGRADATIONS
from data.degradation.recipe import read_recipe
from data.find_testsets import check_test_sets, missing_test_sets, named_test_sets
from data.folders import paired
from data.images import Log
from data.outputs import check_there, plan
from data.protocol import CROPPED, crop128
from data.testset import Prepared, Sample, TestSet
from evaluation import Score, best_step, cost, evaluate, metric, report, results, smallest_hr, tables
from evaluation.photo_scores import PhotoScores, by_file
from evaluation.photographs import Enlarger, Target
from flags import Given, spellings
from loss.factory import require
from model import IKC, NETWORKS, BlindSR, build, load_model, name_of, zoo
from model.memory import out_of_memory
from option import EvalOptions, TrainOptions
from runtime import distributed
from runtime.device import check_devices, choose_device
from runtime.distributed import Ranks
from runtime.precision import Precision
from utility import Run, argument, bar_interval, call, print_any_name, taken, why_unwritable

NAMES = {"model": {**NETWORKS, "blindsr": None}, "degradation": DEGRADATIONS}
LUMA_OF_PHOTOGRAPHS = "matlab"  # in the papers' tables of real photographs
KERNELS = ("protocol", "sample_mode", "noise", "sv_mode", "sig", "lambda_1", "lambda_2", "theta", "jpeg_quality")
PATIENCE = timedelta(days=30)  # processes that share photographs may finish hours apart


def say(text: str) -> None:
    """Print a line; arguments in backticks become flags, as users of the command line know them."""
    print(option.as_flags(text))


# ------------------------------------------------------------------------------------------- what is to be tested


def released_words(words: Sequence[str]) -> list[str]:
    """Return a command line of the released KDSR, `main.py --test_only`, as one of this program.

    Flags that only training reads are left out.
    """
    dropped = {"test_only", *spellings(TrainOptions) - spellings(EvalOptions)}
    kept, skipping = list[str](), False
    for word in words:
        if word.startswith("--"):
            skipping = word.removeprefix("--").split("=")[0] in dropped
        if not skipping:
            kept.append(word)
    return kept


def from_zoo(given: Given, log: Log) -> str:
    """Return the name of the weights in the zoo that fit a command line, and log it. Raise ValueError if none fit."""
    network, scale, protocol = (given.get(key) for key in ("model", "scale", "protocol"))
    if option.asks_for_photographs(given) or "hr_dir" in given:
        found, wanted = zoo.choose_for_photographs(scale=scale, network=network), "photographs"
    else:
        scale = scale or option.DEFAULT_SCALE
        defaults = published.defaults(network or "KDSR_S", scale, given)
        degradation = None if protocol else given.get("degradation", defaults["degradation"])
        # Some recipes draw their blur themselves; a protocol says which it has.
        blur = given.get("blur_type", "iso_gaussian") if degradation and takes_blur(degradation) else None
        found = zoo.choose(scale=scale, network=network, degradation=degradation, blur_type=blur, protocol=protocol)
        wanted = protocol or f"{degradation}{f', {blur}' if blur else ''}"
    if found is None:
        asked, resized = " ".join(filter(None, [network, scale and f"x{scale}", f"for {wanted}"])), ""
        if wanted == "photographs" and scale:
            resized = f"--outscale {scale} resizes results of other factors, "
            if shifted := zoo.choose(scale=scale, network=network, degradation="manet"):
                asked += f" (those of {shifted.name}, trained for manet, would shift them)"
        raise ValueError(
            f"--pre_train: name the checkpoint; the zoo has no weights {asked}. `python test.py --zoo` lists those "
            f"that it has, {resized}docs/train.md says how to train some, and --model BICUBIC "
            f"--scale {scale or option.DEFAULT_SCALE} needs none"
        )
    blur = f", {found.blur_type}" if takes_blur(found.degradation) else ""
    log(f"weights: {found.name}, {found.network} x{found.config['scale']}, trained for {found.degradation}{blur}")
    if wanted == "photographs" and found.degradation != "second_order":
        log("note: they sharpen blur, but take noise and JPEG blocks for detail; the zoo has none for those")
    return found.name


def takes_blur(degradation: str) -> bool:
    """Return True if --blur_type says what blur a recipe draws."""
    return "blur_type" in taken(DEGRADATIONS[degradation])


def trained_for(checkpoint: Path) -> dict[str, Any]:
    """Return the degradation that a checkpoint was trained for, as flags and values, by its run or the zoo."""
    if entry := zoo.entry_of(checkpoint):
        return {"degradation": entry.degradation} | (
            {"blur_type": entry.blur_type} if takes_blur(entry.degradation) else {}
        )
    if (run := results.run_of(checkpoint)) is not None:
        with suppress(ValueError):  # any folder may hold a config.json
            return Run(run).config()
    return {}


def load(given: Given, log: Log) -> tuple[EvalOptions, BlindSR]:
    """Return the options of a command line, and the network of its checkpoint, on which the defaults depend."""
    published.released_test(given)
    name, scale = given.get("model"), given.get("scale")
    if "pre_train" not in given and name in NETWORKS and not NETWORKS[name].learns:
        net = build(name, scale=scale or option.DEFAULT_SCALE)
    else:
        if "pre_train" not in given:
            given["pre_train"] = Path(from_zoo(given, log))
        given |= option.weights(given)
        with argument("pre_train"):
            given["pre_train"] = path = zoo.resolve(given["pre_train"])
            net = load_model(path, weights=given.get("weights", "auto"))
        require(net, "pre_train", path, model=name, scale=scale, **option.sizes_of(given))
    options = option.eval_options(given, NAMES, model=name_of(net), scale=net.scale)
    if options.testing.oracle and not isinstance(net, IKC):
        raise ValueError(f"--oracle: {name_of(net)} has no steps to choose from; IKC has")
    for note in option.notes(given, options):
        log(f"note: {note}")
    checkpoint = options.testing.pre_train if options.images.data_test == "Demo" else None
    if checkpoint and trained_for(checkpoint).get("degradation") == "manet":
        log("note: weights for manet, whose LR pixels lie off-centre: they shift photographs by half a pixel")
    return options, net


def real_pairs(lr_dir: Path, hr_dir: Path, scale: int, *, crop: int) -> TestSet:
    """Return the pairs of --data_test and --hr_dir, `crop` LR pixels a side of their centre; 0: all of them."""
    if not lr_dir.is_dir():
        raise NotADirectoryError(
            f"--data_test {lr_dir}: with --hr_dir it names one folder, that of the LR images. Several sets "
            "are joined by + without --hr_dir, each a folder with LR/ and HR/"
        )
    if not hr_dir.is_dir():
        raise NotADirectoryError(f"--hr_dir: there is no folder {hr_dir}")
    return paired(lr_dir, hr_dir, scale, crop=crop)


def find_test_sets(given: Given, options: EvalOptions, net: BlindSR) -> list[TestSet]:
    """Return the checked test sets. Raise FileNotFoundError if one that was asked for is missing, or none is found."""
    hr_dir, names = options.testing.hr_dir, options.images.data_test
    missing: list[str] = []
    if hr_dir is not None:
        crop = crop128(net.scale).crop if options.test_degradation.protocol == CROPPED else 0
        test_sets = [real_pairs(Path(names), hr_dir, net.scale, crop=crop)]
    else:
        pre_train = options.testing.pre_train
        protocol = parts.test_protocol_of(options, net.scale, trained_for(pre_train) if pre_train else {}, given)
        test_sets, missing = named_test_sets(
            names, dir_data=options.images.dir_data, protocol=protocol, seed=options.testing.seed, log=say
        )
    if not test_sets and not missing:
        raise ValueError(f"--data_test {names}: only training holds images out; name a test set")
    if missing and ("data_test" in given or not test_sets):
        raise FileNotFoundError(missing_test_sets(missing, options.images.dir_data))
    if missing:
        print(f"test sets that were not found: {', '.join(missing)}")
    for test_set in test_sets:
        if isinstance(test_set, Prepared) and not test_set.real:
            print(f"{test_set.name}: LR images from {test_set.pairs[0].lr.parent}")
    check_test_sets(test_sets, at_least=smallest_hr(net))
    return test_sets


def with_luma_of_photographs(options: EvalOptions, test_sets: Sequence[TestSet], given: Given) -> EvalOptions:
    """Return the options with the luma that tables of real photographs use, for pairs and for second_order.

    That is so whatever network restores them, and whether the recipe is named or in a file.

    Raises ValueError if images that are measured otherwise are scored in the same call.
    """
    real = [test_set.real or test_set.protocol.split()[0] == "second_order" for test_set in test_sets]
    planes = options.test_degradation.metric
    if "metric" in given or not any(real) or planes == LUMA_OF_PHOTOGRAPHS:
        return options
    if not all(real):
        raise ValueError(
            f"--data_test {options.images.data_test}: real pairs are measured by --metric {LUMA_OF_PHOTOGRAPHS}, "
            f"images that are degraded here by {planes}: test them apart, or name one --metric for all"
        )
    changed = dataclasses.replace(options.test_degradation, metric=LUMA_OF_PHOTOGRAPHS)
    return dataclasses.replace(options, test_degradation=changed)


def remarks(options: EvalOptions, test_sets: Sequence[TestSet], given: Given) -> list[str]:
    """Return notes on what the user may not have meant, such as a degradation that the network was not trained for."""
    found = []
    protocol = [f"--{name}" for name in (*KERNELS, "blur_type", "degradation") if name in given]
    if given.get("protocol") == CROPPED:
        protocol.remove("--protocol")
    if protocol and all(test_set.real for test_set in test_sets) and options.testing.hr_dir is None:
        found.append(f"real pairs are scored as they are: {', '.join(protocol)} has no effect")
    for test_set in test_sets:
        if not test_set.real and test_set.hr_paths[0].parent.name.startswith("LR"):
            found.append(f"the images of {test_set.hr_paths[0].parent} are degraded; --hr_dir names their HR images")
    if options.testing.pre_train and "protocol" not in given and any(not test_set.real for test_set in test_sets):
        tested, trained = vars(options.degradation), trained_for(options.testing.pre_train)
        unnamed = tested.keys() - given.keys() - {"sv_mode"}  # which is of test images alone
        other = [name for name in tested if name in unnamed and trained.get(name, tested[name]) != tested[name]]
        if option.takes_pairs_alone(trained):
            found.append("the network was trained on given pairs, and not on images that are degraded here")
        elif other:
            values = {name: trained[name] for name in other}
            if "recipe" in values:
                values["recipe"] = read_recipe(values["recipe"]).name  # its ranges are in config.json
            told = " ".join(f"--{name} {value}" for name, value in values.items())
            found.append(f"the network was trained with {told}, which is not what this tests")
    return found


# ------------------------------------------------------------------------------------------------------- scores


class Tested(NamedTuple):
    """A network on its device, and how it is tested."""

    net: BlindSR
    options: EvalOptions
    device: torch.device
    precision: Precision
    setup: results.Setup  # decides the results, besides the images
    folder: Path  # of all results of this checkpoint


def restore(lr: Tensor, hr: Tensor, tested: Tested) -> Tensor:
    """Return the SR images of (N, 3, H, W), by tiles or as an ensemble if asked to; teachers and --oracle use hr."""
    net, testing = tested.net, tested.options.testing
    with tested.precision.autocast(lr.device):
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
    if options.test_degradation.metric == metric.ALL_PLANES:
        names = metric.side_by_side(names)
    return list(dict.fromkeys(names))


def score(
    tested: Tested, test_sets: Sequence[TestSet], crops: Mapping[str, report.Crops]
) -> tuple[list[Score], OSError | None]:
    """Return every score of every test set, and the first error of writing them.

    The scores of a set are written as soon as it is done; with --save_results each image, as soon as it is restored.
    The `crops` of a protocol are given all its images.
    """
    net, options, folder, planes = tested.net, tested.options, tested.folder, tested.options.test_degradation.metric
    about = {
        "name": tested.setup.stem(planes),
        "metric": f"{planes}, border {net.scale}",
        "made": tested.setup.about(net),
    }
    with argument("score"):
        measures = [
            metric.make(name, device=tested.device, planes=planes, border=net.scale) for name in metrics_of(options)
        ]
    scores, failure, variant = list[Score](), None, tested.setup.variant
    images = sum(len(test_set.hr_paths) for test_set in test_sets)
    with tqdm(total=images, unit="image", mininterval=bar_interval(), leave=False) as bar:
        for test_set in test_sets:
            bar.set_description_str(f"{test_set.name}, {test_set.protocol}")
            kept = results.set_folder(folder, test_set) if options.testing.save_results else None
            found = evaluate(
                partial(restore, tested=tested),
                test_set,
                scale=net.scale,
                planes=planes,
                device=tested.device,
                metrics=measures,
                on_image=partial(see, crops=crops[test_set.protocol], folder=kept, variant=variant, bar=bar),
            )
            try:
                found = results.write_test_set(folder, test_set, found, **about)
            except OSError as error:  # a full disk: the table will still be printed
                failure = failure or error
            scores += found
    return scores, failure


def see(sample: Sample, sr: Tensor, *, crops: report.Crops, folder: Path | None, variant: str, bar: tqdm[Any]) -> None:
    """Keep a crop of an image for the report, and write the whole image if there is a folder for it."""
    bar.update()
    crops(sample, sr)
    if folder is not None:
        results.save_images(folder, sample, sr, variant)


def report_scores(tested: Tested, scores: Sequence[Score], crops: Mapping[str, report.Crops]) -> None:
    """Print the table of all scores, and write report.html for each protocol."""
    net, planes = tested.net, tested.options.test_degradation.metric
    note = ", the best of seven steps, chosen by the HR image: an oracle" if tested.options.testing.oracle else ""
    note += ", a teacher, which sees the HR image" if net.sees_hr else ""
    print(f"{name_of(net)} x{net.scale}, {planes}{note}")
    print(tables.render(tables.rows(scores)))
    print("±: standard deviation over the images (n - 1)")
    made = {"metric": planes, **tested.setup.about(net)}
    for protocol, kept in crops.items():
        of_protocol = [score for score in scores if score.protocol == protocol]
        report.write_results(tested.folder / results.slug(protocol), of_protocol, kept, made=made, log=print)


# ------------------------------------------------------------------------------------------------ own photographs


def enlarge(tested: Tested, ranks: Ranks, log: Log) -> None:
    """Super-resolve this process's share of the photographs, and score the results if asked to.

    Exits with 1, counting and naming them, if photographs could not be super-resolved or scored.
    """
    net, photos, testing = tested.net, tested.options.photos, tested.options.testing
    if net.sees_hr:
        raise ValueError(f"photographs: {name_of(net)} is a teacher and needs the HR image; use its student")
    demo = tested.folder / "Demo"
    with argument("score"):
        scores = PhotoScores(metrics_of(tested.options), tested.device)
    target = Target(photos.outscale, photos.box)
    jobs = plan(
        [*photos.photos, *filter(None, [photos.dir_demo])],
        ending=target.ending(net.scale),
        out=photos.out or (demo if photos.dir_demo else None),
        format=photos.format,
        recursive=photos.recursive,
        overwrite=photos.overwrite,
        log=log,
    )
    enlarger = Enlarger(
        net=net,
        device=tested.device,
        log=lambda text: tqdm.write(option.as_flags(text)),
        precision=testing.precision,
        target=target,
        quality=photos.quality,
        tile=testing.tile,
        self_ensemble=testing.self_ensemble,
        overwrite=photos.overwrite,
    )
    failures = enlarger(jobs[ranks.rank :: ranks.world], scores)
    with distributed.naming_peers(ranks):
        failures = ranks.gather(failures)
        found, unscored = by_file(ranks.gather(scores.found)), ranks.gather(scores.failures)
        distributed.leave()
    if found and ranks.is_main:
        print(tables.render_images({score.image: score.values for score in found}))
        table = results.write_images_scores(demo / "no_reference", found, made=tested.setup.about(net))
        print(f"written to {table}.csv, .json and others")
    failed = {"super-resolved": failures, "scored": unscored}
    if listed := [
        "\n  ".join([f"{len(each)} not {done}:", *map(option.as_flags, each)]) for done, each in failed.items() if each
    ]:
        sys.exit("test.py: error: " + "\n".join(listed) if ranks.is_main else 1)


# ------------------------------------------------------------------------------------------------------ program


def check_photographs(paths: Sequence[Path]) -> None:
    """Raise FileNotFoundError for a photograph that is not there, before anything is loaded."""
    for path in paths:
        remedy = "" if path.suffix else "; --data_test names test sets, --dir_data their root"
        check_there(path, "; --pre_train takes one network" if str(path) in zoo.entries() else remedy)


def run(argv: Sequence[str] | None) -> None:
    """Do what a command line asks for."""
    words = sys.argv[1:] if argv is None else argv
    if not words:
        raise ValueError(
            "name photographs or folders to enlarge, or --data_test sets with --dir_data; --help lists all flags"
        )
    given = option.parse(EvalOptions, words, prog="test.py", names=NAMES)
    if given.get("zoo"):
        print(tables.render_zoo())
        return
    check_photographs(given.get("photos", ()))

    # Processes: several share photographs, one scores test sets.
    shared = option.asks_for_photographs(given) and not given.get("complexity")
    n_GPUs = given.get("n_GPUs", 1)
    if shared and n_GPUs > 1 and not distributed.launched():
        check_devices(n_GPUs=n_GPUs, cpu=given.get("cpu", False))
        distributed.launch(Path(__file__), n_GPUs, words)
    ranks = distributed.join(PATIENCE) if shared else Ranks()
    log = say if ranks.is_main else lambda text: None  # the first of several processes speaks for all

    # The network, on its device.
    options, net = load(given, log)
    machine, testing = options.machine, options.testing
    fixed = "fp32" if testing.precision == "auto" else testing.precision
    precision = Precision(precision=fixed, deterministic=machine.deterministic)
    device = choose_device(
        cpu=machine.cpu,
        n_GPUs=machine.n_GPUs if shared else min(machine.n_GPUs, 1),
        precision=precision,
        local_rank=ranks.local,
        log=log,
    )
    net.to(device).to(memory_format=precision.inference_format(device))
    if testing.complexity:
        found = cost.measure_cost(net, *cost.SIZE, device, precision=fixed)
        print(cost.render_cost(net, found))
        return

    # Photographs, or test sets: scores, table, report.
    setup = call(results.Setup, **vars(testing))
    folder = setup.folder(testing.dir_experiment, scale=net.scale, save=testing.save)
    tested = Tested(net, options, device, precision, setup, folder)
    if options.images.data_test == "Demo":
        enlarge(tested, ranks, log)
        return
    test_sets = find_test_sets(given, options, net)
    if why := why_unwritable(folder):
        raise OSError(f"{folder} cannot be written to ({why}): name another place with `save` and `dir_experiment`")
    tested = tested._replace(options=with_luma_of_photographs(options, test_sets, given))
    for remark in remarks(tested.options, test_sets, given):
        print(f"note: {remark}")
    crops = {test_set.protocol: report.Crops(net.scale) for test_set in test_sets}
    scores, failure = score(tested, test_sets, crops)
    report_scores(tested, scores, crops)
    if failure is not None:
        raise failure
    print(f"written to {folder}")


def main(argv: Sequence[str] | None = None) -> None:
    print_any_name()
    try:
        with StopSignals():
            run(argv)
    except KeyboardInterrupt:
        print("test.py: interrupted; photographs and test sets that are done stay", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError) as error:
        sys.exit(f"test.py: error: {option.as_flags(error)}")
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        sys.exit(f"test.py: error: out of memory; --tile 256, or a smaller one, needs less ({error})")


if __name__ == "__main__":
    main()
