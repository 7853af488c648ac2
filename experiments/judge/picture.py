"""The judges' picture: win rates beside the game's, and residuals by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.judge.policies import PolicyRow


def draw_policies(rows_of_setting: Mapping[str, Sequence[PolicyRow]], path: Path) -> None:
    """Draws the policies of each setting of the rules: won on the engine with intervals, won in the game, and a line of
    residuals for each policy that has a mixer."""
    from matplotlib.figure import Figure

    names = [row.name for row in next(iter(rows_of_setting.values()))]
    figure = Figure(figsize=(15, 2 + 0.28 * len(names)), layout="constrained")
    rates, residuals = figure.subplots(1, 2)
    places = {name: -k for k, name in enumerate(names)}
    for k, (label, rows) in enumerate(rows_of_setting.items()):
        shift = 0.5 * (k - (len(rows_of_setting) - 1) / 2) / len(rows_of_setting)
        y = [places[row.name] - shift for row in rows]
        middle = np.array([row.win_rate for row in rows])
        below, above = middle - [row.low for row in rows], [row.high for row in rows] - middle
        rates.errorbar(middle, y, xerr=np.abs([below, above]), fmt="o", color=f"C{k}", label=f"engine, rules {label}")
        _draw_residuals(residuals, rows, f"C{k}")
    known = [row for row in next(iter(rows_of_setting.values())) if row.game_win_rate is not None]
    rates.plot([row.game_win_rate for row in known], [places[row.name] for row in known], "k|", ms=12, label="game")
    rates.set(xlabel="share of battles won", xlim=(-0.02, 1.02), yticks=list(places.values()), yticklabels=names)
    figure.legend(loc="outside upper left", fontsize="small")
    residuals.axhline(0, color="black", linewidth=0.5)
    residuals.set(xlabel="step", ylabel="r + gamma max Q_tot(s') - Q_tot(s), mean over the battles", ylim=(-2, 2))
    figure.savefig(path)


def _draw_residuals(axes: Any, rows: Sequence[PolicyRow], colour: str) -> None:
    for row in rows:
        if row.by_step:
            axes.plot([step.mean for step in row.by_step], color=colour, linewidth=0.8, alpha=0.6)
