"""Figures for a paper, as SVG, PNG and PDF: learning curves per map, aggregates, profiles and sample efficiency."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report.groups import Method
from experiments.report.runs import WON
from experiments.report.statistics import Band
from experiments.report.summary import THRESHOLDS, Suite, Summary

FORMATS = ("svg", "png", "pdf")
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#9467bd", "#bcbd22")
"""Okabe and Ito's colours, which colour-blind readers tell apart, and a few more; they show on white and on black."""
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "pdf.fonttype": 42,  # letters stay text, as publishers ask
    "svg.fonttype": "none",
    "legend.frameon": False,
}
WIDTH, HEIGHT = 2.4, 1.9  # of a panel, inches
COLUMNS = 3
AXES = {WON: "won, %", "": "return"}


def colours(methods: Iterable[Method]) -> dict[Method, str]:
    """Returns a colour for each method, the same wherever it is shown."""
    return {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(methods)}


def scale_of(metric: str) -> float:
    """Returns what values are multiplied by to be shown: win rates are percentages."""
    return 100.0 if metric == WON else 1.0


def slug(*words: str) -> str:
    """Returns words as part of a file's name."""
    return "_".join("".join(c if c.isalnum() or c in "-." else "-" for c in word) for word in words if word)


def draw_all(summary: Summary, folder: Path) -> list[Path]:
    """Writes every figure into the folder; returns the files."""
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    colour = colours(summary.results.methods)
    files: list[Path] = []
    with rc_context(STYLE):
        for suite in summary.suites:
            name = slug(*suite.tasks[0].suite)
            files += _save(_curves(summary, suite, colour), folder / f"curves_{name}")
            if suite.aggregates:
                files += _save(_aggregates(suite, colour), folder / f"aggregates_{name}")
                files += _save(_profiles(suite, colour), folder / f"profiles_{name}")
                files += _save(_efficiency(suite, colour), folder / f"efficiency_{name}")
            if suite.improvement:
                files += _save(_improvement(suite), folder / f"improvement_{name}")
    return files


def _panels(n: int, width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    n_columns = min(n, COLUMNS)
    n_rows = -(-n // n_columns)
    figure = Figure(figsize=(n_columns * width + 0.2, n_rows * height + 0.5), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for unused in axes[n:]:
        unused.set_axis_off()
    return figure, axes[:n]


def _save(figure: Any, stem: Path) -> list[Path]:
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in FORMATS]
    for file in files:
        figure.savefig(file, dpi=200)
    return files


def _line(axes: Any, x: np.ndarray, band: Band, factor: float, colour: str, label: str) -> None:
    axes.plot(x, factor * band.value, color=colour, label=label, linewidth=1.2)
    axes.fill_between(x, factor * band.low, factor * band.high, color=colour, alpha=0.2, linewidth=0)


def _legend(figure: Any, n_columns: int = 3) -> None:
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found = {**dict(zip(labels, handles)), **found}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=n_columns)


def _curves(summary: Summary, suite: Suite, colour: Mapping[Method, str]) -> Any:
    figure, panels = _panels(len(suite.tasks))
    for axes, task in zip(panels, suite.tasks):
        metric = summary.results.metric(task)
        for (place, method), of in summary.cells.items():
            if place == task:
                curve, factor = of.curve, scale_of(metric)
                _line(axes, curve.steps / 1e6, curve.band, factor, colour[method], method.title)
        axes.set_title(task.title)
        axes.set_xlabel("environment steps, millions")
        axes.set_ylabel(AXES.get(metric, AXES[""]))
        if metric == WON:
            axes.set_ylim(-2, 102)
    _legend(figure)
    return figure


def _aggregates(suite: Suite, colour: Mapping[Method, str]) -> Any:
    methods = list(suite.aggregates)
    figure, panels = _panels(3, height=max(HEIGHT, 0.25 * len(methods) + 0.6))
    for axes, name in zip(panels, ("mean", "iqm", "optimality_gap")):
        for row, method in enumerate(reversed(methods)):
            of = getattr(suite.aggregates[method], name)
            if of.low is not None:
                axes.barh(row, of.high - of.low, left=of.low, color=colour[method], alpha=0.35, height=0.6)
            axes.plot(of.value, row, "|", color=colour[method], markersize=12, markeredgewidth=2)
        axes.use_sticky_edges = False  # bars do not end at the edge
        axes.set_title({"iqm": "IQM"}.get(name, name.replace("_", " ")))
        axes.set_yticks(range(len(methods)), [m.title for m in reversed(methods)] if axes is panels[0] else [])
    panels[1].set_xlabel("normalised score")
    return figure


def _profiles(suite: Suite, colour: Mapping[Method, str]) -> Any:
    figure, (axes,) = _panels(1, 3.4, 2.4)
    for method, of in suite.aggregates.items():
        _line(axes, THRESHOLDS, of.profile, 1.0, colour[method], method.title)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("share of runs above it")
    _legend(figure, 2)
    return figure


def _efficiency(suite: Suite, colour: Mapping[Method, str]) -> Any:
    figure, (axes,) = _panels(1, 3.4, 2.4)
    for method, of in suite.aggregates.items():
        _line(axes, of.efficiency.steps / 1e6, of.efficiency.band, 1.0, colour[method], method.title)
    axes.set_xlabel("environment steps, millions")
    axes.set_ylabel("IQM of normalised scores")
    _legend(figure, 2)
    return figure


def _improvement(suite: Suite) -> Any:
    pairs = [(x, y) for x, y in suite.improvement if list(suite.aggregates).index(x) < list(suite.aggregates).index(y)]
    figure, (axes,) = _panels(1, 5.5, 0.3 * len(pairs) + 1.0)
    for row, pair in enumerate(reversed(pairs)):
        value, low, high = suite.improvement[pair]
        if low is not None and high is not None:
            axes.barh(row, high - low, left=low, color=PALETTE[0], alpha=0.35, height=0.6)
        axes.plot(value, row, "|", color=PALETTE[0], markersize=10, markeredgewidth=2)
    axes.axvline(0.5, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(pairs)), [f"{x.title} > {y.title}" for x, y in reversed(pairs)])
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability of improvement")
    return figure
