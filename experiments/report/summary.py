"""What is computed for a report: each cell's score and curve, each suite's aggregates. Figures and tables show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.report.groups import Cell, Method, Results, interval
from experiments.report.runs import Curve, Task
from experiments.report.statistics import (
    Band,
    Interval,
    Statistic,
    bootstrap,
    claim,
    estimate,
    improvement,
    iqm,
    mean,
    optimality_gap,
    profile,
)

THRESHOLDS = np.linspace(0, 1, 101)
SAME_LENGTH = 0.05  # by which the steps may differ at which scores are compared


class CurveBand(NamedTuple):
    """The mean over seeds at each step of a grid, and of how many runs it is."""

    steps: np.ndarray
    band: Band
    n_runs: np.ndarray


@dataclass(frozen=True, eq=False)
class CellSummary:
    cell: Cell
    metric: str
    last: Interval | None  # mean over seeds of the runs' scores; None without a finished run
    absolute: Interval | None  # the same of the best checkpoints, where all finished runs tested theirs
    curve: CurveBand


class Aggregate(NamedTuple):
    """A method's scores over all tasks of a suite."""

    mean: Interval
    iqm: Interval
    optimality_gap: Interval
    profile: Band  # [threshold]
    efficiency: CurveBand  # IQM at equal steps
    n_seeds: int  # in the task with the fewest


@dataclass(frozen=True, eq=False)
class Suite:
    """Tasks of one environment, engine and version, and the methods that have finished runs in all of them."""

    title: str
    tasks: Sequence[Task]
    aggregates: Mapping[Method, Aggregate]
    improvement: Mapping[tuple[Method, Method], Interval]  # P(the first > the second)
    incomplete: Sequence[Method]  # methods that lack a task
    claims: Sequence[str]


@dataclass(frozen=True, eq=False)
class Summary:
    results: Results
    cells: Mapping[tuple[Task, Method], CellSummary]
    suites: Sequence[Suite]
    claims: Mapping[Task, Sequence[str]]


def summarise(results: Results) -> Summary:
    """Computes everything that the figures, tables and the page show."""
    cells = {key: _cell(cell, results.metric(cell.task)) for key, cell in results.cells.items()}
    suites = [_suite(results, tasks) for tasks in results.suites.values()]
    claims = {task: _claims(results, [of for (t, _), of in cells.items() if t == task]) for task in results.tasks}
    return Summary(results, cells, suites, claims)


def _cell(cell: Cell, metric: str) -> CellSummary:
    absolute = [score.absolute for score in cell.scores if score.absolute is not None]
    curves = [run.curves[metric] for run in cell.runs if metric in run.curves]
    return CellSummary(
        cell,
        metric,
        estimate([cell.values], mean) if cell.scores else None,
        estimate([np.array(absolute)], mean) if absolute and len(absolute) == len(cell.scores) else None,
        curve_band([curves]),
    )


def _claims(results: Results, cells: Sequence[CellSummary]) -> list[str]:
    done = [(of, of.last) for of in cells if of.last is not None]
    if len(done) < 2:
        return []
    lengths = [_length(of.cell, results.at) for of, _ in done]
    if sentence := _unequal(lengths):
        return [sentence]
    names = [of.cell.method.title for of, _ in done]
    return claim(names, [last for _, last in done], [len(of.cell.scores) for of, _ in done])


def _length(cell: Cell, at: int | None) -> int:
    """Returns the step at which the scores of a cell were taken."""
    return at or max(score.run.steps for score in cell.scores)


def _unequal(lengths: Sequence[int]) -> str:
    if max(lengths) * (1 - SAME_LENGTH) <= min(lengths):
        return ""
    return (
        f"Runs end at {min(lengths):,} to {max(lengths):,} steps, and scores of different lengths are not compared; "
        "--at STEPS compares at equal steps."
    )


def _suite(results: Results, tasks: Sequence[Task]) -> Suite:
    methods = results.complete(tasks)
    samples = {
        method: [results.normalised(task, results.cells[task, method].values) for task in tasks] for method in methods
    }
    lengths = {task: [_length(results.cells[task, method], results.at) for method in methods] for task in tasks}
    unequal = next((sentence for task in tasks if methods and (sentence := _unequal(lengths[task]))), "")
    aggregates = {
        method: Aggregate(
            estimate(sample, mean),
            estimate(sample, iqm),
            estimate(sample, optimality_gap),
            profile(sample, THRESHOLDS),
            _efficiency(results, tasks, method),
            min(map(len, sample)),
        )
        for method, sample in samples.items()
    }
    pairs = {
        (x, y): estimate([*samples[x], *samples[y]], improvement)
        for x in methods
        for y in methods
        if x != y and not unequal
    }
    there = {method for task in tasks for method in results.methods if (task, method) in results.cells}
    claims = [unequal] if unequal else []
    if len(methods) > 1 and not unequal:
        found = list(aggregates.values())
        claims = claim([m.title for m in methods], [of.iqm for of in found], [of.n_seeds for of in found])
    return Suite(tasks[0].suite_title, tasks, aggregates, pairs, sorted(there - set(methods)), claims)


def _efficiency(results: Results, tasks: Sequence[Task], method: Method) -> CurveBand:
    curves = []
    for task in tasks:
        runs = [score.run.curves[results.metric(task)] for score in results.cells[task, method].scores]
        curves.append([Curve(steps, results.normalised(task, values)) for steps, values in runs])
    return curve_band(curves, iqm)


def curve_band(tasks: Sequence[Sequence[Curve]], statistic: Statistic = mean) -> CurveBand:
    """Returns the curve of a statistic over the runs of one or several tasks, on one grid of steps.

    Between its tests a run's curve is a straight line; outside of them it has no value. Where a task has none left, the
    curve ends.
    """
    curves = [curve for of_task in tasks for curve in of_task]
    width = max((interval(curve) for curve in curves), default=0.0)
    end = min(max((curve.steps[-1] for curve in of_task), default=0.0) for of_task in tasks)
    points = np.arange(0, end + width / 2, width) if width else np.unique([curve.steps[-1] for curve in curves])
    samples = [np.array([_at(curve, points, width) for curve in of_task]).reshape(-1, len(points)) for of_task in tasks]
    there = np.concatenate([~np.isnan(sample) for sample in samples])  # [run, point]
    value, low, high = np.full((3, len(points)), np.nan)
    for pattern in np.unique(there, axis=1).T:
        columns = (there == pattern[:, None]).all(0)
        parts = [sample[~np.isnan(sample[:, columns][:, 0])][:, columns] for sample in samples]
        if all(len(part) for part in parts):
            value[columns], low[columns], high[columns] = bootstrap(parts, statistic)
    keep = ~np.isnan(value)
    return CurveBand(points[keep], Band(value[keep], low[keep], high[keep]), there.sum(0)[keep])


def _at(curve: Curve, points: np.ndarray, width: float) -> np.ndarray:
    """Returns a curve's values at these steps; NaN more than half an interval outside of its tests."""
    values = np.interp(points, curve.steps, curve.values)
    outside = (points < curve.steps[0] - width / 2) | (points > curve.steps[-1] + width / 2)
    return np.where(outside, np.nan, values)
