"""Many trainings: `python -m experiments.sweep sweep.yaml`, or `--algs qmix vdn --maps 3m 8m --seeds 1..5`.

A grid of algorithms, maps, seeds and settings, or an Optuna search (`search.py`). Each run is a folder named by a hash
of its settings, so that the same command goes on where it stopped, on whatever machine; `report` shows what came out.
"""

import json
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

import yaml

import main as command_line
from envs import REGISTRY as ENVS
from experiments.attempt import LOCK, TAKEN, lock_is_free, read_note
from experiments.executors import Executor, add_arguments, check_arguments, make_executor
from experiments.jobs import NOT_PUBLISHED, WORK, Job, JobQueue
from utils.checkpoints import whole_folder
from utils.command import Parser, exit_status, run_program
from utils.errors import UserError, unknown
from utils.files import Json, digest
from utils.MY_EXP_PATH import check_results_path, experiment_root, make_results_folder
from utils.timehelper import time_str
from utils.yaml_files import load_yaml, parse_yaml

DESCRIPTION = """Trains a grid of algorithms, maps, seeds and settings, or searches for settings by Optuna, and ends
with a report. The same command goes on where it was stopped, on any machine that shares the folder, also on several at
once. Ctrl-C or SIGTERM ends it after the current episodes."""
FILE_HELP = "a YAML file with algs, env, maps, seeds, set, search; options go before it"
SET_HELP = "settings of main.py; a list, as in lr=[0.0005,0.001], is swept"
MOST_RUNS = 10_000
CHECKPOINTS_PER_RUN = 10
RUNS, RESULT, RECORDS = "runs", "result.yaml", "records"
SHOW_SECONDS = 60.0  # from one table of the runs to the next
ELSEWHERE_SECONDS = 5.0  # from one look at runs that other machines are at to the next
OWN_KEYS = (
    *("seed", "n_threads", "local_results_path", "use_tensorboard", "mongo_url", "save_model", "save_buffer"),
    *("keep_checkpoints", "checkpoint_path", "load_step", "evaluate", "evaluate_path", "env_args.map_name"),
)
"""What settings may not hold: the sweep sets it, or trains nothing with it."""


@dataclass(frozen=True)
class Spec:
    """What is swept. A setting has a list of values; `search` has the space and the number of trials of a search."""

    algs: tuple[str, ...]
    env: str = "sc2"
    maps: tuple[str | None, ...] = (None,)
    seeds: tuple[int, ...] = (1,)
    settings: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    search: Json | None = None

    @property
    def n_runs(self) -> int:
        count = len(self.algs) * len(self.maps) * len(self.seeds)
        for values in self.settings.values():
            count *= len(values)
        return count


@dataclass(frozen=True, eq=False)
class SweepRun(Job):
    """A run of the sweep; `output` is its folder, which holds its records, last weights and `result.yaml`."""

    settings: Json  # algorithm, map, seed and what was set

    def publish(self) -> str:
        checkpoint, records = self.final_weights()
        progress = self.progress()
        with whole_folder(self.output) as partial:
            shutil.copytree(records, partial / RECORDS)  # of the last run, and the lines of those that it resumed
            for name in {path.name for path in self.work.glob("sacred/*/*.jsonl")}:
                self.write_lines(name, partial / RECORDS)
            ignored = shutil.ignore_patterns(*NOT_PUBLISHED)
            shutil.copytree(checkpoint, partial / "models" / checkpoint.name, ignore=ignored)
            result = {**self.settings, "steps": int(checkpoint.name), "test_win_rate": progress.won}
            (partial / RESULT).write_text(yaml.safe_dump(result, sort_keys=False), encoding="utf-8")
        won = "" if progress.won is None else f", last test won {progress.won:.0%}"
        return f"{int(checkpoint.name):,} steps{won}"


def make_run(out: Path, spec: Spec, alg: str, map_name: str | None, seed: int, chosen: Mapping[str, Any]) -> SweepRun:
    """Returns one run of a sweep, whose folder has a name that follows from its settings.

    Raises: UserError where main.py would refuse them.
    """
    place = [] if map_name is None else [f"env_args.map_name={map_name}"]
    words = [f"{key}={in_yaml(value)}" for key, value in chosen.items()]
    arguments = [f"--config={alg}", f"--env-config={spec.env}", "with", f"seed={seed}", *place, *words]
    config = command_line.read_settings(*arguments)
    engine = {
        "engine": ENVS[config["env"]].resolve(**config["env_args"]),
        **ENVS[config["env"]].describe(**config["env_args"]),
    }
    name = digest([config, engine]).hex()[:12]
    if "save_model_interval" not in chosen:
        arguments.append(f"save_model_interval={max(config['t_max'] // CHECKPOINTS_PER_RUN, 1)}")
    n_steps = config["t_max"] * (config.get("population_factor") or 1)
    settings = {"algorithm": alg, "env": spec.env, "map": map_name, "seed": seed, **chosen}
    of_map = map_name and Path(map_name).name  # it may be a file
    title = "_".join(map(str, filter(None, (alg, of_map, f"seed{seed}", name))))
    return SweepRun(title, tuple(arguments), n_steps, out / RUNS / name, out / WORK / name, settings)


def in_yaml(value: object) -> str:
    """Returns a value as main.py reads it from its command line."""
    return value if isinstance(value, str) else json.dumps(value)


def grid(out: Path, spec: Spec) -> list[SweepRun]:
    """Returns all runs, the first seed of everything before the second. Raises: UserError as `make_run`."""
    choices = [dict(zip(spec.settings, values)) for values in product(*spec.settings.values())]
    cells = product(spec.seeds, spec.maps, spec.algs, choices)
    runs = {(run := make_run(out, spec, alg, name, seed, chosen)).output: run for seed, name, alg, chosen in cells}
    return list(runs.values())


# ------------------------------------------------------------------------------------------------ what is asked for


def read_spec(args: Namespace) -> Spec:
    """Returns what the file and the options ask for; options replace what the file says.

    Raises: UserError for an unknown key, a value that can't be meant, and no runs or too many.
    """
    content: Json = {}
    if args.file:
        content = load_yaml(args.file)
        known = ("algs", "env", "maps", "seeds", "set", "search")
        for key in content:
            if key not in known:
                raise UserError(f"{args.file}: {unknown('key', str(key), known)}")
    place = str(args.file or "the command line")
    given = {"algs": args.algs, "env": args.env_config, "maps": args.maps, "seeds": args.seeds}
    content |= {key: value for key, value in given.items() if value is not None}
    settings = content.get("set") or {}
    if not isinstance(settings, Mapping):
        raise UserError(f"{place}: 'set' must be a group of settings, such as lr: [0.0005, 0.001]")
    swept = {str(key): value if isinstance(value, list) else [value] for key, value in settings.items()}
    swept |= dict(_read_setting(text) for text in args.set)
    for key in swept:
        if key in OWN_KEYS:
            raise UserError(f"{place}: '{key}' is not for you to set here; see --maps, --seeds and --out")
    search = content.get("search")
    spec = Spec(
        algs=tuple(map(str, _listed(content.get("algs"), "algs", place))),
        env=str(content.get("env") or "sc2"),
        maps=tuple(map(str, _listed(content["maps"], "maps", place))) if content.get("maps") is not None else (None,),
        seeds=_seeds(content.get("seeds", [1]), place),
        settings=swept,
        search=search,
    )
    if not spec.n_runs:
        raise UserError(f"{place} asks for no runs; give at least one value of everything")
    if spec.n_runs > MOST_RUNS:
        raise UserError(f"{place} asks for {spec.n_runs:,} runs, more than {MOST_RUNS:,}; make several sweeps of them")
    return spec


def _read_setting(text: str) -> tuple[str, list[Any]]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set: '{text}' is no setting; write {text}=VALUE or {text}=[VALUE,VALUE]")
    parsed = parse_yaml(value)
    return key, parsed if isinstance(parsed, list) else [value]


def _listed(value: object, name: str, place: str) -> list[Any]:
    if value is None:
        raise UserError(f"{place} names no {name}; give some, such as --algs qmix vdn")
    found = value if isinstance(value, list) else [value]
    if any(isinstance(entry, Mapping | list) for entry in found):
        raise UserError(f"{place}: {name} must be a list of names")
    return list(dict.fromkeys(found))


def _seeds(value: object, place: str) -> tuple[int, ...]:
    """Reads seeds: numbers, and ranges such as 1..5, which holds both ends."""
    seeds: list[int] = []
    for entry in _listed(value, "seeds", place):
        first, dots, last = str(entry).partition("..")
        try:
            low, high = int(first), int(last if dots else first)
        except ValueError as error:
            raise UserError(f"{place}: seeds: '{entry}' is no seed; write numbers, or a range as 1..5") from error
        if low < 0 or not 0 <= high - low < MOST_RUNS:
            raise UserError(f"{place}: seeds: '{entry}' must begin at 0 or later and hold 1 to {MOST_RUNS:,} seeds")
        seeds += range(low, high + 1)
    return tuple(dict.fromkeys(seeds))


# ------------------------------------------------------------------------------------------------ running


class SweepQueue(JobQueue):
    """Runs that other machines may be at, too: each is taken by whoever gets its lock first."""

    def __init__(self, runs: Sequence[SweepRun], executor: Executor) -> None:
        super().__init__(runs, None, None, executor=executor)
        self._next_look = 0.0
        self._next_table = time.monotonic() + SHOW_SECONDS
        self.all = list(runs)

    def _next(self) -> list[Job]:
        """Returns as many runs as there is room for, without those that are done or under way elsewhere."""
        room = sys.maxsize if self.executor.n_at_once is None else self.executor.n_at_once - len(self.open)
        if not self.waiting or room <= 0 or time.monotonic() < self._next_look:
            return []
        self.waiting = [job for job in self.waiting if not job.output.exists()]
        taken = list(islice((job for job in self.waiting if lock_is_free(job.work / LOCK)), room))
        self.waiting = [job for job in self.waiting if job not in taken]
        if not taken:
            self._next_look = time.monotonic() + ELSEWHERE_SECONDS
        return taken

    def _finish(self, job: Job, status: int, problem: str, is_stopping: bool) -> None:
        if status == TAKEN and not is_stopping:
            self.waiting.append(job)
            return
        super()._finish(job, status, problem, is_stopping)

    def _tick(self) -> None:
        if time.monotonic() >= self._next_table:
            self._next_table = time.monotonic() + SHOW_SECONDS
            print(self.table(), flush=True)

    def table(self) -> str:
        """Returns the runs that are under way: how far, how long still, how much of their last test they won."""
        lines = []
        for job in self.open.values():
            began, first = read_note(job.work)
            steps, won = job.progress()
            speed = (steps - first) / (time.time() - began) if began else 0.0
            left = time_str((job.n_steps - steps) / speed) if speed > 0 else "?"
            won_text = "" if won is None else f"won {won:.0%}"
            lines.append(f"  {job.name:<48}{min(steps / job.n_steps, 1):>5.0%}  {won_text:<9}  left: {left}")
        n_done = sum(job.output.exists() for job in self.all)
        return "\n".join([f"{n_done} of {len(self.all)} runs done, {len(lines)} under way", *lines])


def unfinished(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Returns the runs that are not done; of those that are, what a kill may have left is cleared away."""
    for run in runs:
        if run.output.exists():
            shutil.rmtree(run.work, ignore_errors=True)
    return [run for run in runs if not run.output.exists()]


def describe(runs: Sequence[SweepRun]) -> str:
    """Returns the runs as text, one a line, with how far each is."""
    states = ("done" if run.output.exists() else f"from step {run.steps():,}" if run.steps() else "new" for run in runs)
    return "\n".join(f"{run.name:<48}{state}" for run, state in zip(runs, states))


def sweep(args: Namespace) -> int:
    """Trains what is missing and reports; returns the exit status."""
    spec, out = read_spec(args), args.out.absolute()
    if spec.search is not None:
        from experiments.search import search

        return search(args, spec, out)
    runs = grid(out, spec)
    if args.plan:
        print(describe(runs))
        return 0
    return train(args, runs, out)


def train(args: Namespace, runs: Sequence[SweepRun], out: Path) -> int:
    """Trains what is missing of the runs and reports; returns the exit status."""
    make_results_folder(out, "--out")
    left = unfinished(runs)
    print(f"{len(left)} of {len(runs)} runs to train, in {out}", flush=True)
    queue = SweepQueue(left, make_executor(args, out / WORK)) if left else None
    if queue:
        queue.run()
    finish(out)
    if queue and queue.failed:
        print(f"{len(queue.failed)} of {len(runs)} runs failed: {', '.join(queue.failed)}", file=sys.stderr)
        return 1
    return 0


def finish(out: Path) -> None:
    """Writes the report of all that has been trained, or says why not."""
    from experiments.report import __main__ as report

    try:
        summary = report.write([out], out / "report")
        print(f"{report.in_text(summary)}\n{out / 'report' / 'report.html'}")
    except UserError as error:
        print(f"no report: {error}", file=sys.stderr)


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.sweep", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("file", nargs="?", type=Path, metavar="sweep.yaml", help=FILE_HELP)
    parser.add_argument("--algs", nargs="+", metavar="NAME", help="algorithms, as --config of main.py")
    parser.add_argument("--env-config", metavar="NAME", help="as of main.py (default: sc2)")
    parser.add_argument("--maps", nargs="+", metavar="MAP", help="env_args.map_name of each run")
    parser.add_argument("--seeds", nargs="+", metavar="SEED", help="numbers, or ranges such as 1..5 (default: 1)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help=SET_HELP)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/sweep")
    parser.add_argument("--plan", action="store_true", help="only show the runs")
    add_arguments(parser)
    args = parser.parse_args(argv)
    check_arguments(args)
    args.out = args.out or experiment_root() / "sweep"
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Sweeps; returns the exit status: 1 where runs failed, and as `exit_status` does."""
    return exit_status(lambda: sweep(_parse(argv)), "interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_program(main)
