"""Find test sets by their names, under the data, beside it and above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.folders import absolute, fits, paired, prepared, split
from data.images import Log, list_images
from data.protocol import Protocol
from data.testset import HELD_OUT, Degraded, TestSet
from utility import argument


def named_test_sets(
    data_test: str,
    *,
    dir_data: Path | None,
    protocol: Protocol,
    seed: int,
    log: Log | None = None,
) -> tuple[list[TestSet], list[str]]:
    """Find the test sets whose names are joined by + in `data_test`.

    Returns:
        The sets that are there, and the names of those that are not; nothing for `HELD_OUT`.

    Raises:
        ValueError: a name in `data_test` or `dir_data` is empty, two sets have the same, or a prepared set is
            incomplete or of another protocol.
    """
    if data_test == HELD_OUT:
        return [], []
    with argument("dir_data"):
        roots = [] if dir_data is None else roots_around(dir_data)
    found: list[TestSet] = []
    missing: list[str] = []
    with argument("data_test"):
        wanted = data_test.split("+")
        if HELD_OUT in wanted:
            raise ValueError(f"{data_test}: {HELD_OUT} stands alone, without other sets")
        if not all(wanted):
            raise ValueError(f"{data_test!r}: expected names joined by +, and one of them is empty")
        for name in wanted:
            test_set = find(name, roots, protocol, seed=seed, log=log)
            if test_set is None:
                missing.append(name)
            else:
                found.append(test_set)
        names = [test_set.name for test_set in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two sets are called {', '.join(sorted(twice))}; their scores would be mixed")
    return found, missing


def missing_test_sets(names: Sequence[str], dir_data: Path | None) -> str:
    """Return the message about test sets that were asked for and are not there.

    Examples:
        >>> missing_test_sets(["Set6"], Path("none"))
        '`dir_data`: there is no folder none'
    """
    joined = " (names are joined by +)" if any("," in name for name in names) else ""
    asked = f"`data_test`: there is no test set {', '.join(names)}{joined}: no folder of this name, "
    if dir_data is None:
        return f"{asked}and no `dir_data` to look for benchmark/<Set>/HR in"
    if gone := [root for root in split(dir_data) if not root.exists()]:
        return f"`dir_data`: there is no folder {gone[0]}"
    found = {folder.name for root in roots_around(dir_data) for folder in (root / "benchmark").glob("*")}
    there = f"; there are {', '.join(sorted(found))}" if found else ""
    close = [one for name in names for one in found if one.lower() == name.lower()]
    there += f". Did you mean {'+'.join(close)}?" if close else ""
    return f"{asked}and no benchmark/<Set>/HR in `dir_data` {dir_data}, beside it or above{there}"


def check_test_sets(sets: Sequence[TestSet], *, at_least: int) -> None:
    """Raise BadImage for a test image that is damaged, or has under `at_least` HR pixels a side."""
    with argument("data_test"):
        for test_set in sets:
            test_set.check(at_least=at_least)


def roots_around(dir_data: Path) -> list[Path]:
    """Return where test sets are looked for: under each folder of `dir_data`, beside it and above."""
    return [place for root in split(dir_data) for place in (root, *root.absolute().parents[:2])]


def find(name: str, roots: Sequence[Path], rule: Protocol, *, seed: int, log: Log | None = None) -> TestSet | None:
    """Find the test set of this name; None where there is none. Raises ValueError or OSError for one that is wrong.

    `name` is a folder, or the name of one in `<root>/benchmark` or `<root>`:
    - with `HR_si` or `HR_sv` in it, a set that was prepared, which must be of this protocol;
    - with `LR_x<s>` or `LR` beside `HR` in it, real pairs, whatever the protocol but for its crop;
    - else a folder of HR images, or one with `HR` in it. A set that was prepared of them by this protocol, `<Set>_x<s>`
      beside it, goes first.
    """
    places = [Path(name), *(root / sub / name for root in roots for sub in ("benchmark", "."))]
    for place in map(absolute, places):
        if any((place / part).is_dir() for part in ("HR_si", "HR_sv")):
            return prepared(place, rule, seed)
        lr_dir = next((place / lr for lr in (f"LR_x{rule.scale}", "LR") if (place / lr).is_dir()), None)
        if lr_dir is not None and (place / "HR").is_dir():
            return paired(lr_dir, place / "HR", rule.scale, crop=rule.crop)
        beside = place.with_name(f"{place.name}_x{rule.scale}")
        if fits(beside, rule, seed):
            return prepared(beside, rule, seed)
        if place.is_dir():
            hr = place / "HR" if (place / "HR").is_dir() else place
            return Degraded(hr.parent.name if hr.name == "HR" else hr.name, list_images(hr, log=log), rule, seed)
    return None
