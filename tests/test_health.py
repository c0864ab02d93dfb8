"""What the watch calls a trouble."""

import math

import pytest

from health import ENOUGH, Watch


def look(watch, totals, gradients=None, parts=("l1",), first=0, counts=True):
    gradients = [1.0] * len(totals) if gradients is None else gradients
    stretch = {"total": totals, "gradient": gradients} | {part: totals for part in parts}
    return watch.trouble(range(first, first + len(totals)), stretch, gradients=counts)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number(bad):
    assert look(Watch(0), [1.0, 2.0, bad, bad], first=7).step == 9
    assert look(Watch(0), [1.0, 2.0, 3.0], [1.0, bad, 1.0]).step == 1
    assert look(Watch(0), [1.0], [bad], counts=False) is None  # the loss scaler's business


def test_a_collapse_is_far_above_the_running_median():
    watch = Watch(10)
    assert look(watch, [1.0] * (ENOUGH - 1) + [500.0]) is None  # too early to know
    assert look(watch, [9.0] * 3) is None
    trouble = look(watch, [1.0, 10.5], first=200)
    assert trouble.step == 201
    assert "10 times its running median" in trouble.what
    assert look(watch, [1.0, 9.5]) is None


def test_what_went_wrong_is_not_remembered():
    watch = Watch(10)
    look(watch, [1.0] * ENOUGH)
    before = watch.state_dict()
    look(watch, [50.0] * 5)
    assert watch.state_dict() == before


def test_zero_switches_it_off():
    watch = Watch(0)
    assert look(watch, [1.0] * ENOUGH + [1e9]) is None


def test_another_stretch_of_the_schedule_has_another_usual_loss():
    watch = Watch(10)
    look(watch, [1.0] * ENOUGH, parts=("kl",))
    assert look(watch, [100.0] * ENOUGH, parts=("kl", "l1")) is None
    assert look(watch, [1001.0], parts=("kl", "l1")).what.startswith("the loss is 1001")


def test_a_stretch_in_which_the_parts_change():
    watch = Watch(10)
    look(watch, [1.0] * ENOUGH, parts=("contrast",))
    mixed = {"total": [1.0, 1.0, 90.0], "gradient": [1.0] * 3, "contrast": [1.0] * 3, "l1": [89.0]}
    assert watch.trouble([1, 2, 3], mixed, gradients=True) is None
    assert look(watch, [90.0], parts=("contrast", "l1")) is None


def test_it_survives_a_restart():
    watch = Watch(10)
    look(watch, [1.0] * ENOUGH)
    other = Watch(10)
    other.load_state_dict(watch.state_dict())
    assert look(other, [11.0]).step == 0
