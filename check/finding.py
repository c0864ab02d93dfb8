"""What a check finds, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple


class Grade(Enum):
    FINE = "fine"
    NOTE = "note"  # worth knowing
    MEND = "mend"  # the run would fail, or its scores say nothing


class Finding(NamedTuple):
    """What was found and, unless it is fine, what to do about it, in one line."""

    grade: Grade
    text: str

    def __str__(self) -> str:
        return f"{self.grade.value}: {self.text}"


def fine(text: str) -> Finding:
    return Finding(Grade.FINE, text)


def note(text: str) -> Finding:
    return Finding(Grade.NOTE, text)


def mend(text: str) -> Finding:
    return Finding(Grade.MEND, text)


def attempt(call: Callable[..., Iterable[Finding] | None], *arguments: object) -> Iterator[Finding]:
    """What a check finds; and what it, or any other call, refuses with an error that names the flag or the file."""
    try:
        yield from call(*arguments) or ()
    except (ValueError, OSError) as error:
        yield mend(str(error))


def show(findings: Iterable[Finding]) -> bool:
    """Print the findings as they come, each once, and how many of each grade; whether nothing must be mended."""
    shown: set[Finding] = set()
    for finding in findings:
        if finding not in shown:
            print(finding, flush=True)
        shown.add(finding)
    counts = Counter(finding.grade for finding in shown)
    print(f"{counts[Grade.MEND]} to mend, {counts[Grade.NOTE]} worth knowing, {counts[Grade.FINE]} fine")
    return not counts[Grade.MEND]


def listing(names: Sequence[str], most: int = 5) -> str:
    """`a, b and 3 more`"""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def readable(size: float) -> str:
    """Bytes as `1.5 GiB` or `64 MiB`."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
