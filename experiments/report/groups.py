"""Which runs belong together: the same task, and the same method, which is an algorithm and the settings that differ.

`runs.py` reads them, `statistics.py` computes with their scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.report.runs import ABSOLUTE, RETURN, WON, Curve, LeftOut, Task, TrainingRun

LAST_TESTS = 5  # whose mean is the score of a run
FREE = {
    *("seed", "env_args.seed", "repeat_id", "label", "name", "env", "env_args.map_name", "env_args.key"),
    "env_args.test_enemies",  # by which tasks differ
    *("env_args.engine", "env_args.game_version", "env_args.replay_dir", "env_args.replay_prefix"),
    *("local_results_path", "models_path", "unique_token", "use_cuda", "device", "n_threads", "debug", "tracker"),
    *("buffer_device", "buffer_cpu_only", "use_tensorboard", "tensorboard_backend", "mongo_url", "db_url", "db_name"),
    *("save_model", "save_model_interval", "save_buffer", "keep_checkpoints", "checkpoint_path", "load_step"),
    *("evaluate", "evaluate_path", "final_eval", "save_replay", "log_interval", "runner_log_interval"),
    *("learner_log_interval", "test_interval", "test_nepisode", "worker_timeout_seconds", "max_worker_restarts"),
}
"""Settings that make no other method: where a run computes, what it records, and how often it is tested."""


@dataclass(frozen=True, order=True)
class Method:
    """An algorithm with the settings by which its runs differ."""

    algorithm: str
    settings: tuple[tuple[str, str], ...] = ()
    origin: str = ""

    @property
    def title(self) -> str:
        origin = f" ({self.origin})" if self.origin else ""
        settings = (f"{key.split('.')[-1]}={_short(value)}" for key, value in self.settings)
        return " ".join((self.algorithm + origin, *settings))


def _short(value: str) -> str:
    """Returns a number of many digits as one of four."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


class Score(NamedTuple):
    """What a finished run came to."""

    run: TrainingRun
    last: float  # mean of its last tests
    absolute: float | None  # of its best checkpoint, where that was tested


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one method in one task, one for each seed."""

    task: Task
    method: Method
    runs: Sequence[TrainingRun]
    scores: Sequence[Score]  # of the runs that have finished

    @property
    def values(self) -> np.ndarray:
        return np.array([score.last for score in self.scores])


@dataclass(frozen=True, eq=False)
class Results:
    """All runs, sorted into the cells of a table of tasks and methods."""

    cells: Mapping[tuple[Task, Method], Cell]
    left_out: Sequence[LeftOut]
    notes: Sequence[str]  # what a reader must know of how the runs differ
    bounds: Mapping[Task, tuple[float, float]]  # of returns, by which those are normalised
    at: int | None  # the step at which runs are compared; None: their end

    @property
    def tasks(self) -> list[Task]:
        return sorted({task for task, _ in self.cells})

    @property
    def methods(self) -> list[Method]:
        return sorted({method for _, method in self.cells})

    @property
    def suites(self) -> dict[tuple[str, str, str, str], list[Task]]:
        """Returns the tasks whose scores may be averaged."""
        found: dict[tuple[str, str, str, str], list[Task]] = {}
        for task in self.tasks:
            found.setdefault(task.suite, []).append(task)
        return found

    def metric(self, task: Task) -> str:
        """Returns what is compared in a task: the win rate where something can be won, else the return."""
        runs = [run for (of, _), cell in self.cells.items() if of == task for run in cell.runs]
        return WON if any(WON in run.curves for run in runs) else RETURN

    def normalised(self, task: Task, values: np.ndarray) -> np.ndarray:
        """Returns scores in 0..1: win rates as they are, returns between the least and the best in this task."""
        if self.metric(task) == WON:
            return values
        low, high = self.bounds[task]
        return (values - low) / (high - low if high > low else 1.0)

    def complete(self, tasks: Sequence[Task]) -> list[Method]:
        """Returns the methods of which every task has a finished run."""
        filled = {key for key, cell in self.cells.items() if cell.scores}
        return [method for method in self.methods if all((task, method) in filled for task in tasks)]

    def missing(self) -> list[str]:
        """Names what the table lacks: cells without a finished run, and those with fewer than others."""
        sentences = []
        for tasks in self.suites.values():
            inside = [(task, method) for task, method in self.cells if task in tasks]
            most = max(len(self.cells[key].scores) for key in inside)
            for method in sorted({method for _, method in inside}):
                for task in tasks:
                    cell = self.cells.get((task, method))
                    if cell is None:
                        sentences.append(f"{method.title} on {task.title}: no run")
                    elif len(cell.scores) < most:
                        ended = {score.run for score in cell.scores}
                        open_runs = [f"seed {r.seed} at {progress(r, self.at)}" for r in cell.runs if r not in ended]
                        more = f"; {', '.join(open_runs)}" if open_runs else ""
                        sentences.append(
                            f"{method.title} on {task.title}: {len(cell.scores)} of {most} runs finished{more}"
                        )
        return sentences


def progress(run: TrainingRun, at: int | None = None) -> str:
    """Returns how far a run has come and how it stands, for instance "40 % (RUNNING)"."""
    goal = at or run.t_max
    return f"{min(run.steps / goal, 1):.0%} ({run.status})" if goal else run.status


def group(runs: Sequence[TrainingRun], left_out: Sequence[LeftOut], at: int | None = None) -> Results:
    """Sorts runs into cells; of runs with the same seed the one that came furthest stays."""
    varying = differing_settings(runs, {"t_max"} if at else set())
    sorted_runs: dict[tuple[Task, Method], dict[object, TrainingRun]] = {}
    gone = list(left_out)
    for run in sorted(runs, key=lambda run: -run.steps):
        keys = varying[run.algorithm, run.origin]
        method = Method(run.algorithm, tuple((key, str(run.settings.get(key))) for key in keys), run.origin)
        of_seed = sorted_runs.setdefault((run.task, method), {})
        name = run.folder if run.seed is None else run.seed
        if name in of_seed:
            gone.append(LeftOut(run.folder, f"seed {name} of the same settings is there, as {of_seed[name].folder}"))
        else:
            of_seed[name] = run
    cells = {}
    for (task, method), of_seed in sorted(sorted_runs.items()):
        members = sorted(of_seed.values(), key=lambda run: (run.seed is None, run.seed or 0, str(run.folder)))
        metric = _metric(of for (place, _), found in sorted_runs.items() if place == task for of in found.values())
        scores = [score for run in members if (score := score_of(run, metric, at))]
        cells[task, method] = Cell(task, method, members, scores)
    return Results(cells, gone, _notes(runs), _bounds(runs), at)


def _metric(runs: Iterable[TrainingRun]) -> str:
    return WON if any(WON in run.curves for run in runs) else RETURN


def score_of(run: TrainingRun, metric: str, at: int | None = None) -> Score | None:
    """Returns the score of a run; None while it has not come to its end, or to the step `at`."""
    curve, goal = run.curves.get(metric), at or run.t_max
    is_won = run.status == "COMPLETED" and run.settings.get("stop_win_rate") is not None
    if curve is None or (run.steps < goal - 1.5 * interval(curve) and not (is_won and not at)):
        return None
    seen = curve.values[curve.steps <= at] if at else curve.values
    if not seen.size:
        return None
    absolute = run.curves.get(metric.replace("test_", ABSOLUTE))
    return Score(run, float(seen[-LAST_TESTS:].mean()), float(absolute.values[-1]) if absolute else None)


def interval(curve: Curve) -> float:
    """Returns the usual distance of two tests, in environment steps."""
    return float(np.median(np.diff(curve.steps))) if len(curve.steps) > 1 else 0.0


def differing_settings(runs: Sequence[TrainingRun], free: set[str]) -> dict[tuple[str, str], list[str]]:
    """Returns, for each algorithm, the settings by which its runs in one task differ.

    What differs only from task to task is no difference between methods; `_notes` says it.
    """
    groups: dict[tuple[Task, str, str], list[TrainingRun]] = {}
    for run in runs:
        groups.setdefault((run.task, run.algorithm, run.origin), []).append(run)
    found: dict[tuple[str, str], set[str]] = {}
    for (_, algorithm, origin), members in groups.items():
        keys = {key for run in members for key in run.settings if _is_own(key)} - free
        different = {key for key in keys if len({str(run.settings.get(key)) for run in members}) > 1}
        found.setdefault((algorithm, origin), set()).update(different)
    return {name: sorted(keys) for name, keys in found.items()}


def _is_own(key: str) -> bool:
    return key not in FREE and not key.startswith("resolved.")


def _bounds(runs: Sequence[TrainingRun]) -> dict[Task, tuple[float, float]]:
    found: dict[Task, tuple[float, float]] = {}
    for run in runs:
        if RETURN in run.curves:
            values = run.curves[RETURN].values
            low, high = found.get(run.task, (np.inf, -np.inf))
            found[run.task] = min(low, float(values.min())), max(high, float(values.max()))
    return found


def _notes(runs: Sequence[TrainingRun]) -> list[str]:
    """Returns a sentence for each way in which runs differ that is not among the methods' settings."""
    notes = []
    suites = sorted({run.task.suite_title for run in runs})
    if len(suites) > 1:
        notes.append(f"Runs of {'; '.join(suites)} stand side by side and are never averaged or compared.")
    commits = sorted({run.commit for run in runs if run.commit})
    if len(commits) > 1:
        notes.append(f"Runs are of {len(commits)} commits: {', '.join(commit[:12] for commit in commits)}.")
    if any("dirty" in commit for commit in commits):
        notes.append("Some runs were made with uncommitted changes.")
    for algorithm in sorted({run.algorithm for run in runs}):
        members = [run for run in runs if run.algorithm == algorithm]
        for key in ("t_max", "test_nepisode"):
            values = sorted({str(run.settings.get(key)) for run in members})
            if len(values) > 1:
                notes.append(f"{algorithm}: {key} differs ({', '.join(values)}).")
    return notes


def relative(path: Path, places: Sequence[Path]) -> str:
    """Returns a run's folder as it is named in the report: below the folder that was given."""
    for place in places:
        if path.is_relative_to(place):
            return str(Path(place.name) / path.relative_to(place))
    return str(path)
