"""How fast training goes end to end with default settings, where the time goes, and whether the target is met.

`python -m benchmarks.training --map 8m --alg qmix`. The loop is that of `run.py`.
"""

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.program import check_seconds, make_parser, parse, print_machine, print_results, verdict, write_json
from benchmarks.timed_run import PHASES, TimedRun
from config.layers import known_names
from utils.command import exit_status, run_program
from utils.errors import UserError, unknown
from utils.files import Json

REPEATS = 3
MAPS, ALGS = ("3m", "8m", "2s3z"), ("iql", "vdn", "qmix", "iql_omg", "mappo", "ippo_omg", "pqn_vdn")
GROWTH, WORLDS = "pqn_vdn", (16, 64, 256)
"""The algorithm by which is shown how training grows with the worlds that are played at once, and how many."""
TARGET = ("8m", "qmix")
PEERS = {"PyMARL's loop on an environment that costs nothing": (337, 4), "PyMARL on SMAClite": (60, 20)}
"""Environment steps per second of QMIX with 8m's sizes, measured on two cores of the kind below, and the target's
factor."""
SPEEDS = {("8m", "pqn_vdn"): 5000, ("8m", "mappo"): 1500}
"""Targets, in environment steps per second."""
HEADER = f"{'map':<12}{'algorithm':<10}{'steps/s':>9}{'lowest':>8}{'highest':>9}{'cores had':>11}"
HEADER += "".join(f"{phase:>10}" for phase in (*PHASES, "other"))
WORLDS_HELP = "also train pqn_vdn with so many worlds at once; without a number: " + " ".join(map(str, WORLDS))
DESCRIPTION = f"""Trains with default settings on the embedded engine, after as many episodes as a batch holds. Prints
environment steps per second of computing on one thread, the median, lowest and highest of {REPEATS} repeats, how many
cores the program had meanwhile, and where the computing went. Tests, checkpoints and logging are not in it."""


def measure(algorithm: str, map_name: str, seconds: float, results: Path, more_settings: tuple[str, ...] = ()) -> Json:
    """Returns the speed of one algorithm on one map."""
    # A prior that is trained at once: else OMG would measure its beginning.
    settings = ("omg_vae_pretrain_steps=0",) if "omg" in algorithm else ()
    run = TimedRun(algorithm, map_name, results, (*settings, *more_settings))
    while run.seconds["update"] == 0:
        run.train()
    run.train()
    repeats = [run.speed(run.train, seconds / REPEATS) for _ in range(REPEATS)]
    run.close()
    return {
        "map": map_name,
        "algorithm": algorithm,
        "steps_per_second": median(repeat.steps_per_second for repeat in repeats),
        "repeats": [repeat.steps_per_second for repeat in repeats],
        "cores_had": median(repeat.cores_had for repeat in repeats),
        "shares": {phase: median(repeat.shares[phase] for repeat in repeats) for phase in (*PHASES, "other")},
    }


def row(result: Json) -> str:
    """Returns a line of the table under HEADER."""
    speeds = (result["steps_per_second"], min(result["repeats"]), max(result["repeats"]))
    line = f"{result['map']:<12}{result['algorithm']:<10}{speeds[0]:>9,.0f}{speeds[1]:>8,.0f}{speeds[2]:>9,.0f}"
    return line + f"{result['cores_had']:>11.2f}" + "".join(f"{share:>10.0%}" for share in result["shares"].values())


def verdicts(result: Json) -> list[str]:
    """Returns one line for each target that this result can be held against."""
    case, figure = (result["map"], result["algorithm"]), result["steps_per_second"]
    if case in SPEEDS:
        return [verdict(f"{', '.join(case)}, environment steps per second", figure, SPEEDS[case])]
    if case != TARGET:
        return []
    what = f"{', '.join(case)}, training over"
    times = {f"{peer} ({speed})": (figure / speed, factor) for peer, (speed, factor) in PEERS.items()}
    return [
        f"{what} {peer}: {over:.1f}, target {factor}, {'met' if over >= factor else 'not met'}"
        for peer, (over, factor) in times.items()
    ]


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what cannot be measured here."""
    parser = make_parser("training", DESCRIPTION, MAPS)
    parser.add_argument("--alg", nargs="+", default=ALGS, metavar="NAME", help=f"default: {' '.join(ALGS)}")
    parser.add_argument("--worlds", nargs="*", type=int, default=(), metavar="N", help=WORLDS_HELP)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each figure (default: %(default)s)")
    args = parse(parser, argv)
    check_seconds(args.seconds)
    for n in args.worlds:
        if n % 16 or not 16 <= n <= 4096:
            raise UserError(f"--worlds: {n} must be a multiple of 16, the mini-batches of {GROWTH}, up to 4096")
    for name in args.alg:
        if name not in known_names("--config"):
            raise UserError(f"--alg: {unknown('algorithm', name, known_names('--config'))}")
    return args


def run_all(args: Namespace) -> None:
    """Measures and prints."""
    machine = print_machine(("torch", "numpy", "numba"))
    with tempfile.TemporaryDirectory() as folder:
        cases = product(args.map, args.alg)
        measured = (measure(algorithm, map_name, args.seconds, Path(folder)) for map_name, algorithm in cases)
        results = print_results(HEADER, measured, row, verdicts)
        growth = [
            measure(GROWTH, args.map[0], args.seconds, Path(folder), (f"batch_size_run={n}",)) | {"worlds": n}
            for n in (WORLDS if args.worlds == [] else args.worlds)
        ]
    if growth:
        print(growth_words(growth))
    write_json(args.json, machine=machine, results=results, growth=growth)


def growth_words(growth: Sequence[Json]) -> str:
    """Returns one line: the speed by the number of worlds."""
    speeds = [f"{result['worlds']}: {result['steps_per_second']:,.0f}" for result in growth]
    return f"{growth[0]['map']}, {GROWTH}, environment steps per second, by worlds at once: {', '.join(speeds)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 after a user's mistake."""
    return exit_status(lambda: run_all(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
