"""The loop on a toy network: its log, its files, and that a resumed run is the same run."""

import dataclasses
import math
import os
import random
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import model
from data.degradation import Gaussian
from data.degradation.params import description
from data.draws import Draws
from data.images import list_images
from data.pairs import Batch, Pairs
from data.protocol import gaussian8
from data.sampler import PatchBatches, PatchSampler
from data.store import ImageFolder, check_images
from data.testset import Degraded
from evaluation import Score
from loss import Contrast, Pixel
from loss.learner import Learner
from model.checkpoint import read_file
from model.layer import BlindSR, Embedding, global_mean
from model.weight_file import digest
from preflight import dry_run
from runtime import divergence
from runtime.curves import Reference, draw_curves
from runtime.divergence import TrainingError
from runtime.logger import Logger
from runtime.precision import Precision
from runtime.schedule import Schedule
from runtime.tracker import TRACKERS
from tests import graphs
from trainer import Trainer
from utility import ROOT, Run, append_rows, read_rows


class Toy(BlindSR):
    """Nearest-neighbour upscaling with one learned colour matrix, and an encoder with BatchNorm."""

    dim = 256

    def __init__(self, *, scale):
        super().__init__(scale=scale)
        self.encoder = Encoder()
        self.colour = nn.Conv2d(3, 3, 1)

    def embed(self, lr, hr=None, pool=global_mean):
        return self.encoder(lr)

    def restore(self, lr, code):
        return nn.functional.interpolate(self.colour(lr), scale_factor=self.scale) + 0.01 * code[:, :3, None, None]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 256, 3), nn.BatchNorm2d(256))

    def forward(self, x):
        code = self.body(x).mean((2, 3))
        return Embedding(code, code)


def contrast(net):
    return Contrast(net, c_weight=0.1, warmup_steps=3, freeze_step=11, queue=16)


@pytest.fixture(autouse=True)
def _toy_in_the_table(monkeypatch):
    monkeypatch.setitem(model.NETWORKS, "Toy", Toy)


@pytest.fixture(autouse=True)
def _not_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # these runs take a moment and save at every turn


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Threads that share so little work wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trainer_in(photo_folder, tmp_path, monkeypatch):
    """Makes the trainer of one and the same run in a directory of its own."""
    monkeypatch.setattr("evaluation.report.draw_curves", lambda *_: None)  # takes longer than all the rest

    def make(
        name,
        *,
        steps=12,
        objective: Any = Pixel,
        decay=6,
        workers=0,
        pool=0,
        precision="fp32",
        print_every=2,
        **changes,
    ) -> Trainer:
        torch.manual_seed(3)
        net = Toy(scale=2)
        checked = check_images(list_images(photo_folder / "train/HR"), at_least=32, skip_bad=False)
        store = ImageFolder([path for path, _ in checked], [size for _, size in checked])
        made = objective() if objective is Pixel else objective(net)
        draws = Draws(seed=5, batch=2, views=made.views)
        sampler = PatchSampler(store.sizes, draws, patch=32, augment="all")
        pairs = Pairs(Gaussian(scale=2, iso=False, width=(0.2, 2.0), noise=0.05), draws, patch=16, pool=pool)
        how = {name: changes.pop(name) for name in ("ema", "accumulate", "cuda_graph") if name in changes}
        device = torch.device("cpu")
        learner = Learner(
            net, made, degradation=description(pairs.degradation), device=device, precision=Precision(precision), **how
        )
        return Trainer(
            learner,
            pairs=pairs,
            batches=PatchBatches(store, sampler),
            test_sets=[Degraded("Set5", list_images(photo_folder / "benchmark/Set5/HR"), gaussian8(2))],
            schedule=Schedule(epoch_steps=4, total_steps=steps, rate=1e-2, decay=decay, gamma=0.5, first=0),
            n_threads=workers,
            print_every=print_every,
            metric="matlab",
            run=Run(tmp_path / name),
            config={"toy": True},
            **changes,
        )

    return make


def weights(trainer):
    return {
        name: value.clone() for name, value in {**trainer.net.state_dict(), **trainer.objective.state_dict()}.items()
    }


def same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def resumed(trainer):
    trainer.resume(torch.load(trainer.run.state, weights_only=True))
    return trainer


def test_trackers_see_fixed_crops_of_validation_images(trainer_in, monkeypatch):
    class Notes:
        def __init__(self, run, *, options, scores, step):
            assert (options, scores, step) == ({"toy": True}, ["psnr/Set5", "ssim/Set5"], 0)

        def scalars(self, values, step):
            seen.append((step, sorted(values)))

        def images(self, images, step):
            seen.append((step, images))

        def close(self):
            pass

    seen = []
    monkeypatch.setitem(TRACKERS, "notes", Notes)
    trainer_in("run", print_every=100).fit()
    assert seen[0] == (4, ["psnr/Set5", "ssim/Set5"])
    strips = [images for _, images in seen if isinstance(images, dict)]
    assert len(strips) == 3
    lr, sr, hr = ({name: image.chunk(3, 2)[i] for name, image in strips[0].items()} for i in range(3))
    assert sorted(lr) == ["Set5/0, 1.30", "Set5/1, 1.30"]
    for later in strips[1:]:
        for name, image in later.items():
            assert image.shape == (3, 96, 288)
            now = image.chunk(3, 2)
            assert torch.equal(now[0], lr[name])
            assert torch.equal(now[2], hr[name])
            assert not torch.equal(now[1], sr[name])
            assert torch.equal(now[0][:, ::2, ::2], now[0][:, 1::2, 1::2])  # pixels are repeated


def test_a_run_is_told_where_it_leaves_its_reference(trainer_in, tmp_path, monkeypatch):
    append_rows(
        tmp_path / "other.csv",
        [{"epoch": 1, "step": s, "set": "Set5", "protocol": "gaussian8", "psnr": 90.0, "ssim": 0.9} for s in (4, 12)],
    )
    drawn = []
    monkeypatch.setattr("evaluation.report.draw_curves", lambda run, reference: drawn.append(reference))
    trainer = trainer_in("run", reference=Reference("other", [tmp_path / "other.csv"]))
    trainer.fit()
    notes = [line for line in (trainer.run.path / "log.txt").read_text().splitlines() if "dB from other" in line]
    assert len(notes) == 1
    assert "at step 4, which has 90.00" in notes[0]
    assert [each.name for each in drawn] == ["other"] * 3
    draw_curves(trainer.run, drawn[0])
    assert (trainer.run.path / "psnr.png").exists()


def test_the_time_left_has_room_for_validations(trainer_in, monkeypatch):
    monkeypatch.setattr(Logger, "validated", lambda logger, seconds: setattr(logger, "_validation", 3600.0))
    trainer = trainer_in("run")
    trainer.fit()
    left = re.findall(r"(\d\d):00:\d\d left", (trainer.run.path / "log.txt").read_text())
    assert left == ["00", "00", "02", "02", "01", "01"]  # every second step; an epoch has four


def test_files_of_a_run(trainer_in, monkeypatch):
    trainer = trainer_in("run")
    monkeypatch.setattr("evaluation.report.draw_curves", draw_curves)
    trainer.fit()
    run = trainer.run
    files = {path.name for path in run.path.iterdir()}
    assert files == {
        "config.json",
        "log.txt",
        "psnr_log.csv",
        "loss_log.csv",
        "psnr.png",
        "loss.png",
        "report.html",
        "tb",
        "model",
        ".lock",
    }
    psnr = read_rows(run.psnr_log)
    assert [(row["epoch"], row["step"], row["set"], row["protocol"]) for row in psnr] == [
        (str(epoch), str(4 * epoch), "Set5", "gaussian8") for epoch in (1, 2, 3)
    ]
    previous = {"state_previous.pt"}
    numbered = [f"model_{row['epoch']}_psnr_{float(row['psnr']):.2f}.pt" for row in psnr]
    assert {path.name for path in run.models.iterdir()} == {
        *numbered,
        "model_latest.pt",
        "model_best.pt",
        "state.pt",
        *previous,
    }
    assert [row["step"] for row in read_rows(run.loss_log) if row["part"] == "l1"] == ["2", "4", "6", "8", "10", "12"]
    best = max(psnr, key=lambda row: float(row["psnr"]))
    best_file = run.models / f"model_{best['epoch']}_psnr_{float(best['psnr']):.2f}.pt"
    same(model.load_model(best_file).state_dict(), model.load_model(run.models / "model_best.pt").state_dict())


def test_it_learns(trainer_in):
    trainer = trainer_in("run", steps=80, decay=80)
    trainer.test_sets = []
    trainer.fit()
    losses = [float(row["value"]) for row in read_rows(trainer.run.loss_log) if row["part"] == "l1"]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("objective", [Pixel, contrast])
@pytest.mark.parametrize("stop", [3, 4, 9])
def test_a_resumed_run_is_the_same_run(objective, stop, trainer_in):
    whole = trainer_in("whole", objective=objective)
    whole.fit()
    broken = stopping(trainer_in("broken", objective=objective), stop)
    assert not broken.fit()
    assert broken.step == stop
    again = resumed(trainer_in("broken", objective=objective, workers=1))
    assert again.fit()
    same(weights(whole), weights(again))
    assert whole.run.psnr_log.read_text() == again.run.psnr_log.read_text()
    assert whole.run.loss_log.read_text() == again.run.loss_log.read_text()


def stopping(trainer, at):
    """The trainer that is asked to stop when it has taken this step."""
    take = trainer.train_step

    def interrupted(hr):
        parts = take(hr)
        trainer.signals.asked = trainer.step == at  # as a signal does
        return parts

    trainer.train_step = interrupted
    return trainer


def test_a_run_of_captured_steps_is_the_same_run(trainer_in, monkeypatch):
    """It heals, stops and resumes, and the kind of step changes twice; rates are those that float32 holds."""
    captures = graphs.on_cpu(monkeypatch)
    runs = []
    for cuda_graph in (False, True):
        for stop in (17, 24):
            trainer = trainer_in(f"run{cuda_graph}", steps=24, objective=contrast, print_every=4, cuda_graph=cuda_graph)
            trainer.schedule = dataclasses.replace(trainer.schedule, rate=2**-7)
            if trainer.run.state.exists():
                resumed(trainer)
            take = trainer.train_step

            def with_a_bad_batch(hr, take=take, trainer=trainer):
                losses = take(hr)
                return losses | {"total": losses["total"].mul_(math.inf)} if trainer.step == 7 else losses

            trainer.train_step = with_a_bad_batch
            stopping(trainer, stop).fit()
            assert trainer.step == stop
        runs.append(trainer)
    same(weights(runs[0]), weights(runs[1]))
    assert runs[0].recovery.skipped == runs[1].recovery.skipped == [6]
    assert runs[0].run.loss_log.read_text() == runs[1].run.loss_log.read_text()
    assert captures.captured == 5  # of steps 0 to 2, from 3, from 4 after the bad one, from 11, and from 17


def test_a_run_that_is_done_stays_as_it_is(trainer_in):
    trainer_in("run").fit()
    state = trainer_in("run").run.state
    before = read_file(state)
    assert resumed(trainer_in("run")).fit()
    assert digest(read_file(state), state) == digest(before, state)


def test_resuming_forgets_what_the_logs_hold_of_later_steps(trainer_in):
    whole = trainer_in("whole")
    whole.fit()
    state = trainer_in("whole").state_dict()  # of step 0
    again = trainer_in("whole")
    again.resume(state)
    again.fit()
    assert [row["step"] for row in read_rows(again.run.psnr_log)] == ["4", "8", "12"]


def test_a_run_that_is_further_than_asked_for_is_refused(trainer_in):
    trainer_in("run", steps=8).fit()
    with pytest.raises(ValueError, match=r"state\.pt is at step 8, .* ends at step 4; .*`epochs_sr`"):
        resumed(trainer_in("run", steps=4))
    resumed(trainer_in("run", steps=8)).fit()


def test_a_signal_saves_and_stops(trainer_in):
    trainer = trainer_in("run")
    take = trainer.train_step

    def interrupted(hr):
        if trainer.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(hr)

    trainer.train_step = interrupted
    trainer.fit()
    assert trainer.step == 6
    assert torch.load(trainer.run.state, weights_only=True)["step"] == 6
    assert "continue with the same command and `resume`" in (trainer.run.path / "log.txt").read_text()


def test_a_run_that_would_take_days_says_so_at_once(trainer_in):
    for steps, says in ((5, False), (10**10, True)):
        trainer = trainer_in(f"run{steps}", steps=steps)
        step = trainer.train_step

        def four_steps(patches, trainer=trainer, step=step):
            trainer.signals.asked = trainer.step == 3
            return step(patches)

        trainer.train_step = four_steps
        trainer.fit()
        assert ("on this CPU, and the run" in (trainer.run.path / "log.txt").read_text()) == says


def test_a_long_validation_of_the_start_is_no_long_step(trainer_in, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("trainer.time", SimpleNamespace(perf_counter=lambda: now[0]))
    trainer = trainer_in("run", score_start=True, steps=1000)
    validate, step = trainer.validate, trainer.train_step

    def hours(report):
        now[0] += 36_000
        return validate(report)

    def four_steps(patches):
        now[0] += 1
        trainer.signals.asked = trainer.step == 3
        return step(patches)

    trainer.validate, trainer.train_step = hours, four_steps
    trainer.fit()
    log = (trainer.run.path / "log.txt").read_text()
    assert "epoch 0  Set5" in log
    assert "on this CPU, and the run" not in log


def test_an_epoch_is_saved_before_its_validation(trainer_in):
    trainer = trainer_in("run", steps=8)
    validate, saved = trainer.validate, []

    def look(report):
        saved.append(read_file(trainer.run.state)["step"])
        return validate(report)

    trainer.validate = look
    trainer.fit()
    assert saved == [4, 8]


def test_the_best_weights_are_chosen_by_scores_as_they_are(trainer_in, monkeypatch):
    """The log and the table round them."""
    trainer, found = trainer_in("run"), iter([30.00001, 30.00002, 30.0])
    values = {"ssim": 0.9}
    monkeypatch.setattr(
        trainer, "scores", lambda *_, **__: [Score("Set5", "gaussian8", "0", "1.30", values | {"psnr": next(found)})]
    )
    trainer.fit()
    assert [row["psnr"] for row in read_rows(trainer.run.psnr_log)] == ["30.0000"] * 3
    best, second = (model.load_model(trainer.run.models / name) for name in ("model_best.pt", "model_2_psnr_30.00.pt"))
    same(best.state_dict(), second.state_dict())
    assert read_file(trainer.run.state)["best"] == resumed(trainer_in("run")).best == 30.00002


def test_time_is_up(trainer_in):
    trainer = trainer_in("run", max_minutes=0.0)
    trainer.fit()
    assert trainer.step == 1
    assert model.load_model(trainer.run.models / "model_latest.pt").scale == 2


def test_the_time_of_what_came_before_counts(trainer_in):
    trainer = trainer_in("run", max_minutes=1.0, begun=time.perf_counter() - 61)
    assert not trainer.fit()
    assert trainer.step == 1


def test_only_the_newest_numbered_checkpoints_are_kept(trainer_in):
    trainer = trainer_in("run", steps=16, keep=2)
    trainer.fit()
    assert sorted(path.stem.split("_")[1] for path in trainer.run.models.glob("model_*_psnr_*.pt")) == ["3", "4"]


def test_a_dry_run_writes_nothing_and_forecasts(trainer_in, capsys):
    trainer = trainer_in("run")
    seconds = dry_run(trainer)
    assert 0 < seconds < 60
    assert not trainer.run.path.exists()
    out = capsys.readouterr().out
    for word in ("memory", "steps/s", "forecast", "data", "degradation", "network"):
        assert word in out


def test_a_state_of_another_network_is_refused(trainer_in):
    trainer = trainer_in("run")
    state = trainer.state_dict()
    state["net"]["config"] = {"scale": 3}
    with pytest.raises(ValueError, match=r"no state of this run.*'scale': 3.*'scale': 2"):
        trainer.resume(state)
    with pytest.raises(ValueError, match="format 99"):
        trainer.resume({"format": 99})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", "abc"),
        ("step", -5),
        ("epoch", None),
        ("best", [1.0]),
        ("skipped", 3),
        ("monitor", []),
        ("monitor", {"line": {}, "overflows": "x", "names": [], "totals": []}),
        ("monitor", {"line": {}, "overflows": 0, "names": [], "totals": ["x"]}),
        ("net", None),
        ("objective", 1),
        ("optimizer", 5),
        ("optimizer", {"state": {}, "param_groups": []}),
        ("pairs", 5),
        ("images", 5),
    ],
)
def test_a_damaged_state_is_refused(field, value, trainer_in):
    trainer = trainer_in("run", pool=4)
    with pytest.raises(ValueError, match=r"state\.pt is no state of this run"):
        trainer.resume(trainer.state_dict() | {field: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"betas": (0.0, 5.0)},
        {"amsgrad": True},
        {"maximize": True},
        {"weight_decay": 1e9},
        {"eps": -1.0},
        {"share": 9.0},
    ],
)
def test_the_settings_of_the_optimiser_are_those_of_the_options(settings, trainer_in):
    whole, broken = trainer_in("whole"), stopping(trainer_in("broken"), 7)
    whole.fit()
    broken.fit()
    state = read_file(broken.run.state)
    state["optimizer"]["param_groups"][0] |= settings
    again = trainer_in("broken")
    again.resume(state)
    again.fit()
    same(weights(whole), weights(again))


# --------------------------------------------------------------------------------------------------- self-healing


class Poisoned(Pixel):
    """L1 that goes wrong at some steps, every time they come."""

    def __init__(self, kind, *steps):
        super().__init__()
        self.kind = kind
        self.wrong = steps

    def phases(self, net, batch, step):
        (phase,) = super().phases(net, batch, step)
        assert isinstance(net, Toy)
        if step in self.wrong and torch.is_grad_enabled():  # the batch goes wrong, and not the weights tried on it
            bad = {
                "loss": phase.total * math.nan,
                "gradient": phase.total + (0 * net.colour.weight).sum().sqrt(),  # 0, with an infinite slope
                "collapse": phase.total * 30,
            }
            phase = phase._replace(total=bad[self.kind])
        yield phase


def poisoned(kind, *steps):
    return lambda net: Poisoned(kind, *steps)


@pytest.mark.parametrize("print_every", [1, 3, 100])
@pytest.mark.parametrize("kind", ["loss", "gradient", "collapse"])
def test_a_batch_that_goes_wrong_is_left_out(kind, print_every, trainer_in, monkeypatch):
    monkeypatch.setattr(divergence, "ENOUGH", 3)
    expected = trainer_in("expected", print_every=print_every, collapse=10)
    expected.recovery.skipped = [6]
    expected.fit()
    healed = trainer_in("healed", objective=poisoned(kind, 6), print_every=print_every, collapse=10)
    healed.fit()
    assert healed.recovery.skipped == [6]
    same(weights(expected), weights(healed))
    for name in ("psnr_log.csv", "loss_log.csv"):
        assert (expected.run.path / name).read_text() == (healed.run.path / name).read_text()
    what = {"loss": "the loss is nan", "gradient": "the gradient's norm is", "collapse": "times its running median"}
    (line,) = [line for line in (healed.run.path / "log.txt").read_text().splitlines() if "back to step" in line]
    assert "step 6: " in line
    assert what[kind] in line
    good = {1: 6, 3: 6, 100: 4}[print_every]
    assert f"back to step {good}, on without that batch" in line
    assert "learning rate" not in line


def test_if_it_happens_again_it_goes_slower_until_the_epoch_is_over(trainer_in):
    trainer = trainer_in("run", objective=poisoned("loss", 4, 5, 6))
    rates = {}
    take = trainer.train_step

    def watched(hr):
        step = trainer.step
        parts = take(hr)
        rates[step] = trainer.learner.optimizer.param_groups[0]["lr"]
        return parts

    trainer.train_step = watched
    trainer.fit()
    assert trainer.recovery.skipped == [4, 5, 6]
    schedule = trainer.schedule
    assert rates[3] == schedule(3)
    assert rates[7] == schedule(7) / 4
    assert rates[8] == schedule(8)
    log = (trainer.run.path / "log.txt").read_text()
    assert "the learning rate times 0.5" in log
    assert "the learning rate times 0.25" in log


def test_it_gives_up_and_leaves_the_last_good_state(trainer_in, monkeypatch):
    monkeypatch.setattr(divergence, "PATIENCE", 2)
    trainer = trainer_in("run", objective=poisoned("loss", *range(9, 12)))
    with pytest.raises(TrainingError, match=r"3 times in one epoch.*step 11: the loss is nan.*of step 10"):
        trainer.fit()
    state = torch.load(trainer.run.state, weights_only=True)
    assert state["step"] == 10  # with the weights after step 8: 9 is left out
    assert all(value.isfinite().all() for value in state["net"]["params"].values())
    expected = trainer_in("expected", steps=9)
    expected.fit()
    same(weights(expected), weights(resumed(trainer_in("run"))))


def test_scores_that_are_no_numbers_end_it(trainer_in):
    trainer = trainer_in("run")
    take = trainer.train_step

    def poisoned_statistics(hr):
        parts = take(hr)
        if trainer.step == 8:
            trainer.net.encoder.body[1].running_var.fill_(-1)  # of which no loss in training tells
        return parts

    trainer.train_step = poisoned_statistics
    with pytest.raises(TrainingError, match=r"PSNR on Set5 is nan after step 8: .*`pre_train`"):
        trainer.fit()
    assert [row["epoch"] for row in read_rows(trainer.run.psnr_log)] == ["1"]
    assert len(list(trainer.run.models.glob("model_*_psnr_*.pt"))) == 1
    model.load_model(trainer.run.models / "model_best.pt")


def test_a_healed_run_resumes_exactly(trainer_in):
    whole = trainer_in("whole", objective=poisoned("gradient", 1, 5, 6))
    whole.fit()
    broken = trainer_in("broken", objective=poisoned("gradient", 1, 5, 6))
    take = broken.train_step

    def interrupted(hr):
        if broken.step == 7:
            raise KeyboardInterrupt
        return take(hr)

    broken.train_step = interrupted
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again = resumed(trainer_in("broken", objective=poisoned("gradient", 1, 5, 6)))
    assert 0 < again.step < 8
    again.fit()
    same(weights(whole), weights(again))
    assert whole.run.loss_log.read_text() == again.run.loss_log.read_text()


def test_nothing_is_read_from_the_device_between_the_lines_of_the_log(trainer_in, monkeypatch):
    trainer = trainer_in("run", steps=8, print_every=4, ema=0.9, collapse=10.0)
    lr, hr = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
    # Degradations are drawn on the host, which reads what it draws.
    monkeypatch.setattr(trainer.pairs, "forward", lambda *_: Batch(lr, hr))
    reads = []

    def counted(name):
        read = getattr(torch.Tensor, name)

        def call(tensor, *arguments, **options):
            caller = Path(sys._getframe(1).f_code.co_filename)
            of_the_host = {".venv", "data", "weight_file.py"}  # patches, and the snapshots that are saved
            if caller.is_relative_to(ROOT) and not of_the_host & set(caller.relative_to(ROOT).parts):
                reads.append((trainer.step, caller.name))
            return read(tensor, *arguments, **options)

        return call

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    monkeypatch.setattr(trainer, "test_sets", [])
    trainer.fit()
    assert reads == [(step, "divergence.py") for step in (4, 4, 8, 8)]  # the losses, and those of the weights


def test_a_run_is_saved_between_two_lines_of_the_log_and_heals_the_same(trainer_in):
    settings = {"objective": poisoned("gradient", 1, 6, 7), "print_every": 100, "steps": 8}
    whole = trainer_in("whole", **settings)
    whole.fit()
    often = trainer_in("often", **settings, save_minutes=0.0)
    take, saved = often.train_step, []

    def watched(hr):
        saved.append(torch.load(often.run.state, weights_only=True)["step"] == often.step)
        return take(hr)

    often.train_step = watched
    often.fit()
    assert all(saved)
    assert often.recovery.skipped == whole.recovery.skipped == [1, 6, 7]
    same(weights(whole), weights(often))
    for name in ("psnr_log.csv", "loss_log.csv"):
        assert (whole.run.path / name).read_text() == (often.run.path / name).read_text()


def test_where_a_run_was_stopped_makes_no_difference_to_its_healing(trainer_in):
    settings = {"objective": poisoned("loss", 5, 7), "print_every": 100}
    whole = trainer_in("whole", **settings)
    whole.fit()
    broken = trainer_in("broken", **settings)
    take = broken.train_step

    def interrupted(hr):
        parts = take(hr)
        broken.signals.asked = broken.step == 7 and broken.recovery.skipped == [5]
        return parts

    broken.train_step = interrupted
    broken.fit()
    assert broken.step == 7
    again = resumed(trainer_in("broken", **settings))
    again.fit()
    assert again.recovery.skipped == whole.recovery.skipped == [5, 7]
    same(weights(whole), weights(again))


def test_gradients_that_stay_infinite_are_told_in_float16_too(trainer_in, monkeypatch):
    monkeypatch.setattr(divergence, "OVERFLOWS", 2)
    monkeypatch.setattr(divergence, "PATIENCE", 1)
    trainer = trainer_in("run", objective=poisoned("gradient", *range(4, 12)), precision="fp16")
    with pytest.raises(TrainingError, match="gradient's norm"):
        trainer.fit()


# ------------------------------------------------------------------------------------------ updates that go wrong

BAD = {"nan": lambda w: w.fill_(math.nan), "inf": lambda w: w.fill_(math.inf), "huge": lambda w: w.mul_(1e20)}
# The numbers of steps, counted from 0; an epoch has 4 and the run 12.
PLANTED = {
    "before a line of the log": {"at": 5, "print_every": 3},
    "two steps before a line of the log": {"at": 4, "print_every": 3},
    "at the end of an epoch": {"at": 7, "print_every": 100},
    "where each step has a line": {"at": 5, "print_every": 1},
    "between lines": {"at": 5, "print_every": 100},
    "the last one": {"at": 11, "print_every": 100},
    "the first one": {"at": 0, "print_every": 5},
    "before a save": {"at": 5, "print_every": 100, "save_minutes": 0.0},
}


def planting(trainer, at, kind, which=lambda trainer: trainer.net.colour.weight):
    """Let the optimiser break weights at this step, every time it comes. Check whatever is written to the disk."""
    update = trainer.learner.optimizer.step

    def broken(*arguments, **options):
        update(*arguments, **options)
        if trainer.step == at:
            with torch.no_grad():
                BAD[kind](which(trainer))

    trainer.learner.optimizer.step = broken
    save = trainer._save

    def checked():
        save()
        sound(trainer.run)

    trainer._save = checked
    return trainer


def sound(run):
    """Fail unless state and weights on the disk are finite, and of the size of sound ones."""
    for name in ("state.pt", "state_previous.pt", "model_latest.pt"):
        if (run.models / name).exists():
            contents = torch.load(run.models / name, weights_only=True)
            assert all(value.abs().max() < 1e9 for value in floats(contents)), name
    model.load_model(run.models / "model_latest.pt")


def floats(contents):
    if isinstance(contents, torch.Tensor) and contents.is_floating_point():
        yield contents
    elif isinstance(contents, dict):
        for value in contents.values():
            yield from floats(value)


def equal_to_one_without(step, trainer, expected):
    assert trainer.recovery.skipped == [step]
    expected.recovery.skipped = [step]
    expected.fit()
    same(weights(expected), weights(trainer))
    assert trainer.recovery.good["step"] == expected.recovery.good["step"] == 12
    for name in ("psnr_log.csv", "loss_log.csv"):
        assert (expected.run.path / name).read_text() == (trainer.run.path / name).read_text()


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("case", PLANTED)
def test_an_update_that_breaks_the_weights_is_left_out(case, kind, trainer_in):
    settings = dict(PLANTED[case])
    at = settings.pop("at")
    healed = planting(trainer_in("healed", collapse=10, **settings), at, kind)
    assert healed.fit()
    sound(healed.run)
    equal_to_one_without(at, healed, trainer_in("expected", collapse=10, **settings))
    log = (healed.run.path / "log.txt").read_text()
    assert f"step {at}: the weights" in log
    assert "on without that update" in log


@pytest.mark.parametrize("kind", BAD)
def test_weights_that_no_loss_depends_on_may_break_too(kind, trainer_in):
    """The encoder's bias goes through BatchNorm, which takes it out again; a file with it would be of no use."""
    settings = {"print_every": 100, "objective": contrast}
    unused = planting(
        trainer_in("healed", **settings), 1, kind, lambda trainer: trainer.objective.moco.encoder.body[0].bias
    )
    assert unused.fit()
    equal_to_one_without(1, unused, trainer_in("expected", **settings))


@pytest.mark.parametrize("kind", BAD)
def test_an_update_breaks_the_weights_just_before_the_run_is_stopped(kind, trainer_in):
    settings = {"print_every": 100}
    stopped = stopping(planting(trainer_in("healed", **settings), 5, kind), 6)
    assert not stopped.fit()
    sound(stopped.run)
    assert stopped.step == 4  # the last good state
    again = planting(resumed(trainer_in("healed", **settings)), 5, kind)
    assert again.fit()
    equal_to_one_without(5, again, trainer_in("expected", **settings))


@pytest.mark.parametrize("seed", range(6))
def test_a_run_is_killed_while_it_recovers(seed, trainer_in):
    """The weights break at step 6; it is killed at the n-th step that it takes, the repeated ones included."""
    taken = random.Random(seed).randint(7, 14)
    settings = {"print_every": 3, "save_minutes": 0.0 if seed % 2 else 1e6}
    killed = planting(trainer_in("healed", **settings), 6, "nan")
    take, count = killed.train_step, []

    def dying(hr):
        count.append(killed.step)
        if len(count) == taken:
            killed._save = lambda: None  # who is killed saves nothing
            raise KeyboardInterrupt
        return take(hr)

    killed.train_step = dying
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    sound(killed.run)
    again = planting(resumed(trainer_in("healed", **settings)), 6, "nan")
    assert again.fit()
    equal_to_one_without(6, again, trainer_in("expected", **settings))


def test_the_tables_are_on_the_disk_before_the_state_that_counts_on_them(trainer_in, monkeypatch):
    trainer, synced = trainer_in("run"), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    update = trainer._save

    def save():
        synced.clear()
        update()
        files = (trainer.run.loss_log, trainer.run.psnr_log, trainer.run.state)
        inodes = [path.stat().st_ino for path in files if path.exists()]  # before the first validation: no scores
        assert [inode for inode in synced if inode in inodes] == inodes

    trainer._save = save
    trainer.fit()
    assert synced


class Guided(Pixel):
    """L1 to what a teacher makes of the image."""

    constant = ("teacher",)

    def __init__(self):
        super().__init__()
        self.teacher = Toy(scale=2).requires_grad_(False)


def test_what_never_changes_is_copied_once(trainer_in):
    trainer = trainer_in("run", objective=lambda net: Guided(), print_every=1)
    kept, keep = [], trainer.recovery.keep
    trainer.recovery.keep = lambda state: kept.append(state) or keep(state)
    trainer.fit()
    teachers = [{name: value for name, value in state["objective"].items() if "teacher" in name} for state in kept]
    assert len(teachers) > 12
    assert all(value is teachers[0][name] for teacher in teachers for name, value in teacher.items())
    own = trainer.objective.state_dict()
    for name, value in teachers[0].items():
        assert torch.equal(value, own[name])
        assert value.data_ptr() != own[name].data_ptr()
    first, last = kept[0]["net"]["params"], kept[-1]["net"]["params"]
    assert all(value.device.type == "cpu" for value in floats(kept[-1]))
    assert all(value.data_ptr() != last[name].data_ptr() for name, value in first.items())


def test_a_good_state_is_copied_once_and_knows_that_its_epoch_is_over(trainer_in):
    trainer = trainer_in("run", objective=contrast, print_every=100)
    kept, keep = [], trainer.recovery.keep
    trainer.recovery.keep = lambda state: kept.append(state["step"]) or keep(state)
    trainer.fit()
    assert kept == [0, 0, 4, 8, 12]
    good, now = trainer.recovery.good, trainer._snapshot()
    assert (good["epoch"], good["best"]) == (3, trainer.best)
    assert digest(good, trainer.run.state) == digest(now, trainer.run.state)


def test_trying_the_weights_changes_nothing(trainer_in):
    """A pass through the network moves statistics, the queue and the key encoder."""
    often, seldom = (trainer_in(str(every), objective=contrast, print_every=every) for every in (1, 100))
    often.fit()
    seldom.fit()
    same(weights(often), weights(seldom))
