"""The losses that count as trouble, and the steps and states that a run goes on with."""

import math
from statistics import median

import pytest
import torch

from runtime.divergence import DOUBT, ENOUGH, PATIENCE, Monitor, Recovery, TrainingError, Trouble


def look(monitor, totals, gradients=None, parts=("l1",), first=0):
    gradients = [1.0] * len(totals) if gradients is None else gradients
    for step, (total, gradient) in enumerate(zip(totals, gradients, strict=True), first):
        losses = {"total": total, "gradient": gradient} | {part: total for part in parts}
        monitor.record(step, {name: torch.tensor(value) for name, value in losses.items()})
    return monitor.read()


def trouble(*arguments, **changes):
    found = look(*arguments, **changes)
    assert found is not None
    return found


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number(bad):
    assert trouble(Monitor(0), [1.0, 2.0, bad, bad], first=7).step == 9
    assert trouble(Monitor(0), [1.0, 2.0, 3.0], [1.0, bad, 1.0]).step == 1
    assert look(Monitor(0, gradients=False), [1.0], [bad]) is None  # the loss scaler's business


def test_a_collapse_is_far_above_the_running_median():
    monitor = Monitor(10)
    assert look(monitor, [1.0] * (ENOUGH - 1) + [500.0]) is None  # too early to know
    assert look(monitor, [9.0] * 3) is None
    found = trouble(monitor, [1.0, 10.5], first=200)
    assert found.step == 201
    assert "10 times its running median" in found.what
    assert look(monitor, [1.0, 9.5]) is None


@pytest.mark.parametrize("stretch", [1, 7, 400])
def test_what_is_found_does_not_depend_on_when_it_is_looked_for(stretch):
    totals = (2 ** torch.randn(400, generator=torch.Generator().manual_seed(1))).tolist()
    monitor, found = Monitor(4), []
    at = 0
    while at < len(totals):
        end = at - at % stretch + stretch
        one = look(monitor, totals[at:end], first=at)
        at = end if one is None else one.step + 1
        found += [] if one is None else [one.step]
    good, expected = [], []
    for step, total in enumerate(totals):
        collapsed = len(good) >= ENOUGH and total > 4 * median(good)
        (expected if collapsed else good).append(step if collapsed else total)
    assert found == expected
    assert len(found) > 3


def test_what_went_wrong_is_not_remembered():
    monitor = Monitor(10)
    look(monitor, [1.0] * ENOUGH)
    before = monitor.state_dict()
    look(monitor, [50.0] * 5)
    assert monitor.state_dict() == before


def test_a_loss_that_is_usually_negative_is_no_measure():
    monitor = Monitor(10)
    assert look(monitor, [-2.0] * ENOUGH + [-2.01, 3.0]) is None


def test_zero_switches_it_off():
    monitor = Monitor(0)
    assert look(monitor, [1.0] * ENOUGH + [1e9]) is None


def test_another_stretch_of_the_schedule_has_another_usual_loss():
    monitor = Monitor(10)
    look(monitor, [1.0] * ENOUGH, parts=("kl",))
    assert look(monitor, [100.0] * ENOUGH, parts=("kl", "l1")) is None
    assert trouble(monitor, [1001.0], parts=("kl", "l1")).what.startswith("the loss is 1001")


def test_a_stretch_in_which_the_parts_change():
    monitor = Monitor(10)
    look(monitor, [1.0] * ENOUGH, parts=("contrast",))
    for step in range(2 * ENOUGH):
        parts = ("contrast",) if step < 3 else ("contrast", "l1")
        losses = {"total": 1.0 if step < 3 else 90.0, "gradient": 1.0} | {part: 1.0 for part in parts}
        monitor.record(step, {name: torch.tensor(value) for name, value in losses.items()})
    assert monitor.read() is None
    assert look(monitor, [91.0], parts=("contrast", "l1")) is None
    assert trouble(monitor, [901.0], parts=("contrast", "l1")).what.endswith("10 times its running median")


def test_a_line_holds_the_means_since_the_last_one():
    monitor = Monitor(0)
    look(monitor, [1.0, 3.0])
    look(monitor, [5.0])
    look(monitor, [8.0], parts=("kl",))
    assert monitor.recorded == 4
    assert monitor.line() == (4, {"total": 4.25, "gradient": 1.0, "l1": 3.0, "kl": 8.0})
    assert monitor.recorded == 0


def test_it_survives_a_restart():
    monitor = Monitor(10)
    look(monitor, [1.0] * ENOUGH)
    other = Monitor(10)
    other.load_state_dict(monitor.state_dict())
    assert trouble(other, [11.0]).step == 0


def test_an_explosion_is_told_from_the_first_step_on():
    assert trouble(Monitor(10), [1.0, 0.9, 1e20]).step == 2
    assert look(Monitor(10), [0.01, 3.0, 0.02]) is None  # early losses may jump


def judge(monitor, total, largest):
    return monitor.judge_weights({"l1": torch.tensor(total), "total": torch.tensor(total)}, torch.tensor(largest))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e20])
def test_weights_are_judged_by_their_loss_and_by_their_size(bad):
    monitor = Monitor(10)
    look(monitor, [1.0] * 5)
    assert judge(monitor, 1.1, 3.0) is None
    assert judge(monitor, bad, 3.0) is not None
    assert judge(monitor, 1.1, bad) is not None


def states(recovery, *steps):
    for step in steps:
        recovery.keep({"step": step})
    return recovery


def test_a_bad_batch_is_left_out_or_if_the_weights_before_it_were_bad_the_update_that_led_to_them():
    recovery = states(Recovery(100), 4, 8)
    good = recovery.recover(Trouble(9, "nan"))
    assert (good["step"], good["skipped"], good["suspect"]) == (8, [9], 9)
    good = recovery.recover(Trouble(8, "nan", update=True))
    assert (good["step"], good["skipped"], good["suspect"]) == (8, [8], None)


def test_a_batch_that_went_wrong_earlier_stays_left_out():
    recovery = states(Recovery(100), 4)
    recovery.recover(Trouble(6, "nan"))
    states(recovery, 14)
    assert recovery.recover(Trouble(14, "nan", update=True))["skipped"] == [6, 14]


def test_of_several_updates_the_one_to_blame_is_looked_for():
    recovery = states(Recovery(100), 4)
    good = recovery.recover(Trouble(7, "nan", update=True))
    assert (good["step"], good["skipped"], good["suspect"]) == (4, [], 8)
    states(recovery, 5)
    good = recovery.recover(Trouble(5, "nan", update=True))
    assert (good["step"], good["skipped"], good["suspect"]) == (5, [5], None)


def test_a_good_state_that_only_bad_steps_follow_is_doubted():
    recovery = states(Recovery(100), 4, 8)
    for step in range(8, 8 + DOUBT - 1):
        assert recovery.recover(Trouble(step, "nan"))["step"] == 8
    good = recovery.recover(Trouble(8 + DOUBT - 1, "nan"))
    assert good["step"] == 4
    assert good["skipped"] == list(range(7, 8 + DOUBT))


def test_it_gives_up_after_so_many_troubles_in_an_epoch():
    recovery = states(Recovery(100), 0)
    for i in range(PATIENCE):
        recovery.recover(Trouble(10 * i, "nan"))
    assert recovery.rate_factor(99) == 0.5 ** (PATIENCE - 1)
    assert recovery.rate_factor(100) == 1
    with pytest.raises(TrainingError, match=f"{PATIENCE + 1} times in one epoch, the last time at step 90: nan"):
        recovery.recover(Trouble(90, "nan"))
    recovery = states(Recovery(10), 0)
    for epoch in range(20):
        recovery.recover(Trouble(10 * epoch, "nan"))  # once an epoch is no reason to give up
