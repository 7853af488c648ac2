"""What the programs share: their exit status, and of the small ones (`benchmarks/`, `experiments/`, replays) arguments,
checks, and the description of the machine. The training program reads its own command line in `main.py`.
"""

import argparse
import importlib.metadata
import io
import multiprocessing
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UserError, describe_exit, unknown
from utils.files import Json
from utils.MY_EXP_PATH import expanded
from utils.signals import STOP_SIGNALS, handled, interrupt

NOT_GUARDED = 70  # exit status of a worker process in which the program's main script starts its work anew


class Answered(Exception):
    """`--help` was asked for and has been printed."""


class Parser(argparse.ArgumentParser):
    """Raises a UserError where argparse would print its usage and exit, and `Answered` after `--help`.

    A path may begin with `~`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", Path, lambda text: Path(expanded(text)))

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise Answered


def exit_status(work: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Returns what `work` returns, or 0; 2 after a user's mistake, whose sentence is printed, or a `sys.exit`.

    After Ctrl-C, SIGTERM or SIGHUP `interrupted` is printed; the status is then 128 and the signal's number.
    """
    try:
        with handled(interrupt):
            return work() or 0
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except SystemExit as end:
        print(f"error: {describe_exit(end)}", file=sys.stderr)
        return 2
    except Answered:
        return 0
    except KeyboardInterrupt as error:
        print(interrupted, file=sys.stderr)
        return interrupted_status(error)


def interrupted_status(error: KeyboardInterrupt) -> int:
    """Returns 128 and the number of the signal, as shells do."""
    return 128 + (error.args[0] if error.args else signal.SIGINT)


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs a program that is a process of its own up to its end: by a signal if `main` returns 128 and its number, so
    that a shell's loop stops, too. The program continues where nobody takes its output, or a disk has no room for it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # it was closed; else the next file that is opened would be taken for the output
    os.close(descriptor)
    sys.stdout, sys.stderr = forgiving(1, sys.stdout), forgiving(2, sys.stderr)
    number = (status := main()) - 128
    if number in STOP_SIGNALS:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    sys.exit(status)


class _Forgiving(io.FileIO):
    """Drops what can't be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def forgiving(descriptor: int, like: Any) -> io.TextIOWrapper:
    """Returns a text stream to a descriptor like `like`, without errors: its reader or terminal may have gone."""
    binary = io.BufferedWriter(_Forgiving(descriptor, "w", closefd=descriptor > 2))
    if like is None:  # it was closed when Python started
        return io.TextIOWrapper(binary)
    by_lines = like.line_buffering or like.write_through
    return io.TextIOWrapper(binary, like.encoding, like.errors, line_buffering=by_lines)


def check_guarded() -> None:
    """Ends a worker process that does the work of the program that started it, because its main script is run again
    there; the program learns why by the exit status.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        os._exit(NOT_GUARDED)


def main_script() -> str:
    """Returns the file that worker processes import as their main module.

    Raises: UserError for a script that comes through a pipe: there is none.
    """
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    if script == "<stdin>":
        raise UserError("worker processes need the script in a file; write it to one and run that")
    return script


def version_of(package: str) -> str | None:
    """Returns the version of a package that is installed; None for any other."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def n_cores() -> int:
    """Returns how many cores this process may use; on macOS, which does not say, all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_at_least(low: int, **given: int) -> None:
    """Raises: UserError for the first of the options that is below `low`."""
    for name, value in given.items():
        if value < low:
            raise UserError(f"--{name}={value} must be at least {low}")


def chosen_maps(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the maps that `--map` names; `all` alone means all of them.

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


def machine_info(*packages: str) -> Json:
    """Returns the machine, its load over the last minute, and the versions of Python and of the packages."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": n_cores(),
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **versions},
    }


def format_machine(machine: Json) -> str:
    """Returns what `machine_info` found in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}; {versions}"
