"""One attempt at a run, on whatever machine: `python attempt.py WORK MAIN ARGUMENT...` becomes main.py, which goes on
from the newest checkpoint in the folder WORK.

Executors start it as a file, also again after a machine was lost. It needs nothing but the standard library.
"""

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

LOCK, NOTE = "lock", "attempt.json"
OTHERS_SECONDS = 90.0  # that another attempt at the same run gets to save and end
TAKEN = 75  # exit status where another process is at work on the run
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def newest_checkpoint(work: Path) -> Path | None:
    """Returns the newest checkpoint of the runs that wrote to this folder."""
    found = [path for path in work.glob("models/*/*") if path.name.isdigit()]
    return max(found, key=lambda path: (int(path.name), path.stat().st_mtime), default=None)


def read_note(work: Path) -> tuple[float, int]:
    """Returns when the last attempt began, in seconds since the epoch, and at which step; zeros before the first."""
    try:
        note = json.loads((work / NOTE).read_text(encoding="utf-8"))
        return float(note["time"]), int(note["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 0


def write_note(work: Path, step: int) -> None:
    """Writes for `read_note` that an attempt begins now at this step."""
    note = {"time": time.time(), "step": step, "host": socket.gethostname()}
    (work / NOTE).write_text(json.dumps(note), encoding="utf-8")


def lock_run(work: Path, seconds: float) -> bool:
    """Keeps other attempts out until this process ends, also after it has become another program.

    Returns False where another one keeps the run for longer than `seconds`.
    """
    descriptor = os.open(work / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(descriptor, True)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return False
            time.sleep(0.2)


def lock_is_free(file: Path) -> bool:
    """Returns whether no process on any machine keeps this lock."""
    try:
        with file.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def end_with_parent() -> None:
    """Has Linux send this process SIGTERM when the one that started it dies, so that it saves and ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(work: Path, program: str, *arguments: str) -> int:
    """Becomes the program; returns an exit status where that can't be."""
    end_with_parent()
    work.mkdir(parents=True, exist_ok=True)
    if not lock_run(work, OTHERS_SECONDS):
        print(f"another process is at work in {work}", flush=True)
        return TAKEN
    checkpoint = newest_checkpoint(work)
    for models in work.glob("models/*"):  # of earlier attempts: a replay buffer is large
        if checkpoint and models != checkpoint.parent:
            shutil.rmtree(models)
    write_note(work, int(checkpoint.name) if checkpoint else 0)
    own = ["n_threads=1", "use_tensorboard=False", f"local_results_path={work}", "save_model=True"]
    own += ["save_buffer=True", "keep_checkpoints=1"]
    own += [f"checkpoint_path={checkpoint.parent}"] if checkpoint else []
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    os.execve(sys.executable, [sys.executable, program, *arguments, *own], {**os.environ, **one_thread})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
