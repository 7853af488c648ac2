"""How fast episodes are collected, with one world and with many, and whether the targets are met.

`python -m benchmarks.collect --map 8m`. Episodes are played by `runners/` and acted in by `controllers/`.
"""

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from benchmarks.program import check_seconds, make_parser, parse, print_machine, print_results, verdict, write_json
from benchmarks.timed_run import TimedRun
from utils.command import check_at_least, exit_status, run_program
from utils.files import Json

REPEATS = 5
ENVS = (1, 8, 64)
TARGETS = {("8m", 1): 5_000, ("8m", 64): 20_000}
"""Environment steps per second, by map and worlds."""
TARGET_SHARE = 0.6
"""The share of the time in the engine or in the policy's matrix products, with 64 worlds of 8m."""
PHASES = ("engine", "policy", "storing", "other")
HEADER = f"{'map':<12}{'worlds':>7}{'steps/s':>10}{'lowest':>10}{'highest':>10}{'cores had':>11}"
HEADER += "".join(f"{phase:>9}" for phase in PHASES) + f"{'products':>10}"
DESCRIPTION = f"""Collects episodes with QMIX's agents at their default settings, everything stored: observations,
states, actions and rewards, in the replay buffer. One world is played by the episode runner, more by the parallel one.
Prints environment steps per second of computing on one thread, the median, lowest and highest of {REPEATS} repeats, how
many cores the program had meanwhile (fewer than one: others had the rest), where the computing went, and what share of
it the policy's matrix products alone would take."""


def products(run: TimedRun, n_rows: int) -> float:
    """Returns seconds of one step's matrix products for so many rows: the policy's least."""
    agent = run.parts.mac.agent
    weights = [weight for name, weight in agent.named_parameters() if "weight" in name]
    pairs = [(np.ones((n_rows, w.shape[1]), np.float32), w.detach().numpy().T) for w in weights]
    times = []
    for _ in range(20):
        started = process_time()
        for x, w in pairs:
            x @ w
        times.append(process_time() - started)
    return median(times)


def measure(map_name: str, n_envs: int, seconds: float, results: Path) -> Json:
    """Returns the speed with so many worlds."""
    settings = ("runner=parallel", f"batch_size_run={n_envs}") if n_envs > 1 else ()
    run = TimedRun("qmix", map_name, results, settings)
    calls = [0]
    select_actions = run.parts.team.select_actions

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return select_actions(*args, **kwargs)

    run.parts.team.select_actions = counted  # type: ignore[method-assign]
    run.collect()
    repeats, shares_of_products = [], []
    for _ in range(REPEATS):
        calls[0] = 0
        speed = run.speed(run.collect, seconds / REPEATS)
        rows = speed.n_steps * run.parts.args.n_agents / calls[0]
        shares_of_products.append(calls[0] * products(run, round(rows)) / speed.seconds)
        repeats.append(speed)
    run.close()
    return {
        "map": map_name,
        "envs": n_envs,
        "steps_per_second": median(repeat.steps_per_second for repeat in repeats),
        "repeats": [repeat.steps_per_second for repeat in repeats],
        "cores_had": median(repeat.cores_had for repeat in repeats),
        "shares": {phase: median(repeat.shares[phase] for repeat in repeats) for phase in PHASES},
        "share_of_products": median(shares_of_products),
    }


def row(result: Json) -> str:
    """Returns a line of the table under HEADER."""
    speeds = (result["steps_per_second"], min(result["repeats"]), max(result["repeats"]))
    line = f"{result['map']:<12}{result['envs']:>7}" + "".join(f"{speed:>10,.0f}" for speed in speeds)
    line += f"{result['cores_had']:>11.2f}" + "".join(f"{share:>9.0%}" for share in result["shares"].values())
    return line + f"{result['share_of_products']:>10.0%}"


def verdicts(result: Json) -> list[str]:
    """Returns one line for each target that this result can be held against."""
    map_name, n_envs, lines = result["map"], result["envs"], []
    if (map_name, n_envs) in TARGETS:
        worlds = "one world" if n_envs == 1 else f"{n_envs} worlds"
        what = f"{map_name}, collecting, {worlds}, steps/s"
        lines.append(verdict(what, result["steps_per_second"], TARGETS[map_name, n_envs], ",.0f"))
    if (map_name, n_envs) == ("8m", 64):
        share = result["shares"]["engine"] + result["share_of_products"]
        what = f"{map_name}, {n_envs} worlds, time in engine or matrix products"
        lines.append(verdict(what, share, TARGET_SHARE, ".0%"))
    return lines


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what cannot be measured here."""
    parser = make_parser("collect", DESCRIPTION, ["8m"])
    parser.add_argument("--envs", type=int, nargs="+", default=ENVS, help="worlds at once (default: 1 8 64)")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each figure (default: %(default)s)")
    args = parse(parser, argv)
    check_seconds(args.seconds)
    check_at_least(1, envs=min(args.envs))
    return args


def run_all(args: Namespace) -> None:
    """Measures and prints."""
    machine = print_machine(("torch", "numpy", "numba"))
    with tempfile.TemporaryDirectory() as folder:
        cases = product(args.map, args.envs)
        measured = (measure(map_name, n_envs, args.seconds, Path(folder)) for map_name, n_envs in cases)
        results = print_results(HEADER, measured, row, verdicts)
    write_json(args.json, machine=machine, results=results)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 after a user's mistake."""
    return exit_status(lambda: run_all(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
