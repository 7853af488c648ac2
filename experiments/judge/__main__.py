"""`python -m experiments.judge`: holds the embedded engine against what StarCraft II itself did."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba

from envs.sc2.sim.env import ENGINE_VERSION
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.rules import Rules
from experiments.calibrate import read_rules
from experiments.judge.picture import draw_policies
from experiments.judge.policies import Policy, PolicyRow, judge_policies, read_policies
from experiments.judge.replays import judge_replays
from experiments.judge.steps import judge_steps
from utils.command import (
    Parser,
    check_at_least,
    check_json,
    check_threads,
    chosen_maps,
    exit_status,
    format_machine,
    machine_info,
    run_program,
)
from utils.errors import UserError

DESCRIPTION = """Holds the embedded engine against StarCraft II itself, by data that were recorded there; any of the
three judges may be asked. --trajectories sets the engine into recorded states and plays one step. --replays plays the
commands of replays. --policies plays networks that were trained in the game, greedily: the share of battles won with
its 95 % interval (Wilson) beside the game's, and, where there is QMIX's mixer, by how much
r + 0.99 max Q_tot(s') - Q_tot(s) differs from 0, at each of the first steps and at events: below 0, the engine is worse
for the agents than the game."""
POLICIES_HELP = """folder with index.json, a list of objects with name, map and, if known, algorithm, test_win_rate
(0..1), env_args_not_default and obs_last_action_id, and for each name a folder with PyMARL's agent.th and, if there is
one, mixer.th"""
STEPS_HELP = "folder of SOURCE_MAP_....npz files of whole battles with state, actions, reward and filled or mask"
REPLAYS_HELP = "folder of decoded replays, .json.gz files with the map and its episodes"
RULES_HELP = "rules of the engine to change; given more than once, each is one setting to judge"
HEADER = f"{'policy':<34}{'map':<15}{'won %':>7}{'95 % of them':>14}{'game %':>8}{'steps':>7}{'residual':>10}  note"


def main(argv: Sequence[str] | None = None) -> int:
    """Judges and prints; gives the exit status, as `exit_status` does."""
    return exit_status(lambda: _judge(argv))


def _judge(argv: Sequence[str] | None) -> None:
    args = _parse(argv)
    policies = read_policies(args.policies, args.maps, args.names) if args.policies else []
    if args.policies and not policies:
        raise UserError(f"{args.policies / 'index.json'} lists no policy of the given --maps and --names")
    machine = machine_info("numpy", "numba", "torch")
    print(format_machine(machine))
    settings: list[dict[str, Any]] = []
    try:
        for label, rules in args.rules.items():
            results: dict[str, list[Any]] = {"steps": [], "replays": [], "policies": []}
            settings.append({"changed": label, "rules": rules._asdict(), **results})
            print(f"\nembedded engine {ENGINE_VERSION}, rules {label}", flush=True)
            if args.trajectories:
                results["steps"] += judge_steps(args.trajectories, rules, args.maps, args.threads)
                _print_rows("one step", results["steps"])
            if args.replays:
                results["replays"] += judge_replays(args.replays, rules, args.maps, args.threads)
                _print_rows("replays", results["replays"])
            if policies:
                print(f"\npolicies, {args.battles} battles of seed {args.seed} on")
                _print_policies(args, policies, rules, results["policies"])
    finally:  # what was finished before an interruption counts
        if args.json and settings:
            written = {"machine": machine, "engine_version": ENGINE_VERSION, "battles": args.battles, "seed": args.seed}
            args.json.write_text(
                json.dumps(_plain({**written, "settings": settings}), indent=1, allow_nan=False) + "\n"
            )
        if args.picture and settings and settings[0]["policies"]:
            draw_policies({one["changed"]: one["policies"] for one in settings}, args.picture)


def _print_rows(title: str, rows: Sequence[Any]) -> None:
    """A table of rows of one NamedTuple, a column for each of its fields."""
    cells = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    table = [list(rows[0]._fields), *cells]
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    print(f"\n{title}")
    for line_cells in table:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line_cells, widths)).rstrip())


def _print_policies(args: Namespace, policies: list[Policy], rules: Rules, rows: list[PolicyRow]) -> None:
    """Plays every policy and prints its line, then the residuals; `rows` grows with every policy."""
    print(HEADER, flush=True)
    for row in judge_policies(policies, args.battles, args.seed, rules, args.threads):
        rows.append(row)
        print(line(row), flush=True)
    with_mixer = [row for row in rows if row.by_step]
    if with_mixer:
        print("\nresidual by step")
        for row in with_mixer:
            print(f"{row.name:<34}" + "".join(f"{step.mean:>+6.2f}" if step.n else f"{'':>6}" for step in row.by_step))
        events = [event.where for event in with_mixer[0].by_event]
        print("\nresidual by event\n" + " " * 34 + "".join(f"{event:>20}" for event in events))
        for row in with_mixer:
            cells = [f"{event.mean:+.2f} ({event.n})" if event.n else "" for event in row.by_event]
            print((f"{row.name:<34}" + "".join(f"{cell:>20}" for cell in cells)).rstrip())


def _plain(value: object) -> object:
    """The value as JSON is to have it: rows as objects with their fields' names, null for what nothing is known of."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def line(row: PolicyRow) -> str:
    """A line of the table under HEADER."""
    game = "" if row.game_win_rate is None else f"{100 * row.game_win_rate:.0f}"
    residual = "" if row.residual_size is None else f"{row.residual_size:.2f}"
    return (
        f"{row.name:<34}{row.map:<15}{100 * row.win_rate:>7.0f}{f'{100 * row.low:.0f} to {100 * row.high:.0f}':>14}"
        f"{game:>8}{row.episode_steps:>7.0f}{residual:>10}  {row.note}"
    ).rstrip()


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what can't be judged here."""
    parser = Parser(prog="python -m experiments.judge", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--trajectories", type=Path, metavar="FOLDER", help=STEPS_HELP)
    parser.add_argument("--replays", type=Path, metavar="FOLDER", help=REPLAYS_HELP)
    parser.add_argument("--policies", type=Path, metavar="FOLDER", help=POLICIES_HELP)
    parser.add_argument("--maps", nargs="+", default=["all"], metavar="NAME", help="maps, or all (default: all)")
    parser.add_argument("--names", nargs="+", default=[], metavar="NAME", help="policies (default: all)")
    parser.add_argument("--battles", type=int, default=128, help="battles of each policy (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="battle i has the seed SEED + i (default: %(default)s)")
    parser.add_argument("--rules", nargs="+", action="append", metavar="key=value", help=RULES_HELP)
    parser.add_argument("--threads", type=int, default=1, help="threads; the numbers are the same (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw them there, as .png, .svg or .pdf")
    args = parser.parse_args(argv)
    if not (args.trajectories or args.replays or args.policies):
        raise UserError("nothing to judge by: give --trajectories, --replays or --policies with a folder")
    if args.picture and not args.policies:
        raise UserError("--picture draws policies: give --policies, too")
    args.maps = chosen_maps(args.maps, MAP_NAMES)
    args.rules = {" ".join(given) or "as they are": read_rules(given) for given in args.rules or [[]]}
    check_at_least(1, battles=args.battles, threads=args.threads)
    check_at_least(0, seed=args.seed)
    check_threads(args.threads, numba.get_num_threads())
    check_json(args.json)
    if args.picture and (args.picture.suffix not in (".png", ".svg", ".pdf") or not args.picture.parent.is_dir()):
        raise UserError(f"--picture={args.picture} must end in .png, .svg or .pdf and be in a folder that is there")
    return args


if __name__ == "__main__":
    run_program(main)
