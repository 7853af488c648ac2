"""Records of trainings as this framework, PyMARL and EPyMARL leave them, made up for tests of the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def curve(seed: int, final: float = 0.8, n_tests: int = 21) -> list[float]:
    """Win rates that rise to about `final`; a seed always gives the same."""
    rng = np.random.default_rng(seed)
    rise = 1 / (1 + np.exp(-(np.arange(n_tests) - n_tests * rng.uniform(0.3, 0.5)) / (n_tests / 12)))
    return [float(won) for won in np.clip(final * rise + rng.normal(0, 0.04, n_tests), 0, 1)]


def make_run(
    folder: Path,
    algorithm: str = "qmix",
    map_name: str = "3m",
    seed: int = 1,
    won: list[float] | None = None,
    interval: int = 10_000,
    t_max: int | None = None,
    status: str = "COMPLETED",
    engine: str = "sim",
    version: str = "2",
    layout: str = "own",
    absolute: float | None = None,
    **settings: Any,
) -> Path:
    """Writes the records of one run; `layout` is own, epymarl (metrics.json) or pymarl (info.json)."""
    folder.mkdir(parents=True)
    won = curve(seed) if won is None else won
    steps = [interval * i + 7 * seed for i in range(len(won))]
    stats = {"test_battle_won_mean": won, "test_return_mean": [20 * value for value in won]}
    config = {"name": algorithm, "env": "sc2", "env_args": {"map_name": map_name, "difficulty": "7"}, "seed": seed}
    config |= {"t_max": t_max or interval * (len(won) - 1), "lr": 0.0005, "test_nepisode": 32, **settings}
    if layout == "own":
        config["resolved"] = {"engine": engine, "engine_version": version, "commit": "c0ffee", "packages": {}}
    run = {"status": status, "heartbeat": "2026-01-01T02:00:00", "start_time": "2026-01-01T00:00:00"}
    run |= {"stop_time": "2026-01-01T02:00:00" if status == "COMPLETED" else None}
    _write(folder / "config.json", config)
    _write(folder / "run.json", run)
    if layout == "own":
        lines = [
            {"t_env": t, "key": key, "value": value, "time": 0.0}
            for key, values in stats.items()
            for t, value in zip(steps, values)
        ]
        if absolute is not None:
            lines.append({"t_env": steps[-1], "key": "absolute_battle_won_mean", "value": absolute, "time": 0.0})
        lines.append({"t_env": steps[-1], "key": "steps_per_second", "value": 250.0, "time": 0.0})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif layout == "epymarl":
        content = {key: {"steps": steps, "values": values, "timestamps": []} for key, values in stats.items()}
        _write(folder / "metrics.json", content)
    else:
        numpys = [{"dtype": "float64", "py/object": "numpy.float64", "value": value} for value in won]
        info = {"test_battle_won_mean": numpys, "test_return_mean": stats["test_return_mean"]}
        _write(folder / "info.json", info | {f"{key}_T": steps for key in stats} | {"episode": [1], "episode_T": [1]})
    return folder


def make_study(place: Path, finals: dict[tuple[str, str], float], seeds: range = range(1, 4), **more: Any) -> Path:
    """Writes runs of each (algorithm, map) that come to about the given win rate, for each seed."""
    for (algorithm, map_name), final in finals.items():
        for seed in seeds:
            won = curve(seed + 100 * len(algorithm), final)
            make_run(place / f"{algorithm}_{map_name}" / "sacred" / str(seed), algorithm, map_name, seed, won, **more)
    return place


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
