"""Signals that ask to stop: before the loop, inside it, and for the processes of a loader."""

import os
import signal
import subprocess
import sys

import pytest

from runtime.signals import INTERRUPTED, SIGNALS, STOPPED, StopSignals, say_on_stderr, watched
from utility import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals")
OTHERS = [number for number in SIGNALS if number != signal.SIGINT]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_inside_the_loop_a_signal_is_noted_and_said_once(number):
    said = []
    with StopSignals(say=said.append) as signals, signals.deferred():
        assert not signals.asked
        send(number)
        send(signal.SIGTERM)  # schedulers tell the process and its group
        assert signals.asked
    assert said == ["stopping after this step; Ctrl-C again ends at once"]


def test_a_second_ctrl_c_ends_at_once():
    with StopSignals(say=lambda text: None) as signals, signals.deferred():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_one_of_several_processes_waits_for_the_others():
    said = []
    with StopSignals(impatient=False, say=said.append) as signals, signals.deferred():
        send(signal.SIGINT)
        send(signal.SIGINT)
    assert said == ["stopping after this step"]


@pytest.mark.parametrize("number", OTHERS)
def test_before_the_loop_the_program_ends_with_the_same_code(number):
    with StopSignals() as signals:
        with pytest.raises(SystemExit) as caught:
            send(number)
        assert caught.value.code == STOPPED
        assert signals.asked  # if something swallows that, the loop stops before its first step


def test_before_the_loop_ctrl_c_interrupts():
    with StopSignals(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


@pytest.mark.parametrize("entered", [True, False])
def test_handlers_are_as_before_afterwards(entered):
    before = [signal.getsignal(number) for number in SIGNALS]
    signals = StopSignals()
    if entered:
        with signals, signals.deferred():
            pass
    else:
        with signals.deferred():
            assert signal.getsignal(signal.SIGTERM) == signals._on_signal
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_nohup_is_respected(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert set(SIGNALS) - set(watched()) == {signal.SIGHUP}
        with StopSignals() as signals, signals.deferred():
            send(signal.SIGHUP)
            assert not signals.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_loader_process_leaves_signals_to_its_parent():
    code = """
import os
from runtime.signals import SIGNALS, leave_signals_to_the_parent
leave_signals_to_the_parent(0)
for number in SIGNALS:
    os.kill(os.getpid(), number)
print(len(SIGNALS))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


def test_the_line_goes_to_standard_error(capfd):
    say_on_stderr("stopping")
    assert capfd.readouterr().err == "\nstopping\n"


@pytest.mark.parametrize("program", ["main.py", "test.py"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_pytorch_is_imported_too(program, number, tmp_path):
    (tmp_path / "torch.py").write_text(
        "import time; print('importing', flush=True); [time.sleep(0.1) for _ in range(600)]"
    )
    with subprocess.Popen(
        [sys.executable, ROOT / program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        _, error = process.communicate()
    ended = (INTERRUPTED, f"\n{program}: interrupted\n") if number == signal.SIGINT else (STOPPED, "")
    assert (process.returncode, error) == ended
