"""Runs that are killed and go on, as real processes: they must be the run that never stopped, to the bit."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import main
from model import build, checkpoint
from utility import ROOT

KDSR = "--n_feats 8 --n_blocks 2 --n_resblocks 1"
FAST = "--scale 2 --cpu --batch_size 2 --patch_size 12 --test_every 12 --epochs_sr 2 --n_threads 0"
OFTEN, SELDOM = "--save_minutes 0 --print_every 1", "--save_minutes 1e6 --print_every 7"
RUNS = {
    "pixel": f"--model KDSR_T {KDSR} {FAST} {OFTEN}",
    "distillation": f"--model KDSR_S {KDSR} {FAST} {SELDOM} --pre_train_TA TEACHER --blur_type aniso_gaussian "
    "--noise 9 --epochs_encoder 1 --n_threads 2",
    "contrast": f"--model DASR --n_feats 16 --n_blocks 1 {FAST} --save_minutes 0 --print_every 4 --epochs_encoder 1 "
    "--freeze_epoch 2 --test_every 6",
    "adversarial": f"--model KDSR_S {KDSR} {FAST} {OFTEN} --scale 4 --degradation second_order --crop_size 20 "
    "--objective adversarial --d_feats 4 --perceptual_weight 0 --pre_train_TA TEACHER --ema 0.9 --pool_size 8",
}
FILES = ("model/model_latest.pt", "model/model_best.pt", "psnr_log.csv", "loss_log.csv")
THROUGH, KILLED = 0, -signal.SIGKILL

# Forks for each line that it is told, so that PyTorch is imported once and not by every process.
SERVER = """
import json, os, sys
import main, matplotlib.figure
for line in sys.stdin:
    words, out = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        main.main(words)
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Process:
    """A process of main.py, leader of its group."""

    def __init__(self, server, words, out: Path):
        self.out, self.words = out, words
        self.run = main.options_of(words)[1].run_dir
        self._server = server
        self._exit_code: int | None = None
        server.stdin.write(json.dumps([words, str(out)]) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait_for(self, done, seconds=30.0):
        """Until `done()`, the end of this process, or of the time."""
        end = time.monotonic() + seconds
        while not done() and self.alive() and time.monotonic() < end:
            time.sleep(0.002)

    def says(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def join(self) -> int:
        """Its exit code."""
        if self._exit_code is None:
            self._exit_code = int(self._server.stdout.readline())
        return self._exit_code

    def kill(self) -> int:
        if self._exit_code is None and self.alive():
            os.kill(self.pid, signal.SIGKILL)
        return self.join()


@pytest.fixture(scope="module")
def server():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, "-c", SERVER], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        yield server


@pytest.fixture
def words_of(photo_folder, tmp_path):
    """The whole command line of a run in tmp_path."""

    def call(arguments):
        scale = int(re.findall(r"--scale (\d)", arguments)[-1])
        teacher = tmp_path / f"teacher{scale}.pt"
        if not teacher.exists():
            torch.manual_seed(1)
            torch.save(checkpoint(build("KDSR_T", scale=scale, n_feats=8, n_blocks=2, n_resblocks=1)), teacher)
        words = f"--dir_data {photo_folder} --data_train train --dir_experiment {tmp_path} {arguments}"
        return words.replace("TEACHER", str(teacher)).split()

    return call


@pytest.fixture
def start(server, words_of, tmp_path):
    started: list[Process] = []

    def call(arguments) -> Process:
        started.append(Process(server, words_of(arguments), tmp_path / f"{len(started)}.txt"))
        return started[-1]

    yield call
    for process in started:
        process.kill()


@pytest.fixture
def finish(start):
    """Runs main.py to its end; returns the directory of its run."""

    def call(arguments) -> Path:
        process = start(arguments)
        assert process.join() == THROUGH, process.says()
        return process.run

    return call


def same_files(one: Path, other: Path):
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("objective", RUNS)
def test_a_run_that_is_killed_again_and_again(objective, start, finish):
    begin = time.monotonic()
    whole = finish(f"{RUNS[objective]} --save whole")
    seconds, broken, moments = time.monotonic() - begin, f"{RUNS[objective]} --save broken --resume auto", []
    for kill in range(4):
        process = start(broken)
        if kill % 2:
            moments.append("while it wrote a file")
            process.wait_for(lambda run=process.run: any(run.glob("**/.*.tmp")))
        else:
            moments.append(random.uniform(0.1, 0.7 * seconds))
            process.wait_for(lambda: False, moments[-1])
        assert process.kill() in (KILLED, THROUGH), process.says()
    print("killed after", moments)
    same_files(whole, finish(broken))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves_and_says_how_to_go_on(number, start, finish):
    arguments = f"{RUNS['pixel']} {SELDOM} --n_threads 2 --resume auto"
    whole = finish(f"{arguments} --save whole")
    process = start(f"{arguments} --save broken")
    process.wait_for(lambda: "step 7/24" in process.says())
    for _ in range(2 if number == signal.SIGTERM else 1):  # schedulers may tell the process and the group
        os.killpg(process.pid, number)  # the loader's processes, too
    assert process.join() == THROUGH
    stopped = re.search(r"stopped after step (\d+); continue with the same command and --resume", process.says())
    assert stopped is not None
    assert "Traceback" not in process.says()
    assert 7 <= int(stopped[1]) < 24
    assert torch.load(process.run / "model/state.pt", weights_only=True)["step"] == int(stopped[1])
    same_files(whole, finish(f"{arguments} --save broken"))


def test_the_number_of_loader_processes_makes_no_difference(finish):
    runs = [finish(f"{RUNS['pixel']} {SELDOM} --n_threads {count} --save n{count}") for count in (0, 1, 3)]
    same_files(runs[0], runs[1])
    same_files(runs[0], runs[2])


def refusal(words) -> str:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    return str(caught.value)


def test_a_second_process_on_a_run_is_refused(start, words_of):
    long = f"{RUNS['pixel']} --n_threads 2 --epochs_sr 100000 --save one"
    process = start(f"{long} --save_minutes 1e6")
    process.wait_for((process.run / "loss_log.csv").exists)
    assert "another process is writing" in refusal(words_of(long))
    assert process.kill() == KILLED
    # The processes of its loader may live a few seconds longer, the lock does not.
    process = start(long)
    process.wait_for((process.run / "model/state.pt").exists)
    assert "another process is writing" in refusal(words_of(f"{long} --resume"))
    assert "holds a run already. Continue it with --resume" in refusal(words_of(long))
    assert process.kill() == KILLED
    process = start(f"{long} --resume")
    process.wait_for(lambda: "continuing" in process.says())
    assert "another process is writing" in refusal(words_of(f"{long} --resume"))
    assert process.alive()
    process.kill()
