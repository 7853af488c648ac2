"""The report of an evaluation in one of the paper's small worlds: tables, and the paper's figures with its values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.worlds import (
    CURVE_FIELDS,
    TEST_FIELDS,
    Paper,
    Setup,
    agent_jobs,
    read_rows,
    test_jobs,
)
from utils.intervals import Estimate, apart, bootstrap, mean_interval
from utils.records import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLE_FIELDS = (
    *("method", "score", "score_low", "score_high", "steps", "steps_low", "steps_high", "episodes", "seeds"),
    *("opponents", "paper_score", "paper_steps"),
)
ENGINE = "a world of this framework, not the paper's code"


class Line(NamedTuple):
    """One method, over all its seeds and all opponents of the test pool."""

    method: str
    title: str
    score: Estimate
    steps: Estimate
    n_episodes: int
    n_seeds: int
    n_opponents: int
    paper: Paper | None


def summarise(setup: Setup, rows: Sequence[Mapping[str, str]]) -> list[Line]:
    """Returns a line for each method that has episodes, in the world's order."""
    by_method: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    lines = []
    for name, title in titles(setup).items():
        if found := by_method.get(name):
            seeds, opponents = [row["seed"] for row in found], [row["opponents"] for row in found]
            scores, steps = (
                bootstrap([float(row[key]) for row in found], seeds, opponents, np.random.default_rng(0))
                for key in ("score", "length")
            )
            paper = setup.world.paper.get(name)
            lines.append(Line(name, title, scores, steps, len(found), len(set(seeds)), len(set(opponents)), paper))
    return lines


def titles(setup: Setup) -> dict[str, str]:
    """Returns the title of every method and ablation."""
    world = setup.world
    return {name: method.title for part in (world.methods, *world.ablations.values()) for name, method in part.items()}


def order(lines: Sequence[Line], judged_by: str) -> str:
    """Returns which methods' intervals lie apart, of steps per episode or of the score."""
    what, better = {"steps": ("steps per episode", "below"), "score": ("score", "above")}[judged_by]
    pairs = apart({line.title: getattr(line, judged_by) for line in lines})
    if judged_by == "steps":
        pairs = [(below, above) for above, below in pairs]
    if not pairs:
        return f"All intervals of {what} overlap: no order of the methods can be told."
    return f"Intervals of {what} lie apart for {', '.join(f'{a} {better} {b}' for a, b in pairs)}."


def as_markdown(setup: Setup, lines: Sequence[Line]) -> str:
    """Returns the tables as Markdown, with what has to be known to read them."""
    world, scale = setup.world, setup.scale
    shared = "The subgoal prior is trained once and is the same for all"
    prior = shared if scale.prior_t_max else "Each run of OMG trains a subgoal prior of its own"
    text = [
        f"# OMG in {world.title} ({ENGINE})",
        "",
        f"Return of the agent's own seat and steps per episode, with intervals of 95 % (bootstrap over seeds and, "
        f"independently, over opponents) against {scale.test_members} opponents that it has not met "
        f"({scale.pool_t_max:,} steps of {world.opponents} each); {scale.train_members} others in training, "
        f"{world.factor * scale.agent_t_max:,} steps. {prior}.",
        "",
        "| method | score | interval | steps | interval | episodes | seeds | paper: score | paper: steps |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        cells: list[object] = [line.title]
        for value in (line.score, line.steps):
            cells += [f"{value.mean:.2f}", f"{value.low:.2f} to {value.high:.2f}"]
        paper = ["" if value is None else f"{value:.2f}" for value in line.paper or (None, None)]
        text.append(f"| {' | '.join(map(str, [*cells, line.n_episodes, line.n_seeds, *paper]))} |")
    main = [line for line in lines if line.method in world.methods]
    return "\n".join([*text, "", order(main, world.judged_by)]) + "\n"


def draw(setup: Setup, lines: Sequence[Line], curves: Sequence[Mapping[str, str]]) -> dict[str, "Figure"]:
    """Returns the paper's four figures by the names of their files."""
    from matplotlib.figure import Figure

    world, known = setup.world, {line.method: line for line in lines}
    figures: dict[str, Figure] = {}

    def figure(name: str, n_panels: int) -> Sequence["Axes"]:
        made = figures[name] = Figure(figsize=(1 + 4.5 * n_panels, 4.2), layout="constrained")
        made.suptitle(f"{world.title}: {ENGINE}", fontsize=9)
        return list(made.subplots(1, n_panels, squeeze=False)[0])

    for axes, key in zip(figure("methods", 2), ("score", "steps")):
        _points(axes, [known[name] for name in world.methods if name in known], key)
    panels = {title: [known[name] for name in part if name in known] for title, part in world.ablations.items()}
    panels = {title: found for title, found in panels.items() if found}
    if panels and world.reference in known:
        for axes, (title, found) in zip(figure("ablation", len(panels)), panels.items()):
            _points(axes, [known[world.reference], *found], world.judged_by)
            axes.set_title(title, fontsize=10)
    for axes, key in zip(figure("curves", 2), ("score", "steps")):
        _curves(axes, setup, curves, key, world.methods)
    (axes,) = figure("hit_ratio", 1)
    _curves(axes, setup, curves, "subgoal_hit_ratio", world.methods)
    if world.paper_hit_ratio:
        axes.axhline(world.paper_hit_ratio, color="grey", linestyle=":", linewidth=1)
        axes.text(0, world.paper_hit_ratio, "paper, at the end", color="grey", fontsize=8)
    return figures


def _points(axes: "Axes", lines: Sequence[Line], key: str) -> None:
    """Draws each method's mean with its interval, and the paper's value as a cross beside it."""
    for x, line in enumerate(lines):
        value: Estimate = getattr(line, key)
        axes.vlines(x, value.low, value.high, color="tab:blue")
        axes.plot(x, value.mean, "o", color="tab:blue", label="here" if x == 0 else None)
        if line.paper and getattr(line.paper, key) is not None:
            first = not any(before.paper for before in lines[:x])
            axes.plot(x + 0.2, getattr(line.paper, key), "x", color="tab:red", label="paper" if first else None)
    axes.set_xticks(range(len(lines)), [line.title for line in lines], rotation=35, ha="right")
    axes.set_ylabel({"score": "return of the agent", "steps": "steps per episode"}[key])
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)


def _curves(
    axes: "Axes",
    setup: Setup,
    rows: Sequence[Mapping[str, str]],
    key: str,
    methods: Sequence[str] | Mapping[str, object],
) -> None:
    """Draws the mean over seeds against episodes, with its interval, at the steps that all seeds have in common."""
    for name in methods:
        seeds: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if (row["method"], row["key"]) == (name, key):
                seeds.setdefault(row["seed"], []).append((float(row["episode"]), float(row["value"])))
        if not seeds:
            continue
        x = np.linspace(0, min(points[-1][0] for points in seeds.values()), 50)
        y = np.array([np.interp(x, *np.array(points).T) for points in seeds.values()])
        (drawn,) = axes.plot(x, y.mean(0), label=titles(setup)[name])
        if len(y) > 1:
            low, high = zip(*(mean_interval(values) for values in y.T.tolist()))
            axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("episodes")
    axes.set_ylabel({"score": "return of the agent", "steps": "steps per episode"}.get(key, "subgoal hit ratio"))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def write(setup: Setup) -> str:
    """Writes the report into the folder of the evaluation; returns its table and the folder, as text."""
    rows = [row for job in test_jobs(setup) for row in read_rows(job.output, TEST_FIELDS)]
    curves = [row for job in agent_jobs(setup) for row in read_rows(job.curves, CURVE_FIELDS)]
    lines = summarise(setup, rows)
    table = as_markdown(setup, lines)
    write_csv(setup.out / "episodes.csv", TEST_FIELDS, rows)
    write_csv(setup.out / "curves.csv", CURVE_FIELDS, curves)
    cells = (
        [line.method, *line.score, *line.steps, line.n_episodes, line.n_seeds, line.n_opponents]
        + list(line.paper or (None, None))
        for line in lines
    )
    write_csv(setup.out / "table.csv", TABLE_FIELDS, (dict(zip(TABLE_FIELDS, row)) for row in cells))
    (setup.out / "table.md").write_text(table, encoding="utf-8")
    figures = draw(setup, lines, curves)
    for name, figure in figures.items():
        figure.savefig(setup.out / f"{name}.png", dpi=120)
    files = ", ".join(["table.md", "table.csv", *(f"{name}.png" for name in figures), "curves.csv", "episodes.csv"])
    return f"{table}\n{setup.out}: {files}"
