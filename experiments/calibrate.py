"""How close the embedded engine comes to StarCraft II: SMAC's built-in heuristic plays both, map by map.

`python -m experiments.calibrate --map all --battles 300`. The heuristic learns nothing, so that its win rate measures
the engine alone. The engine is `envs/sc2/sim`; what is uncertain about it stands in `envs/sc2/sim/rules.py`.
"""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import numba
import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.rules import Rules
from utils.command import (
    Parser,
    check_at_least,
    check_json,
    check_threads,
    chosen_maps,
    exit_status,
    format_machine,
    interrupted_status,
    machine_info,
    run_program,
)
from utils.config import Key
from utils.errors import UserError, unknown
from utils.files import Json
from utils.intervals import wilson_interval

PUBLISHED = {
    "2s3z": 90, "1c3s5z": 81, "bane_vs_bane": 43, "3s5z": 42, "10m_vs_11m": 12,
    "2s_vs_1sc": 0, "2c_vs_64zg": 0, "5m_vs_6m": 0, "3s_vs_5z": 0, "3s5z_vs_3s6z": 0, "6h_vs_8z": 0, "27m_vs_30m": 0,
    "MMM2": 0, "corridor": 0,
}  # fmt: skip
"""Battles of 100 that the heuristic wins in StarCraft II 4.6.2 (Samvelyan et al. 2019; Rashid et al. 2020)."""
AIM_POINTS = 10
"""How many points from the published value the engine may be."""
AIM_AT_ZERO = 5
"""The most that it may win, in per cent, where the published value is 0."""
AT_ONCE = 64  # battles in memory; the numbers do not depend on it
HEADER = (
    f"{'map':<18}{'battles':>8}{'won %':>8}{'95 % of them':>15}{'steps':>8}{'allies left':>14}{'enemies left':>14}"
    f"{'time-outs':>11}{'published':>11}{'in aim':>8}"
)
DESCRIPTION = f"""Plays SMAC's built-in heuristic (every agent attacks the nearest enemy until it dies) on the embedded
engine and holds its win rate against what is published for StarCraft II: within {AIM_POINTS} points of it, or at most
{AIM_AT_ZERO} % where it is 0. Prints for each map the share of battles won with its 95 % interval (Wilson), as means
over the battles their length in environment steps and the units left of each side, and how many battles the time limit
ended."""
SENSITIVITY_HELP = """play also with every other value of every rule, one rule at a time, and print the win rates
only: a line for each value, a column for each map. A rule that may be any number is tried at half and twice its own"""
JSON_HELP = """also write the results there: "machine", "seed", "heuristic_rest", "rules" and "results", a list with the
columns of the table for each map, and in "changed" the rule that differed"""


def within_aim(map_name: str, n_won: int, n_battles: int) -> bool | None:
    """Returns whether so many victories meet the aim; None where nothing is published."""
    published = PUBLISHED.get(map_name)
    if published is None:
        return None
    if published == 0:
        return 100 * n_won <= AIM_AT_ZERO * n_battles
    return abs(100 * n_won - published * n_battles) <= AIM_POINTS * n_battles


# ------------------------------------------------------------------------------------------------ battles


def play(map_name: str, n_battles: int, seed: int, rules: Rules, rest: bool, n_threads: int) -> Json:
    """Returns the heuristic's results on one map; battle i has the seed `seed` + i."""
    ends = np.zeros((n_battles, 5))
    for first in range(0, n_battles, AT_ONCE):
        chunk = slice(first, min(first + AT_ONCE, n_battles))
        seeds = range(seed + first, seed + chunk.stop)
        env = BattleVectorEnv(
            seeds, map_name=map_name, heuristic_ai=True, heuristic_rest=rest, rules=rules, n_threads=n_threads
        )
        ends[chunk] = play_to_the_end(env)
    won, truncated, steps, dead_allies, dead_enemies = ends.T
    n_won, n_agents, n_enemies = int(won.sum()), env.map.n_agents, env.map.n_enemies
    return {
        "map": map_name,
        "battles": n_battles,
        "won": n_won,
        "win_rate": 100 * n_won / n_battles,
        "interval": [100 * bound for bound in wilson_interval(n_won, n_battles)],
        "episode_steps": float(steps.mean()),
        "allies": n_agents,
        "allies_left": float(n_agents - dead_allies.mean()),
        "enemies": n_enemies,
        "enemies_left": float(n_enemies - dead_enemies.mean()),
        "timeouts": int(truncated.sum()),
        "published": PUBLISHED.get(map_name),
        "within_aim": within_aim(map_name, n_won, n_battles),
    }


def play_to_the_end(env: BattleVectorEnv) -> np.ndarray:
    """Plays one battle in each world; returns [batch, (won, cut off, steps, dead allies, dead enemies)]."""
    info = env.get_env_info()
    observations = Observations.empty(env.n_envs, info)
    outcomes = Outcomes.empty(env.n_envs, env.info_keys)
    actions = np.zeros((env.n_envs, info["n_agents"]), np.int64)  # the heuristic takes its own
    running = np.ones(env.n_envs, bool)
    n_steps = np.zeros(env.n_envs, np.int64)
    env.reset(observations)
    while running.any():
        env.step(actions, observations, outcomes, running)
        n_steps += running
        running &= ~(outcomes.terminated | outcomes.truncated)
    end = outcomes.info
    return np.stack((end["battle_won"], outcomes.truncated, n_steps, end["dead_allies"], end["dead_enemies"]), axis=1)


# ------------------------------------------------------------------------------------------------ rules


def rule_keys() -> dict[str, Key]:
    """Returns what each rule may hold, by its type in `Rules`: the values of a Literal, or any number from 0 on."""
    kinds = {name: (kind, get_args(kind)) for name, kind in get_type_hints(Rules).items()}
    return {
        name: Key(type(choices[0]), choices=choices) if choices else Key(kind, low=0)
        for name, (kind, choices) in kinds.items()
    }


def read_rules(given: Sequence[str]) -> Rules:
    """Returns the default rules with the changes of `key=value` texts.

    Raises: UserError where a rule is not known or can't hold the value.
    """
    keys, changes = rule_keys(), {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--rules: '{text}' must have the form key=value")
        if name not in keys:
            raise UserError(f"--rules: {unknown('rule', name, keys)}")
        try:
            changes[name] = keys[name].read_text(value)
        except ValueError as mistake:
            raise UserError(f"--rules: {name} can't be '{value}'; {mistake}") from mistake
    return Rules(**changes)


def alternatives(rules: Rules) -> list[Json]:
    """Returns all changes of one rule to another value."""
    changes = []
    for name, key in rule_keys().items():
        value, kind = getattr(rules, name), key.kinds[0]
        others = key.choices or ((not value,) if kind is bool else (kind(value / 2) or kind(1), kind(value * 2)))
        changes += [{name: other} for other in dict.fromkeys(others) if other != value]
    return changes


# ------------------------------------------------------------------------------------------------ tables


def row(result: Json) -> str:
    """Returns a line of the table under HEADER."""
    low, high = result["interval"]
    allies = f"{result['allies_left']:.1f} of {result['allies']}"
    enemies = f"{result['enemies_left']:.1f} of {result['enemies']}"
    published = "" if result["published"] is None else result["published"]
    return (
        f"{result['map']:<18}{result['battles']:>8}{result['win_rate']:>8.1f}{f'{low:.1f} to {high:.1f}':>15}"
        f"{result['episode_steps']:>8.1f}{allies:>14}{enemies:>14}{result['timeouts']:>11}{published:>11}"
        f"{ {True: 'yes', False: 'no', None: ''}[result['within_aim']]:>8}"
    ).rstrip()


def verdict(results: Sequence[Json]) -> str:
    """Returns which maps miss the aim, in one line."""
    judged = [result for result in results if result["within_aim"] is not None]
    if not judged:
        return "no map with a published value"
    missed = [f"{r['map']} ({r['win_rate']:.1f}, published {r['published']})" for r in judged if not r["within_aim"]]
    met = f"{len(judged) - len(missed)} of {len(judged)} maps with a published value within the aim"
    return f"{met}; missed: {', '.join(missed)}" if missed else met


def print_results(args: Namespace, results: list[Json]) -> None:
    """Plays every map and prints its line; `results` grows with every map, so that an interruption keeps them."""
    print(HEADER, flush=True)
    for name in args.map:
        result = play(name, args.battles, args.seed, args.rules, args.heuristic_rest, args.threads)
        results.append({**result, "changed": {}})
        print(row(results[-1]), flush=True)


def print_sensitivity(args: Namespace, results: list[Json]) -> None:
    """Plays every map under every alternative and prints the win rates; `results` grows as above."""
    changes = [{}, *alternatives(args.rules)]
    labels = [f"{name}={value}" for change in changes for name, value in change.items()]
    labels.insert(0, "rules as given")
    first_column, columns = max(map(len, labels)) + 2, [max(len(name) + 2, 8) for name in args.map]
    published = [str(PUBLISHED.get(name, "")) for name in args.map]

    def line(label: str, cells: Sequence[str]) -> str:
        return f"{label:<{first_column}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, columns))

    print(line("won %", args.map))
    print(line("published", published))
    for label, change in zip(labels, changes):
        print(f"{label:<{first_column}}", end="", flush=True)
        rules = args.rules._replace(**change)
        for name, width in zip(args.map, columns):
            result = play(name, args.battles, args.seed, rules, args.heuristic_rest, args.threads)
            results.append({**result, "changed": change})
            print(f"{result['win_rate']:>{width}.1f}", end="", flush=True)
        print()


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what cannot be played here."""
    parser = Parser(prog="python -m experiments.calibrate", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--map", nargs="+", default=["all"], metavar="NAME", help="maps, or all (default: all)")
    parser.add_argument("--battles", type=int, default=300, help="battles per map (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="battle i has the seed SEED + i (default: %(default)s)")
    parser.add_argument("--rules", nargs="+", default=[], metavar="key=value", help="rules of the engine to change")
    parser.add_argument("--sensitivity", action="store_true", help=SENSITIVITY_HELP)
    parser.add_argument("--heuristic-rest", action="store_true", help="keep the heuristic to available actions")
    parser.add_argument("--threads", type=int, default=1, help="threads; the numbers are the same (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help=JSON_HELP)
    args = parser.parse_args(argv)
    args.map = chosen_maps(args.map, MAP_NAMES)
    args.rules = read_rules(args.rules)
    if args.battles < 1 or args.threads < 1:
        raise UserError("--battles and --threads must be above 0")
    check_at_least(0, seed=args.seed)
    check_threads(args.threads, numba.get_num_threads())
    check_json(args.json)
    return args


def calibrate(args: Namespace) -> int:
    """Plays and prints; returns 0, or after an interruption that signal's exit status."""
    machine = machine_info("numpy", "numba")
    print(format_machine(machine))
    print(f"embedded engine, {args.battles} battles of seed {args.seed} on, rules {args.rules._asdict()}")
    results: list[Json] = []
    status = 0
    try:
        (print_sensitivity if args.sensitivity else print_results)(args, results)
    except KeyboardInterrupt as error:
        print("\ninterrupted; what was finished counts")
        status = interrupted_status(error)
    print(verdict([result for result in results if not result["changed"]]))
    if args.json:
        settings = {"seed": args.seed, "heuristic_rest": args.heuristic_rest, "rules": args.rules._asdict()}
        args.json.write_text(json.dumps({"machine": machine, **settings, "results": results}, indent=1) + "\n")
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Plays and prints; returns the exit status, as `exit_status` does."""
    return exit_status(lambda: calibrate(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
