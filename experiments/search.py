"""A search for settings by Optuna, for `sweep.py`: any number of machines that share the folder share one study.

A trial is an algorithm with settings, trained on every map with every seed; its value is the mean of the runs' last
tests. Trials that stay below the median of the others' tests are stopped.
"""

import contextlib
import fcntl
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import yaml

from experiments.attempt import lock_is_free
from experiments.executors import Executor, make_executor
from experiments.jobs import WORK, Job
from experiments.sweep import RECORDS, Spec, SweepQueue, SweepRun, finish, make_run
from utils.errors import UserError, unknown
from utils.MY_EXP_PATH import make_results_folder
from utils.records import METRIC, read_json_lines, write_whole

KEYS = ("trials", "space", "prune")
RANGE = ("low", "high", "log", "step")
JOURNAL, BEST = "optuna.journal", "best.yaml"
SCORES = ("test_battle_won_mean", "test_return_mean")
LAST_TESTS = 5
STARTUP_TRIALS, WARMUP_TESTS = 5, 3  # before any trial is stopped
LOOK_SECONDS = 5.0  # from one look at the tests of the runs under way to the next
AGAIN = "goes on as another trial"


@dataclass(eq=False)
class OpenTrial:
    """A trial of this process, and its runs."""

    trial: Any
    runs: list[SweepRun]
    lock: TextIO
    n_reported: int = 0
    is_pruned: bool = False
    failed: list[str] = field(default_factory=list)


def check_space(search: object, place: str) -> tuple[int, Mapping[str, Any], bool]:
    """Returns the number of trials, the space and whether trials are pruned. Raises: UserError for any mistake."""
    if not isinstance(search, Mapping):
        raise UserError(f"{place}: 'search' must be a group with {', '.join(KEYS)}")
    for key in search:
        if key not in KEYS:
            raise UserError(f"{place}: search: {unknown('key', str(key), KEYS)}")
    n, space = search.get("trials"), search.get("space")
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 10_000:
        raise UserError(f"{place}: search.trials={n} must be a whole number from 1 to 10,000")
    if not isinstance(space, Mapping) or not space:
        raise UserError(f"{place}: search.space must name settings, such as lr: {{low: 0.0001, high: 0.01, log: true}}")
    for key, values in space.items():
        if isinstance(values, list) and values:
            continue
        is_range = isinstance(values, Mapping) and {"low", "high"} <= values.keys() <= set(RANGE)
        limits = [values["low"], values["high"]] if is_range else []
        if not limits or not all(isinstance(v, int | float) for v in limits) or not limits[0] < limits[1]:
            raise UserError(
                f"{place}: search.space.{key} must be a list of values, or {{low: 1, high: 9}} with low below high, "
                "and log: true or step: 2 where wanted"
            )
    return n, space, search.get("prune", True) is True


def suggest(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a value for each setting of the space."""
    chosen = {}
    for key, values in space.items():
        if isinstance(values, list):
            chosen[key] = trial.suggest_categorical(key, values)
        else:
            low, high = limits = [values["low"], values["high"]]
            kind = trial.suggest_int if all(isinstance(v, int) for v in limits) else trial.suggest_float
            more = {name: values[name] for name in ("log", "step") if name in values}
            chosen[key] = kind(key, low, high, **more)
    return chosen


def open_study(out: Path, prune: bool) -> Any:
    """Returns the study of this folder. Raises: UserError where Optuna is not installed."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError("a search needs the package optuna; run: pip install -r requirements-sweep.txt") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / JOURNAL))),
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(constant_liar=True),  # others are at work at the same time
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_TESTS) if prune else optuna.pruners.NopPruner(),
    )


def tests_of(run: SweepRun) -> list[float]:
    """Returns the test win rates of a run so far, or its test returns where nothing can be won."""
    layout = METRIC | {"t_env": int}
    published = run.output / RECORDS / "metrics.jsonl"
    found: dict[str, dict[int, float]] = {key: {} for key in SCORES}
    for entry in read_json_lines(published, layout) if published.is_file() else run.lines("metrics.jsonl", layout):
        if entry["key"] in found:
            found[entry["key"]][entry["t_env"]] = entry["value"]
    return list((found[SCORES[0]] or found[SCORES[1]]).values())


class SearchQueue(SweepQueue):
    """Asks the study for trials as long as there is room, and tells it what they came to."""

    def __init__(self, study: Any, spec: Spec, out: Path, place: str, executor: Executor) -> None:
        super().__init__([], executor)
        self.study, self.spec, self.out = study, spec, out
        self.n_trials, self.space, _ = check_space(spec.search, place)
        self.trials: list[OpenTrial] = []
        self._next_tests = 0.0
        self._go_on()

    def _lock(self, number: int) -> Path:
        return self.out / WORK / f"trial_{number}.lock"

    def _states(self) -> Any:
        import optuna

        return optuna.trial.TrialState

    def _go_on(self) -> None:
        """Has trials whose process is gone tried again with the same settings: their runs go on from checkpoints."""
        states = self._states()
        for trial in self.study.get_trials(states=(states.RUNNING,)):
            if lock_is_free(self._lock(trial.number)):
                self.study._storage.set_trial_user_attr(trial._trial_id, AGAIN, True)
                self.study.tell(trial.number, state=states.FAIL)
                self.study.enqueue_trial(trial.params)

    def n_begun(self) -> int:
        """Returns the trials that count, of all machines."""
        return sum(AGAIN not in t.user_attrs and t.state != self._states().WAITING for t in self.study.get_trials())

    def _next(self) -> list[Job]:
        while not self.waiting:  # a trial whose runs are done already is told at once
            room = sys.maxsize if self.executor.n_at_once is None else self.executor.n_at_once - len(self.open)
            n_of_one = len(self.spec.maps) * len(self.spec.seeds)
            if room < min(n_of_one, self.executor.n_at_once or n_of_one) or self.n_begun() >= self.n_trials:
                break
            self._begin()
            self._tick()
        return super()._next()

    def _begin(self) -> None:
        trial = self.study.ask()
        file = self._lock(trial.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        algs = self.spec.algs
        alg = trial.suggest_categorical("algorithm", list(algs)) if len(algs) > 1 else algs[0]
        chosen = {key: values[0] for key, values in self.spec.settings.items()} | suggest(trial, self.space)
        runs = [
            make_run(self.out, self.spec, alg, name, seed, chosen)
            for seed in self.spec.seeds
            for name in self.spec.maps
        ]
        self.trials.append(OpenTrial(trial, runs, lock))
        self.all += runs
        self.waiting += [run for run in runs if not run.output.exists()]
        self.n_planned += len(self.waiting)

    def _finish(self, job: Job, status: int, problem: str, is_stopping: bool) -> None:
        found = next((of for of in self.trials if job in of.runs), None)
        if found is not None and found.is_pruned and status != 0:
            shutil.rmtree(job.work, ignore_errors=True)
            return
        super()._finish(job, status, problem, is_stopping)
        if found is not None and job.name in self.failed:
            found.failed.append(job.name)

    def _tick(self) -> None:
        super()._tick()
        if time.monotonic() < self._next_tests and all(self._is_open(of) for of in self.trials):
            return
        self._next_tests = time.monotonic() + LOOK_SECONDS
        for of in list(self.trials):
            self._report(of)
            if not self._is_open(of):
                self._tell(of)

    def _is_open(self, of: OpenTrial) -> bool:
        return any(run in self.waiting or run in self.open.values() for run in of.runs)

    def _report(self, of: OpenTrial) -> None:
        """Tells the study of the tests that all runs of a trial have made, and stops it where it is to be pruned."""
        tests = [tests_of(run) for run in of.runs]
        for k in range(of.n_reported, min(map(len, tests))):
            of.trial.report(sum(of_run[k] for of_run in tests) / len(tests), k)
            of.n_reported = k + 1
        if of.n_reported and not of.is_pruned and self._is_open(of) and of.trial.should_prune():
            of.is_pruned = True
            self.waiting = [job for job in self.waiting if job not in of.runs]
            self.executor.stop([task for task, job in self.open.items() if job in of.runs])
            print(f"trial {of.trial.number} is stopped: below the median of the others", flush=True)

    def _tell(self, of: OpenTrial) -> None:
        states = self._states()
        done = [run for run in of.runs if run.output.exists()]
        if len(done) == len(of.runs):
            last = [tests_of(run)[-LAST_TESTS:] for run in of.runs]
            value = sum(sum(of_run) / len(of_run) for of_run in last) / len(last)
            self.study.tell(of.trial, value)
            print(f"trial {of.trial.number}: {value:.3g} with {of.trial.params}", flush=True)
        elif of.is_pruned:
            self.study.tell(of.trial, state=states.PRUNED)
        elif of.failed:
            self.study.tell(of.trial, state=states.FAIL)
        else:
            return  # interrupted: the same command goes on with it
        self.trials.remove(of)
        of.lock.close()


def search(args: Namespace, spec: Spec, out: Path) -> int:
    """Runs the search and reports; returns the exit status."""
    place = str(args.file)
    _, space, prune = check_space(spec.search, place)
    for key, values in spec.settings.items():
        if len(values) > 1:
            raise UserError(f"{place}: '{key}' has several values; in a search they belong into search.space")
        if key in space:
            raise UserError(f"{place}: '{key}' is in set and in search.space; leave it out of one of them")
    first = {key: values[0] if isinstance(values, list) else values["low"] for key, values in space.items()}
    for alg in spec.algs:  # mistakes come before anything is written
        for name in spec.maps:
            fixed = {key: values[0] for key, values in spec.settings.items()}
            make_run(out, spec, alg, name, spec.seeds[0], fixed | first)
    make_results_folder(out, "--out")
    study = open_study(out, prune)
    queue = SearchQueue(study, spec, out, place, make_executor(args, out / WORK))
    queue.run()
    finish(out)
    with contextlib.suppress(ValueError):  # no trial has ended well
        best = {"value": study.best_value, "trial": study.best_trial.number, **study.best_params}
        write_whole(out / BEST, yaml.safe_dump(best, sort_keys=False).encode())
        print(f"best of {len(study.get_trials())} trials: {best}; {out / BEST}")
    return 1 if queue.failed else 0
