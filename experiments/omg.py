"""The evaluation of OMG against teammates that it has never met: `python -m experiments.omg --map 3m --scale small`.

Trains pools, prior and agents, tests them zero-shot and after fine-tuning, and reports; `omg_runs.py` has the runs.
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import yaml

from envs import REGISTRY as ENVS
from envs.sc2.sim.maps import MAP_NAMES, get_map
from experiments import omg_report, pool
from experiments.executors import add_arguments, as_arguments, check_arguments, make_executor
from experiments.jobs import WORK, Job, JobQueue, only_one
from experiments.omg_runs import (
    PHASES,
    RUN_FILE,
    SCALES,
    TEST_ALGS,
    TEST_POOL_SEED,
    TRAIN_ALGS,
    TRAIN_SEED,
    Setup,
    agent_jobs,
    evaluation_jobs,
    missing_members,
    prior_job,
    read_rows,
    tune_jobs,
)
from utils.command import Parser, exit_status, run_program
from utils.config import flatten, load_yaml
from utils.errors import UserError, unknown
from utils.files import Json
from utils.MY_EXP_PATH import check_results_path, experiment_root
from utils.pools import check_disjoint, find_members
from utils.timehelper import time_str

DESCRIPTION = """Trains a pool of teammates, a pool of others, OMG's prior, and IQL, LIAM, naive OM and OMG in two modes
among the first; tests all with the second, before and after fine-tuning; writes a table, a figure and all episodes.
The same command goes on where it was stopped. Ctrl-C or SIGTERM ends it after the current episodes."""
SCALE_HELP = "tiny: ten minutes, to see it work; small: some hours on two cores; paper: the paper's sizes"
SETTINGS_FILE = "settings.yaml"
START_SECONDS = 5  # of a run
POOL_SPEED = 250.0  # environment steps per second of a run: a guess until runs have finished


class Stage(NamedTuple):
    title: str
    jobs: Callable[[Setup], Sequence[Job]]
    speed: float  # environment steps per second of one run: a guess until runs have finished


STAGES = (
    Stage("prior", lambda setup: [prior_job(setup)], 1000),
    Stage("agents", agent_jobs, 700),
    Stage("zero-shot tests", lambda setup: evaluation_jobs(setup, PHASES[0]), 2000),
    Stage("fine-tuning", tune_jobs, 1000),
    Stage("tests after it", lambda setup: evaluation_jobs(setup, PHASES[1]), 2000),
)


class Pool(NamedTuple):
    title: str
    folder: Path
    algs: tuple[str, ...]
    seeds: range
    n_missing: int


def make_setup(args: Namespace) -> Setup:
    """Raises: UserError where the folder holds an evaluation of another map, scale or engine."""
    out = (args.out or experiment_root() / "omg" / f"{args.map}_{args.scale}").absolute()
    check_results_path(out, "--out")
    engine = ENVS["sc2"].resolve(engine=args.engine)
    setup = Setup(out, args.map, get_map(args.map).n_agents, SCALES[args.scale], engine)
    file = out / SETTINGS_FILE
    found, wanted = (
        dict(flatten(content)) for content in (load_yaml(file) if file.is_file() else {}, as_settings(setup))
    )
    for key in found and wanted:
        if found.get(key) != wanted[key]:
            raise UserError(f"{out} was begun with {key}={found.get(key)}, not {wanted[key]}; give another --out")
    return setup


def as_settings(setup: Setup) -> Json:
    """Returns what settings.yaml records, so that a folder never holds results of two evaluations."""
    scale = {**asdict(setup.scale), "settings": list(setup.scale.settings)}
    return {"map": setup.map_name, "engine": setup.engine, "scale": scale}


def pools(setup: Setup) -> list[Pool]:
    """Returns the train pool and the test pool, with what they lack."""
    train, test = setup.scale.train_members, setup.test_members
    return [
        Pool(title, folder, algs, range(first, first + n), missing_members(setup, folder, algs, first, n))
        for title, folder, algs, first, n in (
            ("train pool", setup.train_pool, TRAIN_ALGS, TRAIN_SEED, train),
            ("test pool", setup.test_pool, TEST_ALGS, TEST_POOL_SEED, test),
        )
    ]


def fill(setup: Setup, wanted: Pool, args: Namespace) -> int:
    """Trains what the pool lacks; returns the exit status."""
    scale = setup.scale
    params = [str(wanted.folder), "--algs", *wanted.algs, "--seeds", *map(str, wanted.seeds), *as_arguments(args)]
    params += [f"--t_max={scale.pool_t_max}", "--set", *setup.common()]
    if wanted.folder == setup.test_pool:
        params += ["--disjoint-from", str(setup.train_pool)]
    return pool.main(params)


def waiting(setup: Setup, stage: Stage) -> list[Job]:
    return [job for job in stage.jobs(setup) if not job.output.exists()]


def known_speeds(setup: Setup, stage: Stage) -> list[float]:
    """Environment steps per second of the stage's finished trainings."""
    files = [job.output / RUN_FILE for job in stage.jobs(setup)]
    found = [load_yaml(file, {"steps_per_second": (None, float)}) for file in files if file.is_file()]
    return [run["steps_per_second"] for run in found if run["steps_per_second"]]


def describe(setup: Setup, n_jobs: int | None) -> str:
    """Returns the plan as text: a line for each stage with its runs, then how long all of it will take."""
    lines, total = [f"{'stage':<18}{'done':>6}{'to do':>7}   estimated time"], 0.0

    def add(title: str, n_runs: int, n_left: int, steps: float, speed: float) -> None:
        nonlocal total
        seconds = (n_left * START_SECONDS + steps / speed) / max(min(n_jobs or n_left, n_left), 1)
        total += seconds
        lines.append(f"{title:<18}{n_runs - n_left:>6}{n_left:>7}   {time_str(seconds) if n_left else '-'}")

    for wanted in pools(setup):
        speeds = [member.steps_per_second for member in find_members(wanted.folder) if member.steps_per_second]
        speed = _mean(speeds) or POOL_SPEED
        steps = wanted.n_missing * setup.scale.pool_t_max
        add(wanted.title, len(wanted.algs) * len(wanted.seeds), wanted.n_missing, steps, speed)
    for stage in STAGES:
        left = waiting(setup, stage)
        speed = _mean(known_speeds(setup, stage)) or stage.speed
        add(stage.title, len(stage.jobs(setup)), len(left), sum(job.n_steps - job.steps() for job in left), speed)
    lines.append(
        f"in all about {time_str(total)}, {n_jobs or 'all'} runs at a time; speeds are of finished runs, or guessed"
    )
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def evaluate(args: Namespace) -> int:
    """Runs every stage that is not done, and reports; returns the exit status."""
    setup = make_setup(args)
    if args.plan:
        print(describe(setup, args.jobs))
        return 0
    with only_one(setup.out) as lock:
        (setup.out / SETTINGS_FILE).write_text(yaml.safe_dump(as_settings(setup), sort_keys=False), encoding="utf-8")
        print(describe(setup, args.jobs), flush=True)
        for wanted in pools(setup):
            if wanted.n_missing:
                print(f"--- {wanted.title}", flush=True)
                if status := fill(setup, wanted, args):
                    return status
        check_disjoint(find_members(setup.train_pool), find_members(setup.test_pool))
        for stage in STAGES:
            for job in stage.jobs(setup):
                if job.output.exists():  # killed between its last two steps, it may have left what it worked on
                    shutil.rmtree(job.work, ignore_errors=True)
            if jobs := waiting(setup, stage):
                print(f"--- {stage.title}", flush=True)
                executor = make_executor(args, setup.out / WORK, lock)
                queue = JobQueue(jobs, args.jobs, lock, known_speeds(setup, stage), executor)
                queue.run()
                if queue.failed:
                    failed = ", ".join(queue.failed)
                    print(f"{stage.title}: {len(queue.failed)} of {len(jobs)} runs failed: {failed}", file=sys.stderr)
                    return 1
        rows = [row for phase in PHASES for job in evaluation_jobs(setup, phase) for row in read_rows(job.output)]
        print(omg_report.write(setup, rows))
    return 0


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.omg", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--map", default="3m", help="a StarCraft map (default: %(default)s)")
    parser.add_argument("--scale", default="small", help=f"{SCALE_HELP} (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/omg/<map>_<scale>")
    parser.add_argument("--engine", default="auto", help="as env_args.engine of main.py (default: %(default)s)")
    add_arguments(parser)
    parser.add_argument("--plan", action="store_true", help="only show what there is to do")
    args = parser.parse_args(argv)
    if args.map not in MAP_NAMES:
        raise UserError(f"--map: {unknown('map', args.map, MAP_NAMES)}")
    if args.scale not in SCALES:
        raise UserError(f"--scale: {unknown('scale', args.scale, SCALES)}")
    check_arguments(args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; returns the exit status: 1 where runs failed, and as `exit_status` does."""
    return exit_status(lambda: evaluate(_parse(argv)), "interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_program(main)
