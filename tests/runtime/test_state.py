"""A state says why a run cannot be continued from it."""

from pathlib import Path

import pytest

from runtime import state

GOOD = {"format": state.FORMAT, "step": 8, "epoch": 2, "images": (12, "a digest")}


def check(**changes):
    state.check(GOOD | changes, Path("state.pt"), images=(12, "a digest"), steps=8)


def test_a_good_state_is_taken():
    check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({"format": old}, rf"format {old} \(version 0\.1 reads that\), this .* reads 4.*`pre_train`")
            for old in (1, 2, 3)
        ),
        ({"format": 99}, r"state\.pt has format 99, this version reads 4"),
        ({"format": None}, "format None, this"),
        ({"images": (13, "another")}, r"on 13 training images, but `dir_data` now holds other images \(12\)"),
        ({"images": (12, "another")}, r"\(12\): names or sizes differ\. The run would draw them in another order"),
        ({"step": 9}, "is at step 9, and the run ends at step 8; raise `epochs_sr`"),
        ({"epoch": -1}, "is no state of this run .*epoch -1"),
    ],
)
def test_a_state_that_does_not_fit_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        check(**changes)
