"""A `python` that starts at once: a fork of a process that has already imported PyTorch and what the program needs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from utility import ROOT

# What a training imports when it first needs it, and not before.
LATER = ("matplotlib.figure", "matplotlib.backends.backend_agg", "torch._dynamo", "torch.utils.tensorboard")

# Forks for each client, until its standard input is closed. A fork between waits for the program's end and tells it.
_SERVER = """
import atexit, contextlib, gc, importlib, json, os, runpy, select, socket, sys, threading, traceback

def run(words):
    code = 1
    try:
        if words[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *words[2:]], ""
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(words[0]))
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else error.code is not None
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # taking all modules apart would take a second

def answer(connection):
    message, descriptors, _, _ = socket.recv_fds(connection, 2**20, 2)
    words, folder, environment = json.loads(message)
    program = os.fork()
    if program:
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):  # those of the server may be files, and these pipes
        setattr(sys, name, open(number, "w", closefd=False, errors="strict" if number == 1 else "backslashreplace"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    run(words)

place, *names = sys.argv[1:]
sys.path.insert(1, os.getcwd())
for name in names:
    importlib.import_module(name)
del sys.path[1]
with socket.socket(socket.AF_UNIX) as server:
    server.bind(place)
    server.listen()
    gc.freeze()
    print(flush=True)
    children = []
    while server in select.select([server, sys.stdin], [], [])[0]:
        connection, _ = server.accept()
        children = [child for child in children if os.waitpid(child, os.WNOHANG) == (0, 0)]
        if not (child := os.fork()):
            server.close()
            answer(connection)
        children.append(child)
        connection.close()
"""

_CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    message = json.dumps([sys.argv[1:], os.getcwd(), os.environ | {environment!r}]).encode()
    socket.send_fds(server, [message], [1, 2])
    sys.exit(int(server.recv(16) or 1))
"""


@contextlib.contextmanager
def forking(imports: Sequence[str], **environment: str) -> Iterator[Path]:
    """Yield the path of a program that takes `FILE` or `-c CODE` and arguments, as Python does, and starts at once.

    For tests of what a program does, not of how it starts: a module that it forgets to import may be there already.

    Args:
        imports: modules that are imported once; they must not start threads.
        environment: variables that are set for the program, and while they are imported.
    """
    if not hasattr(os, "fork"):
        pytest.skip("forks processes")
    environment = {"OMP_NUM_THREADS": "1"} | environment
    with tempfile.TemporaryDirectory() as folder:
        python, place = Path(folder, "python"), f"{folder}/socket"
        python.write_text(_CLIENT.format(python=sys.executable, place=place, environment=environment))
        python.chmod(0o700)
        command = [sys.executable, "-c", _SERVER, place, *imports]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdin=pipe, stdout=pipe) as server:
            assert server.stdout is not None
            assert server.stdout.readline(), "the process that forks the others has ended"
            yield python
