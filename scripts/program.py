"""Helpers of the programs in this folder, so that they end, read numbers and name files in the same way."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from runtime.device import choose_device
from runtime.divergence import TrainingError
from runtime.precision import Precision
from runtime.signals import INTERRUPTED
from utility import print_any_name


def program(file: str, text: str | None) -> argparse.ArgumentParser:
    """Return the parser of the program in this file, whose docstring is its help, and let it print any name."""
    print_any_name()
    return argparse.ArgumentParser(
        prog=Path(file).name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_cpu(parser: argparse.ArgumentParser) -> None:
    """Add the flag --cpu, of which `device_of` wants to know."""
    parser.add_argument("--cpu", action="store_true", help="run on the CPU even where there is a GPU")


def device_of(*, cpu: bool) -> torch.device:
    """Return the GPU, set to compute in float32, or the CPU where there is none or `cpu` asks for it."""
    return choose_device(cpu=cpu, n_GPUs=1, precision=Precision(), log=print)


@contextmanager
def one_line(name: str, words: Mapping[str, str]) -> Iterator[None]:
    """End the program with one line if this block raises an error that a user can mend, or Ctrl-C interrupts it.

    Args:
        name: of the program, for the message.
        words: how its users know its arguments, which errors name in backticks; see `words_of`.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (torch.OutOfMemoryError, MemoryError) as error:
        sys.exit(f"{name}: error: out of memory ({error})")
    except (TrainingError, ValueError, OSError) as error:
        text = re.sub(r"`(\w+)`", lambda found: words.get(found[1], found[0]), str(error))
        sys.exit(f"{name}: error: {text}")


def words_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return how users know the arguments of a program (`--hr`, `MODEL.pt`), by their names in its code.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("file", metavar="IN"), parser.add_argument("--out")
        >>> words_of(parser)
        {'help': '-h', 'file': 'IN', 'out': '--out'}
    """
    words = {action.dest: [*action.option_strings, action.metavar, action.dest] for action in parser._actions}
    return {name: next(str(word) for word in found if word) for name, found in words.items()}


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a type for argparse: whole numbers from `low` on, up to `high` if there is one."""

    def read(word: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", word) or int(word) < low or (high is not None and int(word) > high):
            allowed = f"of {low} or more" if high is None else f"in {low}..{high}"
            raise argparse.ArgumentTypeError(f"{word} is not a whole number {allowed}")
        return int(word)

    return read


def real(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Return a type for argparse: finite numbers in [low, high]; with `above`, more than `low`."""

    def read(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not low <= value <= high or math.isinf(value) or (above and value == low):
            allowed = f"{'above' if above else 'from'} {low:g}" + ("" if math.isinf(high) else f" to {high:g}")
            raise argparse.ArgumentTypeError(f"{word} is not a number {allowed}")
        return value

    return read


def size(word: str) -> tuple[int, int]:
    """Read `180x320`, a height and a width, for argparse."""
    sides = re.fullmatch(r"(\d+)x(\d+)", word)
    if not sides or 0 in (height_width := (int(sides[1]), int(sides[2]))):
        raise argparse.ArgumentTypeError(f"{word} is no size; expected height and width in pixels, like 180x320")
    return height_width


def check_picture(argument: str, path: Path, suffixes: Collection[str]) -> None:
    """Raise ValueError or OSError unless a file with one of these suffixes can be written here.

    argument: names the path in messages.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{argument} {path}: expected a name that ends in {', '.join(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(f"{argument} {path} is a folder; name a file")
    check_folder(argument, path.parent)


def check_folder(argument: str, path: Path) -> None:
    """Raise NotADirectoryError unless there is a folder here, or one can be made; `argument` names it in messages."""
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{argument}: {nearest} is a file, and no folder")
