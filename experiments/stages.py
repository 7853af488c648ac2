"""An evaluation in stages: pools of policies are filled, then each stage's runs follow, then a report is written.

What is there already is not done again, so that the same command goes on where it was stopped. `omg.py` is the command.
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

from experiments import pool
from experiments.executors import as_arguments, make_executor
from experiments.jobs import WORK, Job, JobQueue, only_one
from utils.config import flatten
from utils.errors import UserError
from utils.files import Json
from utils.pools import check_disjoint, find_members
from utils.timehelper import time_str
from utils.yaml_files import load_yaml

J = TypeVar("J", bound=Job)
RUN_FILE = "run.yaml"
SETTINGS_FILE = "settings.yaml"
START_SECONDS = 5  # of a run
POOL_SPEED = 250.0  # environment steps per second of a run: a guess until runs have finished


@dataclass(frozen=True)
class Folders:
    """Where an evaluation keeps what it makes; all paths are absolute."""

    out: Path

    @property
    def train_pool(self) -> Path:
        return self.out / "pools" / "train"

    @property
    def test_pool(self) -> Path:
        return self.out / "pools" / "test"

    @property
    def prior(self) -> Path:
        return self.out / "prior"

    def agent(self, method: str, seed: int) -> Path:
        return self.out / "agents" / f"{method}_seed{seed}"

    def job(self, kind: type[J], output: Path, arguments: tuple[str, ...], n_steps: int, **more: object) -> J:
        """Returns a run that is named for its output."""
        name = f"{output.parent.name}_{output.stem}" if output.parent != self.out else output.name
        return kind(name, arguments, n_steps, output, self.out / WORK / name, **more)


class Stage(NamedTuple):
    title: str
    jobs: Callable[[], Sequence[Job]]
    speed: float  # environment steps per second of one run: a guess until runs have finished


@dataclass(frozen=True)
class PoolOrder:
    """A pool to be filled, in the words of `experiments.pool`."""

    title: str
    folder: Path
    algs: tuple[str, ...]
    seeds: range
    t_max: int
    settings: tuple[str, ...]
    env_config: str = "sc2"

    def n_missing(self) -> int:
        """Returns how many of its members are still to be trained."""
        there = {(member.algorithm, member.seed) for member in find_members(self.folder)}
        return len({(alg, seed) for alg in self.algs for seed in self.seeds} - there)

    def fill(self, options: Namespace, others: Sequence["PoolOrder"]) -> int:
        """Trains what it lacks, none of it as in the `others`; returns the exit status."""
        params = [str(self.folder), "--algs", *self.algs, "--seeds", *map(str, self.seeds), *as_arguments(options)]
        params += [f"--env-config={self.env_config}", f"--t_max={self.t_max}", "--set", *self.settings]
        params += ["--disjoint-from", *(str(other.folder) for other in others)] if others else []
        return pool.main(params)


def write_settings(out: Path, settings: Json) -> None:
    """Writes what a folder of results is made with, for `check_settings`."""
    (out / SETTINGS_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def check_settings(out: Path, settings: Json) -> None:
    """Raises: UserError where the folder holds results of other settings."""
    file = out / SETTINGS_FILE
    found, wanted = (dict(flatten(content)) for content in (load_yaml(file) if file.is_file() else {}, settings))
    for key in found and wanted:
        if found.get(key) != wanted[key]:
            raise UserError(f"{out} was begun with {key}={found.get(key)}, not {wanted[key]}; give another --out")


@dataclass(frozen=True)
class Evaluation:
    """All that one evaluation does, in this order. Members of its pools are in one of them only."""

    out: Path
    settings: Json  # what settings.yaml records, so that a folder never holds results of two evaluations
    pools: Sequence[PoolOrder]
    stages: Sequence[Stage]
    report: Callable[[], str]  # writes it, and returns what is printed

    def check(self) -> None:
        """Raises: UserError where the folder holds an evaluation with other settings."""
        check_settings(self.out, self.settings)

    def run(self, options: Namespace) -> int:
        """Does what is missing, and reports; returns the exit status."""
        with only_one(self.out) as lock:
            write_settings(self.out, self.settings)
            print(self.plan(options.jobs), flush=True)
            for i, order in enumerate(self.pools):
                if order.n_missing():
                    print(f"--- {order.title}", flush=True)
                    if status := order.fill(options, self.pools[:i]):
                        return status
            for i, order in enumerate(self.pools):
                for other in self.pools[:i]:
                    check_disjoint(find_members(other.folder), find_members(order.folder))
            if not all(self._run_stage(stage, options, lock) for stage in self.stages):
                return 1
            print(self.report())
        return 0

    def _run_stage(self, stage: Stage, options: Namespace, lock: int) -> bool:
        """Returns whether all of its runs have ended well."""
        for job in stage.jobs():
            if job.output.exists():  # killed between its last two steps, it may have left what it worked on
                shutil.rmtree(job.work, ignore_errors=True)
        jobs = _waiting(stage)
        if not jobs:
            return True
        print(f"--- {stage.title}", flush=True)
        executor = make_executor(options, self.out / WORK, lock)
        queue = JobQueue(jobs, options.jobs, lock, _known_speeds(stage), executor)
        queue.run()
        if queue.failed:
            failed = ", ".join(queue.failed)
            print(f"{stage.title}: {len(queue.failed)} of {len(jobs)} runs failed: {failed}", file=sys.stderr)
        return not queue.failed

    def plan(self, n_jobs: int | None) -> str:
        """Returns the plan as text: a line for each stage with its runs, then how long all of it will take."""
        lines, total = [f"{'stage':<18}{'done':>6}{'to do':>7}   estimated time"], 0.0

        def add(title: str, n_runs: int, n_left: int, steps: float, speed: float) -> None:
            nonlocal total
            seconds = (n_left * START_SECONDS + steps / speed) / max(min(n_jobs or n_left, n_left), 1)
            total += seconds
            lines.append(f"{title:<18}{n_runs - n_left:>6}{n_left:>7}   {time_str(seconds) if n_left else '-'}")

        for order in self.pools:
            found = [member.steps_per_second for member in find_members(order.folder) if member.steps_per_second]
            n_missing = order.n_missing()
            n_members = len(order.algs) * len(order.seeds)
            add(order.title, n_members, n_missing, n_missing * order.t_max, _mean(found) or POOL_SPEED)
        for stage in self.stages:
            left = _waiting(stage)
            speed = _mean(_known_speeds(stage)) or stage.speed
            add(stage.title, len(stage.jobs()), len(left), sum(job.n_steps - job.steps() for job in left), speed)
        lines.append(
            f"in all about {time_str(total)}, {n_jobs or 'all'} runs at once, if speeds are those of finished runs"
        )
        return "\n".join(lines)


def _waiting(stage: Stage) -> list[Job]:
    return [job for job in stage.jobs() if not job.output.exists()]


def _known_speeds(stage: Stage) -> list[float]:
    """Environment steps per second of the stage's finished trainings."""
    files = [job.output / RUN_FILE for job in stage.jobs()]
    found = [load_yaml(file, {"steps_per_second": (None, float)}) for file in files if file.is_file()]
    return [run["steps_per_second"] for run in found if run["steps_per_second"]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
