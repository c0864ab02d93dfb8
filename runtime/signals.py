"""Signals that ask a run to end: it finishes its step and saves first."""

from __future__ import annotations

import signal
from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = 75  # exit code of a run that was stopped and is to go on: EX_TEMPFAIL, where there is one
INTERRUPTED = 128 + signal.SIGINT  # that of one that had to end at once, as shells give it


class StopSignals:
    """In this context `asked` tells whether a signal came. impatient: a second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self, *, impatient: bool) -> None:
        self.asked = False
        self._impatient = impatient

    def __enter__(self) -> StopSignals:
        self._previous = [signal.signal(number, self._on_signal) for number in SIGNALS]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in zip(SIGNALS, self._previous, strict=True):
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        # Schedulers send SIGTERM to a process and to its group: twice in a moment means no more than once.
        if self.asked and self._impatient and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def leave_signals_to_the_parent(worker: int) -> None:
    """For the processes of a loader, whom signals to the whole group reach too: they end with their parent."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
