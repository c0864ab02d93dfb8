"""Write docs/options.md, the page of all flags, and docs/defaults.md, from option.py and published.py.

    python scripts/options_page.py            # write both pages
    python scripts/options_page.py --check    # exit with code 1 if a page is out of date

tests/docs/test_options_page.py does the second, so run the first after each change of a flag.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import main as main_program
import published
import test as test_program
from data.degradation import DEGRADATIONS
from flags import AS_PUBLISHED, REQUIRED, Flag, Names, flags_of, sections, title
from option import EvalOptions, EvaluationOptions, TrainOptions
from scripts.program import program
from utility import taken, write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
IN_WORDS = {  # defaults that no single value says
    ("LoadingOptions", "n_threads"): "4, or all cores if there are fewer",
    ("ImageOptions", "data_test"): "see there",
    ("TrainingOptions", "test_every"): "[published](defaults.md)",
    **{("NetworkOptions", size): "see there" for size in ("n_feats", "n_blocks", "n_resblocks")},
}
ENDLESS = 2**31  # a limit above this is not worth telling a reader
SETTINGS: dict[str, dict[str, Any]] = {  # the columns of the table of published defaults
    "KDSR_T": {"model": "KDSR_T"},
    "KDSR_S": {"model": "KDSR_S"},
    "KDSR_S, aniso": {"model": "KDSR_S", "blur_type": "aniso_gaussian", "noise": 25.0},
    "KDSR_T, real": {"model": "KDSR_T", "degradation": "second_order"},
    "KDSR_S, real": {"model": "KDSR_S", "degradation": "second_order"},
    "KDSR_S, GAN": {"model": "KDSR_S", "degradation": "second_order", "objective": "adversarial"},
    "CDSR": {"model": "CDSR"},
    "DASR": {"model": "DASR"},
    "IKC, SFTMD": {"model": "IKC"},
    "IKC, P and C": {"model": "IKC", "objective": "correction"},
    "EDSR": {"model": "EDSR"},
    "RRDB": {"model": "RRDB"},
    "added": {"model": "one without a row in published.py"},
}
HEAD = """# All flags

`python scripts/options_page.py` writes this page; do not edit it by hand. The terminal has the same: `--help`.

- **Default** "published" is what the papers' released code uses for this network: [defaults.md](defaults.md).
- **Acts with**: without this condition a flag does nothing; one that is given all the same is named in a note.
- **Resume**: a run that is continued may be given another value. All other flags must stay as they were.
- A switch (`--cpu`) may also be written `--cpu True` or `--cpu False`.
- Contradictions and misspelt flags end the program with one line that says what to change.
"""
PUBLISHED_HEAD = """# Published defaults

`python scripts/options_page.py` writes this page, too. A flag on the command line replaces its default.

At ×4. "aniso": `--blur_type aniso_gaussian --noise 25`, validated on Set14 under one kernel,
`--lambda_1 4 --lambda_2 1.5 --theta 120`, and noise 10; "real": `--degradation second_order`; "GAN":
`--objective adversarial`; "added": a network of your own.
"""
PUBLISHED_TAIL = """An epoch without `--test_every` is as long as the released trainer's: the training images are
repeated until they make up 1000 batches at most (DF2K: 971 steps for KDSR, 970 for CDSR and DASR), or 1000 steps (the
others, and `second_order`).
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"([|<])", r"\\\1", cell) for cell in line) + " |" for line in lines)


def allowed(kind: Any, flag: Flag, names: Names) -> str:
    """Return in words which values a flag takes."""
    choices = names[flag.registry] if flag.registry else flag.choices
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if kind is bool:
        return "switch"
    word = {int: "whole number", float: "number", str: "text", Path: "path"}[kind]
    low, high = flag.low, flag.high
    if math.isinf(low) and math.isinf(high):
        return word
    return f"{word}, {low:g} or more" if high > ENDLESS else f"{word}, {low:g} to {high:.7g}"


def default(value: Any) -> str:
    """Return the default of a flag in words."""
    if value is AS_PUBLISHED:
        return "published"
    if value is REQUIRED:
        return "**required**"
    if value is None or value is False:
        return "–"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def section(kind: type, names: Names) -> str:
    """Return the table of the flags of a section."""
    hints, rows = get_type_hints(kind), []
    head = ("Flag", "Meaning", "Values", "Default", "Acts with", "Resume")
    for field in dataclasses.fields(kind):
        flag: Flag = field.metadata["flag"]
        hint = hints[field.name]
        plain = next((part for part in getattr(hint, "__args__", ()) if part is not type(None)), hint)
        spelt = ", ".join(f"`--{name}`" for name in (field.name, *flag.also))
        if flag.positional:
            spelt = f"`{field.name.upper()} ...`, without a flag"
        when = flag.when.text if flag.when else "always"
        resume = flag.on_resume if isinstance(flag.on_resume, str) else "yes" if flag.on_resume else "no"
        usual = IN_WORDS.get((kind.__name__, field.name)) or default(field.default)
        rows.append((spelt, flag.text, allowed(plain, flag, names), usual, when, resume))
    columns = len(head) - (kind is EvaluationOptions)  # which no run resumes with
    return table(head[:columns], [row[:columns] for row in rows])


def value_of(name: str, setting: Mapping[str, Any]) -> str:
    """Return the published default of a flag in a setting, at ×4; a dash where the flag does not act."""
    given = {key: value for key, value in setting.items() if key != "model"}
    usual = published.defaults(setting["model"], 4, given) | published.validation(setting["model"], given)
    values = {"blur_type": "iso_gaussian", **usual, **setting}
    values["recipe_takes"] = taken(DEGRADATIONS[values["degradation"]])
    when = flags_of(TrainOptions)[name].metadata["flag"].when
    if when is not None and not when.test(values):
        return "–"
    value = values.get(name, "–")
    return f"{value:g}" if isinstance(value, float) else str(value)


def widths() -> str:
    """Return the table of the ranges of blur, which depend on the scale."""
    settings = {
        "KDSR, IKC, EDSR, RRDB: `--sig_min`, `--sig_max`, σ": ("KDSR_S", {}),
        "DASR: the same": ("DASR", {}),
        "`manet`: the same; with aniso **variances**": ("CDSR", {}),
    }
    rows = []
    for name, (model, given) in settings.items():
        values = [published.defaults(model, scale, given) for scale in (2, 3, 4)]
        rows.append((name, *(f"{value['sig_min']:g}, {value['sig_max']:g}" for value in values)))
    return table(("Range of blur, HR pixels", "×2", "×3", "×4"), rows)


def flags_page() -> str:
    """Return docs/options.md: every flag."""
    training, testing = sections(TrainOptions), sections(EvalOptions)
    parts = [HEAD]
    for kind in training.values():
        programs = "main.py and test.py" if kind in testing.values() else "main.py"
        parts.append(f"## {title(kind)} ({programs})\n{section(kind, main_program.NAMES)}\n")
    for kind in testing.values():
        if kind not in training.values():
            parts.append(f"## {title(kind)} (test.py)\n{section(kind, test_program.NAMES)}\n")
    return "\n".join(parts).rstrip() + "\n"


def defaults_page() -> str:
    """Return docs/defaults.md: what the papers fix."""
    fields = flags_of(TrainOptions)
    names = [name for name, field in fields.items() if field.default is AS_PUBLISHED and name != "data_test"]
    shown = {setting["model"] for setting in SETTINGS.values()}
    added = [name for name in main_program.NAMES["model"] if name in published.PUBLISHED and name not in shown]
    columns = SETTINGS | {name: {"model": name} for name in added}
    rows = [(f"`--{name}`", *(value_of(name, setting) for setting in columns.values())) for name in names]
    return "\n".join([PUBLISHED_HEAD, table(("Flag", *columns), rows) + "\n", widths() + "\n", PUBLISHED_TAIL])


PAGES: dict[str, Callable[[], str]] = {"options.md": flags_page, "defaults.md": defaults_page}


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--check", action="store_true", help="compare the pages with the flags, and write nothing")
    given = parser.parse_args(argv)
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not given.check:
            write_text(path, text)
            print(f"written: {path}")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is out of date; run python scripts/options_page.py")


if __name__ == "__main__":
    main()
