"""What the programs share: their exit status, and of the small ones (`benchmarks/`, `experiments/`, replays) arguments,
checks, and the machine in words. The training program reads its own command line in `main.py`.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UserError, unknown
from utils.MY_EXP_PATH import expanded


class Parser(argparse.ArgumentParser):
    """Raises a UserError where argparse would print its usage and exit; a path may begin with `~`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", Path, lambda text: Path(expanded(text)))

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def exit_status(work: Callable[[], int | None], interrupted: str | None = None) -> int:
    """What `work` gives, 0 for nothing; 2 after a user's mistake, whose sentence is printed.

    With the word `interrupted` to print, 130 after Ctrl-C.
    """
    try:
        return work() or 0
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        print(interrupted, file=sys.stderr)
        return 130


def check_at_least(low: int, **given: int) -> None:
    """Raises: UserError for the first of the options that is below `low`."""
    for name, value in given.items():
        if value < low:
            raise UserError(f"--{name}={value} must be at least {low}")


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
