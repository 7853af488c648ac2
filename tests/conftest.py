"""Set-up shared by all tests. Builders of arguments and batches are plain functions in `tests/builders.py`."""

import os
import signal

import pytest
import torch as th

import main  # noqa: F401  # before pytest takes the root, which has an __init__.py, for it where the checkout is named main
from tests.builders import RecordingLogger


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


@pytest.fixture
def logger() -> RecordingLogger:
    return RecordingLogger()
