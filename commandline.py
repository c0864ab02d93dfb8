"""Flags from dataclasses: a section is a frozen dataclass, its fields are the flags."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, get_type_hints

PUBLISHED_DEFAULT = object()  # the default depends on the model
REQUIRED = object()


Given = dict[str, Any]  # what stood on the command line, by the name of the field


class Flag(NamedTuple):
    text: str
    also: Sequence[str]
    choices: Sequence[str]
    low: float
    high: float
    bare: Any


def flag(
    default: Any,
    text: str,
    *,
    also: Sequence[str] = (),
    choices: Sequence[str] = (),
    low: float = -math.inf,
    high: float = math.inf,
    bare: Any = None,
) -> Any:
    """A field that is a flag. also: other names. low, high: inclusive. bare: its value when it is given without one."""
    return dataclasses.field(default=default, metadata={"flag": Flag(text, also, choices, low, high, bare)})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")

    def unknown(self, words: list[str]) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        name = words[0].split("=")[0]

        def likeness(option: str) -> tuple[bool, float]:  # swapped letters are the likeliest slip
            return sorted(option) == sorted(name), difflib.SequenceMatcher(None, name, option).ratio()

        close = max(known, key=likeness)
        hint = f"did you mean {close}?" if likeness(close)[1] > 0.5 else f"{self.prog} --help lists all"
        self.error(f"there is no {name}; {hint}")


def _plain(hint: Any) -> type:
    """The type to parse for: `float` for `float | None`."""
    return next((a for a in getattr(hint, "__args__", ()) if a is not type(None)), hint)


def _truth(word: str) -> bool:
    if word not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"{word} is neither True nor False")
    return word == "True"


def _add(group: Any, name: str, kind: type, default: Any, flag: Flag) -> None:
    shown = {PUBLISHED_DEFAULT: " (default: as published)", REQUIRED: " (required)", None: ""}
    bare = True if kind is bool else flag.bare
    group.add_argument(
        *(f"--{n}" for n in (name, *flag.also)),
        dest=name,
        type=_truth if kind is bool else kind,
        default=argparse.SUPPRESS,
        choices=flag.choices or None,
        help=(flag.text + shown.get(default, f" (default: {default})")).replace("%", "%%"),
        metavar=None if flag.choices else kind.__name__.upper(),
        **({"nargs": "?", "const": bare} if bare is not None else {}),
    )


def parse(options: type, argv: Sequence[str] | None = None, prog: str | None = None) -> Given:
    """What a command line says. Exits with a message for a misspelt flag or a value out of range."""
    parser = _Parser(prog=prog, allow_abbrev=False, description=options.__doc__)
    fields: dict[str, dataclasses.Field[Any]] = {}
    for section in get_type_hints(options).values():
        group, hints = parser.add_argument_group(section.__name__), get_type_hints(section)
        for field in dataclasses.fields(section):
            _add(group, field.name, _plain(hints[field.name]), field.default, field.metadata["flag"])
            fields[field.name] = field
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.unknown(unknown)
    given = vars(namespace)
    if missing := [f"--{n}" for n, field in fields.items() if field.default is REQUIRED and n not in given]:
        parser.error(f"{' and '.join(missing)} must be given")
    for name, value in given.items():
        low, high = fields[name].metadata["flag"].low, fields[name].metadata["flag"].high
        if isinstance(value, (int, float)) and not (low <= value <= high and math.isfinite(value)):
            allowed = f"{low:g} at least" if math.isinf(high) else f"in {low:g}..{high:g}"
            parser.error(f"--{name} {value} must be {allowed}")
    return given
