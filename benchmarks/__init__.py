"""Speed, memory and their growth, one program each: `python -m benchmarks.engine --help`. None of them is a test.

What every one of them says of the machine is here.
"""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any


def surroundings(*packages: str) -> dict[str, Any]:
    """The machine, its load over the last minute, and the versions of Python and of the packages."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **versions},
    }


def in_words(machine: dict[str, Any]) -> str:
    """`surroundings` in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}; {versions}"
