"""Before a run starts: what is to be mended of machine, options and data.

`main.py --check` shows it all; every run does the cheap part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import build
from check.finding import Finding, Grade, attempt, fine, note, show
from check.images import all_images
from check.machine import cores, gpu, packages
from check.room import numbered_checkpoints, run_directory, space
from option import TrainOptions

__all__ = ["Finding", "Grade", "attempt", "before_start", "cheap", "note", "show", "thorough"]


def cheap(options: TrainOptions) -> Iterator[Finding]:
    """What takes less than a second: the machine, and the room for the run. Reads no image and no checkpoint."""
    for check in (packages, gpu, cores, run_directory, numbered_checkpoints, space):
        yield from attempt(check, options)


def before_start(options: TrainOptions, log: Callable[[str], None]) -> None:
    """The cheap part: logs what is worth knowing, raises ValueError about what must be mended."""
    findings = list(cheap(options))
    for finding in findings:
        if finding.grade is Grade.NOTE:
            log(str(finding))
    if broken := [finding.text for finding in findings if finding.grade is Grade.MEND]:
        raise ValueError("\n  ".join(broken))


def thorough(options: TrainOptions) -> Iterator[Finding]:
    """What takes reading: the weights to start from, and every image."""
    yield from attempt(weights, options)
    yield from all_images(options)


def weights(options: TrainOptions) -> Iterator[Finding]:
    """By loading them into what they are for."""
    net = build.network(options)
    build.check_patch(options, net)
    build.objective(options, net)
    count = sum(parameter.numel() for parameter in net.parameters())
    yield fine(f"{options.network.model} x{options.network.scale}, {count / 1e6:.2f} M parameters")
