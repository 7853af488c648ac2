"""Runs as tasks of Slurm job arrays, which are requeued when their time is up; what they come to is read from files.

The checkout, the Python environment and the results folder must have the same paths on all machines.
"""

import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.executors import STOPPED, Ended, Task
from utils.errors import UserError

PROGRAMS = ("sbatch", "squeue", "scancel")
POLL_SECONDS = 10.0  # from one question to Slurm to the next
GRACE_SECONDS = 60.0  # from a task's leaving the queue to its exit status on a shared disk
SECONDS_BEFORE_END = 120  # of a job's time, when it is asked to save
LOST = 1
SCRIPT = """#!/bin/bash
#SBATCH --job-name=runs
#SBATCH --array=0-{last}%{n_at_once}
#SBATCH --cpus-per-task={cpus}{gpus}
#SBATCH --requeue
#SBATCH --signal=B:TERM@{seconds}
#SBATCH --output=/dev/null
# One run of the list. Before its time is up it saves, and is queued again; attempt.py goes on from there.
folder={folder}
command=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$folder/commands")
eval "$command &"
run=$!
trap 'asked=1; kill -TERM $run' TERM
wait $run
status=$?
while kill -0 $run 2>/dev/null; do wait $run; status=$?; done
if [ -n "$asked" ] && [ ! -e "$folder/stop" ]; then
  exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
echo $status > "$folder/.$SLURM_ARRAY_TASK_ID" && mv "$folder/.$SLURM_ARRAY_TASK_ID" "$folder/$SLURM_ARRAY_TASK_ID.exit"
"""


class SlurmExecutor:
    """Hands all tasks that were started between two polls to Slurm as one array."""

    def __init__(self, folder: Path, n_at_once: int | None, cpus: float, gpus: float, options: str) -> None:
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise UserError(f"--on slurm needs Slurm's {', '.join(missing)}; run it on a login node of the cluster")
        if cpus != int(cpus) or gpus != int(gpus):
            raise UserError(f"--cpus={cpus:g} --gpus={gpus:g}: Slurm gives whole ones only; fractions are Ray's")
        self.n_at_once = n_at_once
        self._root = folder / "slurm"
        self._cpus, self._gpus, self._options = int(cpus), int(gpus), shlex.split(options)
        self._new: list[Task] = []
        self._placed: dict[Task, tuple[str, Path]] = {}  # Slurm's name of each task, and its file of the exit status
        self._gone: dict[Task, float] = {}  # since when Slurm does not list it any more
        self._dropped: list[Ended] = []
        self._next_question = 0.0

    def start(self, task: Task) -> None:
        self._new.append(task)

    def poll(self) -> Sequence[Ended]:
        if self._new:
            self._submit()
        ended, self._dropped = self._dropped, []
        for task, (_, file) in list(self._placed.items()):
            if file.is_file():
                ended.append(Ended(task, int(file.read_text())))
                del self._placed[task]
        if self._placed and time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + POLL_SECONDS
            ended += self._lost()
        return ended

    def _submit(self) -> None:
        """Raises: UserError where Slurm refuses the array."""
        folder = self._root / f"{time.time():.6f}"
        folder.mkdir(parents=True)
        for task in self._new:
            task.log.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{shlex.join(task.command)} >> {shlex.quote(str(task.log))} 2>&1" for task in self._new]
        (folder / "commands").write_text("\n".join(lines) + "\n", encoding="utf-8")
        script = SCRIPT.format(
            last=len(lines) - 1,
            n_at_once=self.n_at_once or len(lines),
            cpus=self._cpus,
            gpus=f"\n#SBATCH --gpus-per-task={self._gpus}" if self._gpus else "",
            seconds=SECONDS_BEFORE_END,
            folder=shlex.quote(str(folder)),
        )
        (folder / "script.sh").write_text(script, encoding="utf-8")
        answer = _ask("sbatch", "--parsable", *self._options, str(folder / "script.sh"))
        if answer.returncode:
            raise UserError(f"Slurm refuses the runs: {' '.join(answer.stderr.split())}; see --slurm")
        job = answer.stdout.split(";")[0].strip()
        for number, task in enumerate(self._new):
            self._placed[task] = f"{job}_{number}", folder / f"{number}.exit"
        self._new = []

    def _lost(self) -> list[Ended]:
        """Returns the tasks that Slurm has not listed for a while, and that have left no exit status."""
        jobs = sorted({name.partition("_")[0] for name, _ in self._placed.values()})
        answer = _ask("squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(jobs)}")
        if answer.returncode and "Invalid job id" not in answer.stderr:  # Slurm's own controller may be down
            return []
        listed, lost = set(answer.stdout.split()), []
        for task, (name, _) in list(self._placed.items()):
            since = self._gone.setdefault(task, time.monotonic())
            if name in listed:
                del self._gone[task]
            elif time.monotonic() - since >= GRACE_SECONDS:
                del self._placed[task]
                lost.append(Ended(task, LOST, "Slurm lists it no more, and it has left no exit status"))
        return lost

    def stop(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task in self._new:
                self._new.remove(task)
                self._dropped.append(Ended(task, STOPPED))
            elif task in self._placed:
                name, file = self._placed[task]
                (file.parent / "stop").touch()
                # One that waits leaves no exit status; one that runs saves, and the script writes it.
                pending = _ask("squeue", "--noheader", "--array", "--format=%i", "--states=PENDING", f"--jobs={name}")
                if name in pending.stdout.split():
                    _ask("scancel", name)
                    del self._placed[task]
                    self._dropped.append(Ended(task, STOPPED))
                else:
                    _ask("scancel", "--batch", "--signal=TERM", name)

    def close(self) -> None:
        self.stop([*self._new, *self._placed])


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
