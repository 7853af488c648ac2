"""The first signal asks, the second stops at once; what was set before comes back; a program ends by its signal."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from utils.command import exit_status
from utils.signals import STOP_SIGNALS, StopRequest


@pytest.fixture(autouse=True)
def hang_up_fails():
    """A SIGHUP that is not handled fails the test, and not all tests; after a handled one it stays ignored."""
    before = signal.signal(signal.SIGHUP, lambda *_: pytest.fail("SIGHUP"))
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number, capfd):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked and "once more stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_a_terminal_that_closes_asks_however_often_it_hangs_up(first):
    with StopRequest() as stop:
        for number in (first, signal.SIGHUP, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert stop.asked and stop.number == first
    os.kill(os.getpid(), signal.SIGHUP)  # nor does it disturb the end


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop.asked and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_changes():
    handlers = []

    def enter():
        with StopRequest():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stopped_command_gives_128_and_the_signal_and_puts_the_handlers_back(number, capsys):
    before = [signal.getsignal(some) for some in STOP_SIGNALS if some != signal.SIGHUP]
    assert exit_status(lambda: os.kill(os.getpid(), number), "stopped") == 128 + number
    assert capsys.readouterr().err == "stopped\n"
    assert [signal.getsignal(some) for some in STOP_SIGNALS if some != signal.SIGHUP] == before


PROGRAM = """
import os, sys
from utils.command import exit_status, run_program
number, status = map(int, sys.argv[1:])
run_program(lambda: exit_status(lambda: print("out") or (os.kill(os.getpid(), number) if number else status)))
"""


@pytest.mark.parametrize(("number", "status"), [(0, 0), (0, 1), *((number, 0) for number in STOP_SIGNALS)])
def test_a_program_ends_by_its_status_or_by_the_signal_that_stopped_it(number, status):
    command = [sys.executable, "-c", PROGRAM, str(int(number)), str(status)]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    finished = subprocess.run(command, cwd=Path(__file__).parent.parent, env=env, capture_output=True)
    assert finished.returncode == (-number or status)
    assert finished.stdout == b"out\n" and finished.stderr == (b"interrupted\n" if number else b"")
