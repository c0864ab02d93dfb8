"""Train one run: parse, build the parts, fit.

    python main.py --dir_data DIR --model CDSR --scale 4 --blur_type aniso_gaussian --save cdsr

`--check` looks over machine, options and images; `--dry_run` takes a few steps and forecasts the run; `--resume`
continues one; `--test_only`, a flag of the released KDSR, runs test.py instead.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from runtime.signals import INTERRUPTED, STOPPED, StopSignals, until_ready

if __name__ == "__main__":
    until_ready("main.py")

import torch

import option
import parts
import preflight
import published
from data import factory as data_factory
from data.degradation import DEGRADATIONS
from data.degradation.params import description
from data.find_testsets import check_test_sets, missing_test_sets, named_test_sets
from data.pairs import Pairs
from data.testset import TestSet
from data.training_folders import are_packed, sources
from data.trainset import TrainingSet, hold_out, training_sets
from evaluation import smallest_hr
from flags import Given, flat
from loss import OBJECTIVES
from loss import factory as loss_factory
from loss.learner import Learner
from model import NETWORKS, op, zoo
from model.checkpoint import read_file
from model.memory import freed_blocks_kept, out_of_memory
from option import TrainOptions
from runtime import distributed
from runtime.curves import Reference
from runtime.device import check_devices, choose_device
from runtime.distributed import Ranks
from runtime.divergence import TrainingError
from runtime.precision import Precision
from trainer import Trainer
from utility import Run, git_commit, print_any_name

NAMES = {
    "model": {name: kind for name, kind in NETWORKS.items() if kind.learns} | {"blindsr": None},
    "degradation": DEGRADATIONS,
    "objective": OBJECTIVES,
}

# Options that may differ between the processes of a run, since these may be on several machines.
OF_A_MACHINE = {
    *("dir_data", "dir_lr", "data_cache", "dir_experiment"),
    *("pre_train", "pre_train_TA", "vgg", "n_threads", "resume"),
}


def build_trainer(
    options: TrainOptions,
    run: Run,
    ranks: Ranks,
    signals: StopSignals | None = None,
    begun: float | None = None,
    *,
    need_test_sets: bool = False,
) -> Trainer:
    """Put all parts of a run together. Raise ValueError or OSError that names the argument or the file to mend.

    need_test_sets: raise FileNotFoundError for a test set that is missing, instead of doing without it.
    """
    network, loading, training, saving = options.network, options.loading, options.training, options.saving
    precision = Precision(precision=training.precision, deterministic=options.machine.deterministic)
    device = choose_device(
        cpu=options.machine.cpu,
        n_GPUs=options.machine.n_GPUs,
        precision=precision,
        local_rank=ranks.local,
        one_size=True,
        log=run.log,
    )
    if device.type == "cuda":  # all ranks compute alike, or gradients would not be those of one network
        failed = ranks.any_rank(*(not op.self_check(name, device, precision.dtype) for name in op.OPERATORS))
        op.switch_off(compress(op.OPERATORS, failed))
    torch.manual_seed(loading.seed)
    recipe = parts.recipe_of(options)
    net = parts.network_of(options, log=run.log)
    preflight.check_patch(options, net, recipe)
    run.log(f"{network.model}: {sum(parameter.numel() for parameter in net.parameters()):,} parameters")
    sets, test_sets = find_images(options, run, ranks, need_test_sets=need_test_sets)
    check_test_sets(test_sets, at_least=smallest_hr(net))
    epoch_steps = training.test_every or published.epoch_steps(
        network.model,
        options.degradation.degradation,
        training.batch_size,
        images=sum(len(one.images.names) for one in sets),
    )
    objective = parts.objective_of(options, net, epoch_steps, ranks, run.log)
    if not objective.validates:
        run.log(f"`objective` {options.loss.objective} trains a part of the network, which is not validated yet")
        test_sets = []
    draws = data_factory.draws(
        recipe, batch_size=training.batch_size, views=objective.views, seed=loading.seed, ranks=ranks
    )
    pairs = Pairs(recipe, draws, patch=loading.patch_size, pool=loading.pool_size)
    batches = data_factory.batches(
        sets,
        draws,
        scale=network.scale,
        side=loading.crop_size * network.scale,
        augment=loading.augment,
        mix=loading.mix,
        data_cache=loading.data_cache,
        device=device,
        ranks=ranks,
        log=run.log,
    )
    learner = Learner(
        net,
        objective,
        beta2=training.beta2,
        ema=training.ema,
        degradation=None if option.takes_pairs_alone(vars(loading)) else description(recipe),
        accumulate=training.accumulate,
        recompute=training.recompute,
        clip_grad=training.clip_grad,
        compile=training.compile,
        cuda_graph=training.cuda_graph,
        device=device,
        precision=precision,
        ranks=ranks,
    )
    return Trainer(
        learner,
        pairs=pairs,
        batches=batches,
        test_sets=test_sets,
        schedule=parts.schedule_of(options, epoch_steps),
        run=run,
        config=flat(options) | option.sizes_of(net.config) | {"epoch_steps": epoch_steps},
        metric=options.test_degradation.metric,
        collapse=training.collapse,
        n_threads=loading.n_threads,
        print_every=saving.print_every,
        max_minutes=saving.max_minutes,
        save_minutes=saving.save_minutes,
        st_save_epoch=saving.st_save_epoch,
        keep=saving.keep,
        signals=signals,
        begun=begun,
        reference=reference(saving.reference),
        score_start=options.loss.pre_train is not None,
    )


def find_images(
    options: TrainOptions, run: Run, ranks: Ranks, *, need_test_sets: bool
) -> tuple[list[TrainingSet], list[TestSet]]:
    """Return the images to train and to validate on; without test sets, some are held out.

    need_test_sets: raise FileNotFoundError for a test set that is missing, instead of doing without it.
    """
    loading, images, scale = options.loading, options.images, options.network.scale
    protocol = parts.protocol_of(options)
    folders = sources(images.dir_data, **options.training_folders)
    data_cache = loading.data_cache
    if options.saving.dry_run and not are_packed(folders, data_cache):
        run.log("note: the images are not packed yet, so loading takes longer here than in the run")
        data_cache = None
    with ranks.main_first():
        sets = training_sets(
            folders,
            scale=scale,
            at_least=loading.crop_size * scale,
            data_cache=data_cache,
            skip_bad_images=loading.skip_bad_images,
            log=run.log,
        )
    test_sets, missing = named_test_sets(
        images.data_test, dir_data=images.dir_data, protocol=protocol, seed=option.TEST_SEED, log=run.log
    )
    if missing and need_test_sets:
        raise FileNotFoundError(missing_test_sets(missing, images.dir_data))
    if not test_sets:
        return hold_out(sets, protocol=protocol, seed=option.TEST_SEED, log=run.log)
    if missing:
        run.log(f"test sets that were not found: {', '.join(missing)}")
    trained = {folder.resolve() for source in folders for folder in (source.hr, source.lr) if folder is not None}
    for test_set in test_sets:
        if trained & {path.parent.resolve() for path in test_set.hr_paths}:
            run.log(f"note: the images of {test_set.name} are trained on, too: its scores say nothing")
    return sets, test_sets


def reference(name: str | None) -> Reference | None:
    """Return the scores of a run in the zoo (name.csv), or of several (name_seed1.csv, name_seed2.csv and so on).

    Return None without a name. Raise FileNotFoundError, listing the known names, for an unknown one.
    """
    if name is None:
        return None
    runs: dict[str, list[Path]] = {}
    for path in sorted(zoo.CLONE.glob("*.csv")):
        runs.setdefault(re.sub(r"_seed\d+$", "", path.stem), []).append(path)
    if name not in runs:
        raise FileNotFoundError(f"`reference` {name}: {zoo.CLONE} has none of that name; there are {', '.join(runs)}")
    return Reference(name, runs[name])


def check_run(given: Given, options: TrainOptions, run: Run) -> None:
    """Raise an error if a run would be overwritten, is not there to be continued, or would be continued as another.

    The errors are FileExistsError, FileNotFoundError and ValueError.
    """
    saving = options.saving
    reference(saving.reference)  # before anything is loaded
    if not options.resuming:
        if run.exists and not saving.dry_run:
            raise FileExistsError(
                f"--save {saving.save}: {run.path} holds a run already. Continue it with --resume, "
                "or give the new one another name"
            )
        return
    if not run.resumable:
        raise FileNotFoundError(f"--resume: there is no {run.state}, so there is nothing to continue")
    if differences := option.changed(given, options, run.config()):
        renamed = run.config().get("save") != saving.save
        remedy = f"continue it with --resume --config {run.path}" if renamed else "give these flags as they were"
        raise ValueError(
            f"--resume: {run.path} is a run with {', '.join(differences)}. A resumed run keeps its options: {remedy}, "
            "or start a run of another name from its weights with --pre_train"
        )


def check_ranks(options: TrainOptions, ranks: Ranks) -> None:
    """Raise ValueError unless all processes have the same code and the same options, paths of a machine aside."""
    if ranks.world == 1:
        return
    told = {f"`{name}`": value for name, value in flat(options).items() if name not in OF_A_MACHINE}
    told |= {"`resume`": options.resuming, "the code": git_commit(), "PyTorch": torch.__version__}
    if differing := ranks.differing(told):
        name, values = next(iter(differing.items()))
        each = ", ".join(f"{value} in process {rank}" for rank, value in enumerate(values))
        others = list(differing)[1:]
        more = f"; so {'do' if len(others) > 1 else 'does'} {', '.join(others)}" if others else ""
        raise ValueError(f"the processes of a run must agree, but {name} differs: {each}{more}")


def prepare(
    given: Given,
    options: TrainOptions,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    signals: StopSignals | None = None,
    begun: float | None = None,
) -> Trainer:
    """Return the trainer that a command line asks for, at the step where it is to start."""
    check_ranks(options, ranks)
    run = Run(options.run_dir, writes=ranks.is_main, wording=option.as_flags)
    check_run(given, options, run)
    if options.resuming and ranks.is_main and not options.saving.dry_run:
        run.lock()  # before the state is read
    if ranks.is_main:
        print(option.differences(options))
    for note in option.notes(given, options):
        run.log(f"note: {note}")
    if ranks.is_main:
        preflight.before_start(options, run.log)
    trainer = build_trainer(options, run, ranks, signals, begun, need_test_sets="data_test" in given)
    if options.resuming:
        trainer.resume(read_state(run))
        loss_factory.check_teacher(trainer.objective, options.loss.pre_train_TA)
        run.log(f"continuing {run.path} after step {trainer.step}")
        if trainer.step >= trainer.steps and trainer.epoch >= trainer.step // trainer.epoch_steps:
            run.log("nothing is left to do; a larger `epochs_sr` goes on")
        elif told := option.retold(given, options, run.config()):
            run.log(f"from here on: {', '.join(f'--{name} {now} (was {was})' for name, (was, now) in told.items())}")
            if ranks.is_main and not options.saving.dry_run:
                run.amend({name: now for name, (_, now) in told.items()})
    return trainer


def read_state(run: Run) -> dict[str, object]:
    """Return the saved state of a run or, if it is damaged or gone, the one before it: some steps are repeated then.

    Raise ValueError or FileNotFoundError if there is none before it.
    """
    try:
        return read_file(run.state)
    except (ValueError, FileNotFoundError) as error:
        if not run.previous.exists():
            raise
        state = read_file(run.previous)
        run.log(f"note: {error}; going on from {run.previous}")
        return state


def train(given: Given, options: TrainOptions, begun: float) -> bool:
    """Run, or dry-run, what the options ask for; return False if the run was stopped and can be resumed."""
    ranks = distributed.join()
    with StopSignals(impatient=ranks.world == 1) as signals, distributed.naming_peers(ranks):
        trainer = prepare(given, options, ranks, signals, begun)
        done = True
        with freed_blocks_kept(trainer.device):
            if options.saving.dry_run:
                preflight.dry_run(trainer)
            else:
                done = trainer.fit()
        distributed.leave()
    return done


def main(argv: Sequence[str] | None = None) -> None:
    words, begun = list(sys.argv[1:] if argv is None else argv), time.perf_counter()
    print_any_name()
    if "--test_only" in words:
        import test

        test.main(test.released_words(words))
        return
    try:
        given, options = option.train_options(words, NAMES)
        if options.saving.check:
            sys.exit(0 if not distributed.is_first() or preflight.check(given, options, check_run) else 1)
        if options.machine.n_GPUs > 1 and not distributed.launched():
            check_devices(n_GPUs=options.machine.n_GPUs, cpu=options.machine.cpu)
            distributed.launch(Path(__file__), options.machine.n_GPUs, words)
        if not train(given, options, begun):
            sys.exit(STOPPED)
    except KeyboardInterrupt:
        print("main.py: interrupted; with --resume auto it goes on from what is saved, or starts", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (TrainingError, ValueError, OSError) as error:
        sys.exit(f"main.py: error: {option.as_flags(error)}")
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        sys.exit(f"main.py: error: out of memory; a smaller --batch_size or --patch_size needs less ({error})")


if __name__ == "__main__":
    main()
