"""Curves in the game that needs the teammate's goal: `python -m experiments.goal_game`. Its rules: `envs/goal_game.py`.

Without memory one half is the best that can be had. A policy without memory that acts on inferred subgoals has nothing
but them to tell it where the teammate is going.
"""

import csv
import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import main as command_line
from run import Run
from utils.command import Parser, check_at_least, exit_status, run_program
from utils.errors import UserError
from utils.files import Json
from utils.logging import Logger
from utils.MY_EXP_PATH import check_results_path, experiment_root

DESCRIPTION = """Trains IQL and OMG, each with and without a recurrent policy, on a diagnostic game; writes curves.csv
and curves.png, the returns of greedy test episodes."""
METHODS = {
    "IQL without memory": ("iql", "agent=ff"),
    "IQL": ("iql", "agent=rnn"),
    "OMG, its policy without memory": ("iql_omg", "agent=ff"),
    "OMG": ("iql_omg", "agent=rnn"),
}
OPTIMUM, OPTIMUM_WITHOUT_MEMORY = 1.0, 0.5
SETTINGS = ("use_cuda=False", "use_tensorboard=False", "lr=0.005", "rnn_hidden_dim=32", "target_update_interval=40")
OF_OMG = ("omg_subgoal_dim=8", "omg_vae_batches=32", "am_lr=0.005")
N_WORLDS = 8  # in this process: workers would cost more than such worlds; one update for so many episodes
Curve = list[tuple[int, float]]  # environment steps and test return


def make_config(method: str, seed: int, t_max: int) -> Json:
    """Returns the configuration of one run, by the command line's code; schedules end halfway.

    Raises: UserError where main.py would refuse it.
    """
    alg, agent = METHODS[method]
    half = max(t_max // 2, 1)
    own = [*SETTINGS, agent, f"seed={seed}", f"t_max={t_max}", f"epsilon_anneal_time={half}"]
    own += ["epsilon_finish=0.3", f"test_interval={max(t_max // 20, 1)}"]
    if alg == "iql_omg":
        own += [*OF_OMG, f"eta_anneal_time={half}", f"omg_vae_pretrain_steps={t_max // 10}"]
    config = command_line.read_settings(f"--config={alg}", "--env-config=goal_game", "with", *own)
    return command_line.resolve({**config, "batch_size_run": N_WORLDS})


def train(config: Json) -> tuple[Run, Curve]:
    """Trains a run without records; returns it and its curve."""
    run = Run({**config, "device": "cpu"}, Logger(logging.getLogger(__name__)))
    run.train()
    run.evaluate()
    return run, [(t, float(value)) for t, value in run.logger.stats["test_return_mean"]]


def draw(curves: dict[str, list[Curve]], file: Path) -> None:
    """The mean over seeds of each method, and between the lowest and the highest seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, of_seeds in curves.items():
        steps = [t for t, _ in of_seeds[0]]
        returns = np.array([[value for _, value in curve] for curve in of_seeds])
        axes.plot(steps, returns.mean(0), label=method)
        axes.fill_between(steps, returns.min(0), returns.max(0), alpha=0.15)
    axes.axhline(OPTIMUM, color="black", linestyle="--", linewidth=1, label="optimum")
    axes.axhline(OPTIMUM_WITHOUT_MEMORY, color="gray", linestyle=":", label="optimum without memory")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return of test episodes")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def fill(args: Namespace) -> None:
    """Trains, prints a line for each run, and writes the files."""
    configs = {(name, seed): make_config(name, seed, args.t_max) for name in METHODS for seed in args.seeds}
    args.out.mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[Curve]] = {}
    with (args.out / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["method", "seed", "steps", "test_return"])
        for (method, seed), config in configs.items():
            _, curve = train(config)
            curves.setdefault(method, []).append(curve)
            rows.writerows([method, seed, *point] for point in curve)
            print(f"{method}, seed {seed}: test return {curve[-1][1]:.2f} after {curve[-1][0]:,} steps", flush=True)
    draw(curves, args.out / "curves.png")
    print(f"{args.out}: curves.csv, curves.png")


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.goal_game", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED", help="(default: 1 2 3)")
    parser.add_argument("--t_max", type=int, default=12000, metavar="STEPS", help="of a run (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="(default: goal_game, where results lie)")
    args = parser.parse_args(argv)
    check_at_least(1, t_max=args.t_max)
    if min(args.seeds) < 0:
        raise UserError(f"--seeds: {min(args.seeds)} must be at least 0")
    args.seeds = list(dict.fromkeys(args.seeds))
    args.out = args.out or experiment_root() / "goal_game"
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the curves; returns the exit status, as `exit_status` does."""
    return exit_status(lambda: fill(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
