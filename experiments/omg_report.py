"""The report of the evaluation of OMG: episodes.csv, table.csv, table.md and figure.png, from the tests' episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.omg_runs import CONTROL, CONTROL_METHOD, FIELDS, METHODS, PHASES, Setup
from experiments.report.statistics import Interval, estimate, iqm
from run import ENGINE_NAMES
from utils.intervals import Estimate, apart, bootstrap
from utils.pools import find_members
from utils.records import write_csv

TITLES = {CONTROL: CONTROL_METHOD.title, **{name: method.title for name, method in METHODS.items()}}
_COLUMNS = ("qmix", "omg_optimistic", "iql", "liam", "naive_om", "omg_conservative")
PAPER = {
    ("8m", "7 non-homologue"): dict(zip(_COLUMNS, (21.6, 70.5, 64.8, 67.1, 65.9, 68.6))),
    ("8m", "6 homologue"): dict(zip(_COLUMNS, (65.6, 86.8, 80.3, 79.6, 82.6, 84.0))),
    ("8m", "7 homologue"): dict(zip(_COLUMNS, (61.0, 90.2, 88.6, 87.5, 87.7, 87.0))),
    ("3s_vs_5z", "2 non-homologue"): dict(zip(_COLUMNS[1:], (35.0, 20.7, 24.8, 24.1, 23.5))),
    ("3s_vs_5z", "2 homologue"): dict(zip(_COLUMNS[1:], (56.7, 46.3, 49.3, 49.8, 46.5))),
    ("2c_vs_64zg", "1 homologue"): dict(zip(_COLUMNS[1:], (64.2, 43.1, 48.3, 41.1, 55.8))),
}
"""Win rates of Yu, Jiang and Lu 2024, %, after fine-tuning: of 8m printed, of the others read off a bar chart."""
PAPER_CAVEAT = (
    "The paper's values are win rates in StarCraft II after 100 episodes of fine-tuning (8m printed, the others read "
    "off a bar chart within about 0.2 points), with intervals of some 4 to 12 points to each side."
)
TABLE_FIELDS = ("phase", "group", "method", "won", "low", "high", "episodes", "seeds", "teams", "members", "paper")


class Line(NamedTuple):
    """One method with one group in one phase."""

    phase: str
    group: str
    method: str
    won: Estimate
    n_episodes: int
    n_seeds: int
    n_teams: int
    n_members: int
    paper: float | None  # %, after fine-tuning


def summarise(rows: Sequence[Mapping[str, str]], map_name: str) -> list[Line]:
    """Returns a line for each phase, group and method, in this order."""
    cells: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        cells.setdefault((row["phase"], row["group"], row["method"]), []).append(row)
    groups, methods = list(dict.fromkeys(row["group"] for row in rows)), list(TITLES)
    lines = []
    for key in sorted(cells, key=lambda c: (PHASES.index(c[0]), groups.index(c[1]), methods.index(c[2]))):
        phase, group, method = key
        won = [float(row["won"]) for row in cells[key]]
        seeds = [row["seed"] for row in cells[key]]
        teams = [tuple(sorted(row["teammates"].split("+"))) for row in cells[key]]
        members = {member for team in teams for member in team}
        estimate = bootstrap(won, seeds, teams, np.random.default_rng(0))
        paper = PAPER.get((map_name, group), {}).get(method)
        lines.append(Line(*key, estimate, len(won), len(set(seeds)), len(set(teams)), len(members), paper))
    return lines


def normalised(
    rows: Sequence[Mapping[str, str]], best: Sequence[Mapping[str, str]], group: str, phase: str
) -> dict[str, Interval]:
    """Returns each method's interquartile mean over seeds and members of the test pool of its share of the best.

    That is its win rate with a member in all other seats over that of the best response to this member, which counts
    where it won at least once. Seeds are drawn anew within each member.
    """
    won_best = {member: won for (member,), won in _win_rates(best, "teammates").items()}
    of_methods: dict[str, dict[str, list[float]]] = {}
    of_group = [row for row in rows if (row["group"], row["phase"]) == (group, phase)]
    for (method, _, member), won in _win_rates(of_group, "method", "seed", "teammates").items():
        if won_best.get(member):
            of_methods.setdefault(method, {}).setdefault(member, []).append(won / won_best[member])
    return {
        method: estimate([np.array(shares) for shares in members.values()], iqm)
        for method, members in of_methods.items()
    }


def _win_rates(rows: Sequence[Mapping[str, str]], *keys: str) -> dict[tuple[str, ...], float]:
    """Returns the win rate of the rows with equal values of the keys; of `teammates`, the one that has all seats."""
    found: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        names = set(row["teammates"].split("+"))
        if len(names) == 1:
            values = {**row, "teammates": names.pop()}
            found.setdefault(tuple(values[key] for key in keys), []).append(int(row["won"]))
    return {values: sum(won) / len(won) for values, won in found.items()}


def as_members(setup: Setup, best: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns a table of both pools' members: how often each wins as a team, and what a best response to it wins.

    Members that were to be trained until they win so often, and did not come to it, are marked.
    """
    asked = float(dict(setting.split("=") for setting in setup.scale.pool_settings).get("stop_win_rate", 0))
    responses = {member: won for (member,), won in _win_rates(best, "teammates").items()}
    lines = ["", "## Members", "", "| member | steps | won as a team | best response won |", "|---|---|---|---|"]
    for member in [*find_members(setup.train_pool), *find_members(setup.test_pool)]:
        won = "" if member.test_win_rate is None else f"{100 * member.test_win_rate:.0f}"
        won += f" (below {100 * asked:.0f})" if (member.test_win_rate or 0) < asked else ""
        response = f"{100 * responses[member.folder.name]:.0f}" if member.folder.name in responses else ""
        lines.append(f"| {member.folder.name} | {member.steps:,} | {won} | {response} |")
    return lines


def as_shares(setup: Setup, rows: Sequence[Mapping[str, str]], best: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns a table of each method's share of the best response, in the groups of one member in all other seats."""
    lines = [
        *("", "## Shares of the best response", ""),
        f"Interquartile means over seeds and members of the win rate with a member over that of IQL trained beside it "
        f"alone for {setup.n_agents * setup.scale.best_response_t_max:,} steps (the methods had "
        f"{setup.n_agents * setup.scale.agent_t_max:,} with other members), with bootstrap intervals of 95 %.",
        *("", "| phase | method | share | interval |", "|---|---|---|---|"),
    ]
    group = f"{setup.n_agents - 1} homologue"
    for phase in PHASES:
        for method, share in normalised(rows, best, group, phase).items():
            interval = "" if share.low is None else f"{share.low:.2f} to {share.high:.2f}"
            lines.append(f"| {phase} | {TITLES[method]} | {share.value:.2f} | {interval} |")
    return lines


def in_order(lines: Sequence[Line]) -> str:
    """Returns whether the order of the methods can be told: which intervals lie apart and that the others overlap."""
    pairs = apart({line.method: line.won for line in lines})
    if not pairs:
        return "All intervals overlap: the order of the methods can't be told."
    named = ", ".join(f"{TITLES[a]} over {TITLES[b]}" for a, b in pairs)
    if len(pairs) == len(lines) * (len(lines) - 1) // 2:
        return f"No two intervals overlap: the order can be told ({named})."
    return f"Intervals lie apart for {named}; all other pairs overlap, and their order can't be told."


def as_markdown(setup: Setup, lines: Sequence[Line], engine: str) -> str:
    """Returns the table as Markdown, with what has to be known to read it."""
    scale = setup.scale
    text = [
        f"# OMG among teammates that it has not met: {setup.map_name} on {engine}",
        "",
        f"Win rates in %, with intervals of 95 % (bootstrap over seeds and, independently, over teams of teammates). "
        f"Training pool: {scale.train_members} members by QMIX, {scale.pool_t_max:,} steps each; test pool: "
        f"{setup.test_members} members each by IQL, VDN and QMIX. Agents: {scale.seeds} seeds, "
        f"{setup.n_agents * scale.agent_t_max:,} steps each, omg_horizon={scale.omg_horizon}. The subgoal prior is "
        "trained once and is the same for all agents of OMG. Homologue teammates are one member in all seats, "
        "non-homologue ones another member in each; teams of the same members count as one, teams that share some as "
        "independent. Few seeds, or episodes that all ended alike, make the intervals too narrow. The QMIX row "
        "is the training pool's own members in the agent's seat; its seeds are the members.",
    ]
    if setup.n_agents > 3:
        text.append(f"With {setup.n_agents - 2} teammates the agent's policy takes two seats.")
    has_paper = any(line.paper is not None for line in lines)
    for phase in PHASES:
        when = f"after about {scale.tune_episodes} episodes with these teammates" if phase != PHASES[0] else PHASES[0]
        for group in dict.fromkeys(line.group for line in lines if line.phase == phase):
            of_group = [line for line in lines if (line.phase, line.group) == (phase, group)]
            text += ["", f"## {group}, {when}", ""]
            text.append("| method | won | interval | episodes | seeds | teams | members |" + " paper |" * has_paper)
            text.append("|---|---|---|---|---|---|---|" + "---|" * has_paper)
            for line in of_group:
                mean, low, high = (f"{100 * value:.1f}" for value in line.won)
                cells = [TITLES[line.method], mean, f"{low} to {high}", line.n_episodes, line.n_seeds, line.n_teams]
                cells += [line.n_members, *(["" if line.paper is None else line.paper] if has_paper else [])]
                text.append(f"| {' | '.join(map(str, cells))} |")
            text += ["", in_order(of_group)]
    if has_paper:
        text += ["", f"{PAPER_CAVEAT} They are not comparable with values of {engine}."]
    return "\n".join(text) + "\n"


def draw(lines: Sequence[Line], title: str, file: Path) -> None:
    """One panel per group: each method's win rate with its interval, zero-shot beside tuned."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(line.group for line in lines))
    methods = [name for name in TITLES if any(line.method == name for line in lines)]
    figure = Figure(figsize=(1 + 4 * len(groups), 4.5), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(groups), sharey=True, squeeze=False)[0], groups):
        for shift, phase in zip((-0.12, 0.12), PHASES):
            of_phase = [line for line in lines if (line.phase, line.group) == (phase, group)]
            x = [methods.index(line.method) + shift for line in of_phase]
            won = np.array([line.won for line in of_phase]).reshape(-1, 3) * 100
            # The mean may lie outside of percentiles of few seeds: it is a point, the interval a line of its own.
            axes.vlines(x, won[:, 1], won[:, 2], colors="tab:blue" if shift < 0 else "tab:orange")
            axes.plot(x, won[:, 0], "o", color="tab:blue" if shift < 0 else "tab:orange", label=phase)
        axes.set_title(group)
        axes.set_xticks(range(len(methods)), [TITLES[name] for name in methods], rotation=45, ha="right")
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].set_ylabel("won, % (95 % intervals)")
    figure.axes[0].set_ylim(-2, 102)
    figure.axes[0].legend()
    figure.suptitle(title)
    figure.savefig(file, dpi=120)


def write(setup: Setup, rows: Sequence[Mapping[str, str]], best: Sequence[Mapping[str, str]] = ()) -> str:
    """Writes the report of the tests, and of those of `best` responses, into the folder; returns it, as text."""
    engine = " and ".join(dict.fromkeys(ENGINE_NAMES[row["engine"]] for row in rows))
    lines = summarise(rows, setup.map_name)
    more = as_members(setup, best) + (as_shares(setup, rows, best) if best else [])
    table = as_markdown(setup, lines, engine) + "\n".join(more) + "\n"
    cells = ([*line[:3], *line.won, *line[4:]] for line in lines)
    write_csv(setup.out / "episodes.csv", FIELDS, rows)
    write_csv(setup.out / "table.csv", TABLE_FIELDS, (dict(zip(TABLE_FIELDS, row)) for row in cells))
    (setup.out / "table.md").write_text(table, encoding="utf-8")
    draw(lines, f"{setup.map_name}, {engine}", setup.out / "figure.png")
    return f"{table}\n{setup.out}: table.md, table.csv, figure.png, episodes.csv"
