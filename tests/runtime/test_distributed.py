"""Two processes against one: gradients, draws, queue, pool, scores, and how such a run ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import main
import option
from data.pairs import Batch
from model import build, checkpoint
from runtime import distributed
from runtime.distributed import Ranks
from runtime.signals import STOPPED
from tests.processes import Workshop, serving, started
from utility import ROOT, read_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")

KDSR = "--n_feats 8 --n_blocks 2 --n_resblocks 1"
FAST = "--scale 2 --cpu --batch_size 4 --patch_size 24 --test_every 4 --epochs_sr 2 --print_every 2 --n_threads 0"
STEPS = {
    "teacher": f"--model KDSR_T {KDSR} {FAST}",
    "exact teacher": f"--model KDSR_T {KDSR} {FAST}",
    "exact teacher in parts": f"--model KDSR_T {KDSR} {FAST} --accumulate 2",
    "student": f"--model KDSR_S {KDSR} {FAST} --pre_train_TA TEACHER",
    "student that warms up": f"--model KDSR_S {KDSR} {FAST} --pre_train_TA TEACHER --blur_type aniso_gaussian "
    "--epochs_encoder 1",
    "contrast": f"--model DASR --n_feats 16 --n_blocks 1 {FAST} --epochs_encoder 1",
    "adversarial cdsr": f"--model CDSR --n_feats 8 --n_blocks 1 {FAST} --objective adversarial --d_feats 4 "
    "--perceptual_weight 0",
}
GAN = (
    f"--model KDSR_S {KDSR} {FAST} --scale 4 --patch_size 12 --crop_size 20 --degradation second_order --ema 0.5 "
    "--objective adversarial --d_feats 4 --perceptual_weight 0 --pool_size 8"
)
WORKER = """
import json, sys, torch
from runtime import distributed
from tests.runtime.test_distributed import first_step
ranks = distributed.join()
commands, folder = json.loads(sys.argv[1]), sys.argv[2]
for name, words in commands.items():
    torch.save(first_step(words, ranks, exact="exact" in name), f"{folder}/{name}.{ranks.rank}.pt")
distributed.leave()
"""


def first_step(words, ranks, *, exact):
    """Return what one step leaves: gradients, weights, the objective's state, scores.

    exact: in float64. In float32 the sign of SR - HR, the gradient of L1, may turn where the two are all but equal.
    """
    torch.set_default_dtype(torch.float64 if exact else torch.float32)
    trainer = main.prepare(*option.train_options(words, main.NAMES), ranks)
    if exact:
        pairs = trainer.pairs
        trainer.pairs = lambda *drawn: Batch(*(x.double() for x in pairs(*drawn)[:2]))  # pyright: ignore
    trainer.train_step(trainer.batches[0])
    torch.set_default_dtype(torch.float32)
    net = dict(trainer.net.named_parameters())
    found = {
        "gradients": {name: p.grad.clone() for name, p in net.items() if p.grad is not None},
        "weights": {name: p.detach().clone() for name, p in net.items()},
        "objective": {name: value.clone() for name, value in trainer.objective.state_dict().items()},
    }
    if not exact:
        trainer.net.eval()
        found["scores"] = [tuple(score) for score in trainer.scores(trainer.test_sets[0])]
    return found


server = pytest.fixture(serving, scope="module")


@pytest.fixture(scope="module")
def words_of(photo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(1)
    for scale in (2, 4):
        net = build("KDSR_T", scale=scale, n_feats=8, n_blocks=2, n_resblocks=1)
        torch.save(checkpoint(net), folder / f"teacher{scale}.pt")

    def call(arguments, save):
        teacher = folder / f"teacher{re.findall(r'--scale (.)', arguments)[-1]}.pt"
        words = f"--dir_data {photo_folder} --data_train train --dir_experiment {folder} --save {save} {arguments}"
        return words.replace("TEACHER", str(teacher)).split()

    return call


@pytest.fixture(scope="module")
def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def steps(words_of, environment, tmp_path_factory):
    """The first step of each command by one process, and by each of two."""
    folder = tmp_path_factory.mktemp("steps")
    commands = {name: words_of(arguments, "step") for name, arguments in STEPS.items()}
    (folder / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*torchrun, str(folder / "worker.py"), json.dumps(commands), str(folder)]
    with started(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, error = process.communicate()
    assert process.returncode == 0, error.decode()[-3000:]
    two = {name: [torch.load(folder / f"{name}.{rank}.pt") for rank in range(2)] for name in commands}
    return {name: (first_step(words, Ranks(), exact="exact" in name), *two[name]) for name, words in commands.items()}


def distance(a, b):
    """Between two sets of tensors, relative to the first."""
    assert a.keys() == b.keys()
    one, other = (torch.cat([x[name].flatten().double() for name in a]) for x in (a, b))
    return ((one - other).norm() / one.norm()).item()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STEPS)[:5])
def test_two_processes_have_the_gradients_of_one(name, steps):
    one, first, second = steps[name]
    assert distance(one["gradients"], first["gradients"]) < (1e-7 if "exact" in name else 1e-5)
    assert distance(first["gradients"], second["gradients"]) == 0
    assert distance(first["weights"], second["weights"]) == 0


@pytest.mark.slow
def test_parts_have_the_gradients_of_the_whole_batch(steps):
    for whole, parts in zip(steps["exact teacher"], steps["exact teacher in parts"], strict=True):
        assert distance(whole["gradients"], parts["gradients"]) < 1e-7


@pytest.mark.slow
def test_what_warms_up_alone_leaves_the_rest_as_it_is(steps):
    for found in steps["student that warms up"]:
        assert {name.split(".")[0] for name in found["gradients"]} == {"estimator"}
    one, first, _ = steps["student that warms up"]
    restoration = [name for name in one["weights"] if name.startswith("restoration")]
    assert all(torch.equal(one["weights"][name], first["weights"][name]) for name in restoration)


@pytest.mark.slow
def test_the_queue_holds_the_keys_of_both_in_their_order(steps, words_of):
    one, first, second = (found["objective"] for found in steps["contrast"])
    assert torch.equal(first["moco.queue"], second["moco.queue"])
    assert one["moco.pointer"].item() == first["moco.pointer"].item() == 4
    assert torch.equal(one["moco.queue"][:, 4:], first["moco.queue"][:, 4:])
    for rank in range(2):  # without a GPU BatchNorm has statistics of each process's own two images
        trainer = main.prepare(*option.train_options(words_of(STEPS["contrast"], "step"), main.NAMES))
        trainer.net.train()
        images = trainer.pairs(trainer.batches[0].hr, 0)[:2]
        own = Batch(*(image.unflatten(0, (2, 4))[:, 2 * rank : 2 * rank + 2].flatten(0, 1) for image in images))
        list(trainer.objective.phases(trainer.net, own, 0))
        keys = trainer.objective.state_dict()["moco.queue"][:, :2]
        torch.testing.assert_close(first["moco.queue"][:, 2 * rank : 2 * rank + 2], keys, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_network_whose_projection_learns_nothing(steps):
    one, first, second = steps["adversarial cdsr"]
    assert one["gradients"].keys() == first["gradients"].keys()
    assert not any("project" in name for name in first["gradients"])
    assert distance(first["weights"], second["weights"]) == 0


@pytest.mark.slow
def test_scores_are_shared_out_and_come_together(steps):
    for one, first, second in (found for name, found in steps.items() if "exact" not in name):
        assert [score[:4] for score in one["scores"]] == [score[:4] for score in first["scores"]]
        assert first["scores"] == second["scores"]
    one, first, _ = steps["teacher"]
    for a, b in zip(one["scores"], first["scores"], strict=True):
        assert a[4] == pytest.approx(b[4], abs=1e-3)


# ------------------------------------------------------------------------------------------------ whole runs


def command(words):
    return [sys.executable, str(ROOT / "main.py"), *words]


@pytest.fixture
def workshop(server, photo_folder, tmp_path):
    workshop = Workshop(server, photo_folder, tmp_path)
    yield workshop
    workshop.close()


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(workshop):
    for processes, epochs in ((2, 1), (1, 2), (2, 3)):
        run = workshop.finish(
            f"{GAN} --pre_train_TA TEACHER --epochs_sr {epochs} --save run --resume auto", ranks=processes
        )
        state = torch.load(run / "model/state.pt", weights_only=True)
        assert state["step"] == 4 * epochs
        assert (state["pairs"]["pool.lr"].shape[0], state["pairs"]["pool._extra_state"].sum()) == (8, 8)
    assert [row["epoch"] for row in read_rows(run / "psnr_log.csv")] == ["1", "2", "3"]  # one process writes
    steps = [row["step"] for row in read_rows(run / "loss_log.csv") if row["part"] == "gan"]
    assert steps == ["2", "4", "6", "8", "10", "12"]


@pytest.fixture
def long_run(words_of, environment):
    """A run of two processes that would take days, once it takes steps: the command's process and the directory."""
    words = words_of(f"--model KDSR_T {KDSR} {FAST} --epochs_sr 1000000 --test_every 1000000", "long")
    words += ["--print_every", "1", "--n_GPUs", "2", "--resume", "auto"]
    run = option.train_options(words, main.NAMES)[1].run_dir
    log = run / "loss_log.csv"
    before = log.stat().st_size if log.exists() else 0
    with started(command(words), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not (log.exists() and log.stat().st_size > before):
            assert process.poll() is None, process.communicate()[0].decode()[-3000:]
            time.sleep(0.1)
        yield process, run


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
def test_a_signal_saves_and_ends_all(long_run):
    process, run = long_run
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode == STOPPED
    assert b"Traceback" not in out
    log = (run / "log.txt").read_text()
    stopped = re.search(r"stopped after step (\d+); continue with the same command and --resume", log)
    assert stopped is not None
    assert torch.load(run / "model/state.pt", weights_only=True)["step"] == int(stopped[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "last"),
    [
        ("--max_minutes 0", STOPPED, b"stopped after step 1; "),
        ("--batch_size 3", 1, b"--batch_size 3 cannot be shared out"),
    ],
)
def test_only_what_they_say_is_said(more, code, last, words_of, environment):
    words = words_of(f"--model KDSR_T {KDSR} {FAST} --n_GPUs 2 {more}", f"code{code}")
    with started(command(words), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, error = process.communicate()
    assert process.returncode == code
    assert last in (out + error).strip().splitlines()[-1]  # two write at once: "a", "b", "\n", "\n"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((STOPPED, STOPPED), "75"), ((STOPPED, -15), "75"), ((1, 1), "1"), ((-15, 1), "1"), ((-9, -15), ".*SIGKILL.*")],
)
def test_what_torchrun_ends_itself_tells_nothing(codes, expected, monkeypatch):
    def fail(*words):
        failures = {rank: ProcessFailure(rank, 100 + rank, code, "none") for rank, code in enumerate(codes)}
        raise ChildFailedError("main.py", failures)

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda config, entrypoint: fail)
    with pytest.raises(SystemExit) as caught:
        distributed.launch(ROOT / "main.py", 2, [])
    assert re.fullmatch(expected, str(caught.value.code), re.DOTALL)


@pytest.mark.slow
def test_a_process_that_dies_ends_all(long_run):
    process, _ = long_run
    os.kill(children(process)[-1], signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == 1
    assert b"Signal 9 (SIGKILL) received" in out


@pytest.mark.slow
def test_processes_whose_parent_is_killed_save_and_end(long_run):
    process, run = long_run
    process.kill()
    out, _ = process.communicate()  # until they are gone, who could still write
    assert b"Traceback" not in out
    (stopped,) = re.findall(r"stopped after step (\d+); continue", (run / "log.txt").read_text().splitlines()[-1])
    assert torch.load(run / "model/state.pt", weights_only=True)["step"] == int(stopped)


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_is_left_out_by_all(workshop):
    code = """
from runtime import distributed
import torch
import option
trainer = main.prepare(*option.train_options(words, main.NAMES), distributed.join())
pairs, wrong = trainer.pairs.forward, {3: torch.nan} if trainer.ranks.rank else {}
trainer.pairs.forward = lambda hr, step, given: pairs(hr, step)._replace(lr=pairs(hr, step).lr * wrong.get(step, 1))
trainer.fit()
assert trainer.recovery.skipped == [3]
distributed.leave()
"""
    run = workshop.finish(f"{STEPS['student']} --print_every 1 --save healed", ranks=2, code=code)
    assert "step 3: the loss is nan; back to step 3, on without that batch" in (run / "log.txt").read_text()
    steps = [row["step"] for row in read_rows(run / "loss_log.csv") if row["part"] == "l1"]
    assert steps == ["1", "2", "3", "5", "6", "7", "8"]


@pytest.mark.slow
def test_more_processes_than_test_images(workshop):
    arguments = f"{STEPS['student']} --lr_sr 1e-12 --epochs_sr 1"
    alone, four = (workshop.finish(f"{arguments} --save n{ranks}", ranks=ranks) for ranks in (1, 4))
    assert (alone / "psnr_log.csv").read_text() == (four / "psnr_log.csv").read_text()
    assert len(list((four / "tb").iterdir())) == 1  # one process writes


@pytest.mark.slow
def test_the_losses_do_not_show_on_how_many_processes_a_run_went_on(workshop):
    arguments = f"{STEPS['student']} --print_every 1 --epochs_sr"
    whole = workshop.finish(f"{arguments} 3 --save whole")
    for epochs, ranks in ((1, 2), (2, 1), (3, 2)):
        changing = workshop.finish(f"{arguments} {epochs} --save changing --resume auto", ranks=ranks)
    one, other = ([float(row["value"]) for row in read_rows(run / "loss_log.csv")] for run in (whole, changing))
    assert other == pytest.approx(one, rel=0.02)  # Adam's first steps make much of rounding errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{STEPS['student']} --batch_size 3", "--batch_size 3 cannot be shared out evenly among 2"),
        (f"{STEPS['student']} --accumulate 4", "--accumulate 4: the 2 images of a process cannot be cut"),
        (f"{GAN} --pre_train_TA TEACHER --pool_size 13", "--pool_size 13 cannot be shared out evenly among 2"),
    ],
)
def test_what_cannot_be_shared_out_evenly_is_refused(arguments, message, workshop):
    process = workshop.start(f"{arguments} --save none", ranks=2)
    assert process.join() == 1
    assert message in process.says()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--seed", "7"], "must agree, but --seed differs: 1 in process 0, 7 in process 1"),
        (["--batch_size", "8"], "must agree, but --batch_size differs: 4 in process 0, 8 in process 1"),
        (
            ["--lr_sr", "0.5", "--n_blocks", "3"],
            "but --n_blocks differs: 2 in process 0, 3 in process 1; so does --lr_sr",
        ),
    ],
)
def test_processes_with_different_options_are_refused(changes, message, workshop):
    code = f"import os\nwords += {changes} * int(os.environ['RANK'])\nmain.main(words)"
    process = workshop.start(f"{STEPS['teacher']} --save none", ranks=2, code=code)
    assert process.join() == 1
    assert message in process.says()
    assert "Traceback" not in process.says()
    assert not process.run.exists()


@pytest.mark.slow
def test_processes_with_different_code_are_refused(workshop):
    code = "import os\nmain.git_commit = lambda: 'abc' + os.environ['RANK']\nmain.main(words)"
    process = workshop.start(f"{STEPS['teacher']} --save none", ranks=2, code=code)
    assert process.join() == 1
    assert "must agree, but the code differs: abc0 in process 0, abc1 in process 1" in process.says()


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "flag"), [("train/HR", "dir_data"), ("benchmark/Set5/HR", "data_test")])
def test_processes_with_different_images_are_refused(folder, flag, workshop, photo_folder, tmp_path):
    other = shutil.copytree(photo_folder, tmp_path / "other")
    (other / folder / "1.png").rename(other / folder / "renamed.png")
    code = f"import os\nwords += ['--dir_data', {str(other)!r}] * int(os.environ['RANK'])\nmain.main(words)"
    process = workshop.start(f"{STEPS['teacher']} --save none", ranks=2, code=code)
    assert process.join() == 1
    assert f"--{flag}: the processes found different images: " in process.says()
    assert "Traceback" not in process.says()


@pytest.mark.slow
def test_a_process_that_does_not_answer(workshop):
    code = "from datetime import timedelta\nfrom runtime import distributed\n"
    code += "distributed.TIMEOUT = timedelta(seconds=10)\nmain.main(words)"
    arguments = f"{STEPS['teacher']} --print_every 1 --epochs_sr 100000 --test_every 100000 --save silent"
    process = workshop.start(arguments, ranks=2, code=code)
    process.wait_for(lambda: "step 3/" in process.says())
    os.kill(process.pids[1], signal.SIGSTOP)
    process.wait_for(lambda: "main.py: error" in process.says())
    told = process.says()  # before the other one went
    os.kill(process.pids[1], signal.SIGKILL)
    assert process.join() == 1
    assert re.search(r"main.py: error: process 0 lost another one of this run, which ended or did", told)
    assert torch.load(process.run / "model/state.pt", weights_only=True)["step"] >= 3


def test_alone_nothing_is_shared():
    ranks = Ranks()
    assert distributed.join() == ranks
    assert ranks.any_rank(True, False) == (True, False)
    assert ranks.gather([1, 2]) == [1, 2]
    with ranks.main_first():
        pass
    assert ranks.shard_state(ranks.gather_state({"rows": torch.arange(3)}))["rows"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("world", [2, 3])
def test_what_is_dealt_out_is_the_whole(world):
    rows = torch.arange(12).view(6, 2)
    hands = [Ranks(rank, world).shard_state({"rows": rows, "count": 6}) for rank in range(world)]
    assert torch.equal(torch.cat([hand["rows"] for hand in hands]), rows)
    assert sum(hand["count"] for hand in hands) == 6


@pytest.mark.parametrize(
    ("variables", "local"),
    [
        ({"RANK": "0", "WORLD_SIZE": "1"}, 0),
        ({"RANK": "0", "WORLD_SIZE": "1", "SLURM_LOCALID": "3"}, 3),
        ({"RANK": "0", "WORLD_SIZE": "1", "SLURM_LOCALID": "3", "LOCAL_RANK": "2"}, 2),
    ],
)
def test_launchers_need_not_number_the_processes_of_a_machine(variables, local, monkeypatch):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.join().local == local


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, 4), ({"LOCAL_WORLD_SIZE": "2"}, 2), ({"SLURM_NTASKS_PER_NODE": "2"}, 2)],
)
def test_how_many_processes_share_a_machine(variables, expected, monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *args, **how: None)
    assert distributed.join().local_world == expected


def test_but_of_several_processes_each_must_know_its_gpu(monkeypatch):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not distributed.is_first()
    with pytest.raises(ValueError, match="LOCAL_RANK"):
        distributed.join()


def test_one_of_several_processes_looks_over_a_run(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        main.main(["--model", "KDSR_T", "--save", "s", "--dir_data", "nowhere", "--check"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "")
