"""docs/add.md as it stands: its blocks are applied to a copy of the repository, and its commands run there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.forks import LATER, forking
from utility import ROOT

PAGE = (ROOT / "docs" / "add.md").read_text(encoding="utf-8")
COPIED = ("data", "evaluation", "loss", "model", "preflight", "runtime", "scripts")  # beside the modules at the root
OF_ALL = (  # tests that go through the tables
    "tests/model/test_checkpoint.py::test_wrong_input_is_refused",
    "tests/model/test_examples.py::test_every_network_has_an_example",
    "tests/evaluation/test_metric.py::test_an_arrow_points_to_the_better_end",
    "tests/test_counts.py::test_every_objective_is_counted",
    "tests/test_hub.py::test_every_network_is_an_entry_point",
    "tests/test_option.py::test_contradictions_name_their_flags",
)
TOY = (
    "--cpu --patch_size 12 --batch_size 2 --test_every 2 --epochs_sr 1 --n_threads 0 --print_every 1 --data_train train"
)


class Block(NamedTuple):
    language: str
    file: str  # that it goes to; of commands ""
    text: str


def sections() -> dict[str, list[Block]]:
    """The code blocks below each heading that has any."""
    found = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        found[heading] = [Block(*block) for block in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.M | re.S)]
    return found


SECTIONS = sections()


def files(blocks: list[Block]) -> set[str]:
    return {block.file for block in blocks if block.file}


def apply(block: Block, repository: Path) -> None:
    """Write a new file, or change one: each hunk of a diff must fit one place."""
    path = repository / block.file
    if block.language == "python":
        assert not path.exists()
        path.write_text(block.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for hunk in block.text.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
        assert text.count(before) == 1, (block.file, before)
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    copy = tmp_path / "repository"
    copy.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), ROOT / "requirements.txt"):
        shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """Python that has imported other people's packages, and nothing of ours."""
    with forking(LATER) as program:
        yield program


def test_the_page_is_short_and_tells_what_it_touches():
    assert len(PAGE.splitlines()) <= 200
    assert list(SECTIONS) == ["A network", "A degradation", "An objective", "A metric"]
    for heading, blocks in SECTIONS.items():
        touched = files(blocks)
        assert 2 <= len(touched) <= 3
        assert {block.language for block in blocks} == {"python", "diff", "bash"}
        link = heading.lower().replace(" ", "-")
        (row,) = (line for line in PAGE.splitlines() if f"](#{link})" in line and line.startswith("|"))
        assert set(re.findall(r"`([\w/]+\.py)`", row)) == touched


def test_all_additions_fit_beside_each_other(repository):
    for blocks in SECTIONS.values():
        for block in blocks:
            if block.file:
                apply(block, repository)
    code = "import main, evaluation; print(*main.NAMES['model'], *main.NAMES['degradation'], *main.NAMES['objective'])"
    out = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert {"SRCNN", "box", "gradient"} < set(out.stdout.split())
    # What the tests say of all networks, objectives and metrics holds for these, too.
    for name in ("tests", "conftest.py", "hubconf.py", "pyproject.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, repository / name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OF_ALL]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "printed"),
    [
        ("A network", "SRCNN x2"),
        ("A degradation", "box box_radius 2"),
        ("An objective", "edges "),
        ("A metric", "MAE ↓"),
    ],
)
def test_an_addition_works_by_its_commands(heading, printed, repository, photo_folder, python):
    blocks = SECTIONS[heading]
    for block in blocks:
        if block.file:
            apply(block, repository)
    output = ""
    for command in (line for block in blocks if block.language == "bash" for line in block.text.splitlines()):
        called, program, *words = shlex.split(command.replace("DIR", str(photo_folder)))
        assert called == "python"
        words += TOY.split() if program == "main.py" else ["--cpu"]
        done = subprocess.run([python, program, *words], cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        output += done.stdout
    assert printed in output
    assert "has no effect" not in output
    if heading == "A network":  # its flag has reached it
        (told,) = repository.rglob("scores_*.json")
        assert json.loads(told.read_text())["head_size"] == 5
