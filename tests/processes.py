"""Real processes of main.py for tests, to be killed and starved."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import main
import option
from model import build, checkpoint
from tests.forks import LATER
from utility import ROOT

THROUGH, KILLED = 0, -signal.SIGKILL
UNLIMITED = resource.RLIM_INFINITY

# Forks for each line that it is told, so that what a run takes, sooner or later, is imported once and not by each.
_SERVER = """
import gc, importlib, json, os, resource, sys
import main
for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()  # or each fork would go through all of it when it ends
for line in sys.stdin:
    code, words, out, room, environments = json.loads(line)
    children = []
    for environment in environments:
        children.append(os.fork())
        if not children[-1]:
            os.setsid()
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            os.dup2(1, 2)
            os.environ.update(environment)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            exec(code, {"main": main, "words": words})
            sys.exit()
    print(json.dumps(children), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""

_NO_CURVES = "import evaluation.report; evaluation.report.draw_curves = lambda *_: None\n"  # these take half the time


class Process:
    """A run of main.py in one process, or in several ranks; each leads a process group of its own."""

    def __init__(self, server: subprocess.Popen[str], code: str, words: list[str], out: Path, room: int, ranks: int):
        self.out = out
        self.words = words
        self.run = option.train_options(words, main.NAMES)[1].run_dir
        self._server = server
        self._codes: list[int] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(ranks)}
        alone: list[dict[str, str]] = [{}]
        several = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
        assert server.stdin is not None
        server.stdin.write(json.dumps([code, words, str(out), room, alone if ranks == 1 else several]) + "\n")
        server.stdin.flush()
        self.pids: list[int] = self._hears()

    def _hears(self) -> list[int]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the process that forks the others has ended"
        return json.loads(line)

    def alive(self) -> bool:
        try:
            os.kill(self.pids[0], 0)
        except ProcessLookupError:
            return False
        return True

    def wait_for(self, done: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait until `done()`, until the process has ended, or at most so many seconds."""
        end = time.monotonic() + seconds
        while not done() and self.alive() and time.monotonic() < end:
            time.sleep(0.002)

    def says(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def join(self) -> int:
        """Wait for the end; return the exit code, of several ranks the first that is not 0."""
        self._codes = self._codes or self._hears()
        return next((code for code in self._codes if code), THROUGH)

    def kill(self) -> int:
        for pid in [] if self._codes else self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # the processes of its loader end by themselves
        return self.join()


class Workshop:
    """Starts processes whose runs lie in one folder."""

    def __init__(self, server: subprocess.Popen[str], photos: Path, folder: Path) -> None:
        self.folder = folder
        self._server = server
        self._photos = photos
        self._started: list[Process] = []

    def words(self, arguments: str) -> list[str]:
        """Return the whole command line, with the file of a teacher for the word TEACHER."""
        scale = int(re.findall(r"--scale (\d)", arguments)[-1])
        teacher = self.folder / f"teacher{scale}.pt"
        if not teacher.exists():
            torch.manual_seed(1)
            torch.save(checkpoint(build("KDSR_T", scale=scale, n_feats=8, n_blocks=2, n_resblocks=1)), teacher)
        words = f"--dir_data {self._photos} --data_train train --dir_experiment {self.folder} {arguments}"
        return words.replace("TEACHER", str(teacher)).split()

    def start(
        self,
        arguments: str,
        *,
        room: int = UNLIMITED,
        ranks: int = 1,
        code: str = "main.main(words)",
        draws: bool = False,
    ) -> Process:
        """Start a run.

        Args:
            room: bytes beyond which none of its files can grow, as on a full disk.
            code: what each process executes; `main` and `words` are defined.
            draws: its curves.
        """
        code = code if draws else _NO_CURVES + code
        out = self.folder / f"{len(self._started)}.txt"
        self._started.append(Process(self._server, code, self.words(arguments), out, room, ranks))
        return self._started[-1]

    def finish(self, arguments: str, **settings: Any) -> Path:
        """Run to the end and return the directory of the run. settings: of `start`."""
        process = self.start(arguments, **settings)
        assert process.join() == THROUGH, process.says()
        return process.run

    def close(self) -> None:
        for process in self._started:
            process.kill()
            for pid in process.pids:  # a loader process that had only begun does not see that its run has ended
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def started(command: Sequence[str | os.PathLike[str]], **settings: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program that leads a process group of its own; afterwards, in time or not, none of the group is left."""
    with subprocess.Popen(command, start_new_session=True, **settings) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def serving() -> Iterator[subprocess.Popen[str]]:
    """Yield the process that the others are forked from."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, "-c", _SERVER, *LATER], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        yield server
