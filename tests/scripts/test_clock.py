"""Training for a given time: planned for the machine as it is, and cut short where that becomes slower."""

from __future__ import annotations

import signal
import time

import pytest

from runtime.schedule import Schedule
from scripts import clock
from scripts.clock import EPOCHS, ByTheClock, Speed, train
from trainer import Trainer

STAIRS = {"epoch_steps": 10, "total_steps": 80, "rate": 1.0, "decay": 2, "gamma": 0.5}


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets."""
    at = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: at[0])
    return at


def test_in_time_the_schedule_is_the_plain_one(now):
    clocked, plain = ByTheClock(**STAIRS, begun=0.0, seconds=80.0), Schedule(**STAIRS)
    for step in range(80):
        now[0] = 0.9 * step
        assert clocked(step) == plain(step)


def test_late_it_falls_by_the_clock_and_never_below_the_last_stair(now):
    clocked, plain = ByTheClock(**STAIRS, begun=0.0, seconds=80.0), Schedule(**STAIRS)
    rates = []
    for step in range(40):  # of twice the time that was planned
        now[0] = 2.1 * step
        rates.append(clocked(step))
        assert rates[-1] == plain(min(79, int(2.1 * step)))
    assert rates[-1] == plain(79)


@pytest.fixture
def arguments(photo_folder, tmp_path):
    words = f"--model EDSR --save run --scale 2 --n_feats 4 --n_blocks 1 --dir_experiment {tmp_path} --cpu --sig 2.0"
    words += f" --n_threads 0 --patch_size 12 --batch_size 2 --dir_data {photo_folder} --data_train train"
    return words.split()


def train_slowly(monkeypatch, seconds_a_step: float) -> list[int]:
    """From here on each step takes so long by a clock that nothing else moves; returns the steps that were taken."""
    at, taken, step = [time.perf_counter()], [], Trainer.train_step

    def slow(trainer, hr):
        at[0] += seconds_a_step
        taken.append(trainer.step)
        return step(trainer, hr)

    monkeypatch.setattr(time, "perf_counter", lambda: at[0])
    monkeypatch.setattr(Trainer, "train_step", slow)
    return taken


def test_a_training_that_is_in_time_runs_to_its_end(arguments, monkeypatch, capsys):
    monkeypatch.setattr(clock, "measure", lambda words: Speed(step=1.0, validation=0.5))
    taken = train_slowly(monkeypatch, 1.0)
    path = train(arguments, seconds=44.0, job="demo", end=time.perf_counter() + 60)
    assert taken == list(range(4 * EPOCHS))  # (0.9 · 44 - 8 · 0.5) / 8 steps an epoch
    assert path.exists()
    out = capsys.readouterr().out
    assert "time is up" not in out
    assert "--test_every 4 " in out
    assert "|  demo: 00:00:28 left" in out  # when all steps are done


def test_a_machine_that_becomes_busy_ends_it_in_time_and_says_so(arguments, monkeypatch, capsys):
    monkeypatch.setattr(clock, "measure", lambda words: Speed(step=1.0, validation=0.5))
    taken = train_slowly(monkeypatch, 4.0)
    path = train(arguments, seconds=44.0, job="demo", end=time.perf_counter() + 60)
    assert len(taken) == 11  # 4 · 11 > 43.8, which are 0.73 minutes
    assert path.exists()
    assert (path.parent.parent / "psnr.png").exists()
    out = capsys.readouterr().out
    assert "time is up after 11 of 32 steps: the machine was slower than at the start" in out
    assert "lr 6.25e-05" in out  # the last stair, though it is planned for step 28


def test_without_time_a_step_is_taken_all_the_same(arguments, capsys):
    path = train(arguments, seconds=-1.0, job="demo", end=time.perf_counter())
    assert path.exists()
    assert f"time is up after 1 of {EPOCHS} steps" in capsys.readouterr().out


def test_an_interrupt_saves_and_ends_it(arguments, monkeypatch, tmp_path):
    step = Trainer.train_step

    def interrupted(trainer, hr):
        signal.raise_signal(signal.SIGINT)
        return step(trainer, hr)

    monkeypatch.setattr(clock, "measure", lambda words: Speed(step=1.0, validation=0.5))
    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(arguments, seconds=44.0, job="demo", end=time.perf_counter() + 60)
    assert (tmp_path / "run_x2_bicubic_iso" / "model" / "model_latest.pt").exists()
