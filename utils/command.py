"""What the small programs (`benchmarks/`, `experiments/`, replays) share: arguments, checks, the machine in words.

The training program has its own command line in `main.py`.
"""

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """Raises a UserError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def chosen_maps(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """The maps that `--map` names; `all` alone means all of them.

    Raises: UserError for a map that is not known.
    """
    if list(given) == ["all"]:
        return list(known)
    for name in given:
        if name not in known:
            raise UserError(f"--map: {unknown('map', name, [*known, 'all'])}")
    return list(given)


def check_threads(n_threads: int, available: int) -> None:
    """Raises: UserError for more threads than there are; numba would fail late and at length."""
    if n_threads > available:
        raise UserError(f"--threads={n_threads} is more than the {available} of this machine")


def check_json(path: Path | None) -> None:
    """Raises: UserError where `--json` names what can't be written, before anything has been computed."""
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise UserError(f"--json={path} can't be written: give a file in a folder that is there")


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
