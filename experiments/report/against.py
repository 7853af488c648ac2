"""`report --against reference`: where runs lie beside reference curves, and beside published values.

`experiments/reference.py` makes the files of such a folder.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.report.groups import LAST_TESTS, Cell, Method
from experiments.report.runs import RETURN, WON, Curve, Task, TrainingRun
from experiments.report.statistics import scipy_stats
from experiments.report.summary import Summary
from utils.errors import UserError
from utils.files import Json, fitted
from utils.records import read_csv, write_csv

PUBLISHED = "published.csv"
PLACE = ("env", "map", "engine", "engine_version", "algorithm", "settings")
COLUMNS = (*PLACE, "seed", "commit", "t_env", "won", "return")
WITHIN, BELOW, ABOVE = "within", "below", "above"
OUTSIDE = (BELOW, ABOVE)


class Reference(NamedTuple):
    """The runs of one algorithm with one set of settings: a curve of each seed, by metric."""

    task: Task
    algorithm: str
    settings: Mapping[str, str]  # that its runs were given; all others are the defaults
    curves: Mapping[str, Sequence[Curve]]


class Verdict(NamedTuple):
    """How runs of one method lie beside a reference."""

    task: Task
    method: Method
    step: int  # at which both are compared
    metric: str
    here: float
    n_here: int
    reference: float | None
    low: float | None  # bounds within which the mean of so many new runs lies with 95 %
    high: float | None
    n_reference: int
    verdict: str


def write_reference(runs: Sequence[TrainingRun], settings: Sequence[str], file: Path) -> None:
    """Adds the test curves, against the world's own enemies, of runs that were given the keys `settings` to a file.

    They replace those of the same runs there, and all that an environment of another version of the same engine left.

    Raises: OSError. UserError: the file is torn.
    """
    rows: list[Json] = []
    own = [run for run in runs if not run.task.enemy]
    for run in sorted(own, key=lambda run: (run.task, run.algorithm, run.seed or 0)):
        task = run.task
        given = " ".join(f"{key}={run.settings.get(key)}" for key in settings)
        row: Json = {"env": task.env, "map": task.map, "engine": task.engine, "engine_version": task.version}
        row |= {"algorithm": run.algorithm, "settings": given, "seed": run.seed, "commit": run.commit[:12]}
        found: dict[float, Json] = {}
        for name, metric in (("won", WON), ("return", RETURN)):
            for t, value in zip(*run.curves.get(metric, ((), ()))):
                found.setdefault(t, {})[name] = f"{value:.4g}"
        rows += [{**row, "t_env": int(t), **values} for t, values in found.items()]
    versions = {(row["env"], row["engine"]): row["engine_version"] for row in rows}
    new = {run_of(row) for row in rows}
    for old in read_rows(file, COLUMNS) if file.is_file() else []:
        engine = old["env"], old["engine"]
        if run_of(old) not in new and versions.get(engine, old["engine_version"]) == old["engine_version"]:
            rows.append(old)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv(file, COLUMNS, sorted(rows, key=lambda row: (*run_of(row), int(str(row["t_env"])))))


def run_of(row: Mapping[str, object]) -> tuple[str, ...]:
    """Returns what tells the run of a row of a reference from all others."""
    return tuple(str(row[column]) for column in (*PLACE, "seed"))


def read_rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Returns the rows of a CSV file with these columns. Raises: UserError where it has others, or is torn."""
    layout = [dict.fromkeys(columns, str)]
    return read_csv(file, lambda rows: fitted(rows, layout), "is no file of a reference", "restore it")


def read_references(folder: Path) -> list[Reference]:
    """Returns the references in a folder. Raises: UserError where there are none, or a file is torn."""
    files = sorted(file for file in folder.glob("*.csv") if file.name != PUBLISHED)
    groups: dict[tuple[Task, str, str], dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for file in files:
        for number, row in enumerate(read_rows(file, COLUMNS), 2):
            task = Task(row["env"], row["map"], row["engine"], row["engine_version"])
            of_seed = groups.setdefault((task, row["algorithm"], row["settings"]), {}).setdefault(row["seed"], {})
            try:
                for name, metric in (("won", WON), ("return", RETURN)):
                    if row[name]:
                        of_seed.setdefault(metric, []).append((float(row["t_env"]), float(row[name])))
            except ValueError as error:
                raise UserError(f"{file}, line {number}, holds no numbers ({error}); restore it") from error
    if not groups:
        raise UserError(f"--against={folder} holds no reference curves; `python -m experiments.reference` makes some")
    return [
        Reference(
            task,
            algorithm,
            dict(word.split("=", 1) for word in settings.split()),
            {
                metric: [Curve(*map(np.array, zip(*of[metric]))) for of in seeds.values() if metric in of]
                for metric in (WON, RETURN)
            },
        )
        for (task, algorithm, settings), seeds in groups.items()
    ]


def compare(summary: Summary, references: Sequence[Reference]) -> list[Verdict]:
    """Returns how each cell of a report lies beside the reference that fits it: task, engine version, settings."""
    return [verdict(of.cell, of.metric, references) for of in summary.cells.values()]


def verdict(cell: Cell, metric: str, references: Sequence[Reference]) -> Verdict:
    """Compares the means of the last tests at the last step that both have reached."""
    mine = [run.curves[metric] for run in cell.runs if metric in run.curves]
    found = [of for of in references if of.task == cell.task and of.algorithm == cell.method.algorithm]
    found = [of for of in found if of.curves[metric] and _fits(of.settings, cell.runs[0].settings)]
    end = max((curve.steps[-1] for curve in mine), default=0.0)
    if not found:
        others = {of.task.version for of in references if of.task[:3] == cell.task[:3]}
        why = "none" if cell.task.version in others or not others else "none of this engine version"
        here = _at(mine, end)
        return Verdict(
            cell.task, cell.method, int(end), metric, float(np.mean(here)), len(here), None, None, None, 0, why
        )
    best = max(found, key=lambda of: len(of.settings))
    theirs = best.curves[metric]
    step = min(end, max(curve.steps[-1] for curve in theirs))
    here, there = _at(mine, step), _at(theirs, step)
    mean, low, high, word = float(np.mean(there)), None, None, "one seed of the reference: no interval"
    if len(there) > 1:
        stats = scipy_stats()
        half = stats.t.ppf(0.975, len(there) - 1) * np.std(there, ddof=1) * sqrt(1 / len(there) + 1 / len(here))
        low, high = mean - half, mean + half
        word = BELOW if np.mean(here) < low else ABOVE if np.mean(here) > high else WITHIN
    return Verdict(
        *(cell.task, cell.method, int(step), metric, float(np.mean(here)), len(here), mean, low, high, len(there), word)
    )


def _fits(wanted: Mapping[str, str], settings: Mapping[str, object]) -> bool:
    return all(str(settings.get(key)) == value for key, value in wanted.items() if key != "t_max")


def _at(curves: Sequence[Curve], step: float) -> list[float]:
    """Returns each run's mean of its last tests up to a step, of the runs that have come about so far."""
    return [
        float(curve.values[curve.steps <= step][-LAST_TESTS:].mean())
        for curve in curves
        if curve.steps[-1] >= 0.9 * step and (curve.steps <= step).any()
    ]


def published(folder: Path) -> dict[tuple[str, str], str]:
    """Returns published win rates by (map, algorithm), as text; none where there is no such file."""
    file = folder / PUBLISHED
    if not file.is_file():
        return {}
    rows = read_rows(file, ("map", "algorithm", "won_percent", "source"))
    return {(row["map"], row["algorithm"]): f"{row['won_percent']} ({row['source']})" for row in rows}


def as_rows(verdicts: Sequence[Verdict], values: Mapping[tuple[str, str], str]) -> list[Json]:
    """Returns the verdicts as a table shows them."""
    rows = []
    for of in verdicts:
        factor = 100.0 if of.metric == WON else 1.0
        reference = "–" if of.reference is None else f"{factor * of.reference:.3g}"
        if of.low is not None and of.high is not None:
            reference += f" ({factor * max(of.low, 0):.3g} to {factor * min(of.high, 100 / factor):.3g})"
        rows.append(
            {
                "method": of.method.title,
                "map": of.task.title,
                "step": f"{of.step:,}",
                "here": f"{factor * of.here:.3g} ({of.n_here} seeds)",
                "reference": f"{reference} ({of.n_reference} seeds)" if of.n_reference else reference,
                "verdict": of.verdict,
                "published": "–" if of.task.enemy else values.get((of.task.map, of.method.algorithm), "–"),
            }
        )
    return rows
