"""Runs that are killed and go on, as real processes: they must be the run that never stopped, to the bit."""

import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

import main
import option
from runtime.signals import INTERRUPTED, STOPPED
from tests.processes import KILLED, THROUGH, Workshop, serving
from utility import Run

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
FILES = ("model/model_latest.pt", "psnr_log.csv", "loss_log.csv")


server = pytest.fixture(serving, scope="module")


@pytest.fixture
def workshop(server, photo_folder, tmp_path):
    workshop = Workshop(server, photo_folder, tmp_path)
    yield workshop
    workshop.close()


def same_files(one: Path, other: Path):
    assert {path.name for path in (one / "model").iterdir()} == {path.name for path in (other / "model").iterdir()}
    best = "model/model_best.pt"  # a GAN has none
    for name in (*FILES, best) if (one / best).exists() else FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


# Ends itself without a word at the n-th step, write to the disk or exchange of files.
DYING = """
import os, pathlib, signal, trainer
calls = 0
def dying(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == {dies}:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for owner, name in ((trainer.Trainer, "train_step"), (os, "fsync"), (pathlib.Path, "replace")):
    setattr(owner, name, dying(getattr(owner, name)))
main.main(words)
print("calls:", calls)
"""


@pytest.mark.slow
@pytest.mark.parametrize("objective", RUNS)
def test_a_run_that_is_killed_again_and_again(objective, workshop):
    draws = objective == "pixel"
    process = workshop.start(f"{RUNS[objective]} --save whole", code=DYING.format(dies=0), draws=draws)
    assert process.join() == THROUGH, process.says()
    whole, calls = process.run, int(process.says().split("calls: ")[1].split()[0])  # what libraries say at exit follows
    broken, draw = f"{RUNS[objective]} --save broken --resume auto", random.Random(f"kills of {objective}")
    codes = []
    for _ in range(4):
        process = workshop.start(broken, code=DYING.format(dies=draw.randint(1, calls - 1)), draws=draws)
        codes.append(process.join())
        assert codes[-1] in (KILLED, THROUGH), process.says()
    assert codes[0] == KILLED
    same_files(whole, workshop.finish(broken, draws=draws))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves_and_says_how_to_go_on(number, workshop):
    arguments = f"{RUNS['pixel']} {SELDOM} --n_threads 2 --resume auto"
    whole = workshop.finish(f"{arguments} --save whole")
    process = workshop.start(f"{arguments} --save broken")
    process.wait_for(lambda: "step 7/24" in process.says())
    for _ in range(2 if number == signal.SIGTERM else 1):  # schedulers may tell the process and the group
        os.killpg(process.pids[0], number)  # the loader's processes, too
    assert process.join() == STOPPED
    stopped = re.search(r"stopped after step (\d+); continue with the same command and --resume", process.says())
    assert stopped is not None
    assert "Traceback" not in process.says()
    assert 7 <= int(stopped[1]) < 24
    assert torch.load(process.run / "model/state.pt", weights_only=True)["step"] == int(stopped[1])
    same_files(whole, workshop.finish(f"{arguments} --save broken"))


@pytest.mark.slow
def test_the_number_of_loader_processes_makes_no_difference(workshop):
    runs = [workshop.finish(f"{RUNS['pixel']} {SELDOM} --n_threads {count} --save n{count}") for count in (0, 1, 3)]
    same_files(runs[0], runs[1])
    same_files(runs[0], runs[2])


STUCK = """
import time
from data import store
read, reads = store.read_image, []
store.read_image = lambda path: reads.append(path) or time.sleep(3600 * (len(reads) > 12)) or read(path)
main.main(words)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_image_that_goes_while_it_trains_ends_all_processes(ranks, workshop, photo_folder, tmp_path):
    photos = shutil.copytree(photo_folder, tmp_path / "photos")
    arguments = f"{RUNS['pixel']} --dir_data {photos} --epochs_sr 100000 --n_threads {3 - ranks} --save gone"
    process = workshop.start(arguments, ranks=ranks)
    process.wait_for(lambda: "step 3/" in process.says())
    (photos / "train/HR/3.png").unlink()
    assert process.join() == 1
    assert re.search(r"^main.py: error: \S+3.png cannot be read as an image: .*$", process.says(), re.MULTILINE)
    assert "loader" not in process.says().lower()


@pytest.mark.slow
def test_a_second_ctrl_c_while_it_waits_for_images(workshop):
    process = workshop.start(f"{RUNS['pixel']} --n_threads 2 --save stuck", code=STUCK)
    process.wait_for(lambda: "step 12/" in process.says())  # the loader's two processes gave six batches each
    os.killpg(process.pids[0], signal.SIGINT)
    process.wait_for(lambda: "Ctrl-C again" in process.says())
    os.killpg(process.pids[0], signal.SIGINT)
    assert process.join() == INTERRUPTED
    assert "main.py: interrupted; with --resume auto" in process.says()
    assert "Traceback" not in process.says()


# ------------------------------------------------------------------------------- what may go wrong beside a run

ENDLESS = f"{RUNS['pixel']} --save_minutes 1e6 --epochs_sr 100000 --n_threads 2 --save failing"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def told(process) -> str:
    """Return the last line of a run that ended by itself: the one that names what happened, and no traceback."""
    assert process.join() == 1, process.says()
    assert "Traceback" not in process.says()
    (line,) = re.findall("^main.py: error: .*", process.says(), re.MULTILINE)
    return line


@pytest.fixture
def failing(workshop):
    """Start a run that would not end by itself, and wait for some of its steps."""

    def start(more="", **settings):
        process = workshop.start(f"{ENDLESS} {more}", **settings)
        process.wait_for(lambda: "step 3/" in process.says())
        return process

    return start


def saved(process) -> int:
    return torch.load(process.run / "model/state.pt", weights_only=True)["step"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked for in /proc")
def test_a_loader_process_that_is_killed(failing):
    process = failing()
    os.kill(children(process.pids[0])[-1], signal.SIGKILL)
    assert re.fullmatch(r"main.py: error: --n_threads: loader process .*(Killed|exited|ended).*", told(process))
    assert saved(process) >= 2  # the third may not be logged yet


@pytest.mark.slow
def test_a_loader_that_waits_for_its_disk(failing):
    process = failing(code=f"from data import sampler\nsampler.TIMEOUT = 2\n{STUCK}")
    assert "--n_threads: no loader process gave the patches of a step for 2 s" in told(process)
    assert saved(process) == 12


@pytest.mark.slow
def test_a_packed_cache_that_is_cut_off(failing, tmp_path):
    process = failing(f"--data_cache {tmp_path}/cache")
    os.truncate(tmp_path / "cache.u8", 1000)
    assert f"{tmp_path}/cache.u8 was changed while it is in use (1000 bytes" in told(process)
    assert saved(process) >= 2  # the third may not be logged yet


@pytest.mark.slow
def test_a_folder_of_tensorboard_that_is_removed(failing):
    process = failing("--epochs_sr 6")
    # In one go: to remove file after file fails if another one is written meanwhile.
    shutil.rmtree((process.run / "tb").rename(process.run.with_name("removed")))
    assert process.join() == THROUGH, process.says()
    assert process.says().count("note: the run goes on without tensorboard: FileNotFoundError") == 1


@pytest.mark.slow
def test_a_run_that_is_removed(failing):
    process = failing()
    process.run.rename(process.run.with_name("removed"))
    assert str(process.run) in told(process)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut off", "overwritten", "empty"])
def test_a_damaged_state_falls_back_to_the_one_before(damage, begun, workshop):
    arguments, run, whole = begun
    process = workshop.start(f"{arguments} --save_minutes 0")
    process.wait_for(lambda: "step 20/24" in process.says())
    process.kill()
    contents = bytearray((run / "model/state.pt").read_bytes())
    if damage == "overwritten":
        middle = len(contents) // 2
        contents[middle : middle + 64] = bytes(64)
    (run / "model/state.pt").write_bytes(contents[: {"cut off": len(contents) // 2, "empty": 0}.get(damage)])
    again = workshop.start(arguments)
    assert again.join() == THROUGH, again.says()
    assert re.search(r"note: .*state\.pt .*; going on from .*state_previous\.pt", again.says())
    same_files(whole, run)


def refusal(words) -> str:
    with pytest.raises(SystemExit) as caught:
        main.main([*words, "--max_minutes", "0"])  # if it is not refused after all
    return str(caught.value)


@pytest.mark.slow
def test_a_second_process_on_a_run_is_refused(workshop):
    # The first one is killed before the end of an epoch, and so before it has saved anything.
    long = f"{RUNS['pixel']} --n_threads 2 --test_every 1000000 --epochs_sr 1000 --save one"
    process = workshop.start(f"{long} --save_minutes 1e6")
    process.wait_for((process.run / "loss_log.csv").exists)
    assert "another process is writing" in refusal(workshop.words(long))
    assert process.kill() == KILLED
    # The processes of its loader may live a few seconds longer, the lock does not.
    process = workshop.start(long)
    process.wait_for((process.run / "model/state.pt").exists)
    assert "another process is writing" in refusal(workshop.words(f"{long} --resume"))
    assert "holds a run already. Continue it with --resume" in refusal(workshop.words(long))
    assert process.kill() == KILLED
    process = workshop.start(f"{long} --resume")
    process.wait_for(lambda: "continuing" in process.says())
    assert "another process is writing" in refusal(workshop.words(f"{long} --resume"))
    assert process.alive()
    process.kill()


SAVED_BY_EPOCH = f"{RUNS['pixel']} --save_minutes 1e6 --resume auto"


@pytest.fixture(scope="module")
def experiment(server, photo_folder, tmp_path_factory):
    """A folder with a run that was killed in its second epoch and one that never stopped."""
    workshop = Workshop(server, photo_folder, tmp_path_factory.mktemp("experiment"))
    process = workshop.start(f"{SAVED_BY_EPOCH} --save broken")
    process.wait_for(lambda: "step 18/24" in process.says())
    assert process.kill() == KILLED
    workshop.finish(f"{SAVED_BY_EPOCH} --save whole")
    return workshop.folder


@pytest.fixture
def begun(experiment, tmp_path):
    """Return the flags that continue a copy of the killed run, its directory, and the one of the run that went on."""
    runs = [shutil.copytree(run, tmp_path / run.name) for run in sorted(experiment.glob("*_iso"))]
    return f"{SAVED_BY_EPOCH} --save broken", *runs


@pytest.mark.slow
def test_a_full_disk_while_the_state_is_saved(begun, workshop):
    arguments, run, whole = begun
    before = (run / "model/state.pt").read_bytes()
    process = workshop.start(f"{arguments} --save_minutes 0", room=len(before) - 1)
    assert process.join() == 1
    assert re.search(
        r"error: \[Errno 27\] .*; the file that was there is untouched: '.*/model/state.pt'", process.says()
    )
    assert "Traceback" not in process.says()
    assert (run / "model/state.pt").read_bytes() == before
    assert not list(run.glob("**/.*.tmp"))
    same_files(whole, workshop.finish(arguments))


@pytest.mark.slow
def test_a_full_disk_while_the_log_is_written(begun, workshop):
    arguments, run, whole = begun
    process = workshop.start(arguments, room=(run / "log.txt").stat().st_size + 1500)
    assert process.join() == 1
    assert re.search(r"error: \[Errno 27\] File too large: '.*/log.txt'", process.says())
    assert "Traceback" not in process.says()
    same_files(whole, workshop.finish(arguments))


@pytest.mark.slow
def test_a_curve_that_cannot_be_drawn_ends_no_run(begun, workshop):
    arguments, run, whole = begun
    (run / "psnr.png").mkdir()
    process = workshop.start(arguments, draws=True)
    assert process.join() == 0
    assert re.search(r"note: .*; the file that was there is untouched: '.*/psnr.png'", process.says())
    same_files(whole, run)


@pytest.fixture
def unwritable():
    """Makes a folder read-only, for root, too."""
    made = []

    def call(folder: Path):
        made.append(folder)
        folder.chmod(0o555)
        if os.access(folder, os.W_OK) and subprocess.run(["chattr", "+i", folder], check=False).returncode:
            pytest.skip("needs another user than root, or chattr")

    yield call
    for folder in made:
        subprocess.run(["chattr", "-i", folder], check=False, stderr=subprocess.DEVNULL)
        folder.chmod(0o755)


@pytest.mark.slow
def test_a_folder_that_becomes_read_only(begun, workshop, unwritable):
    arguments, run, _ = begun
    before = {path: path.read_bytes() for path in (run / "model").iterdir()}
    process = workshop.start(arguments)
    process.wait_for(lambda: "step 13/24" in process.says())
    unwritable(run / "model")
    assert process.join() == 1
    assert re.search(r"error: \[Errno (1|13)\] .*'.*/model/(model_best|state).pt'", process.says())
    assert "Traceback" not in process.says()
    assert {path: path.read_bytes() for path in (run / "model").iterdir()} == before


class Hostile:
    """Runs code where it is unpickled."""

    def __init__(self, leaves: Path):
        self.leaves = leaves

    def __reduce__(self):
        return os.mkdir, (str(self.leaves),)


@pytest.mark.parametrize("flag", ["--resume", "--pre_train"])
def test_a_hostile_file_runs_no_code(flag, workshop, tmp_path):
    words = workshop.words(f"{RUNS['pixel']} --save victim {flag if flag == '--resume' else ''}")
    run = Run(option.train_options(words, main.NAMES)[1].run_dir)
    file = run.state if flag == "--resume" else tmp_path / "weights.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"format": 4, "net": Hostile(tmp_path / "code ran")}, file)
    message = refusal(words if flag == "--resume" else [*words, flag, str(file)])
    assert f"{file} cannot be read as a checkpoint" in message
    assert not (tmp_path / "code ran").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "code ran").exists()


@pytest.mark.parametrize("number", [1, 2, 3, 99, None])
def test_a_state_of_another_format_says_why_it_does_not_load(number, workshop):
    words = workshop.words(f"{RUNS['pixel']} --save old --resume")
    state = Run(option.train_options(words, main.NAMES)[1].run_dir).state
    state.parent.mkdir(parents=True)
    torch.save({"format": number, "step": 5}, state)
    message = refusal(words)
    reader = " (version 0.1 reads that)" if number in (1, 2, 3) else ""
    assert f"{state} has format {number}{reader}, this version reads 4" in message
    assert "model_latest.pt" in message
    assert "--pre_train" in message
