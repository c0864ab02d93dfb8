"""The learning rate of each step; that of IKC is in tests/loss/test_parity.py."""

import pytest

from runtime.schedule import Schedule


@pytest.mark.parametrize(
    ("first", "epoch", "rate"),
    [
        *((0, *row) for row in ((0, 2e-4), (59, 2e-4), (60, 2e-5), (99, 2e-5), (100, 1e-4), (224, 1e-4), (225, 5e-5))),
        *((1, *row) for row in ((0, 2e-4), (58, 2e-4), (59, 2e-5), (99, 2e-5), (100, 1e-4), (223, 1e-4), (224, 5e-5))),
        (0, 499, 1.25e-5),
    ],
)
def test_the_schedule_of_kdsr_aniso(first, epoch, rate):
    encoder = {"warmup_epochs": 100, "warmup_rate": 2e-4, "warmup_decay": 60, "warmup_gamma": 0.1}
    schedule = Schedule(epoch_steps=10, total_steps=5000, **encoder, rate=1e-4, decay=125, gamma=0.5, first=first)
    assert [schedule(step) for step in (10 * epoch, 10 * epoch + 9)] == pytest.approx([rate, rate])


@pytest.mark.parametrize("first", [0, 1])
def test_milestones(first):
    common = {"epoch_steps": 3, "total_steps": 60, "rate": 1.0, "gamma": 0.5, "first": first}
    uneven = Schedule(**common, decay=1, milestones=(2, 3, 7))
    assert [uneven(3 * (number - first)) for number in range(1, 9)] == [1, 0.5, *[0.25] * 4, 0.125, 0.125]
    multiples, every = Schedule(**common, decay=1, milestones=range(4, 60, 4)), Schedule(**common, decay=4)
    assert all(multiples(step) == every(step) for step in range(60))


def test_a_rate_that_never_falls():
    schedule = Schedule(epoch_steps=2, total_steps=100, rate=1e-4, decay=1, gamma=0.5, decay_type="none")
    assert {schedule(step) for step in range(100)} == {1e-4}


def test_another_decay_is_refused():
    with pytest.raises(ValueError, match="`decay_type` poly: expected step, cosine or none"):
        Schedule(epoch_steps=1, total_steps=1, rate=1.0, decay=1, gamma=0.5, decay_type="poly")
