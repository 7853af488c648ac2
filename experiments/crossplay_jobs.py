"""Cross-play in many processes: each plays the pairs of one member with itself and with those after it."""

import json
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.attempt import write_note
from experiments.executors import Task, make_executor
from experiments.jobs import WORK, Job, JobQueue, Progress, only_one
from main import ROOT
from utils.errors import UserError
from utils.files import Json, digest, read_json
from utils.intervals import mean_interval, wilson_interval
from utils.pools import Member
from utils.records import write_whole

PROGRAM = "experiments.crossplay"
PAIRS = "pairs.json"
LAYOUT = [{"i": int, "j": int, "episodes": [dict]}]


class Pair(NamedTuple):
    """Two members, by their places in the order, and the episodes that they played, as rows of episodes.csv."""

    i: int
    j: int
    episodes: list[Json]

    def interval(self, metric: str) -> tuple[float, float, float]:
        """Returns the mean of a metric and its 95 % interval."""
        values = [float(episode[metric]) for episode in self.episodes]
        bounds = wilson_interval(int(sum(values)), len(values)) if metric == "won" else mean_interval(values)
        return float(np.mean(values)), *bounds


@dataclass(frozen=True, eq=False)
class Row(Job):
    """The pairs that a member is the first of. `arguments` are of crossplay.py."""

    def task(self) -> Task:
        places = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        command = ("env", f"PYTHONPATH={places}", sys.executable, "-m", PROGRAM)
        return Task(self.name, (*command, *self.arguments), self.log)

    def progress(self) -> Progress:
        return Progress(0, None)  # they are written together

    def publish(self) -> str:
        (self.work / PAIRS).rename(self.output)
        return f"{self.n_steps} pairs"


def write_row(work: Path, pairs: Sequence[Pair]) -> None:
    """Writes the pairs of a row to its folder, for `Row.publish`. Raises: OSError."""
    write_whole(work / PAIRS, json.dumps([pair._asdict() for pair in pairs]).encode())


def play_rows(args: Namespace, members: Sequence[Member]) -> list[Pair]:
    """Plays all pairs on the executor that the arguments choose; rows that were played before are kept.

    Raises: UserError where a row fails, or another process plays them; KeyboardInterrupt where a signal asked to stop.
    """
    folder = args.out.absolute().with_name(f".{args.out.name}.pairs")
    with only_one(folder) as lock:
        rows = [make_row(folder, args, members, i) for i in range(len(members))]
        left = [row for row in rows if not row.output.exists()]
        for row in left:
            row.work.mkdir(parents=True, exist_ok=True)
            write_note(row.work, 0)
        if left:
            queue = JobQueue(left, args.jobs, None, executor=make_executor(args, folder / WORK, lock))
            queue.run()
            if queue.failed:
                names = ", ".join(sorted(queue.failed))
                raise UserError(f"the pairs of {names} failed; see why above, and give the same command again")
        pairs = [Pair(**pair) for row in rows for pair in read_json(row.output, LAYOUT, "record of pairs", "delete it")]
    shutil.rmtree(folder, ignore_errors=True)
    return pairs


def make_row(folder: Path, args: Namespace, members: Sequence[Member], i: int) -> Row:
    """Returns the row of member i; its file has a name that follows from all that its episodes depend on."""
    played = {"episodes": args.episodes, "seed": args.seed, "worlds": args.worlds}
    of_members = [(member.folder.name, member.engine, dict(member.weights)) for member in members]
    name = digest([played, of_members, i]).hex()[:12]
    work = folder / WORK / name
    options = (f"--{key}={value}" for key, value in played.items())
    arguments = (str(args.pool.absolute()), *options, f"--row={i}", f"--out={work}")
    return Row(members[i].folder.name, arguments, len(members) - i, folder / f"{name}.json", work)
