"""The saved state of a run: whether it can be continued from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 3
Images = tuple[int, str]  # how many, and a digest of their names and sizes


def check_state(state: Mapping[str, Any], run: Path, file: Path, *, images: Images, steps: int) -> None:
    """Raise ValueError unless a run of so many steps on these images can be continued from this state."""
    if state.get("format") != FORMAT:
        raise ValueError(
            f"--resume: {file} has format {state.get('format')}, this version reads {FORMAT}; "
            "its weights are in model_latest.pt, from which a run of another name can start with --pre_train"
        )
    step, epoch, found = state.get("step"), state.get("epoch"), state.get("images", images)
    if not (isinstance(step, int) and isinstance(epoch, int) and isinstance(found, tuple) and min(step, epoch) >= 0):
        raise no_state(file, f"step {step}, epoch {epoch}, images {found}")
    if found != images:
        raise ValueError(
            f"--resume: {run} is a run on {found[0]} training images, and --dir_data now holds {images[0]} or others: "
            "of other names or sizes. They would come in another order"
        )
    if step > steps:
        raise ValueError(
            f"--resume: {run} is at step {step}, and the run that is asked for ends at step {steps}; "
            "it takes more --epochs_sr"
        )


def no_state(file: Path, why: object) -> ValueError:
    """What to raise where the parts of a run cannot be as this file says."""
    return ValueError(f"--resume: {file} is no state of this run ({why})")
