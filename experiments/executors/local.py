"""Runs as processes of this machine, some at once."""

import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from experiments.executors import STOPPED, Ended, Task

SECONDS_TO_END = 60  # that a run gets at the end of all, before it is killed


class LocalExecutor:
    """Keeps `n_at_once` processes busy, each in a session of its own, so that Ctrl-C reaches it from here only."""

    def __init__(self, n_at_once: int, lock: int | None = None) -> None:
        self.n_at_once: int | None = n_at_once
        self._lock = lock
        self._waiting: deque[Task] = deque()
        self._dropped: list[Ended] = []
        self._running: dict[Task, subprocess.Popen] = {}

    def start(self, task: Task) -> None:
        self._waiting.append(task)

    def poll(self) -> Sequence[Ended]:
        ended, self._dropped = self._dropped, []
        for task, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[task]
                ended.append(Ended(task, shell_status(process.returncode)))
        while self._waiting and len(self._running) < (self.n_at_once or 1):
            task = self._waiting.popleft()
            self._running[task] = open_process(task.command, task.log, [] if self._lock is None else [self._lock])
        return ended

    def stop(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task in self._running:
                self._running[task].terminate()
            elif task in self._waiting:
                self._waiting.remove(task)
                self._dropped.append(Ended(task, STOPPED))

    def close(self) -> None:
        self.stop(list(self._running))
        for process in self._running.values():
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()


def open_process(command: Sequence[str], log: Path, descriptors: Sequence[int] = ()) -> subprocess.Popen:
    """Starts a command whose output is added to the log; it inherits the descriptors."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=descriptors,
        )


def shell_status(code: int) -> int:
    """Returns the exit status of a process as a shell does: 128 and the number of the signal that ended it."""
    return 128 - code if code < 0 else code
