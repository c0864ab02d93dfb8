"""The findings of a check, and how they are worded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import NamedTuple

import option


class Grade(Enum):
    OK = "ok"
    NOTE = "note"  # worth knowing
    ERROR = "error"  # the run would fail, or its scores would mean nothing


class Finding(NamedTuple):
    """A result of a check, in one line, which also says what to do unless all is fine."""

    grade: Grade
    text: str

    def __str__(self) -> str:
        return f"{self.grade.value}: {option.as_flags(self.text)}"


ok, note, error = (partial(Finding, grade) for grade in Grade)


def attempt(call: Callable[..., Iterable[Finding] | None], *arguments: object) -> Iterator[Finding]:
    """Yield the findings of a check, and the ValueError or OSError that it raises as an error."""
    try:
        yield from call(*arguments) or ()
    except (ValueError, OSError) as raised:
        yield error(str(raised))


def size_of(size: float) -> str:
    """Return a size in bytes as a text, such as 1.5 GiB."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"
