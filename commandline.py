"""Flags from dataclasses: a section is a frozen dataclass, its fields are the flags."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any, NoReturn, get_type_hints

PUBLISHED_DEFAULT = object()  # the default depends on the model
REQUIRED = object()


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
    return dataclasses.field(default=default, metadata={"flag": (text, also, choices, low, high, bare)})


Given = dict[str, Any]  # what stood on the command line, by the name of the field


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


def _add(group: Any, name: str, kind: type, default: Any, metadata: tuple[Any, ...]) -> None:
    text, also, choices, _, _, bare = metadata
    shown = {PUBLISHED_DEFAULT: "as published", REQUIRED: "required", None: "none"}.get(default, default)
    names = [f"--{n}" for n in (name, *also)]
    if kind is bool:
        group.add_argument(*names, dest=name, action="store_true", default=argparse.SUPPRESS, help=text)
        return
    group.add_argument(
        *names,
        dest=name,
        type=kind,
        default=argparse.SUPPRESS,
        choices=choices or None,
        help=f"{text} (default: {shown})".replace("%", "%%"),
        metavar=None if choices else kind.__name__.upper(),
        **({"nargs": "?", "const": bare} if bare is not None else {}),
    )


def parse(options: type, argv: Sequence[str] | None = None, prog: str | None = None) -> Given:
    """What a command line says. Exits with a message for a misspelt flag or a value out of range."""
    parser = _Parser(prog=prog, allow_abbrev=False, description=options.__doc__)
    bounds: dict[str, tuple[float, float]] = {}
    required: list[str] = []
    for section in get_type_hints(options).values():
        group, hints = parser.add_argument_group(section.__name__), get_type_hints(section)
        for f in dataclasses.fields(section):
            _add(group, f.name, _plain(hints[f.name]), f.default, f.metadata["flag"])
            bounds[f.name] = f.metadata["flag"][3:5]
            required += [f.name] if f.default is REQUIRED else []
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.unknown(unknown)
    given = vars(namespace)
    if missing := [f"--{name}" for name in required if name not in given]:
        parser.error(f"{' and '.join(missing)} must be given")
    for name, value in given.items():
        low, high = bounds[name]
        if isinstance(value, (int, float)) and not low <= value <= high:
            parser.error(
                f"--{name} {value} must be " + (f"{low:g} at least" if math.isinf(high) else f"in {low:g}..{high:g}")
            )
    return given
