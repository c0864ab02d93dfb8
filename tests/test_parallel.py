"""Several processes that train one network, on the CPU by gloo: they are as good as one."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.processes import THROUGH, Workshop, serving
from utility import ROOT, read_rows

KDSR = "--n_feats 8 --n_blocks 2 --n_resblocks 1"
FAST = "--scale 2 --cpu --batch_size 4 --patch_size 12 --test_every 6 --epochs_sr 1 --n_threads 0 --print_every 1"
TEACHER = f"--model KDSR_T {KDSR} {FAST}"
STUDENT = f"--model KDSR_S {KDSR} {FAST} --pre_train_TA TEACHER"
WARM = f"{STUDENT} --blur_type aniso_gaussian --epochs_encoder 1 --epochs_sr 2"
DASR = f"--model DASR --n_feats 16 --n_blocks 1 {FAST} --epochs_encoder -1"
REAL = (
    f"--model KDSR_S {KDSR} {FAST} --scale 4 --degradation second_order --crop_size 20 --objective adversarial "
    "--d_feats 4 --perceptual_weight 0 --pre_train_TA TEACHER --ema 0.9"
)
GAN = REAL.replace("second_order --crop_size 20", "gaussian")  # noise and the pool are drawn by rank
# Takes some steps and leaves what became of the trainer.
STEPS = """
import parallel, torch
given, options = main.options_of(words)
ranks = parallel.join()
trainer = main.prepare(given, options, ranks)
trainer.net.train()
before = {name: p.clone() for name, p in trainer.net.named_parameters()}
keys = []
if hasattr(trainer.objective, "moco"):
    trainer.objective.moco.encoder.register_forward_hook(lambda module, x, out: keys.append(out.projection))
for step in range(COUNT):
    trainer.train_step(trainer.batches[step])
parameters = [*trainer.net.named_parameters(), *trainer.objective.named_parameters()]
torch.save({
    "before": before,
    "after": {name: p.detach() for name, p in parameters},
    "gradients": {name: p.grad for name, p in parameters if p.grad is not None},
    "state": trainer.state_dict(),
    "keys": keys,
}, options.saving.dir_experiment / f"{options.saving.save}_{ranks.rank}.pt")
parallel.leave()
"""

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "main.py")

server = pytest.fixture(serving, scope="module")


@pytest.fixture
def workshop(server, photo_folder, tmp_path):
    workshop = Workshop(server, photo_folder, tmp_path)
    yield workshop
    workshop.close()


@pytest.fixture
def steps(workshop):
    """Takes so many steps with these arguments; returns what each rank is left with."""

    def call(arguments, *, ranks=1, count=1):
        name = f"s{len(list(workshop.folder.iterdir()))}"
        workshop.finish(f"{arguments} --save {name}", ranks=ranks, code=STEPS.replace("COUNT", str(count)))
        return [torch.load(workshop.folder / f"{name}_{rank}.pt") for rank in range(ranks)]

    return call


def equal(one, other, *, names=None):
    assert one.keys() == other.keys()
    for name in one if names is None else names:
        assert torch.equal(one[name], other[name]), name


def apart(one, other):
    """The difference of two sets of gradients, of their length."""
    assert one.keys() == other.keys()
    a, b = (torch.cat([gradients[name].flatten().double() for name in sorted(gradients)]) for gradients in (one, other))
    return (a - b).norm() / b.norm()


@pytest.mark.parametrize("arguments", [TEACHER, STUDENT, WARM, GAN])
def test_the_gradients_are_those_of_one_process(arguments, steps):
    (alone,), (first, second), (parts,) = (
        steps(arguments),
        steps(arguments, ranks=2),
        steps(f"{arguments} --accumulate 2"),
    )
    assert apart(first["gradients"], alone["gradients"]) < 1e-5
    equal(first["gradients"], second["gradients"])
    # Each part takes a power iteration of the discriminator's spectral norms.
    assert apart(parts["gradients"], alone["gradients"]) < (1e-3 if arguments == GAN else 1e-5)


def test_accumulated_parts_of_two_processes(steps):
    (alone,), (both, _) = steps(STUDENT), steps(f"{STUDENT} --accumulate 2", ranks=2)
    assert apart(both["gradients"], alone["gradients"]) < 1e-5


def test_a_warm_up_leaves_the_sr_network_alone(steps):
    for state in steps(f"{WARM} --test_every 3", ranks=2, count=3):
        after = {name: state["after"][name] for name in state["before"]}
        for name, before in state["before"].items():
            assert torch.equal(before, after[name]) == (not name.startswith("estimator.") or "compress" in name), name
    first, second = steps(f"{WARM} --test_every 3", ranks=2, count=5)
    equal(first["after"], second["after"])
    changed = [name for name, before in first["before"].items() if not torch.equal(before, first["after"][name])]
    assert any(name.startswith("restoration.") for name in changed)


def test_the_queue_holds_the_keys_of_all_in_the_order_of_their_ranks(steps):
    count, batch = 3, 4
    first, second = ranks = steps(DASR, ranks=2, count=count)
    equal(first["after"], second["after"])
    queues = [rank["state"]["objective"]["moco.queue"] for rank in ranks]
    assert torch.equal(*queues)
    keys = [torch.cat(pair) for pair in zip(*(rank["keys"] for rank in ranks), strict=True)]  # of each step
    assert all(len(key) == batch for key in keys)
    expected = torch.nn.functional.normalize(torch.cat(keys), dim=1).T
    torch.testing.assert_close(queues[0][:, : count * batch], expected, rtol=0, atol=1e-6)
    assert first["state"]["objective"]["moco.pointer"].item() == count * batch
    assert not torch.equal(first["keys"][0], second["keys"][0])


def rows(run, part="total"):
    return [float(row["value"]) for row in read_rows(run / "loss_log.csv") if row["part"] == part]


def test_a_run_goes_on_with_another_number_of_processes(workshop):
    """The draws of a batch are the same for any number; Adam's first steps make much of rounding errors."""
    whole = workshop.finish(f"{STUDENT} --epochs_sr 3 --save whole")
    changing = f"{STUDENT} --save changing --resume auto"
    for epochs, ranks in ((1, 2), (2, 1), (3, 2)):
        changing_run = workshop.finish(f"{changing} --epochs_sr {epochs}", ranks=ranks)
    assert rows(changing_run) == pytest.approx(rows(whole), rel=2e-3)
    log = (changing_run / "log.txt").read_text()
    assert [int(step) for step in re.findall(r"step (\d+)/", log)] == list(range(1, 19))  # one process writes
    assert log.count("continuing") == 2
    assert len([row for row in read_rows(changing_run / "psnr_log.csv")]) == 3


def test_the_pool_is_dealt_out_again(workshop):
    real = f"{REAL} --save real --resume auto --pool_size 12"
    sizes, levels = [], []
    for epochs, ranks in ((1, 1), (2, 2), (3, 1), (4, 2)):
        run = workshop.finish(f"{real} --epochs_sr {epochs}", ranks=ranks)
        state = torch.load(run / "model/state.pt", weights_only=True)
        sizes.append(state["pairs"]["pool._extra_state"])
        levels.append(state["pairs"]["pool.lr"])
        assert state["pairs"]["pool.lr"].shape[0] == 12
    assert sizes == [12, 12, 12, 12]
    assert all(level.float().std((1, 2, 3)).min() > 0 for level in levels)  # no place is empty
    assert len(rows(run)) == 24
    assert all(value == value and value < 100 for value in rows(run))


@pytest.mark.parametrize("ranks", [2, 4])
def test_scores_are_those_of_one_process(ranks, workshop):
    """With two test images, of which some of four processes get none."""
    still = f"{STUDENT} --lr_sr 0"
    alone = workshop.finish(f"{still} --save alone")
    together = workshop.finish(f"{still} --save together", ranks=ranks)
    assert (alone / "psnr_log.csv").read_text() == (together / "psnr_log.csv").read_text()
    assert len(list((together / "tb").iterdir())) == 1


def test_what_cannot_be_shared_out_evenly_is_refused(workshop):
    for arguments, message in (
        (f"{STUDENT} --batch_size 3", "--batch_size 3 cannot be shared out evenly among 2"),
        (f"{STUDENT} --accumulate 4", "--accumulate 4: the 2 images of a process cannot be cut"),
        (f"{REAL} --pool_size 13", "--pool_size 13 cannot be shared out evenly among 2"),
    ):
        process = workshop.start(f"{arguments} --save none", ranks=2)
        assert process.join() == 1
        assert message in process.says()


def test_what_goes_wrong_in_one_process_is_left_out_by_all(workshop):
    code = """
import parallel, torch
given, options = main.options_of(words)
trainer = main.prepare(given, options, parallel.join())
pairs, wrong = trainer.pairs.forward, {3: torch.nan} if trainer.ranks.rank else {}
trainer.pairs.forward = lambda hr, step: [x * wrong.get(step, 1) for x in pairs(hr, step)]
trainer.fit()
assert trainer.skipped == [3]
parallel.leave()
"""
    run = workshop.finish(f"{STUDENT} --save healed", ranks=2, code=code)
    assert "step 3: the loss is nan; back to step 3, on without that batch" in (run / "log.txt").read_text()
    assert [int(row["step"]) for row in read_rows(run / "loss_log.csv") if row["part"] == "l1"] == [1, 2, 3, 5, 6]


def ranks_of(launcher):
    """The processes that torchrun has started."""
    listed = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


@pytest.fixture
def launched(workshop):
    """A long run that was started by a command and has begun to train; with its directory."""

    def call(*command):
        words = workshop.words(f"{STUDENT} --epochs_sr 100000 --test_every 100000 --save long")
        run = workshop.folder / "long_x2_bicubic_iso"
        started = subprocess.Popen(
            [sys.executable, *command, *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        end = time.monotonic() + 60
        while not (run / "loss_log.csv").exists() and started.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        return started, run

    return call


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_run(rank, launched):
    launcher, _ = launched("main.py", "--n_GPUs", "2") if rank else launched(*TORCHRUN)
    begin = time.monotonic()
    os.kill(ranks_of(launcher)[rank], signal.SIGKILL)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert "Signal 9 (SIGKILL) received" in out
    assert time.monotonic() - begin < 20


def test_a_signal_to_the_launcher_saves(launched):
    launcher, run = launched("main.py", "--n_GPUs", "2")
    assert len(ranks_of(launcher)) == 2
    launcher.send_signal(signal.SIGTERM)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == THROUGH
    stopped = re.search(r"stopped after step (\d+); continue with the same command and --resume", out)
    assert stopped is not None
    assert torch.load(run / "model/state.pt", weights_only=True)["step"] == int(stopped[1])
    assert "Traceback" not in out
    assert "Warning" not in out
