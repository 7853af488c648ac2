"""Cross-play: `python -m experiments.crossplay POOL --episodes 32`; every member with every other in one team.

`utils/pools.py` has what a pool looks like; `experiments/pool.py` trains its members.
"""

import json
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from matplotlib.figure import Figure

import run
from experiments import crossplay_jobs
from experiments.crossplay_jobs import Pair
from experiments.executors import add_arguments, check_arguments
from utils.checkpoints import whole_folder
from utils.command import Parser, check_at_least, exit_status, machine_info, run_program
from utils.config import flatten
from utils.dict2namedtuple import Args, convert
from utils.errors import UserError
from utils.files import Json
from utils.logging import Logger, get_logger
from utils.MY_EXP_PATH import check_results_path, experiment_root
from utils.pools import MEMBER_FILE, Member, load_pool
from utils.process import keep_freed_memory, set_threads
from utils.records import write_csv
from utils.timehelper import time_left
from utils.weights import fits

DESCRIPTION = """Plays test episodes of every pair of a pool's members, a member with itself included. The seats are
dealt anew for each episode; of two successive episodes the second has the members' seats exchanged, so that each plays
every seat as often as the other. Every pair meets the same worlds and the same deals. Writes matrix.csv and matrix.png,
pairs.csv with intervals, episodes.csv and settings.json. With --jobs or --on many processes play; the same command
then goes on where it was stopped."""
METRIC_HELP = "what the matrix shows: the share of episodes won, or the mean return (default: won, where one can win)"
WORLDS_HELP = """how many episodes are played at once; each world has its own random numbers, so that with another
number the episodes differ (default: %(default)s)"""
OUT_HELP = "a new folder (default: crossplay/<name of the pool>, where results lie)"
NOT_OF_THE_WORLD = {"seed", "engine", "replay_dir", "replay_prefix"}
"""What members may differ by in their env_args. (Engines are compared as they were resolved.)"""
OF_THE_STATE = {"state_last_action", "state_timestep_number", "obs_instead_of_state"}
"""What those may differ by, too, who do not act on the state: nearly all."""
EPISODE_COLUMNS = ("member_i", "member_j", "episode", "world", "seed", "seats_i", "return", "length", "won")
PAIR_COLUMNS = ("member_i", "member_j", "episodes", "won", "won_low", "won_high", "return", "return_low", "return_high")


class Stage(NamedTuple):
    """Where all pairs play."""

    args: Args  # of the runner, with the environment's sizes
    can_be_won: bool
    n_episodes: int
    deals: np.ndarray  # [episode, agent] bool: whether the seat is the first member's


class PairTeam:
    """A team of one or two controllers: each of them follows all seats, and acts in those that it is dealt."""

    def __init__(self, macs: Sequence[run.BasicMAC]):
        self.macs = macs
        self.is_first = th.ones(0, 0, dtype=th.bool)  # [batch, agent]

    def reset(self, ep_batch: run.EpisodeBatch, worlds: np.ndarray) -> None:
        for mac in self.macs:
            mac.init_hidden(ep_batch.batch_size)

    def select_actions(
        self, ep_batch: run.EpisodeBatch, t_ep: int, t_env: int, bs: Any = slice(None), test_mode: bool = False
    ) -> th.Tensor:
        """Returns actions [b, agent] at step `t_ep` of episodes `bs`."""
        chosen = [mac.select_actions(ep_batch, t_ep, t_env, bs, test_mode) for mac in self.macs]
        return th.where(self.is_first[bs], chosen[0], chosen[-1])

    def seats_of(self, world: int) -> tuple[list[int], list[str]]:
        """Nobody learns."""
        return [], []


class Episodes(Logger):
    """Keeps the test episodes that the runner records."""

    def __init__(self) -> None:
        super().__init__(get_logger())
        self.test_episodes: list[Json] = []

    def log_test_episode(self, episode: Json) -> None:
        self.test_episodes.append(episode)


# ------------------------------------------------------------------------------------------------ playing


def common_world(members: Sequence[Member]) -> Member:
    """Returns a member in whose environment all of them can play.

    Raises: UserError where two were not trained in one environment, with one map and engine.
    """

    def reads_state(member: Member) -> bool:
        return bool(member.config.get("obs_is_state"))

    def world(member: Member) -> Json:
        ignored = NOT_OF_THE_WORLD if reads_state(member) else NOT_OF_THE_WORLD | OF_THE_STATE
        with fits(f"{member.folder}/{MEMBER_FILE}"):
            settings = flatten({key: value for key, value in member.config["env_args"].items() if key not in ignored})
        return {"env": member.env, **{f"env_args.{key}": value for key, value in settings}, "engine": member.engine}

    first = max(members, key=reads_state)
    wanted = world(first)
    for member in members:
        found = world(member)
        for key in [key for key in wanted if key in found and found[key] != wanted[key]]:
            raise UserError(
                f"{first.folder} was trained with {key}={wanted[key]}, but {member.folder} with {found[key]}; "
                "cross-play needs a pool of one environment, map and engine"
            )
    return first


def deal_seats(n_episodes: int, n_agents: int, seed: int) -> np.ndarray:
    """Returns whether each seat is the first member's, [episode, agent]; its half is the larger one in turn."""
    rng = np.random.default_rng(seed)
    larger_half = np.arange(n_agents) < (n_agents + 1) // 2
    deals = [rng.permutation(larger_half) for _ in range((n_episodes + 1) // 2)]
    return np.stack([half for deal in deals for half in (deal, ~deal)])[:n_episodes]


def set_stage(member: Member, n_episodes: int, n_worlds: int, seed: int) -> Stage:
    """Returns the members' world, as one of them has it. The last of several rounds may have worlds to spare."""
    n_rounds = -(-n_episodes // n_worlds)
    n_worlds = -(-n_episodes // n_rounds)
    env_args = {key: value for key, value in member.config["env_args"].items() if key != "seed"}
    if member.engine:
        env_args["engine"] = member.engine
    own = {"env_args": env_args, "seed": seed, "batch_size_run": n_worlds, "device": "cpu", "models_path": ""}
    own["common_reward"] = True  # pairs are compared by the team's return
    args = convert({**member.config, **own})
    runner = make_runner(args, Episodes())
    try:
        args = run.with_sizes(args, runner.get_env_info())
        can_be_won = "battle_won" in runner.env.info_keys
    finally:
        runner.close_env()
    return Stage(args, can_be_won, n_episodes, deal_seats(n_rounds * n_worlds, args.n_agents, seed))


def make_runner(args: Args, logger: Logger) -> Any:
    """Returns a runner with all worlds in this process: workers would be started anew for each pair."""
    return run.RUNNERS["episode"](args=args, logger=logger)


def load_mac(member: Member, stage: Stage) -> run.BasicMAC:
    """Returns the member's controller. Raises: UserError where weights do not fit, or the configuration is broken."""
    with fits(f"{member.folder}/{MEMBER_FILE}"):
        args = convert({**stage.args._asdict(), **member.own_config, "device": "cpu"})
        scheme, groups, _ = run.episode_layout(args)
        mac = run.CONTROLLERS[args.mac](scheme, groups, args)
    mac.load_models(member.weights_folder())
    return mac


def play(first: run.BasicMAC, second: run.BasicMAC, stage: Stage) -> list[Json]:
    """Returns the test episodes of two controllers in one team, as rows of episodes.csv without the members' names."""
    th.manual_seed(stage.args.seed)  # policies that draw their actions in tests, too
    team = PairTeam([first] if first is second else [first, second])
    logger = Episodes()
    runner = make_runner(stage.args, logger)
    try:
        runner.setup(*run.episode_layout(stage.args), mac=team)
        for start in range(0, len(stage.deals), runner.batch_size):
            team.is_first = th.from_numpy(stage.deals[start : start + runner.batch_size])
            runner.run(test_mode=True)
    finally:
        runner.close_env()
    rows = logger.test_episodes[: stage.n_episodes]
    for row, deal in zip(rows, stage.deals, strict=False):
        row["seats_i"] = " ".join(map(str, np.flatnonzero(deal | (first is second))))
        row["won"] = None if row["won"] is None else int(row["won"])
    return rows


def play_all(members: Sequence[Member], stage: Stage, row: int | None = None) -> list[Pair]:
    """Plays every pair of members, or those that `row` is the first of, and prints a line for each."""
    names, pairs = labels(members), []
    places = [(i, j) for i, j in combinations_with_replacement(range(len(members)), 2) if row in (None, i)]
    macs = {j: load_mac(members[j], stage) for j in range(row or 0, len(members))}
    started = time.time()
    for i, j in places:
        rows = play(macs[i], macs[j], stage)
        who = {"member_i": members[i].folder.name, "member_j": members[j].folder.name}
        pairs.append(Pair(i, j, [{**who, **row} for row in rows]))
        said = "; ".join(format_interval(pairs[-1], metric) for metric in metrics(stage))
        left = time_left(started, 0, len(pairs), len(places))
        print(f"[{len(pairs)}/{len(places)}] {names[i]} + {names[j]}: {said}; time left: {left}", flush=True)
    return pairs


# ------------------------------------------------------------------------------------------------ results


def metrics(stage: Stage) -> list[str]:
    return ["won", "return"] if stage.can_be_won else ["return"]


def format_interval(pair: Pair, metric: str) -> str:
    mean, low, high = (format_value(value, metric) for value in pair.interval(metric))
    return f"won {mean} % ({low} to {high})" if metric == "won" else f"return {mean} ({low} to {high})"


def format_value(value: float, metric: str) -> str:
    """Returns a value as text; shares in per cent."""
    return f"{100 * value:.1f}" if metric == "won" else f"{value:.2f}"


def labels(members: Sequence[Member]) -> list[str]:
    """Returns short names: algorithm and seed if they are unique, else the folders'."""
    short = [f"{member.algorithm} {member.seed}" for member in members]
    return short if len(set(short)) == len(short) else [member.folder.name for member in members]


def matrix_of(pairs: Sequence[Pair], n_members: int, metric: str) -> np.ndarray:
    """Returns the means [member, member]; symmetric, as the members of a pair exchange their seats."""
    matrix = np.full((n_members, n_members), np.nan)
    for pair in pairs:
        matrix[pair.i, pair.j] = matrix[pair.j, pair.i] = pair.interval(metric)[0]
    return matrix


def table(matrix: np.ndarray, names: Sequence[str], metric: str) -> str:
    """Returns the matrix with a line for each member; columns are numbered."""
    width, first_column = max(len(format_value(value, metric)) for value in matrix.flat) + 2, max(map(len, names)) + 6
    lines = [" " * first_column + "".join(f"{j + 1:>{width}}" for j in range(len(names)))]
    for i, name in enumerate(names):
        cells = "".join(f"{format_value(value, metric):>{width}}" for value in matrix[i])
        lines.append(f"{i + 1:>3}  {name:<{first_column - 5}}{cells}")
    return "\n".join(lines)


def summary(matrix: np.ndarray, algorithms: Sequence[str], metric: str) -> str:
    """Self-play against cross-play, as means over teams: the diagonal, and what is off it."""
    n = len(algorithms)
    is_same = np.array([[first == second for second in algorithms] for first in algorithms])
    above = np.triu(np.ones((n, n), bool), k=1)
    groups = {
        "self-play": np.eye(n, dtype=bool),
        "cross-play": above,
        "  of one algorithm": above & is_same,
        "  of two algorithms": above & ~is_same,
    }
    lines = [
        f"{name:<20}{format_value(matrix[cells].mean(), metric):>8}   mean of {cells.sum()} pairs"
        for name, cells in groups.items()
        if cells.any()
    ]
    return "\n".join(lines)


def draw(matrix: np.ndarray, names: Sequence[str], algorithms: Sequence[str], metric: str, title: str) -> Figure:
    """Returns the heat map: numbers in the cells, lines between algorithms."""
    n = len(names)
    side = 2.2 + 0.5 * n
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.add_subplot()
    values = 100 * matrix if metric == "won" else matrix
    low, high = (0, 100) if metric == "won" else (values.min(), values.max())
    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(values):
        colour = "black" if value > (low + high) / 2 else "white"
        axes.text(j, i, f"{value:.0f}" if metric == "won" else f"{value:.1f}", ha="center", va="center", color=colour)
    for k in range(1, n):
        if algorithms[k] != algorithms[k - 1]:
            axes.axhline(k - 0.5, color="white", linewidth=3)
            axes.axvline(k - 0.5, color="white", linewidth=3)
    axes.set_xticks(range(n), names, rotation=90)
    axes.set_yticks(range(n), names)
    figure.suptitle(title, fontsize="medium")
    figure.colorbar(image, label="won, %" if metric == "won" else "mean return", shrink=0.8)
    return figure


def pair_row(pair: Pair, stage: Stage) -> Json:
    row = {**pair.episodes[0], "episodes": len(pair.episodes), "won": None}
    for metric in metrics(stage):
        row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = pair.interval(metric)
    return row


def write_results(
    args: Namespace, members: Sequence[Member], stage: Stage, pairs: Sequence[Pair], matrix: np.ndarray
) -> None:
    """Writes the folder, whole or not at all. Raises: OSError."""
    algorithms, folders = [member.algorithm for member in members], [member.folder.name for member in members]
    first = members[0]
    settings = {
        "pool": str(args.pool),
        "env": first.env,
        "map": first.map,
        "engine": first.engine,
        "episodes": args.episodes,
        "worlds": args.worlds,
        "seed": args.seed,
        "metric": args.metric,
        "members": {member.folder.name: dict(member.weights) for member in members},
        "machine": machine_info("numpy", "torch"),
    }
    with whole_folder(args.out) as folder:
        rows = [{"member": name, **dict(zip(folders, line))} for name, line in zip(folders, matrix.tolist())]
        write_csv(folder / "matrix.csv", ["member", *folders], rows)
        write_csv(folder / "pairs.csv", PAIR_COLUMNS, [pair_row(pair, stage) for pair in pairs])
        write_csv(folder / "episodes.csv", EPISODE_COLUMNS, [row for pair in pairs for row in pair.episodes])
        (folder / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        title = f"{place_of(first)}\n{args.episodes} episodes per pair"
        draw(matrix, labels(members), algorithms, args.metric, title).savefig(folder / "matrix.png", dpi=150)


def place_of(member: Member) -> str:
    engine = f" on {run.ENGINE_NAMES[member.engine]}" if member.engine else ""
    return f"{member.map or member.env}{engine}"


# ------------------------------------------------------------------------------------------------ command


def cross_play(args: Namespace) -> None:
    """Plays, prints and writes.

    Raises: UserError where the pool is no pool of one world, or results can't be written.
    """
    members = sorted(load_pool(args.pool), key=lambda member: (member.algorithm, member.seed, member.folder.name))
    if len(members) < 2:
        raise UserError(f"{args.pool} has one member, and cross-play needs two; train more with experiments.pool")
    host = common_world(members)
    keep_freed_memory()
    with fits(f"{host.folder}/{MEMBER_FILE}"):
        set_threads(host.config["n_threads"])
        stage = set_stage(host, args.episodes, args.worlds, args.seed)
    args.metric = args.metric or metrics(stage)[0]
    if args.metric not in metrics(stage):
        raise UserError(f"--metric=won: nothing can be won in {place_of(members[0])}; take --metric=return")
    print(f"{len(members)} members, {place_of(members[0])}, {args.episodes} episodes per pair of seed {args.seed}")
    if args.row is not None:
        crossplay_jobs.write_row(args.out, play_all(members, stage, args.row))
        return
    pairs = play_all(members, stage) if args.jobs == 1 else crossplay_jobs.play_rows(args, members)
    matrix = matrix_of(pairs, len(members), args.metric)
    bounds = [pair.interval(args.metric)[1:] for pair in pairs]
    widest = format_value(max(high - low for low, high in bounds) / 2, args.metric)
    print(f"\n{'won, %' if args.metric == 'won' else 'mean return'}; 95 % of each cell: +- {widest} at most")
    print(table(matrix, labels(members), args.metric))
    print(summary(matrix, [member.algorithm for member in members], args.metric))
    try:
        write_results(args, members, stage, pairs, matrix)
    except OSError as error:
        raise UserError(f"--out={args.out} can't be written: {error}; give another folder") from error
    print(args.out)


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.crossplay", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("pool", type=Path, metavar="POOL", help="a folder that experiments.pool has filled")
    parser.add_argument("--episodes", type=int, default=32, help="of each pair (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of worlds and deals (default: %(default)s)")
    parser.add_argument("--worlds", type=int, default=64, help=WORLDS_HELP)
    parser.add_argument("--metric", choices=("won", "return"), help=METRIC_HELP)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=OUT_HELP)
    parser.add_argument("--row", type=int, help=SUPPRESS)  # the member whose pairs a process of many plays
    add_arguments(parser)
    args = parser.parse_args(argv)
    args.jobs = 1 if args.on == "local" and args.jobs is None else args.jobs
    check_arguments(args)
    check_at_least(1, episodes=args.episodes, worlds=args.worlds)
    check_at_least(0, seed=args.seed)
    args.out = args.out or experiment_root() / "crossplay" / args.pool.resolve().name
    if args.out.exists() and args.row is None:
        raise UserError(f"--out={args.out} is there already; give a new folder, or delete this one")
    if args.pool.resolve() in args.out.resolve().parents:
        raise UserError(f"--out={args.out} lies in the pool, where each folder is a member; give another one")
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Plays a pool's pairs; returns the exit status, as `exit_status` does."""
    return exit_status(lambda: cross_play(_parse(argv)), "\ninterrupted; nothing has been written")


if __name__ == "__main__":
    run_program(main)
