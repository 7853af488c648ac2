"""Freed memory is kept, in a process of its own, as it stays so for as long as the process lives."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
