"""report.html: one page that needs no network, with plots by plotly; `page.html` is its template."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.report.figures import AXES, colours, scale_of
from experiments.report.groups import Method, progress, relative
from experiments.report.runs import Task
from experiments.report.statistics import SEEDS_FOR_A_CLAIM, Band, Interval
from experiments.report.summary import THRESHOLDS, Suite, Summary
from experiments.report.tables import in_words
from utils.errors import UserError
from utils.files import Json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TEMPLATE = Path(__file__).with_name("page.html")
MOST_SETTINGS = 12  # of a run, that a hover shows


def as_html(summary: Summary, places: Sequence[Path], against: Sequence[Json] = (), refresh_seconds: int = 0) -> str:
    """Returns the page; with `refresh_seconds` it loads itself anew when `stamp` beside it changes.

    Raises: UserError where plotly or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(
            f"report.html needs the package {error.name}; run: pip install -r requirements-report.txt"
        ) from error
    results = summary.results
    methods, tasks = results.methods, results.tasks
    page = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    counts = [len(cell.scores) for cell in results.cells.values()]
    return page.render(
        plotly_js=Markup(get_plotlyjs()),
        n_runs=len({run.folder for cell in results.cells.values() for run in cell.runs}),
        fewest=min(counts),
        most=max(counts),
        seeds_for_a_claim=SEEDS_FOR_A_CLAIM,
        at=results.at,
        notes=results.notes,
        missing=results.missing(),
        left_out=[(relative(gone.folder, places), gone.reason) for gone in results.left_out],
        suites=[_suite(summary, suite, i) for i, suite in enumerate(summary.suites)],
        methods=[{"title": method.title, "colour": colour} for method, colour in colours(methods).items()],
        filters=_filters(tasks, methods),
        runs=list(_runs(summary, places)),
        figures=dict(_figures(summary, places)),
        has_absolute=any(of.absolute for of in summary.cells.values()),
        against=against,
        refresh_seconds=refresh_seconds,
    )


def _filters(tasks: Sequence[Task], methods: Sequence[Method]) -> list[Json]:
    """Returns what can be chosen, with the numbers of the tasks or methods that each value keeps."""
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for i, task in enumerate(tasks):
        found.setdefault(("task", "engine"), {}).setdefault(task.suite_title, []).append(i)
        found.setdefault(("task", "map"), {}).setdefault(task.title, []).append(i)
    for i, method in enumerate(methods):
        found.setdefault(("method", "algorithm"), {}).setdefault(method.algorithm, []).append(i)
        for key, value in method.settings:
            found.setdefault(("method", key), {}).setdefault(value, []).append(i)
    return [
        {"of": of, "name": name, "values": values}
        for (of, name), values in found.items()
        if len(values) > 1 or name in ("map", "algorithm")
    ]


def _suite(summary: Summary, suite: Suite, number: int) -> Json:
    """Returns what the page shows of a suite: its table, claims, aggregates, and the names of its plots."""
    results = summary.results
    tasks, methods = results.tasks, results.methods
    rows = []
    for i, method in enumerate(methods):
        cells = []
        for task in suite.tasks:
            of = summary.cells.get((task, method))
            factor = scale_of(results.metric(task))
            finished = f"{len(of.cell.scores)} of {len(of.cell.runs)} runs" if of else "missing"
            cells.append(
                {
                    "task": tasks.index(task),
                    "text": in_words(of.last if of else None, factor),
                    "absolute": in_words(of.absolute, factor) if of and of.absolute else "",
                    "finished": finished,
                    "is_missing": not of or of.last is None,
                }
            )
        if any((task, method) in summary.cells for task in suite.tasks):
            rows.append({"method": i, "title": method.title, "cells": cells})
    pairs = [
        {"methods": [methods.index(x), methods.index(y)], "title": f"{x.title} > {y.title}", "text": in_words(chance)}
        for (x, y), chance in suite.improvement.items()
        if methods.index(x) < methods.index(y)
    ]
    return {
        "title": suite.title,
        "number": number,
        "tasks": [
            {
                "number": tasks.index(task),
                "title": task.title,
                "metric": AXES.get(results.metric(task), AXES[""]),
                "plot": f"curve-{tasks.index(task)}",
                "claims": summary.claims[task],
            }
            for task in suite.tasks
        ],
        "rows": rows,
        "claims": suite.claims,
        "aggregates": [
            {
                "method": methods.index(method),
                "title": method.title,
                "seeds": of.n_seeds,
                "mean": in_words(of.mean),
                "iqm": in_words(of.iqm),
                "gap": in_words(of.optimality_gap),
            }
            for method, of in suite.aggregates.items()
        ],
        "incomplete": [method.title for method in suite.incomplete],
        "pairs": pairs,
        "plots": [f"{name}-{number}" for name in ("aggregates", "profiles", "efficiency")] if suite.aggregates else [],
    }


def _runs(summary: Summary, places: Sequence[Path]) -> Iterator[Json]:
    results = summary.results
    for (task, method), cell in results.cells.items():
        factor = scale_of(results.metric(task))
        scores = {score.run: score for score in cell.scores}
        for run in cell.runs:
            score, speed = scores.get(run), run.steps_per_second
            yield {
                "task": results.tasks.index(task),
                "method": results.methods.index(method),
                "cells": [
                    *(task.title, method.title, "–" if run.seed is None else run.seed, run.status),
                    f"{run.steps:,}" + (f" of {run.t_max:,}" if run.t_max else ""),
                    f"{factor * score.last:.4g}" if score else progress(run, results.at).split()[0],
                    f"{speed:,.0f}" if speed else "–",
                    run.commit[:12] or "–",
                    relative(run.folder, places),
                ],
            }


def _figures(summary: Summary, places: Sequence[Path]) -> Iterator[tuple[str, Json]]:
    """Yields the plots by name: traces, each with the task and the method that filters know it by, and a layout."""
    for i, task in enumerate(summary.results.tasks):
        yield f"curve-{i}", _as_json(_curves(summary, task, places))
    for number, suite in enumerate(summary.suites):
        if suite.aggregates:
            yield f"aggregates-{number}", _as_json(_aggregates(summary, suite))
            yield f"profiles-{number}", _as_json(_lines(summary, suite, "profiles"))
            yield f"efficiency-{number}", _as_json(_lines(summary, suite, "efficiency"))


def _as_json(figure: "Figure") -> Json:
    content = figure.to_plotly_json()
    content["layout"].pop("template", None)
    return content


def _numbers(values: np.ndarray) -> list[float]:
    """Returns an array as numbers of five digits, which are more than a plot shows."""
    return [float(f"{value:.5g}") for value in values]


def _figure(x: str, y: str, **layout: Any) -> "Figure":
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(
        xaxis_title=x, yaxis_title=y, hovermode="closest", margin={"l": 55, "r": 10, "t": 10, "b": 45}, **layout
    )
    figure.update_layout(legend={"orientation": "h", "y": -0.25})
    return figure


def _add_band(figure: "Figure", x: np.ndarray, band: Band, meta: Json, colour: str, hover: Sequence[str]) -> None:
    """Adds a mean with its band; both are one entry of the legend."""
    shared = {"legendgroup": meta["title"], "meta": meta}
    known = ~np.isnan(band.low)
    if known.any():
        outline = np.concatenate([x[known], x[known][::-1]])
        edge = np.concatenate([band.high[known], band.low[known][::-1]])
        fill = {"fill": "toself", "fillcolor": _transparent(colour), "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_scatter(x=_numbers(outline), y=_numbers(edge), mode="lines", showlegend=False, **fill, **shared)
    line = {"color": colour, "width": 2.5}
    figure.add_scatter(
        x=_numbers(x),
        y=_numbers(band.value),
        mode="lines",
        name=meta["title"],
        line=line,
        text=hover,
        hoverinfo="text",
        **shared,
    )


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _curves(summary: Summary, task: Task, places: Sequence[Path]) -> "Figure":
    results = summary.results
    metric = results.metric(task)
    factor = scale_of(metric)
    colour = colours(results.methods)
    figure = _figure("environment steps", AXES.get(metric, AXES[""]))
    for (place, method), of in summary.cells.items():
        if place != task:
            continue
        meta = {"task": results.tasks.index(task), "method": results.methods.index(method), "title": method.title}
        for run in (run for run in of.cell.runs if metric in run.curves):
            steps, values = run.curves[metric]
            settings = _shown_settings(run.settings, method)
            about = f"{method.title}, seed {run.seed}, {run.status}<br>{relative(run.folder, places)}<br>{settings}"
            figure.add_scatter(
                x=_numbers(steps),
                y=_numbers(factor * values),
                mode="lines",
                showlegend=False,
                opacity=0.35,
                line={"color": colour[method], "width": 1},
                name=method.title,
                legendgroup=method.title,
                meta={**meta, "run": about},
                hovertemplate=f"%{{y:.3g}} at %{{x:,}} steps<br>{about}<extra></extra>",
            )
        band = Band(*(factor * part for part in of.curve.band))
        hover = [
            f"{method.title}: {in_words(_interval(band, k))} at {step:,.0f} steps, {n} runs"
            for k, (step, n) in enumerate(zip(of.curve.steps, of.curve.n_runs))
        ]
        _add_band(figure, of.curve.steps, band, meta, colour[method], hover)
    return figure


def _interval(band: Band, k: int) -> Interval:
    low, high = float(band.low[k]), float(band.high[k])
    return Interval(float(band.value[k]), *((None, None) if np.isnan(low) else (low, high)))


def _shown_settings(settings: Any, method: Method) -> str:
    """Returns the settings that a hover shows: those by which methods differ, and the ones a reader asks for first."""
    first = ("t_max", "lr", "batch_size", "batch_size_run", "buffer_size", "epsilon_anneal_time", "test_nepisode")
    shown = dict(method.settings) | {key: settings[key] for key in first if key in settings}
    return ", ".join(f"{key}={value}" for key, value in list(shown.items())[:MOST_SETTINGS])


def _aggregates(summary: Summary, suite: Suite) -> "Figure":
    from plotly.subplots import make_subplots

    methods, colour = summary.results.methods, colours(summary.results.methods)
    names = {"mean": "mean", "iqm": "IQM", "optimality_gap": "optimality gap"}
    figure = make_subplots(1, 3, shared_yaxes=True, subplot_titles=list(names.values()))
    for column, name in enumerate(names, 1):
        for method, of in suite.aggregates.items():
            found = getattr(of, name)
            low, high = (found.value if end is None else end for end in (found.low, found.high))
            figure.add_scatter(
                x=[found.value],
                y=[method.title],
                mode="markers",
                name=method.title,
                showlegend=False,
                marker={"color": colour[method], "size": 9},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - found.value],
                    "arrayminus": [found.value - low],
                    "color": colour[method],
                },
                meta={"method": methods.index(method), "title": method.title},
                text=[f"{method.title}: {names[name]} {in_words(found)}"],
                hoverinfo="text",
                row=1,
                col=column,
            )
    figure.update_layout(margin={"l": 10, "r": 10, "t": 30, "b": 30})
    figure.update_xaxes(nticks=4)
    figure.update_annotations(font_size=12)  # the titles, which a phone has little room for
    figure.update_yaxes(automargin=True)
    return figure


def _lines(summary: Summary, suite: Suite, kind: str) -> "Figure":
    methods, colour = summary.results.methods, colours(summary.results.methods)
    if kind == "profiles":
        figure = _figure("normalised score", "share of runs above it")
    else:
        figure = _figure("environment steps", "IQM of normalised scores")
    for method, of in suite.aggregates.items():
        x, band = (THRESHOLDS, of.profile) if kind == "profiles" else (of.efficiency.steps, of.efficiency.band)
        hover = [f"{method.title}: {in_words(_interval(band, k))} at {at:,.4g}" for k, at in enumerate(x)]
        meta = {"method": methods.index(method), "title": method.title}
        _add_band(figure, x, band, meta, colour[method], hover)
    return figure
