"""Train one run: parse, build the parts, fit.

    python main.py --dir_data DIR --model CDSR --scale 4 --blur_type aniso_gaussian --save cdsr

`--dry_run` builds everything, takes a few steps and forecasts the run; `--resume` continues one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

import build
import option
from commandline import Given, parse
from data.images import BadImage
from model import read_file
from option import TrainOptions
from trainer import Trainer
from utility import Run


def options_of(argv: Sequence[str] | None = None) -> tuple[Given, TrainOptions]:
    """What a command line says, and the options that follow from it. Raises ValueError, or exits with a message."""
    given = parse(TrainOptions, argv, prog="main.py")
    scale = given.get("scale", option.DEFAULT_SCALE)
    return given, option.resolve(TrainOptions, given, model=given["model"], scale=scale, data_test="Set5")


def trainer_of(options: TrainOptions, run: Run) -> Trainer:
    """All parts of a run put together. Raises ValueError or OSError that name the flag or the file to mend."""
    torch.manual_seed(options.loading.seed)
    rule = build.protocol(options, options.network.scale)
    store = build.training_images(options, run.log)
    benchmarks, missing = build.benchmarks(options, rule, options.loading.seed)
    if not benchmarks:
        folder = build.training_folder(options)
        store, benchmarks = build.hold_out(store, folder, rule, options.loading.seed, run.log)
    elif missing:
        run.log(f"test sets that were not found: {', '.join(missing)}")
    net = build.network(options)
    build.check_benchmarks(benchmarks, net)
    objective = build.objective(options, net)
    return Trainer(
        net=net,
        objective=objective,
        degradation=build.recipe(options),
        batches=build.batches(options, store, objective.views),
        benchmarks=benchmarks,
        plan=build.plan(options),
        run=run,
        config=option.flat(options),
        device=build.device(options.machine, run.log),
    )


def prepare(argv: Sequence[str] | None = None) -> tuple[TrainOptions, Trainer]:
    """The trainer that a command line asks for, at the step where it is to start."""
    given, options = options_of(argv)
    run, resume = Run(options.run_dir), options.saving.resume in ("yes", "-1")
    if resume and not run.state.exists():
        raise FileNotFoundError(f"--resume: there is no {run.state}, so there is nothing to continue")
    if run.exists and not resume and not options.saving.dry_run:
        raise FileExistsError(
            f"--save {options.saving.save}: {run.path} holds a run already. Continue it with --resume, "
            "or give the new one another name"
        )
    print("\n".join(f"{name} {value}" for name, value in option.flat(options).items() if value is not None))
    for name in option.idle(given, options):
        run.log(f"note: {name} has no effect beside the other options")
    trainer = trainer_of(options, run)
    if resume:
        trainer.load_state_dict(read_file(run.state, "--resume"))
        run.log(f"continuing {run.path} after step {trainer.step}")
    return options, trainer


def main(argv: Sequence[str] | None = None) -> None:
    try:
        options, trainer = prepare(argv)
    except (ValueError, OSError) as error:
        sys.exit(f"main.py: error: {error}")
    if options.saving.dry_run:
        trainer.dry_run()
        return
    try:
        trainer.fit()
    except BadImage as error:
        sys.exit(f"main.py: error: {error}")


if __name__ == "__main__":
    main()
