"""What the watch calls a trouble."""

import math
from statistics import median

import pytest
import torch

from runtime.divergence import ENOUGH, DivergenceMonitor


def look(watch, totals, gradients=None, parts=("l1",), first=0):
    gradients = [1.0] * len(totals) if gradients is None else gradients
    for step, (total, gradient) in enumerate(zip(totals, gradients, strict=True), first):
        losses = {"total": total, "gradient": gradient} | {part: total for part in parts}
        watch.note(step, {name: torch.tensor(value) for name, value in losses.items()})
    return watch.look()


def trouble(*arguments, **changes):
    found = look(*arguments, **changes)
    assert found is not None
    return found


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number(bad):
    assert trouble(DivergenceMonitor(0), [1.0, 2.0, bad, bad], first=7).step == 9
    assert trouble(DivergenceMonitor(0), [1.0, 2.0, 3.0], [1.0, bad, 1.0]).step == 1
    assert look(DivergenceMonitor(0, gradients=False), [1.0], [bad]) is None  # the loss scaler's business


def test_a_collapse_is_far_above_the_running_median():
    watch = DivergenceMonitor(10)
    assert look(watch, [1.0] * (ENOUGH - 1) + [500.0]) is None  # too early to know
    assert look(watch, [9.0] * 3) is None
    found = trouble(watch, [1.0, 10.5], first=200)
    assert found.step == 201
    assert "10 times its running median" in found.what
    assert look(watch, [1.0, 9.5]) is None


@pytest.mark.parametrize("stretch", [1, 7, 400])
def test_what_is_found_does_not_depend_on_when_it_is_looked_for(stretch):
    totals = (2 ** torch.randn(400, generator=torch.Generator().manual_seed(1))).tolist()
    watch, found = DivergenceMonitor(4), []
    at = 0
    while at < len(totals):
        end = at - at % stretch + stretch
        one = look(watch, totals[at:end], first=at)
        at = end if one is None else one.step + 1
        found += [] if one is None else [one.step]
    good, expected = [], []
    for step, total in enumerate(totals):
        collapsed = len(good) >= ENOUGH and total > 4 * median(good)
        (expected if collapsed else good).append(step if collapsed else total)
    assert found == expected
    assert len(found) > 3


def test_what_went_wrong_is_not_remembered():
    watch = DivergenceMonitor(10)
    look(watch, [1.0] * ENOUGH)
    before = watch.state_dict()
    look(watch, [50.0] * 5)
    assert watch.state_dict() == before


def test_a_loss_that_is_usually_negative_is_no_measure():
    watch = DivergenceMonitor(10)
    assert look(watch, [-2.0] * ENOUGH + [-2.01, 3.0]) is None


def test_zero_switches_it_off():
    watch = DivergenceMonitor(0)
    assert look(watch, [1.0] * ENOUGH + [1e9]) is None


def test_another_stretch_of_the_schedule_has_another_usual_loss():
    watch = DivergenceMonitor(10)
    look(watch, [1.0] * ENOUGH, parts=("kl",))
    assert look(watch, [100.0] * ENOUGH, parts=("kl", "l1")) is None
    assert trouble(watch, [1001.0], parts=("kl", "l1")).what.startswith("the loss is 1001")


def test_a_stretch_in_which_the_parts_change():
    watch = DivergenceMonitor(10)
    look(watch, [1.0] * ENOUGH, parts=("contrast",))
    for step in range(2 * ENOUGH):
        parts = ("contrast",) if step < 3 else ("contrast", "l1")
        losses = {"total": 1.0 if step < 3 else 90.0, "gradient": 1.0} | {part: 1.0 for part in parts}
        watch.note(step, {name: torch.tensor(value) for name, value in losses.items()})
    assert watch.look() is None
    assert look(watch, [91.0], parts=("contrast", "l1")) is None
    assert trouble(watch, [901.0], parts=("contrast", "l1")).what.endswith("10 times its running median")


def test_a_line_holds_the_means_since_the_last_one():
    watch = DivergenceMonitor(0)
    look(watch, [1.0, 3.0])
    look(watch, [5.0])
    look(watch, [8.0], parts=("kl",))
    assert watch.noted == 4
    assert watch.line() == (4, {"total": 4.25, "gradient": 1.0, "l1": 3.0, "kl": 8.0})
    assert watch.noted == 0


def test_it_survives_a_restart():
    watch = DivergenceMonitor(10)
    look(watch, [1.0] * ENOUGH)
    other = DivergenceMonitor(10)
    other.load_state_dict(watch.state_dict())
    assert trouble(other, [11.0]).step == 0
