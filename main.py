"""Train one run: parse, build the parts, fit.

    python main.py --dir_data DIR --model CDSR --scale 4 --blur_type aniso_gaussian --save cdsr

`--check` looks over machine, options and images; `--dry_run` takes a few steps and forecasts the run; `--resume`
continues one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch

import build
import check
import option
from commandline import Given, parse
from forecast import dry_run
from model import read_file
from option import TrainOptions
from resolve import changed, notes, resolve
from runtime import distributed
from runtime.distributed import Ranks
from runtime.divergence import TrainingError
from runtime.signals import INTERRUPTED, STOPPED
from trainer import Trainer
from utility import Run


def options_of(argv: Sequence[str] | None = None) -> tuple[Given, TrainOptions]:
    """What a command line says, and the options that follow from it. Raises ValueError, or exits with a message."""
    given = parse(TrainOptions, argv, prog="main.py")
    scale = given.get("scale", option.DEFAULT_SCALE)
    return given, resolve(TrainOptions, given, model=given["model"], scale=scale, data_test="Set5")


def trainer_of(options: TrainOptions, run: Run, ranks: Ranks) -> Trainer:
    """All parts of a run put together. Raises ValueError or OSError that name the flag or the file to mend."""
    device = build.device(options.machine, run.log, ranks, one_size=True)
    torch.manual_seed(options.loading.seed)
    rule = build.protocol(options, options.network.scale)
    net = build.network(options)
    build.check_patch(options, net)
    with ranks.main_first():
        store = build.training_images(options, run.log)
    benchmarks, missing = build.benchmarks(options, rule, options.loading.seed)
    if not benchmarks:
        folder = build.training_folder(options)
        store, benchmarks = build.hold_out(store, folder, rule, options.loading.seed, run.log)
    elif missing:
        run.log(f"test sets that were not found: {', '.join(missing)}")
    build.check_benchmarks(benchmarks, net)
    with ranks.main_first():  # one downloads, the others find
        objective = build.objective(options, net)
    return Trainer(
        net=net,
        objective=objective,
        pairs=build.pairs(options, objective.views, ranks),
        batches=build.batches(options, store, objective.views, ranks),
        benchmarks=benchmarks,
        plan=build.plan(options),
        run=run,
        config=option.flat(options),
        device=device,
        numerics=build.numerics(options.machine),
        ranks=ranks,
    )


def check_run(given: Given, options: TrainOptions, run: Run) -> None:
    """Raise where a run would be overwritten, or continued as another one than it is."""
    saving = options.saving
    if not options.resuming:
        if run.exists and not saving.dry_run:
            raise FileExistsError(
                f"--save {saving.save}: {run.path} holds a run already. Continue it with --resume, "
                "or give the new one another name"
            )
        return
    if not run.state.exists():
        raise FileNotFoundError(f"--resume: there is no {run.state}, so there is nothing to continue")
    if differences := changed(given, options, run.config()):
        raise ValueError(f"--resume: {run.path} was started with {', '.join(differences)}; say so again")


def look_over(given: Given, options: TrainOptions) -> bool:
    """Print what is to be mended before the run can start, and what is worth knowing; whether it can start."""
    worth_knowing = map(check.note, notes(given, options))
    refusals = check.attempt(check_run, given, options, Run(options.run_dir))
    return check.show(chain(worth_knowing, refusals, check.cheap(options), check.thorough(options)))


def prepare(given: Given, options: TrainOptions, ranks: Ranks = Ranks()) -> Trainer:  # noqa: B008 (frozen)
    """The trainer that a command line asks for, at the step where it is to start."""
    run = Run(options.run_dir, writes=ranks.is_main)
    check_run(given, options, run)
    if options.resuming and ranks.is_main and not options.saving.dry_run:
        run.lock()  # before the state is read
    if ranks.is_main:
        print("\n".join(f"{name} {value}" for name, value in option.flat(options).items() if value is not None))
    for note in notes(given, options):
        run.log(f"note: {note}")
    if ranks.is_main:
        check.before_start(options, run.log)
    trainer = trainer_of(options, run, ranks)
    if options.resuming:
        trainer.resume(read_file(run.state, "--resume"))
        build.check_teacher(options, trainer.objective)
        run.log(f"continuing {run.path} after step {trainer.step}")
    return trainer


def main(argv: Sequence[str] | None = None) -> None:
    words, begun = sys.argv[1:] if argv is None else argv, time.perf_counter()
    try:
        given, options = options_of(words)
        if options.saving.check:
            sys.exit(0 if look_over(given, options) else 1)
        if options.machine.n_GPUs > 1 and not distributed.launched():
            distributed.launch(Path(__file__), options.machine.n_GPUs, words)
        ranks = distributed.join()
        trainer = prepare(given, options, ranks)
        done = True
        if options.saving.dry_run:
            dry_run(trainer)
        else:
            done = trainer.fit(begun)
        distributed.leave()
        if not done:
            sys.exit(STOPPED)
    except KeyboardInterrupt:
        print("main.py: interrupted; with --resume auto it goes on from what is saved, or starts", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except TrainingError as error:
        sys.exit(f"main.py: error: {error}")
    except torch.OutOfMemoryError as error:
        sys.exit(f"main.py: error: out of memory; a smaller --batch_size or --patch_size needs less ({error})")
    except (ValueError, OSError) as error:
        sys.exit(f"main.py: error: {error}")


if __name__ == "__main__":
    main()
