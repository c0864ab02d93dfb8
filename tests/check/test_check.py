"""The two parts of the check, what a run makes of the cheap one, and what is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import check
from check import Finding, Grade, machine, room
from check.finding import fine, listing, mend, note, readable, show
from option import TrainOptions

Options = Callable[..., TrainOptions]


def grades(findings: object) -> set[Grade]:
    return {finding.grade for finding in findings}  # pyright: ignore[reportGeneralTypeIssues]


def test_nothing_is_to_be_mended_of_a_good_run(options: Options, tmp_path: Path) -> None:
    assert Grade.MEND not in grades(check.cheap(options()))
    assert grades(check.thorough(options())) == {Grade.FINE}
    assert list(tmp_path.iterdir()) == []


def test_a_run_starts_with_a_note(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    log: list[str] = []
    check.before_start(options("--n_threads 2"), log.append)
    assert [text for text in log if "--n_threads 2 on 1 CPU cores" in text]
    assert not [text for text in log if text.startswith("fine")]


def test_a_run_does_not_start_before_it_is_mended(options: Options, tmp_path: Path) -> None:
    (tmp_path / "experiment").write_text("a file in the way")
    with pytest.raises(ValueError, match="--dir_experiment"):
        check.before_start(options(), print)


def test_a_network_that_cannot_be_is_said_once(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    asked = options(network="--model CDSR --n_feats 8")
    assert not check.show([*check.cheap(asked), *check.thorough(asked)])
    assert capsys.readouterr().out.count("n_feats means nothing to CDSR") == 1


def test_weights_that_are_not_there(options: Options, tmp_path: Path) -> None:
    findings = list(check.thorough(options(f"--pre_train {tmp_path / 'nowhere.pt'}")))
    assert [f.text for f in findings if f.grade is Grade.MEND] == [
        f"--pre_train: there is no file {tmp_path / 'nowhere.pt'}"
    ]
    assert len(findings) > 1  # the images are looked at all the same


def test_a_patch_that_is_too_small(options: Options) -> None:
    (finding,) = (f for f in check.thorough(options("--patch_size 4")) if f.grade is Grade.MEND)
    assert finding.text.startswith("--patch_size 4")


def test_refusals_of_others_are_findings(options: Options) -> None:
    def refuse(asked: TrainOptions) -> None:
        raise FileExistsError("--save s: there is a run already")

    assert list(check.attempt(refuse, options())) == [mend("--save s: there is a run already")]
    assert not list(check.attempt(lambda: None))


def test_a_system_without_shared_memory_or_proc(
    options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: "")
    monkeypatch.setattr(room, "SHARED", tmp_path / "nowhere")
    text = "\n".join(map(str, check.cheap(options())))
    assert "mend" not in text
    assert "memory free" not in text


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    findings: list[Finding] = [fine("a"), note("b"), note("b")]
    assert show(findings)
    assert capsys.readouterr().out == "fine: a\nnote: b\n0 to mend, 1 worth knowing, 1 fine\n"
    assert not show([*findings, mend("c")])
    assert capsys.readouterr().out.endswith("mend: c\n1 to mend, 1 worth knowing, 1 fine\n")


def test_words() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert (readable(64 * 2**20), readable(1.5 * 2**30)) == ("64 MiB", "1.5 GiB")
