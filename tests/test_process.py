"""Freed memory is kept, in a process of its own, as it stays so for as long as the process lives. Cores are counted."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from utils.command import n_cores

FAULTS = """
import resource
from utils.process import keep_freed_memory
{first}
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 << 20)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def pages_asked_for(first: str) -> int:
    """How often the system was asked for a page by the third of three tensors' worth of memory."""
    command = [sys.executable, "-c", FAULTS.format(first=first)]
    root = Path(__file__).parent.parent
    return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other ways")
def test_memory_that_was_freed_is_not_asked_for_again():
    assert 4 * pages_asked_for("keep_freed_memory()") < pages_asked_for("")


def test_cores_are_counted_where_the_system_does_not_tell_which_a_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert n_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert n_cores() == os.cpu_count()
