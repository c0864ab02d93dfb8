"""Declare flags as fields of dataclasses, and parse them.

A section is a frozen dataclass whose fields are `flag`s; the options of a program are a dataclass of sections.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar, get_type_hints

AS_PUBLISHED = object()  # the default comes from published.py
REQUIRED = object()
IF_GIVEN = "if given"  # a resumed run may be given another value, and keeps its own where the flag is left out

Options = TypeVar("Options")
Given = dict[str, Any]  # the values given on the command line, by the name of the field
Names = Mapping[str, Mapping[str, Any]]  # what each registry holds, by name: model, degradation, objective


class When(NamedTuple):
    """The condition under which a flag acts: its wording in help and notes, and the test on the values of all flags.

    In training the test is given the other fields of `TrainOptions`, too: `has_teacher`, `recipe_takes`.
    """

    text: str
    test: Callable[[Mapping[str, Any]], bool]


class Flag(NamedTuple):
    text: str
    also: Sequence[str]
    choices: Sequence[str]
    registry: str | None
    low: float
    high: float
    bare: Any
    when: When | None
    on_resume: bool | str
    positional: bool
    beyond: str


def flag(
    default: Any,
    text: str,
    *,
    also: Sequence[str] = (),
    choices: Sequence[str] = (),
    registry: str | None = None,
    low: float = -math.inf,
    high: float = math.inf,
    bare: Any = None,
    when: When | None = None,
    on_resume: bool | str = False,
    positional: bool = False,
    beyond: str = "",
) -> Any:
    """Return a dataclass field that is a flag.

    Args:
        also: other names.
        choices: allowed words; or `registry`, which names a table of them.
        low, high: inclusive range.
        bare: the value of a flag that is given without one.
        when: the condition under which it acts (default: always).
        on_resume: a resumed run may be given another value; `IF_GIVEN`: where it is left out, the run keeps its own.
        positional: it has no name on the command line, and takes all words that belong to no flag.
        beyond: what the error about a value that is not allowed says besides.
    """
    meta = Flag(text, also, choices, registry, low, high, bare, when, on_resume, positional, beyond)
    return dataclasses.field(default=default, metadata={"flag": meta})


def sections(options: Any) -> dict[str, type]:
    """Return the sections of options, or of their class, by the name of their field."""
    kind = options if isinstance(options, type) else type(options)
    hints = get_type_hints(kind).items()
    return {name: hint for name, hint in hints if isinstance(hint, type) and dataclasses.is_dataclass(hint)}


def title(section: type) -> str:
    """Return the name of a section in words: `TrainingDegradationOptions` is "Training degradation"."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda letter: f" {letter[0].lower()}", section.__name__.removesuffix("Options"))


def flat(options: Any) -> dict[str, Any]:
    """Return all flags as plain values, for config.json."""
    values: dict[str, Any] = {}
    for name in sections(options):
        values |= dataclasses.asdict(getattr(options, name))
    return {name: plain(value) for name, value in values.items()}


def plain(value: Any) -> Any:
    """Return the value of a flag as JSON can hold it."""
    return str(value) if isinstance(value, Path) else value


def flags_of(options: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the dataclass field behind every flag."""
    return {field.name: field for section in sections(options).values() for field in dataclasses.fields(section)}


def spellings(options: Any) -> set[str]:
    """Return the names that flags have on a command line, without their dashes."""
    found = {name: field.metadata["flag"] for name, field in flags_of(options).items()}
    return {word for name, flag in found.items() if not flag.positional for word in (name, *flag.also)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")

    def unknown(self, words: list[str], hints: Mapping[str, str]) -> NoReturn:
        word = next((word for word in words if word.startswith("-")), words[0]).split("=")[0]
        if not word.startswith("-"):
            self.error(f"{words[0]!r} belongs to no flag; {self.prog} --help lists all")
        name = word.lstrip("-")
        known = [option.lstrip("-") for action in self._actions for option in action.option_strings]
        if hint := hints.get(name.replace("-", "_")):
            self.error(f"there is no {word} here; {hint}")

        def likeness(option: str) -> tuple[bool, float]:  # swapped letters are the likeliest slip
            return sorted(option) == sorted(name), difflib.SequenceMatcher(None, name, option).ratio()

        close = max(known, key=likeness)
        hint = f"did you mean --{close}?" if likeness(close)[1] > 0.6 else f"{self.prog} --help lists all"
        self.error(f"there is no {word}; {hint}")


TRUTH = ("True", "False")
NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf|-nan", re.IGNORECASE)


def _truth(word: str) -> bool:
    if word not in TRUTH:
        raise argparse.ArgumentTypeError(f"{word} is neither True nor False")
    return word == "True"


def _switch(words: Sequence[str], switches: set[str]) -> list[str]:
    """Write `--cpu` as `--cpu=True` unless True or False follows, so that it does not consume the next word."""
    following = [*words, ""][1:]
    return [
        f"{word}=True" if word in switches and after not in TRUTH else word
        for word, after in zip(words, following, strict=True)
    ]


def _with_negatives(words: Sequence[str]) -> list[str]:
    """Write `--lr_sr -1e-4` as `--lr_sr=-1e-4`: argparse takes -1e-4 for a flag, and would miss the value."""
    joined: list[str] = []
    for word in words:
        if joined and NEGATIVE.fullmatch(word) and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _word(choices: Collection[str], beyond: str) -> Callable[[str], str]:
    """Return a type of argparse that takes the choices in capitals, too; the error about other words adds `beyond`."""
    spelt = {choice.casefold(): choice for choice in choices}

    def read(word: str) -> str:
        if beyond and word.casefold() not in spelt:
            raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(choices)}; {beyond}")
        return spelt.get(word.casefold(), word)

    return read


def _add(group: Any, name: str, hint: Any, default: Any, flag: Flag, names: Names) -> None:
    """Add a flag to the parser; its type is the dataclass field's (`float` for `float | None`)."""
    kind = next((a for a in getattr(hint, "__args__", ()) if a is not type(None)), hint)
    notes = {AS_PUBLISHED: ["default: as published"], REQUIRED: ["required"], None: []}
    note = [] if "(default:" in flag.text else notes.get(default, [f"default: {default}"])
    note += [f"acts with {flag.when.text}"] if flag.when else []
    bare = True if kind is bool else flag.bare
    choices = names[flag.registry] if flag.registry else flag.choices
    group.add_argument(
        *(f"--{n}" for n in (name, *flag.also)),
        dest=name,
        type=_truth if kind is bool else _word(choices, flag.beyond) if choices else kind,
        default=argparse.SUPPRESS,
        choices=choices or None,
        help=(flag.text + (f" ({'; '.join(note)})" if note else "")).replace("%", "%%"),
        metavar=None if choices else kind.__name__.upper(),
        **({"nargs": "?", "const": bare} if bare is not None else {}),
    )


def _parser(options: type, positional: str | None, *, prog: str, names: Names) -> _Parser:
    """Return the parser of all flags, by sections; `parse` takes the words that belong to `positional`."""
    usage = f"%(prog)s {f'[{positional} ...] ' if positional else ''}[--flag value ...]"
    parser = _Parser(prog=prog, allow_abbrev=False, usage=usage, description=options.__doc__)
    for section in sections(options).values():
        group, hints = parser.add_argument_group(title(section)), get_type_hints(section)
        for field in dataclasses.fields(section):
            if field.name != positional:  # its words may stand anywhere, which argparse does not take
                _add(group, field.name, hints[field.name], field.default, field.metadata["flag"], names)
    return parser


def parse(
    options: type,
    argv: Sequence[str] | None,
    *,
    prog: str,
    names: Names,
    hints: Mapping[str, str] | None = None,
    read_config: Callable[[Given], Given] | None = None,
) -> Given:
    """Return the values that a command line gives. Exit with a message for a misspelt flag or a value out of range.

    Args:
        options: the class of the options.
        argv: the words; None: those of this process.
        prog: name of the program.
        names: the registries that flags name.
        hints: what to say about flags that do not exist, without their dashes.
        read_config: is told what the command line gives, and reads the file that its --config names; what the command
            line gives overrides it.
    """
    fields = flags_of(options)
    positional = next((name for name, field in fields.items() if field.metadata["flag"].positional), None)
    switches = {f"--{name}" for name, field in fields.items() if isinstance(field.default, bool)}
    parser = _parser(options, positional, prog=prog, names=names)
    words = _with_negatives(sys.argv[1:] if argv is None else argv)
    namespace, unknown = parser.parse_known_args(_switch(words, switches))
    if unknown and (positional is None or any(word.startswith("-") for word in unknown)):
        parser.unknown(unknown, hints or {})
    contents: Given = {}  # of a recipe file, which are no word
    if read_config is not None and "config" in namespace:
        asked = vars(namespace)
        before = {name: value for name, value in read_config(asked).items() if name not in asked}
        contents = {name: value for name, value in before.items() if isinstance(value, dict)}
        earlier = [f"--{name}={value}" for name, value in before.items() if name not in contents]
        namespace, _ = parser.parse_known_args(_switch([*earlier, *words], switches))  # the last value counts
    given = contents | vars(namespace)
    if positional and unknown:
        given[positional] = tuple(map(Path, unknown))
    if missing := [f"--{n}" for n, field in fields.items() if field.default is REQUIRED and n not in given]:
        told = "; --resume --config RUN continues a run without its other flags" if "resume" in given else ""
        parser.error(f"{' and '.join(missing)} must be given{told}")
    for name, value in given.items():
        flag = fields[name].metadata["flag"]
        if isinstance(value, (int, float)) and not (flag.low <= value <= flag.high and math.isfinite(value)):
            allowed = f"{flag.low:g} at least" if math.isinf(flag.high) else f"in {flag.low:g}..{flag.high:g}"
            parser.error(f"--{name} {value} must be {allowed}{f'; {flag.beyond}' if flag.beyond else ''}")
    return given


def fill(section: type[Options], values: Mapping[str, Any]) -> Options:
    """Return a section whose flags have these values or their defaults."""
    names = get_type_hints(section).keys() & values.keys()
    return section(**{name: values[name] for name in names})


def build(options: type[Options], values: Mapping[str, Any], **resolved: Any) -> Options:
    """Return options whose flags have these values or their defaults; `resolved`: fields that are no sections."""
    parts = {name: fill(section, values) for name, section in sections(options).items()}
    return options(**parts, **resolved)
