"""Programs end in one line and read what they say they read."""

import doctest
import signal
import subprocess
import sys
import time

import pytest

from scripts import drawing, program, shrink_images
from utility import ROOT, argument


@pytest.mark.parametrize("module", [drawing, program, shrink_images])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("`size` 3: too small for `tile`"), "do.py: error: --size 3: too small for `tile`"),
        (FileNotFoundError("there is no file x"), "do.py: error: there is no file x"),
        (MemoryError("37 GiB"), "do.py: error: out of memory (37 GiB)"),
    ],
)
def test_errors_end_in_a_line(error, message):
    with pytest.raises(SystemExit) as caught, program.one_line("do.py", {"size": "--size"}):
        raise error
    assert caught.value.code == message


def test_an_argument_that_the_room_does_not_know_is_named():
    with pytest.raises(SystemExit) as caught, program.one_line("do.py", {"hr": "HR.png"}), argument("hr"):
        open("nowhere")  # noqa: PTH123, SIM115
    assert "do.py: error: [Errno 2] HR.png: No such file or directory: 'nowhere'" in str(caught.value)


def test_the_cpu_is_taken_where_it_is_asked_for(capsys):
    parser = program.program(__file__, "")
    program.add_cpu(parser)
    assert program.device_of(cpu=parser.parse_args(["--cpu"]).cpu).type == "cpu"
    assert capsys.readouterr().out == "running on the CPU\n"  # and not for want of a GPU


def test_other_errors_are_bugs_and_pass():
    with pytest.raises(KeyError), program.one_line("do.py", {}):
        raise KeyError("x")


def test_an_interrupt_ends_in_a_line():
    code = "import time; from scripts.program import one_line\n"
    code += "with one_line('do.py', {}): print(1, flush=True), time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error) == (130, "do.py: interrupted\n")


@pytest.mark.parametrize(("word", "value"), [("0", None), ("1", 1), ("7", 7), ("8", None), ("1.5", None), ("x", None)])
def test_whole_numbers(word, value):
    if value is None:
        with pytest.raises(program.argparse.ArgumentTypeError, match=r"in 1\.\.7"):
            program.integer(1, 7)(word)
    else:
        assert program.integer(1, 7)(word) == value


@pytest.mark.parametrize("word", ["-1", "0", "inf", "nan", "x"])
def test_numbers(word):
    with pytest.raises(program.argparse.ArgumentTypeError, match="is not a number above 0"):
        program.real(0, above=True)(word)
    assert program.real(0)("1e-3") == 0.001
