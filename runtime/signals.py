"""Signals that ask a run to stop: it finishes its step, saves, and exits with code `STOPPED`.

Ctrl-C, `kill`, a closed terminal, and the warnings of schedulers (SIGTERM, SIGUSR1, SIGXCPU) all mean the same.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import TracebackType

STOPPED = 75  # exit code of a run that was stopped and can be resumed: EX_TEMPFAIL of sysexits.h
INTERRUPTED = 128 + signal.SIGINT  # exit code of a run that Ctrl-C ended at once, as shells give it
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))  # Windows lacks the last three


def say_on_stderr(text: str) -> None:
    """Write one line to standard error. Safe in a signal handler, which may have interrupted a `print`."""
    with suppress(OSError):  # the terminal may be gone: SIGHUP means just that
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())


def watched() -> tuple[signal.Signals, ...]:
    """Return the signals to handle: all of `SIGNALS`, but SIGHUP only where `nohup` has not switched it off."""
    return tuple(n for n in SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) is not signal.SIG_IGN)


def until_ready(program: str) -> None:
    """Let a signal to stop end this program without a traceback: Ctrl-C with INTERRUPTED, others with STOPPED.

    Call it before PyTorch is imported, which takes seconds. `StopSignals` takes over where there is something to save.
    """

    def leave(number: int, frame: object) -> None:
        if number == signal.SIGINT:
            say_on_stderr(f"{program}: interrupted")
        raise SystemExit(INTERRUPTED if number == signal.SIGINT else STOPPED)

    for number in watched():
        signal.signal(number, leave)


class StopSignals:
    """A handler of the signals that ask a program to stop, active in the block of `with StopSignals() as signals:`.

    Before the training loop there is nothing to save: SIGINT raises KeyboardInterrupt, and the others raise
    SystemExit(STOPPED). Inside `with signals.deferred():` a signal only sets `asked`, for the loop to read.

    Args:
        impatient: let a second Ctrl-C raise KeyboardInterrupt inside `deferred`. Switch it off where several processes
            must stop together.
        say: called with one line when the first signal comes inside `deferred`. It runs in a signal handler.
    """

    def __init__(self, *, impatient: bool = True, say: Callable[[str], None] = say_on_stderr) -> None:
        self.asked = False
        self._impatient = impatient
        self._say = say
        self._deferred = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._on_signal) for number in watched()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._previous = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block signals set `asked` and raise nothing. Installs the handlers if they are not installed yet."""
        with nullcontext() if self._previous else self:
            self._deferred = True
            try:
                yield
            finally:
                self._deferred = False

    def _on_signal(self, number: int, frame: object) -> None:
        again, self.asked = self.asked, True
        if not self._deferred:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(STOPPED)
        if not again:
            end = "; Ctrl-C again ends at once" if self._impatient else ""
            self._say(f"stopping after this step{end}")
        elif self._impatient and number == signal.SIGINT:  # only Ctrl-C: schedulers send SIGTERM twice in a moment
            raise KeyboardInterrupt


def leave_signals_to_the_parent(worker: int) -> None:
    """Ignore the stop signals in a loader process: they reach the whole process group, and the parent ends it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
