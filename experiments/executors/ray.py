"""Runs as tasks of a Ray cluster (Ray Core only): of this machine alone, or of one that is there already.

The checkout, the Python environment and the results folder must have the same paths on all machines. Ray starts a task
again elsewhere when its machine is lost; `attempt.py` then goes on from the newest checkpoint.
"""

import signal
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from experiments.executors import STOPPED, Ended, Task
from utils.errors import UserError

CONNECT_SECONDS = 5.0
SECONDS_TO_SAVE = 90.0  # that a run gets after its task was cancelled
LOST = 1  # exit status of a run whose machines were lost too often
KILLED = 128 + signal.SIGKILL  # of a run that did not end by itself: its machine goes down, or has no memory left


class RayExecutor:
    """One Ray task per command; it starts the command as a process where Ray puts it."""

    def __init__(self, address: str | None, n_at_once: int | None, cpus: float, gpus: float, retries: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("--on ray needs the package ray; run: pip install -r requirements-sweep.txt") from error
        self._ray: Any = ray
        self.n_at_once = n_at_once
        self._tasks: dict[Any, Task] = {}  # by the reference of their result
        self._asked: set[Task] = set()
        self._killed: Counter[Task] = Counter()  # how often the run of each was
        if address and address != "auto":
            _check_reachable(address)
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        # On this machine alone, `n_at_once` runs are what there is room for.
        room = {"address": address} if address else {"num_cpus": n_at_once and max(round(n_at_once * cpus), 1)}
        self._is_own = not ray.is_initialized()
        if self._is_own:
            try:
                self._ray.init(**room, **quiet, include_dashboard=None if address else False)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                why = " ".join(str(error).split())[:200]
                raise UserError(f"there is no Ray cluster at {address or 'this machine'} ({why}); start it") from error
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries, "retry_exceptions": False}
        self._remote = self._ray.remote(_make_work(SECONDS_TO_SAVE))

    def start(self, task: Task) -> None:
        remote = self._remote.options(name=task.name, **self._options)
        self._tasks[remote.remote(task.command, str(task.log))] = task

    def poll(self) -> Sequence[Ended]:
        if not self._tasks:
            return []
        waiting = list(self._tasks)
        done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [ended for reference in done if (ended := self._result(reference)) is not None]

    def _result(self, reference: Any) -> Ended | None:
        """How a task ended; None if it starts again. When a machine is lost, its run can be killed, and the worker say
        so, before Ray takes note; for Ray the task has then come to its end."""
        task = self._tasks.pop(reference)
        try:
            status = self._ray.get(reference)
            if status == KILLED and task not in self._asked and self._killed[task] < self._options["max_retries"]:
                self._killed[task] += 1
                self.start(task)
                return None
            return Ended(task, status)
        except self._ray.exceptions.TaskCancelledError:
            return Ended(task, STOPPED)
        except self._ray.exceptions.RayError as error:
            return Ended(task, LOST, f"Ray: {type(error).__name__}; its machine was lost, and again after all retries")

    def stop(self, tasks: Sequence[Task]) -> None:
        wanted = set(tasks)
        for reference, task in self._tasks.items():
            if task in wanted:
                self._ray.cancel(reference, force=task in self._asked)
        self._asked |= wanted

    def close(self) -> None:
        if self._tasks:
            self.stop(list(self._tasks.values()))
            self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=SECONDS_TO_SAVE)
        if self._is_own:
            self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises: UserError where nothing answers there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), CONNECT_SECONDS):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"there is no Ray cluster at --address={address} ({error}); start one with `ray start --head`, "
            "or give its HOST:PORT"
        ) from error


def _make_work(seconds_to_save: float) -> Any:
    """Returns the task. It is a function inside of another, so that Ray sends its code and not its name."""

    def work(command: tuple[str, ...], log: str) -> int:
        import subprocess
        from pathlib import Path

        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            while True:  # short waits: Ray's cancel does not interrupt a system call
                try:
                    code = process.wait(0.1)
                    break
                except subprocess.TimeoutExpired:
                    pass
        except BaseException:
            process.terminate()  # the run saves and ends
            try:
                process.wait(seconds_to_save)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        return 128 - code if code < 0 else code

    return work
