"""The saved state of a run: its format, and the check that a run can be continued from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 4
Images = tuple[int, str]  # how many, and a digest of their names and sizes


def check(state: Mapping[str, Any], file: Path, *, images: Images, steps: int) -> None:
    """Raise ValueError unless a run of `steps` steps on these images can be continued from this state."""
    found = state.get("format")
    if found != FORMAT:
        reader = " (version 0.1 reads that)" if found in (1, 2, 3) else ""
        raise ValueError(
            f"{file} has format {found}{reader}, this version reads {FORMAT}; its weights are in model_latest.pt, from "
            "which a run of another name can start with `pre_train`"
        )
    step, epoch, found = state.get("step"), state.get("epoch"), state.get("images", images)
    if not (isinstance(step, int) and isinstance(epoch, int) and isinstance(found, tuple) and min(step, epoch) >= 0):
        raise not_a_state(file, f"step {step}, epoch {epoch}, images {found}")
    if found != images:
        raise ValueError(
            f"{file} is of a run on {found[0]} training images, but `dir_data` now holds other images ({images[0]}): "
            "names or sizes differ. The run would draw them in another order"
        )
    if step > steps:
        raise ValueError(f"{file} is at step {step}, and the run ends at step {steps}; raise `epochs_sr` to go on")


def not_a_state(file: Path, why: object) -> ValueError:
    """Return the error for a file whose contents do not fit the parts of a run."""
    return ValueError(f"{file} is no state of this run ({why})")
