"""The tables of a report: table.csv, table.tex, runs.csv, and marl_eval.json in the layout of the package marl-eval."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.report.figures import scale_of
from experiments.report.groups import LAST_TESTS, Cell, Results, Score
from experiments.report.runs import ABSOLUTE, RETURN, WON
from experiments.report.statistics import Interval
from experiments.report.summary import Summary
from utils.files import Json
from utils.records import write_csv

COLUMNS = (
    *("env", "map", "enemy", "engine", "engine_version", "algorithm", "settings", "records_of", "metric"),
    *("finished", "runs"),
    *("steps", "mean", "low", "high", "absolute", "absolute_low", "absolute_high"),
)
RUN_COLUMNS = (
    *("folder", "env", "map", "enemy", "engine", "engine_version", "algorithm", "settings", "records_of", "seed"),
    *("status", "steps", "t_max", "last_tests", "absolute", "steps_per_second", "commit"),
)
TEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
TEX |= {"^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
MARL_EVAL = {WON: "battle_won", RETURN: "return"}


def write_tables(summary: Summary, folder: Path) -> None:
    """Writes all tables. Raises: OSError."""
    write_csv(folder / "table.csv", COLUMNS, table(summary))
    write_csv(folder / "runs.csv", RUN_COLUMNS, runs(summary.results))
    (folder / "table.tex").write_text(as_tex(summary), encoding="utf-8")
    content = json.dumps(marl_eval(summary.results), indent=1)
    (folder / "marl_eval.json").write_text(content + "\n", encoding="utf-8")


def _place(cell: Cell) -> Json:
    task, method = cell.task, cell.method
    place = {"env": task.env, "map": task.map, "enemy": task.enemy, "engine": task.engine}
    place["engine_version"] = task.version
    settings = " ".join(f"{key}={value}" for key, value in method.settings)
    return {**place, "algorithm": method.algorithm, "settings": settings, "records_of": method.origin}


def table(summary: Summary) -> list[Json]:
    """Returns a row of COLUMNS for each cell; scores are in 0..1 where something can be won."""
    rows = []
    for of in summary.cells.values():
        cell = of.cell
        row = {**_place(cell), "metric": of.metric, "finished": len(cell.scores), "runs": len(cell.runs)}
        row["steps"] = summary.results.at or max((score.run.steps for score in cell.scores), default=None)
        for name, found in (("", of.last), ("absolute", of.absolute)):
            if found:
                names = [name or "mean", *(f"{name}_{end}".lstrip("_") for end in ("low", "high"))]
                row |= dict(zip(names, found))
        rows.append(row)
    return rows


def runs(results: Results) -> list[Json]:
    """Returns a row of RUN_COLUMNS for each run."""
    rows = []
    for cell in results.cells.values():
        scores = {score.run: score for score in cell.scores}
        for run in cell.runs:
            score = scores.get(run)
            row = {**_place(cell), "folder": run.folder, "seed": run.seed, "status": run.status, "steps": run.steps}
            row |= {"t_max": run.t_max, "steps_per_second": run.steps_per_second, "commit": run.commit}
            rows.append(row | ({"last_tests": score.last, "absolute": score.absolute} if score else {}))
    return rows


def in_words(found: Interval | None, factor: float = 1.0, tex: bool = False) -> str:
    """Returns an estimate with its interval as text, such as "84 (75 to 91)"."""
    if found is None:
        return "--" if tex else "–"
    digits = 0 if factor == 100 else 2
    value, low, high = (None if number is None else f"{factor * number:.{digits}f}" for number in found)
    interval = f" [{low}, {high}]" if tex else f" ({low} to {high})"
    return f"{value}{interval if low is not None else ''}"


def as_tex(summary: Summary) -> str:
    """Returns a table of methods by maps for each suite, for LaTeX with booktabs."""
    parts = []
    for suite in summary.suites:
        inside = [key for key in summary.cells if key[0] in suite.tasks]
        methods = sorted({method for _, method in inside})
        lines = [r"\begin{tabular}{l" + "r" * len(suite.tasks) + "}", r"\toprule"]
        lines += [" & ".join(["", *(_tex(task.title) for task in suite.tasks)]) + r" \\", r"\midrule"]
        for method in methods:
            row = [_tex(method.title)]
            for task in suite.tasks:
                of = summary.cells.get((task, method))
                row.append(in_words(of.last if of else None, scale_of(summary.results.metric(task)), tex=True))
            lines.append(" & ".join(row) + r" \\")
        counts = [len(summary.cells[key].cell.scores) for key in inside]
        seeds = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{max(counts)}"
        caption = f"% {suite.title}; mean over {seeds} seeds with 95 % bootstrap intervals; needs booktabs"
        parts.append("\n".join([caption, *lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def marl_eval(results: Results) -> Json:
    """Returns the finished runs as marl-eval reads them: environment, task, algorithm, run, step.

    It wants the same algorithms, numbers of runs and of tests in every task, and so gets the largest such part: methods
    that have finished runs in all tasks, as many runs of each as the fewest are, as many tests as the shortest has. Its
    absolute metric is that of the best checkpoint, or else of the last tests.
    """
    content: Json = {}
    for suite, tasks in results.suites.items():
        chosen = [results.cells[task, method] for method in results.complete(tasks) for task in tasks]
        finished = [score.run for cell in chosen for score in cell.scores]
        metrics = [name for name in (WON, RETURN) if all(name in run.curves for run in finished)]
        n_tests = min((len(run.curves[name].steps) for run in finished for name in metrics), default=0)
        n_runs = min((len(cell.scores) for cell in chosen), default=0)
        for cell in chosen:
            of_env = content.setdefault("_".join(filter(None, suite)), {})
            runs = {f"run_{i}": _marl_eval_run(score, metrics, n_tests) for i, score in enumerate(cell.scores[:n_runs])}
            of_env.setdefault(cell.task.title, {})[cell.method.title.replace(",", ";")] = runs
    return content


def _marl_eval_run(score: Score, metrics: Sequence[str], n_tests: int) -> Json:
    curves = score.run.curves
    steps = {
        f"step_{k}": {
            "step_count": int(curves[metrics[0]].steps[k]),
            **{MARL_EVAL[name]: [float(curves[name].values[k])] for name in metrics},
        }
        for k in range(n_tests)
    }
    absolute = {}
    for name in metrics:
        best = curves.get(name.replace("test_", ABSOLUTE))
        values = curves[name].values[-LAST_TESTS:] if best is None else best.values[-1:]
        absolute[MARL_EVAL[name]] = [float(values.mean())]
    return {**steps, "absolute_metrics": absolute}
