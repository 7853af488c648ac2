"""Runs of main.py as processes of their own, several at once: interrupted ones resume, finished ones are published.

`pool.py` trains its members so, `omg.py` all that it needs.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import main as command_line
from utils.errors import UserError
from utils.files import Json
from utils.MY_EXP_PATH import make_results_folder
from utils.records import read_json_lines
from utils.signals import StopRequest
from utils.timehelper import time_str

MAIN = command_line.ROOT / "main.py"
WORK = ".work"  # holds what is under way
NOT_PUBLISHED = ("buffer.th", "state.th")  # of a checkpoint: what only a run that goes on needs
POLL_SECONDS = 0.1
SECONDS_TO_END = 60  # that an interrupted run gets after the second signal, before it is killed
LOG_LINES = 10  # of a run that failed, that are printed


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

    def checkpoint(self) -> Path | None:
        """Returns the newest one of its runs."""
        found = [path for path in self.work.glob("models/*/*") if path.name.isdigit()]
        return max(found, key=lambda path: (int(path.name), path.stat().st_mtime), default=None)

    def records(self) -> Path | None:
        """Those of its last run."""
        found = [path for path in self.work.glob("sacred/*") if (path / "config.json").is_file()]
        return max(found, key=lambda path: int(path.name), default=None)

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

    def final_weights(self) -> tuple[Path, Path]:
        """Returns the checkpoint and the records of a training that has ended.

        Raises: OSError where the run has not saved them.
        """
        checkpoint, records = self.checkpoint(), self.records()
        if checkpoint is None or records is None or self.steps() <= self.n_steps:
            raise OSError("its final weights or its records have not been saved")
        return checkpoint, records

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
    """The processes of some jobs, `n_jobs` at once, and what is known of their speed."""

    def __init__(self, jobs: Sequence[Job], n_jobs: int, lock: int, known_speeds: Sequence[float] = ()) -> None:
        self.waiting = deque(jobs)
        self.n_jobs = n_jobs
        self.lock = lock
        self.running: dict[Job, tuple[subprocess.Popen, TextIO, float, int]] = {}  # and when it began, at which step
        self.speeds = list(known_speeds)  # environment steps per second of the jobs that are finished
        self.n_planned, self.n_done = len(jobs), 0
        self.failed: list[str] = []

    def run(self) -> None:
        """Runs all jobs. Raises: KeyboardInterrupt where a signal asked for a stop, and the runs have ended."""
        with StopRequest() as stop:
            try:
                were_asked = False
                while self.running or (self.waiting and not stop.asked):
                    while self.waiting and len(self.running) < self.n_jobs and not stop.asked:
                        self._start(self.waiting.popleft())
                    if stop.asked and not were_asked:
                        self._end_all()
                        were_asked = True
                    time.sleep(POLL_SECONDS)
                    for job in [job for job, (process, *_) in self.running.items() if process.poll() is not None]:
                        self._finish(job, stop.asked)
            finally:
                self._end_all()
                for process, *_ in self.running.values():
                    try:
                        process.wait(SECONDS_TO_END)
                    except subprocess.TimeoutExpired:
                        process.kill()
        if stop.asked:
            raise KeyboardInterrupt(stop.number)

    def seconds_left(self) -> float | None:
        """Estimated from the mean speed of the jobs that are finished; None before there is one."""
        if not self.speeds:
            return None
        speed = sum(self.speeds) / len(self.speeds)
        ahead = float(sum(job.n_steps - job.steps() for job in self.waiting))
        for job, (_, _, began, first_step) in self.running.items():
            ahead += max(job.n_steps - first_step - (time.monotonic() - began) * speed, 0)
        n_left = len(self.waiting) + len(self.running)
        return ahead / speed / max(min(self.n_jobs, n_left), 1)

    def _start(self, job: Job) -> None:
        job.work.mkdir(parents=True, exist_ok=True)
        checkpoint = job.checkpoint()
        for models in job.work.glob("models/*"):  # of earlier runs: a replay buffer is large
            if checkpoint and models != checkpoint.parent:
                shutil.rmtree(models)
        own = ["n_threads=1", "use_tensorboard=False", f"local_results_path={job.work}", "save_model=True"]
        own += ["save_buffer=True", "keep_checkpoints=1"]
        own += [f"checkpoint_path={checkpoint.parent}"] if checkpoint else []
        log = job.log.open("a", encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(MAIN), *job.arguments, *own],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
            start_new_session=True,  # so that Ctrl-C reaches it once, from here: a second one would end it at once
            pass_fds=[self.lock],
        )
        self.running[job] = process, log, time.monotonic(), job.steps()

    def _finish(self, job: Job, is_stopping: bool) -> None:
        """Publishes a run that has ended well; reports one that has not."""
        process, log, began, first_step = self.running.pop(job)
        log.close()
        problem = f"failed with status {process.returncode}"
        if process.returncode == 0:
            seconds = time.monotonic() - began
            try:
                said = job.publish()
            except (OSError, UserError) as error:
                problem = f"has ended, but {error}"
            else:
                shutil.rmtree(job.work, ignore_errors=True)
                self._count(f"{job.name}: {said}", (job.n_steps - first_step) / seconds)
                return
        if is_stopping:
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

    def _end_all(self) -> None:
        """Sends each run SIGTERM: after the first it saves and ends, after the second it ends at once."""
        for process, *_ in self.running.values():
            process.terminate()
