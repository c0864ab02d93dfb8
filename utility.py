"""The files of a run, safe writing, CSV, the clock, and a description of the machine."""

from __future__ import annotations

import copy
import csv
import errno
import hashlib
import inspect
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent
TEMPORARY = ".tmp"
NUMBERED = re.compile(r"model_(?P<epoch>\d+)_psnr_(?P<psnr>inf|-?\d+\.\d+)\.pt")
TIME = "%Y-%m-%d %H:%M:%S"  # before the lines of log.txt
ESCAPES = "backslashreplace"  # how text is encoded: file names may hold any bytes
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # what file systems without locks answer
MAX_SPANS = 3000  # spans that the clock remembers


@contextmanager
def atomic_write(path: Path, *, keep: Path | None = None, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place only if the block ends well and all is on the disk.

    Raises OSError, naming `path`, if it cannot be written; the file that was there before is untouched then. Errors
    of the block about other files stay as they are.

    Args:
        keep: where the file that was there before goes.
        replace: if False, a file at `path` is left alone, and FileExistsError raised.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _link(path, keep)
        if replace:
            temporary.replace(path)
        else:
            _publish(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and str(error.filename) not in map(str, (path, temporary, path.parent)):
            raise  # it is about another file, which the block reads
        before = "the file that was there is untouched" if path.exists() else "no file was written"
        raise OSError(error.errno, f"{error.strerror or error}; {before}", str(path)) from error
    finally:
        with suppress(OSError):  # if the folder is not writable, the error was raised above
            temporary.unlink(missing_ok=True)


def _link(path: Path, other: Path) -> None:
    """Give a file a second name, taking it from the file that had it. There is no moment without a file at `path`."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}{TEMPORARY}")
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    temporary.replace(other)


def _publish(temporary: Path, path: Path) -> None:
    """Let a file take a name that is free. Raise FileExistsError if it is not."""
    try:
        os.link(temporary, path)  # checks and takes the name at once
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can tell."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def existing(path: Path) -> Path:
    """Return the nearest folder above a path that exists: the one whose disk it would be on."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def why_unwritable(folder: Path) -> str | None:
    """Return why no file can be written in a folder, or in the nearest one above it that exists; None if one can."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"can be written")
    except OSError as refused:
        return refused.strerror or str(refused)
    return None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all, with escapes for what UTF-8 lacks; see `printable`.

    Raises OSError, naming `path`, if it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ESCAPES)


def printable(text: str) -> str:
    r"""Return a text with escapes for what UTF-8 lacks: bytes of a file name in another encoding.

    Examples:
        >>> print(printable(os.fsdecode(b"caf\xe9.png")))
        caf\udce9.png
    """
    return text.encode("utf-8", ESCAPES).decode()


def print_any_name() -> None:
    """Let `print` write escapes for what the encoding of the screen lacks; by default that is an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in a notebook
            stream.reconfigure(errors=ESCAPES)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Make an OSError in this block name the file, which the error about a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def file_lock(path: Path) -> FileLock:
    """Return a lock that ends with its process: none is imitated by the mere presence of a file."""
    return FileLock(path, fallback_to_soft=False)


def acquire(lock: FileLock, *, log: Callable[[str], None], blocking: bool = False) -> None:
    """Acquire a lock, or log that the file system has none and go on without it.

    Raises Timeout if another process holds the lock, unless `blocking` waits for it.
    """
    try:
        lock.acquire(blocking=blocking)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log(f"note: {lock.lock_file} cannot be locked ({error.strerror}): let no other process write there meanwhile")


@contextmanager
def argument(name: str) -> Iterator[None]:
    """Put "`name`: " before the message of a ValueError or OSError that this block raises."""
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            error.strerror = f"`{name}`: {error.strerror}"
        else:
            error.args = (f"`{name}`: {error}", *error.args[1:])
        raise


def digest(value: Any) -> str:
    """Return the SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def file_name(text: str) -> str:
    """Return a text as part of a file name that every system takes: what some systems refuse becomes an underscore.

    Examples:
        >>> file_name('12:30 "Rome"')
        '12_30 _Rome_'
    """
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text)


def taken(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters that a builder takes, by name."""
    return inspect.signature(builder).parameters


def call(builder: Callable[..., T], **values: Any) -> T:
    """Call a builder with those of the values that its signature names."""
    known = taken(builder)
    return builder(**{name: value for name, value in values.items() if name in known})


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises ValueError, which does not name the file, if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # with the mark that Notepad puts at the beginning
    except RecursionError:
        raise ValueError("its JSON is nested too deep") from None


def host_copy(state: Any) -> Any:
    """Return a copy of nested dicts, lists and tuples whose tensors are copied to host memory."""
    if isinstance(state, Tensor):
        copied = state.detach().to("cpu")
        return copied.clone() if copied.data_ptr() == state.data_ptr() else copied
    if isinstance(state, Mapping):
        return {key: host_copy(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(host_copy, state))
    return copy.deepcopy(state)


class Run:
    """A run directory. Nothing is written before `open`.

    Args:
        writes: this process is the one that writes.
        wording: rewrites the lines of the log, such as arguments into the flags of a command line.
    """

    def __init__(self, path: Path, *, writes: bool = True, wording: Callable[[str], str] = str) -> None:
        self.path = path
        self._writes = writes
        self._wording = wording
        self.models = path / "model"
        self.state = self.models / "state.pt"
        self.previous = self.models / "state_previous.pt"
        self.psnr_log = path / "psnr_log.csv"
        self.loss_log = path / "loss_log.csv"
        self._pending: list[str] | None = []  # lines for log.txt until the run is open
        self._lock = file_lock(path / ".lock")

    @property
    def resumable(self) -> bool:
        """True if there is a state to go on from."""
        return self.state.exists() or self.previous.exists()

    @property
    def exists(self) -> bool:
        """True if there is a checkpoint. A run that died before its first one holds nothing to lose."""
        return any(self.models.glob("*.pt"))

    def lock(self) -> None:
        """Keep other processes out until `unlock` or the end of this one, where the file system has locks.

        Raises BlockingIOError if another process is in.
        """
        self.models.mkdir(parents=True, exist_ok=True)
        try:
            acquire(self._lock, log=self.log)
        except Timeout:
            raise BlockingIOError(
                f"`save`: another process is writing {self.path}; wait for its end, or give this run another name"
            ) from None

    def unlock(self) -> None:
        self._lock.release(force=True)  # however often it was taken

    def open(self, config: Mapping[str, Any], *, resumed: bool) -> None:
        """Make the directory and write config.json; a resumed run logs its environment instead.

        Raises BlockingIOError if another process is writing the run, FileExistsError if one has.
        """
        self.lock()
        if self.exists and not resumed:
            raise FileExistsError(f"`save`: another process has begun {self.path}; continue it with `resume`")
        for left in (*self.path.glob(f".*{TEMPORARY}"), *self.models.glob(f".*{TEMPORARY}")):
            left.unlink()  # left by a process that was killed while it wrote
        told = "".join(self._pending or [])
        if resumed:  # too long for the screen
            told += f"{time.strftime(TIME)} environment: {json.dumps(environment())}\n"
        else:
            self._write_config({**config, **environment()})
        self._write(told)
        self._pending = None

    def config(self) -> dict[str, Any]:
        """Return the options that the run was started with; {} without a file. Raises ValueError if it is damaged."""
        path = self.path / "config.json"
        if not path.exists():
            return {}
        try:
            config = read_json(path)
        except ValueError:
            config = None
        if not isinstance(config, dict) or "versions" not in config:
            raise ValueError(
                f"{path} is damaged: it does not tell what the run was started with. A run of another name can start "
                "from its weights, model/model_latest.pt, with `pre_train`"
            )
        return config

    def amend(self, changes: Mapping[str, Any]) -> None:
        """Write the options that a resumed run changes into config.json. The log says when they changed."""
        if changes and (before := self.config()):
            self._write_config({**before, **changes})

    def _write_config(self, config: Mapping[str, Any]) -> None:
        write_text(self.path / "config.json", json.dumps(config, indent=1))

    def sync_tables(self) -> None:
        """Wait until the rows of the tables are on the disk."""
        for path in (self.loss_log, self.psnr_log):
            if path.exists():
                with naming_file(path), path.open("rb") as file:
                    os.fsync(file.fileno())

    def drop_old(self, keep: int) -> None:
        """Delete all numbered checkpoints but the newest `keep` and the best; 0 keeps all."""
        numbered = [(path, name) for path in self.models.iterdir() if (name := NUMBERED.fullmatch(path.name))]
        newest = sorted(numbered, key=lambda file: int(file[1]["epoch"]))
        best = max(numbered, key=lambda file: float(file[1]["psnr"]), default=None)
        for file in newest[:-keep] if keep else []:
            if file is not best:
                file[0].unlink()

    def log(self, text: str) -> None:
        """Write a line to the screen and to log.txt."""
        if not self._writes:
            return
        text = self._wording(text)
        tqdm.write(text)
        line = f"{time.strftime(TIME)} {text}\n"
        if self._pending is not None:
            self._pending.append(line)
        else:
            self._write(line)

    def _write(self, text: str) -> None:
        path = self.path / "log.txt"
        with naming_file(path), path.open("a", encoding="utf-8", errors=ESCAPES) as file:
            file.write(text)


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a CSV file; a header comes first if the file is empty or new."""
    if not rows:
        return
    new = not path.exists() or not path.stat().st_size
    with naming_file(path), path.open("a", newline="", encoding="utf-8", errors=ESCAPES) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a CSV file; none if there is no file. Raises ValueError for a file that is no CSV."""
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors=ESCAPES)
        lines = io.StringIO(text)  # splits at newlines; `splitlines` at U+2028, too
        # A process was killed while it wrote, or the power went: half a row, or zeros.
        rows = list(csv.DictReader(line for line in lines if line.endswith("\n") and "\0" not in line))
    except csv.Error as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return [row for row in rows if None not in row and None not in row.values()]


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of a CSV file that are of a later step or incomplete: a resumed run writes them again."""
    if path.exists():
        rows = read_rows(path)
        with atomic_write(path) as temporary:
            temporary.touch()
            append_rows(
                temporary, [row for row in rows if row.get("step", "").isdecimal() and int(row["step"]) <= step]
            )


class Clock:
    """Measures the parts of a step; on a GPU by events, which are read only when `shares` is called."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans = deque[tuple[str, Any, Any]](maxlen=MAX_SPANS)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = self._now()
        yield
        self._spans.append((part, start, self._now()))

    def shares(self) -> str:
        """Return the share of each part since the last call: `data 1 %  degradation 9 %  network 90 %`."""
        seconds: dict[str, float] = defaultdict(float)
        if self._cuda:
            torch.cuda.synchronize()
        for part, start, end in self._spans:
            seconds[part] += start.elapsed_time(end) if self._cuda else end - start
        self._spans.clear()
        total = sum(seconds.values()) or 1.0
        return "  ".join(f"{part} {100 * value / total:.0f} %" for part, value in seconds.items())

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def peak_memory(device: torch.device) -> str:
    """Return the peak memory of the GPU, or of this process where the system tells."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on the GPU"
    if sys.platform == "win32":
        return "unknown on this system"
    import resource  # does not exist on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB"


def listing(names: Sequence[str], most: int = 5) -> str:
    """Join names for a message; of more than `most` names only the first are listed.

    Examples:
        >>> listing(["a.png", "b.png", "c.png"], most=2)
        'a.png, b.png and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def bar_interval() -> float:
    """Return how often a progress bar moves, seconds: a log file is no place for a moving bar."""
    return 0.2 if sys.stderr.isatty() else 30


def duration(seconds: float) -> str:
    """Return seconds as `2 d 03:04:05`."""
    days, rest = divmod(round(seconds), 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock


ENVIRONMENT = ("versions", "processor", "instructions", "threads", "gpu", "commit", "command")  # in config.json


def environment() -> dict[str, Any]:
    """Return versions, machine, git commit and command by the keys of `ENVIRONMENT`; no flag has one of these names."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "numpy", "torchvision", "pillow", "opencv-python-headless", "torchmetrics", "pyiqa"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    info = Path("/proc/cpuinfo")
    named_there = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    processor = named_there[1] if named_there else platform.processor() or platform.machine()
    return {
        "versions": versions,
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "commit": git_commit(),
        "command": sys.argv,
    }


def git_commit() -> str | None:
    """Return the commit of this code, with a + if the working tree has changes; None outside a clone."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
