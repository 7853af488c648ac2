"""Where runs are computed: an `Executor` starts commands, says which have ended and asks them to end.

`local.py`: processes on this machine; `ray.py`: a Ray cluster; `slurm.py`: a Slurm cluster. The last two are imported
where they are asked for. Runs leave their results in folders that all machines share; executors return exit statuses.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from utils.command import check_at_least, n_cores
from utils.errors import UserError

KINDS = ("local", "ray", "slurm")
STOPPED = 143  # the exit status of what was dropped before it began: that of SIGTERM
ON_HELP = "where runs are computed: this machine, a Ray cluster or a Slurm cluster, which share the folder with it"
JOBS_HELP = "runs at once (default: cores; with --on ray what the cluster has room for)"
ADDRESS_HELP = "of the Ray cluster: HOST:PORT, or auto (default: a cluster of this machine alone)"
RETRIES_HELP = "how often a run goes on elsewhere after its machine was lost (default: %(default)s)"
SLURM_HELP = "more options of sbatch, such as --partition=gpu --time=12:00:00"


@dataclass(frozen=True, eq=False)
class Task:
    """A command, and the file that its output goes to. It may be run again, and then goes on where it was."""

    name: str
    command: tuple[str, ...]
    log: Path


class Ended(NamedTuple):
    task: Task
    status: int  # as a shell has it: 128 and the number of the signal that ended it
    problem: str = ""  # what the executor knows more than that


class Executor(Protocol):
    n_at_once: int | None  # None where that is the cluster's business

    def start(self, task: Task) -> None:
        """Takes a task, to begin when there is room for it."""

    def poll(self) -> Sequence[Ended]:
        """Returns the tasks that have ended since the last call; never waits for long."""

    def stop(self, tasks: Sequence[Task]) -> None:
        """Asks tasks to save and end, or, a second time, to end at once; those that have not begun never will.

        `poll` returns them when they have ended.
        """

    def close(self) -> None:
        """Ends what is still running and frees what the executor holds."""


OPTIONS: dict[str, dict[str, Any]] = {
    "on": {"choices": KINDS, "default": "local", "help": f"{ON_HELP} (default: %(default)s)"},
    "jobs": {"type": int, "help": JOBS_HELP},
    "address": {"help": ADDRESS_HELP},
    "cpus": {"type": float, "default": 1.0, "help": "of each run on a cluster (default: 1)"},
    "gpus": {"type": float, "default": 0.0, "help": "of each run; Ray takes fractions (default: 0)"},
    "retries": {"type": int, "default": 3, "help": RETRIES_HELP},
    "slurm": {"default": "", "metavar": "OPTIONS", "help": SLURM_HELP},
}
"""What chooses an executor, as `add_argument` takes it."""


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the options that choose an executor."""
    for name, how in OPTIONS.items():
        parser.add_argument(f"--{name}", **how)


def check_arguments(args: Namespace) -> None:
    """Completes and checks the options of `add_arguments`. Raises: UserError for what can't be meant."""
    if args.jobs is None and args.on != "ray":
        args.jobs = n_cores()
    check_at_least(0, retries=args.retries)
    if args.jobs is not None:
        check_at_least(1, jobs=args.jobs)
    if args.cpus <= 0 or args.gpus < 0:
        raise UserError(f"--cpus={args.cpus:g} must be above 0, and --gpus={args.gpus:g} at least 0")
    if args.address and args.on != "ray":
        raise UserError(f"--address={args.address} is of a Ray cluster; add --on ray, or leave it out")
    if args.slurm and args.on != "slurm":
        raise UserError(f"--slurm='{args.slurm}' is for Slurm; add --on slurm, or leave it out")


def as_arguments(args: Namespace) -> list[str]:
    """Returns the options of `add_arguments` as they were given, for another command."""
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    return [f"--{name}={value}" for name, value in given.items() if value not in (None, "")]


def make_executor(args: Namespace, folder: Path, lock: int | None = None) -> Executor:
    """Returns the executor that the options of `add_arguments` choose.

    Args:
        folder: where it may keep its own files.
        lock: a descriptor that processes on this machine inherit.

    Raises: UserError where a package, a program or the cluster is missing.
    """
    if args.on == "ray":
        from experiments.executors.ray import RayExecutor

        return RayExecutor(args.address, args.jobs, args.cpus, args.gpus, args.retries)
    if args.on == "slurm":
        from experiments.executors.slurm import SlurmExecutor

        return SlurmExecutor(folder, args.jobs, args.cpus, args.gpus, args.slurm)
    from experiments.executors.local import LocalExecutor

    return LocalExecutor(args.jobs, lock)
