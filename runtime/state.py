"""The saved state of a run: its parts, and the check that a run can be continued from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 4
SINCE = {1: "0.1", 2: "0.1", 3: "0.1"}  # the versions of this code that read older formats
Images = tuple[int, str]  # how many, and a digest of their names and sizes


def compose(*, step: int, epoch: int, images: Images, **parts: Any) -> dict[str, Any]:
    """Return the state of a run after `step` steps and `epoch` validated epochs; `parts` are state dicts."""
    return {"format": FORMAT, "step": step, "epoch": epoch, "images": images, **parts}


def check(state: Mapping[str, Any], file: Path, *, images: Images, steps: int) -> None:
    """Raise ValueError unless a run of `steps` steps on these images can be continued from this state."""
    found = state.get("format")
    if found != FORMAT:
        reader = f" (version {SINCE[found]} reads that)" if isinstance(found, int) and found in SINCE else ""
        raise ValueError(
            f"{file} has format {found}{reader}, this version reads {FORMAT}; its weights are in model_latest.pt, from "
            "which a run of another name can start with `pre_train`"
        )
    step, epoch, found = state.get("step"), state.get("epoch"), state.get("images", images)
    if not (isinstance(step, int) and isinstance(epoch, int) and isinstance(found, tuple) and min(step, epoch) >= 0):
        raise not_a_state(file, f"step {step}, epoch {epoch}, images {found}")
    if found != images:
        raise ValueError(
            f"{file} is of a run on {found[0]} training images, and `dir_data` now holds {images[0]}, or others: of "
            "other names or sizes. They would come in another order"
        )
    if step > steps:
        raise ValueError(f"{file} is at step {step}, and the run ends at step {steps}; raise `epochs_sr` to go on")


def not_a_state(file: Path, why: object) -> ValueError:
    """Return the error for a file whose contents do not fit the parts of a run."""
    return ValueError(f"{file} is no state of this run ({why})")
