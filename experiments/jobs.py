"""Runs of main.py that an executor computes: interrupted ones resume, finished ones are published.

`pool.py` trains its members so, `omg.py` all that it needs, `sweep.py` its runs. `attempt.py` is what executors start.
"""

import fcntl
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import main as command_line
from experiments.attempt import newest_checkpoint, read_note
from experiments.executors import Executor, Task
from experiments.executors.local import LocalExecutor
from utils.errors import UserError
from utils.files import Json, read_config
from utils.MY_EXP_PATH import make_results_folder
from utils.records import METRIC, read_json_lines
from utils.signals import StopRequest
from utils.timehelper import time_str

MAIN = command_line.ROOT / "main.py"
ATTEMPT = command_line.ROOT / "experiments" / "attempt.py"
WORK = ".work"  # holds what is under way
NOT_PUBLISHED = ("buffer.th", "state.th")  # of a checkpoint: what only a run that goes on needs
POLL_SECONDS = 0.1
TAIL_BYTES = 2**16  # of a run's statistics, in which its last test is looked for
LOG_LINES = 10  # of a run that failed, that are printed


class Progress(NamedTuple):
    steps: int
    won: float | None  # share of the last test's episodes


@dataclass(frozen=True, eq=False)
class Job:
    """A run of main.py and what is made of it. Subclasses say how, in `publish`."""

    name: str
    arguments: tuple[str, ...]  # of main.py
    n_steps: int  # environment steps that it plays, for a test about so many
    output: Path  # the file or folder that `publish` makes, whole or not at all
    work: Path  # where its runs write

    @property
    def log(self) -> Path:
        return self.work / "log.txt"

    def task(self) -> Task:
        """Returns what an executor starts."""
        return Task(self.name, (sys.executable, str(ATTEMPT), str(self.work), str(MAIN), *self.arguments), self.log)

    def checkpoint(self) -> Path | None:
        """Returns the newest one of its runs."""
        return newest_checkpoint(self.work)

    def records(self) -> Path | None:
        """Those of its last run."""
        found = [path for path in self.work.glob("sacred/*") if (path / "config.json").is_file()]
        return max(found, key=lambda path: int(path.name), default=None)

    def write_lines(self, name: str, folder: Path) -> None:
        """Writes a record over all runs into the folder. Raises: OSError, UserError where it can't."""
        text = "".join(f"{json.dumps(line)}\n" for line in self.lines(name, {"t_env": int}))
        (folder / name).write_text(text, encoding="utf-8")

    def lines(self, name: str, layout: object) -> list[Json]:
        """Returns the lines of a record, such as metrics.jsonl, over all runs: each counts until the next went on."""
        lines: list[Json] = []
        for folder in sorted(self.work.glob("sacred/*/config.json"), key=lambda path: int(path.parent.name)):
            file = folder.with_name(name)
            later = list(read_json_lines(file, layout)) if file.is_file() else []
            if later:
                lines = [line for line in lines if line["t_env"] < later[0]["t_env"]] + later
        return lines

    def steps(self) -> int:
        """Returns how far it has been trained."""
        checkpoint = self.checkpoint()
        return int(checkpoint.name) if checkpoint else 0

    def progress(self) -> Progress:
        """Returns how far its last run has come by its records, which are newer than its checkpoints."""
        records = self.records()
        file = records / "metrics.jsonl" if records else None
        steps, won = self.steps(), None
        try:
            tail = file.read_bytes()[-TAIL_BYTES:] if file else b""
        except OSError:  # none is there yet
            tail = b""
        for line in tail.split(b"\n")[1:-1]:  # the first and the last may be torn
            entry = json.loads(line)
            steps = max(steps, entry["t_env"])
            won = entry["value"] if entry["key"] == "test_battle_won_mean" else won
        return Progress(steps, won)

    def final_weights(self) -> tuple[Path, Path]:
        """Returns the checkpoint and the records of a training that has ended.

        Raises: OSError where the run has not saved them.
        """
        checkpoint, records = self.checkpoint(), self.records()
        if checkpoint is None or records is None or not (self.steps() > self.n_steps or self._has_won_enough(records)):
            raise OSError("its final weights or its records have not been saved")
        return checkpoint, records

    def _has_won_enough(self, records: Path) -> bool:
        """Returns whether the run ended at its `stop_win_rate`, before its last step."""
        asked = read_config(records, dict).get("stop_win_rate")
        lines = read_json_lines(records / "metrics.jsonl", METRIC) if asked is not None else ()
        won = [line["value"] for line in lines if line["key"] == "test_battle_won_mean"]
        return bool(won) and won[-1] >= asked

    def publish(self) -> str:
        """Makes `output` of a run that has ended well; returns what is printed of it.

        Raises: OSError, UserError where the run has not left what it should, or it can't be written.
        """
        raise NotImplementedError


@contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Keeps other commands out of the folder; returns a descriptor by which the processes that inherit it do, too.

    Raises: UserError where another command, or a run that outlived it, is at work there.
    """
    make_results_folder(folder / WORK, "FOLDER")
    with (folder / WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder} is being filled by another process, perhaps by runs that outlived it; wait for it or end it"
            ) from error
        yield lock.fileno()


class JobQueue:
    """Jobs that an executor runs, and what is known of their speed.

    Args:
        n_jobs, lock: for an executor of processes on this machine, where `executor` is not given.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        n_jobs: int | None,
        lock: int | None,
        known_speeds: Sequence[float] = (),
        executor: Executor | None = None,
    ) -> None:
        self.executor = executor or LocalExecutor(n_jobs or 1, lock)
        self.waiting = list(jobs)
        self.open: dict[Task, Job] = {}  # handed to the executor, and not ended
        self.speeds = list(known_speeds)  # environment steps per second of the jobs that are finished
        self.n_planned, self.n_done = len(jobs), 0
        self.failed: list[str] = []

    def run(self) -> None:
        """Runs all jobs. Raises: KeyboardInterrupt where a signal asked for a stop, and the runs have ended."""
        with StopRequest() as stop:
            try:
                were_asked = False
                while True:
                    if not stop.asked:
                        for job in self._next():
                            self._start(job)
                    if not self.open and (stop.asked or not self.waiting):
                        break
                    if stop.asked and not were_asked:
                        self.executor.stop(list(self.open))
                        were_asked = True
                    ended = self.executor.poll()
                    for task, status, problem in ended:
                        self._finish(self.open.pop(task), status, problem, stop.asked)
                    self._tick()
                    if not ended:
                        time.sleep(POLL_SECONDS)
            finally:
                self.executor.close()
        if stop.asked:
            raise KeyboardInterrupt(stop.number)

    def seconds_left(self) -> float | None:
        """Estimated from the mean speed of the jobs that are finished; None before there is one."""
        if not self.speeds:
            return None
        speed = sum(self.speeds) / len(self.speeds)
        left = [*self.waiting, *self.open.values()]
        ahead = sum(max(job.n_steps - job.progress().steps, 0) for job in left)
        return ahead / speed / max(min(self.executor.n_at_once or len(left), len(left)), 1)

    def _next(self) -> list[Job]:
        """Returns the jobs that the executor gets now: all of them, unless a subclass knows better."""
        jobs, self.waiting = self.waiting, []
        return jobs

    def _start(self, job: Job) -> None:
        task = job.task()
        self.open[task] = job
        self.executor.start(task)

    def _tick(self) -> None:
        """Called again and again while jobs run; a subclass may show how they come on."""

    def _finish(self, job: Job, status: int, problem: str, is_stopping: bool) -> None:
        """Publishes a run that has ended well; reports one that has not."""
        problem = f"failed with status {status}{f' ({problem})' if problem else ''}"
        if status == 0:
            began, first_step = read_note(job.work)
            seconds = max(time.time() - began, 1e-3)
            try:
                said = job.publish()
            except (OSError, UserError) as error:
                problem = f"has ended, but {error}"
            else:
                shutil.rmtree(job.work, ignore_errors=True)
                self._count(f"{job.name}: {said}", (job.n_steps - first_step) / seconds)
                return
        if is_stopping:
            if job.work.exists():
                print(f"{job.name}: stopped, to be resumed from step {job.steps():,}", flush=True)
        else:
            self.failed.append(job.name)
            last = job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            lines = "\n".join(f"    {line}" for line in last)
            print(f"{job.name} {problem}; {job.log} ends:\n{lines}", flush=True)

    def _count(self, said: str, speed: float) -> None:
        self.n_done += 1
        self.speeds += [speed] if speed > 0 else []  # a run may have been resumed at its very end
        left = self.seconds_left()
        rest = f"; time left: {time_str(left)}" if left else ""
        print(f"[{self.n_done}/{self.n_planned}] {said}{rest}", flush=True)
