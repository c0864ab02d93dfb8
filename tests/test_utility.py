"""Files that appear whole or not at all, logs that can be cut, times that can be read."""

import errno
import os
import re
import sys
import time
from unittest import mock

import pytest
import torch

from flags import flags_of
from option import TrainOptions
from utility import (
    ENVIRONMENT,
    MAX_SPANS,
    Clock,
    Run,
    append_rows,
    argument,
    atomic_write,
    call,
    duration,
    environment,
    forget_after,
    host_copy,
    print_any_name,
    printable,
    read_json,
    read_rows,
    write_text,
)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_text("half of the n")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def read(other):
        with atomic_write(path) as temporary:
            temporary.write_text(other.read_text())

    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path / "source")
    assert caught.value.filename == str(tmp_path / "source")
    assert "untouched" not in str(caught.value)
    assert [other.read_text() for other in tmp_path.iterdir()] == ["old"]


def test_the_file_before_is_kept_where_asked(tmp_path):
    path, before = tmp_path / "state", tmp_path / "previous"
    for text, previous in (("1", None), ("2", "1"), ("3", "2")):
        with atomic_write(path, keep=before) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text
        assert (before.read_text() if before.exists() else None) == previous
    assert sorted(tmp_path.iterdir()) == [before, path]


@pytest.mark.parametrize("error", [ValueError("odd"), OSError("odd"), FileNotFoundError(2, "odd", "file")])
def test_an_error_is_told_of_which_argument(error):
    with pytest.raises(type(error), match="`name`: odd"), argument("name"):
        raise error


def test_other_errors_pass_through():
    with pytest.raises(KeyError, match=r"^'odd'$"), argument("name"):
        raise KeyError("odd")


def test_a_builder_gets_what_it_names():
    assert call(lambda a, *, b=2: (a, b), a=1, c=3) == (1, 2)
    assert call(lambda **values: values, a=1, b=2) == {}  # a builder that takes anything names nothing


def test_a_host_copy_shares_nothing():
    state = {"a": [torch.ones(2), (torch.zeros(1), "text")], "b": {"c": 1}}
    copy = host_copy(state)
    state["a"][0].add_(1)
    state["a"][1][0].add_(1)
    assert copy["a"][0].tolist() == [1, 1]
    assert copy["a"][1] == (torch.zeros(1), "text")
    assert copy["b"] == {"c": 1}


def test_a_run_is_written_by_one(tmp_path):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    first.open({}, resumed=False)
    with pytest.raises(BlockingIOError, match="another process is writing"):
        second.open({}, resumed=False)
    first.unlock()
    (first.models / "state.pt").touch()
    with pytest.raises(FileExistsError, match="has begun"):
        second.open({}, resumed=False)
    second.open({}, resumed=True)
    second.unlock()


@pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")
@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_noted(answer, tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr("fcntl.flock", flock)
    run = Run(tmp_path / "run")
    run.open({}, resumed=False)
    assert re.search(r"note: \S+\.lock cannot be locked \(.+\): let no other", (run.path / "log.txt").read_text())
    run.unlock()
    run.open({}, resumed=True)


def test_any_name_can_be_written_and_printed(tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    print_any_name()
    print(name)
    assert capsys.readouterr().out == "caf\\udce9.png\n"
    write_text(tmp_path / "a.txt", f"é {name}")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == f"é {printable(name)}" == "é caf\\udce9.png"


def test_rows_after_a_step_are_forgotten(tmp_path):
    path = tmp_path / "log.csv"
    append_rows(path, [{"step": 1, "value": "a"}, {"step": 2, "value": "b, c"}])
    append_rows(path, [{"step": 3, "value": "d"}])
    forget_after(path, 2)
    assert read_rows(path) == [{"step": "1", "value": "a"}, {"step": "2", "value": "b, c"}]
    forget_after(path, 0)
    append_rows(path, [{"step": 1, "value": "a"}])  # with a header again
    assert read_rows(path) == [{"step": "1", "value": "a"}]


def test_lines_before_the_run_is_open_reach_its_log(tmp_path):
    run = Run(tmp_path / "run")
    run.log("first")
    assert not run.path.exists()
    assert not run.exists
    run.open({"a": 1}, resumed=False)
    run.log("second")
    lines = (run.path / "log.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "second"]
    assert run.config()["a"] == 1
    assert not run.exists  # nothing to lose before the first checkpoint
    (run.models / "model_latest.pt").touch()
    assert run.exists
    run.open({"a": 2}, resumed=True)
    assert run.config()["a"] == 1


def test_a_log_words_its_lines(tmp_path, capsys):
    Run(tmp_path / "run", wording=str.upper).log("`save`")
    assert capsys.readouterr().out == "`SAVE`\n"


def test_the_clock_shares_the_time_out():
    clock = Clock(torch.device("cpu"))
    with clock("data"):
        time.sleep(0.01)
    with clock("network"):
        time.sleep(0.03)
    shares = re.fullmatch(r"data (\d+) %  network (\d+) %", clock.shares())
    assert shares is not None
    assert int(shares[1]) < int(shares[2])
    assert sum(map(int, shares.groups())) in (99, 100, 101)
    assert clock.shares() == ""
    for part in "ab":
        for _ in range(MAX_SPANS):
            with clock(part):
                pass
    assert clock.shares() == "b 100 %"  # the last ones: where no line is ever asked for they would be too many


def test_the_environment_tells_what_the_bits_depend_on():
    found = environment()
    assert found["threads"] == torch.get_num_threads()
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert found["processor"]
    assert tuple(found) == ENVIRONMENT  # by which pages tell it from the options
    assert not found.keys() & flags_of(TrainOptions).keys()  # both stand in config.json


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "00:00:00"), (61, "00:01:01"), (86399, "23:59:59"), (90061, "1 d 01:01:01")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_json_of_notepad(tmp_path):
    (tmp_path / "recipe.json").write_text('{"name": "café"}', encoding="utf-8-sig")
    assert read_json(tmp_path / "recipe.json") == {"name": "café"}


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_newlines_end_a_row(odd, tmp_path):
    path = tmp_path / "scores.csv"
    rows = [{"image": f"a{odd}b", "psnr": "1"}, {"image": "c", "psnr": "2"}]
    append_rows(path, rows)
    assert read_rows(path) == rows


def test_a_row_that_was_torn_is_forgotten(tmp_path):
    path = tmp_path / "log.csv"
    append_rows(path, [{"step": 1, "value": "a"}, {"step": 200, "value": "b"}])
    path.write_bytes(path.read_bytes()[:-4])  # a process was killed while it wrote
    assert read_rows(path) == [{"step": "1", "value": "a"}]
    forget_after(path, 300)
    append_rows(path, [{"step": 200, "value": "b"}])
    assert read_rows(path) == [{"step": "1", "value": "a"}, {"step": "200", "value": "b"}]


def test_only_its_own_checkpoints_are_dropped(tmp_path):
    run = Run(tmp_path)
    run.models.mkdir()
    own = {f"model_{epoch}_psnr_{psnr}.pt" for epoch, psnr in ((1, "30.00"), (2, "-1.50"), (9, "5.00"), (10, "inf"))}
    strays = {"model_1_psnr_11.50 (copy).pt", "model_1_psnr_11.50_mine.pt", "model_1_psnr_.pt", "model_best.pt"}
    for name in own | strays:
        (run.models / name).touch()
    run.drop_old(0)
    assert {path.name for path in run.models.iterdir()} == own | strays
    run.drop_old(1)
    assert {path.name for path in run.models.iterdir()} == {"model_10_psnr_inf.pt"} | strays
    (run.models / "model_3_psnr_99.00.pt").touch()
    (run.models / "model_10_psnr_inf.pt").rename(run.models / "model_10_psnr_2.00.pt")
    run.drop_old(1)
    assert {path.name for path in run.models.iterdir()} - strays == {"model_3_psnr_99.00.pt", "model_10_psnr_2.00.pt"}


@pytest.mark.parametrize(
    "content", [b"5", b"null", b"[]", b"{}", b'{"a": 1}', b'{"a": 1', b"[" * 100_000, b'{"a": "\xff"}', b""]
)
def test_a_damaged_config_is_named(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        Run(tmp_path).config()


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_stays_so_where_asked(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr("os.link", mock.Mock(side_effect=OSError))
    path = tmp_path / "file"

    def write(text):
        with atomic_write(path, replace=False) as temporary:
            temporary.write_text(text)

    write("first")
    with pytest.raises(FileExistsError, match=r"File exists.*untouched.*file"):
        write("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
