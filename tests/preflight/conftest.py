"""Options as a command line would give them, and the findings of a check as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import main
import option
from option import TrainOptions
from preflight.finding import Finding

TEACHER = "--model KDSR_T --n_feats 8 --n_blocks 1 --n_resblocks 1"


@pytest.fixture
def options(photo_folder: Path, tmp_path: Path) -> Callable[..., TrainOptions]:
    """Options of a small run on the small photographs, its directory in tmp_path/experiment, with further arguments."""

    def parse(arguments: str = "", network: str = TEACHER, root: Path | None = None) -> TrainOptions:
        small = "--save s --scale 2 --patch_size 12 --batch_size 2 --cpu --n_threads 1"
        places = f"--dir_data {root or photo_folder} --data_train train --dir_experiment {tmp_path / 'experiment'}"
        return option.train_options(f"{network} {small} {places} {arguments}".split(), main.NAMES)[1]

    return parse


@pytest.fixture
def told() -> Callable[[Iterable[Finding]], str]:
    """The findings as they are printed."""
    return lambda findings: "\n".join(map(str, findings))
