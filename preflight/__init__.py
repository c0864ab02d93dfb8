"""Check before a run what would go wrong (machine, memory and disk, options, images), and forecast what it costs.

Every run does the cheap checks. `main.py --check` does all of them, `main.py --dry_run` takes a few steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import option
import parts
from flags import Given
from option import TrainOptions
from preflight.finding import Finding, Grade, attempt, note
from preflight.forecast import dry_run
from preflight.inputs import check_patch, images, learned_from, weights
from preflight.machine import cores, fast_steps, gpu, packages
from preflight.room import numbered_checkpoints, run_directory, space
from utility import Run

__all__ = ["before_start", "check", "check_patch", "dry_run"]


def check(given: Given, options: TrainOptions, check_run: Callable[[Given, TrainOptions, Run], None]) -> bool:
    """Print what keeps the run from starting, and what is worth knowing; return True if it can start."""
    seen: set[Finding] = set()

    def findings() -> Iterator[Finding]:
        yield from map(note, option.notes(given, options))
        yield from attempt(check_run, given, options, Run(options.run_dir))  # pyright: ignore[reportArgumentType]
        yield from cheap(options)
        yield from attempt(weights, options)
        yield from images(options, need_test_sets="data_test" in given)

    for finding in findings():
        if finding not in seen:
            print(finding, flush=True)
        seen.add(finding)
    counts = Counter(finding.grade for finding in seen)
    errors, notes = counts[Grade.ERROR], counts[Grade.NOTE]
    print(f"{errors} error{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}, {counts[Grade.OK]} ok")
    return not counts[Grade.ERROR]


def cheap(options: TrainOptions) -> Iterator[Finding]:
    """Check the machine, memory and disk, in about a second. Read no image."""
    for look in (
        degradations,
        learned_from,
        packages,
        gpu,
        fast_steps,
        cores,
        run_directory,
        numbered_checkpoints,
        space,
    ):
        yield from attempt(look, options)


def before_start(options: TrainOptions, log: Callable[[str], None]) -> None:
    """Do the cheap checks: log what is worth knowing, raise ValueError about what keeps the run from starting."""
    findings = list(cheap(options))
    for finding in findings:
        if finding.grade is Grade.NOTE:
            log(str(finding))
    if broken := [finding.text for finding in findings if finding.grade is Grade.ERROR]:
        raise ValueError("\n  ".join(broken))


def degradations(options: TrainOptions) -> None:
    """Raise ValueError if recipe or protocol do not take the flags of this run."""
    parts.recipe_of(options)
    parts.protocol_of(options)
