"""Set-up shared by all tests. Builders of arguments and batches are plain functions in `tests/builders.py`."""

import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch as th

import main  # before pytest takes the root, which has an __init__.py, for it where the checkout is named main
from experiments import attempt
from experiments.executors import local
from tests.builders import RecordingLogger

if not th.cuda.is_available():
    # The same numbers: torch's own also writes a traceback for each kind of accelerator, a hundred times the work.
    th.manual_seed = th.default_generator.manual_seed


def pytest_configure():
    """Some tests send Ctrl-C, which processes in a shell's background ignore, and their children with them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread_and_a_seed():
    """The same numbers in every order of tests and on every number of cores."""
    th.set_num_threads(1)
    th.manual_seed(0)


@pytest.fixture(autouse=True)
def no_game(monkeypatch, tmp_path_factory):
    """`engine: auto` is the embedded engine on every machine; tests of the game set SC2PATH themselves."""
    monkeypatch.setenv("SC2PATH", str(tmp_path_factory.getbasetemp() / "no StarCraft II"))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What a test writes need not outlive a power failure; a run waits for the disk with more than a hundred files."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def no_sources(request, monkeypatch):
    """A run copies more than a hundred files into its records, a quarter of a short one's time; with the marker
    `sources` a test has them.
    """
    if "sources" not in request.keywords:
        monkeypatch.setattr(main, "_add_sources", lambda ex, files: None)
        monkeypatch.setattr(main, "_add_components", lambda ex: None)


@pytest.fixture
def logger() -> RecordingLogger:
    return RecordingLogger()


@pytest.fixture
def runs_here(monkeypatch):
    """Has programs play the runs of main.py that they start in this process, which spares each run seconds of imports.

    In `test_pool.py` they are processes, as they are for users.
    """

    def start(command, log, descriptors=()):
        _, _, work, program, *arguments = command
        ended = []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as output, redirect_stdout(output), redirect_stderr(output), monkeypatch.context() as patch:
            patch.setattr(os, "execve", lambda _, words, environment: ended.append(main.main(words[2:])))
            attempt.main(Path(work), program, *arguments)
        return SimpleNamespace(returncode=ended[0], poll=lambda: ended[0], wait=lambda seconds: ended[0])

    monkeypatch.setattr(attempt, "end_with_parent", lambda: None)
    monkeypatch.setattr(attempt, "lock_run", lambda work, seconds: True)  # this process keeps a lock up to its end
    monkeypatch.setattr(local, "open_process", start)
