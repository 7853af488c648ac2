"""Reference curves: `python -m experiments.reference` trains the default suite, or the part of it that is named.

`--export` adds what has been trained to `reference/`, which `report --against reference` reads; `--short --check` is
`make check-learning`: three short runs against their bands. Published values are in `reference/published.csv`.
"""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from experiments import sweep
from experiments.executors import add_arguments, check_arguments
from experiments.report.against import (
    COLUMNS,
    OUTSIDE,
    as_rows,
    compare,
    published,
    read_references,
    read_rows,
    run_of,
    write_reference,
)
from experiments.report.groups import group
from experiments.report.runs import find_runs
from experiments.report.summary import summarise
from main import ROOT
from utils.command import Parser, check_at_least, exit_status, machine_info, run_program
from utils.errors import UserError, unknown
from utils.MY_EXP_PATH import check_results_path, experiment_root

DESCRIPTION = """Trains the default suite of algorithms and maps, so that there are curves to compare with. The same
command goes on where it was stopped."""
FOLDER = ROOT / "reference"
ALGS = ("iql", "vdn", "qmix", "qtran", "coma", "iql_omg", "cw_qmix", "ow_qmix", "qplex", "ippo", "mappo", "pqn_vdn")
MAPS = ("3m", "8m", "2s3z", "3s5z", "1c3s5z", "5m_vs_6m", "3s_vs_5z", "10m_vs_11m", "MMM2")
T_MAX, SEEDS = 500_000, ("1..5",)
SHORT_ALGS, SHORT_MAPS = ("iql", "vdn", "qmix"), ("3m",)
SHORT = (
    *("t_max=20000", "epsilon_anneal_time=8000", "target_update_interval=40", "test_interval=2000", "test_nepisode=32"),
    *("log_interval=2000", "runner_log_interval=2000", "learner_log_interval=2000"),
)
"""Settings under which there is a curve to look at within minutes."""
METHOD_KEYS = ("t_max", "epsilon_anneal_time", "target_update_interval")
"""Of these, what makes another method, and so another reference."""


def train(args: Namespace) -> int:
    """Trains, exports and checks as asked; returns the exit status: 1 where runs failed or lie outside of the bands."""
    settings = [
        *(SHORT if args.short else [f"t_max={args.t_max}", "final_eval=best"]),
        *args.set,
        "env_args.engine=sim",
    ]
    options = Namespace(file=None, algs=args.algs, env_config="sc2", maps=args.maps, seeds=args.seeds, set=settings)
    runs = sweep.grid(args.out.absolute(), sweep.read_spec(options))
    if args.plan:
        print(sweep.describe(runs))
        return 0
    if args.check:
        read_references(FOLDER)  # a mistake comes before the work
    if status := sweep.train(args, runs, args.out.absolute()):
        return status
    if args.export:
        export(args)
    return check(args.out) if args.check else 0


def export(args: Namespace) -> None:
    """Adds all finished runs of the folder to `reference/`, with settings, versions and machine beside them."""
    runs, left_out = find_runs([args.out])
    results = group(runs, left_out)
    finished = [score.run for cell in results.cells.values() for score in cell.scores]
    name = "short" if args.short else "suite"
    keys = METHOD_KEYS if args.short else ("t_max",)
    write_reference(finished, keys, FOLDER / f"{name}.csv")
    runs_there = {run_of(row): row for row in read_rows(FOLDER / f"{name}.csv", COLUMNS)}.values()
    counts = Counter(f"{row['algorithm']} on {row['map']}" for row in runs_there)
    about = {
        "command": f"python -m experiments.reference{' --short' if args.short else ''}",
        "settings": list(SHORT) if args.short else [f"t_max={args.t_max}", "final_eval=best"],
        "commits": sorted({row["commit"] for row in runs_there}),
        "engine_versions": sorted({row["engine_version"] for row in runs_there}),
        "packages": machine_info("numpy", "torch", "numba")["versions"],
        "runs": dict(sorted(counts.items())),
    }
    (FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(about, sort_keys=False), encoding="utf-8")
    print(f"{FOLDER / name}.csv: {len(finished)} runs from {args.out}, {len(runs_there)} in all")


def check(out: Path) -> int:
    """Prints how the runs of a folder lie beside the references; returns 1 where one lies outside, or has none."""
    verdicts = compare(summarise(group(*find_runs([out]))), read_references(FOLDER))
    for row in as_rows(verdicts, published(FOLDER)):
        print(f"{row['method']} on {row['map']}: {row['here']}, reference {row['reference']}: {row['verdict']}")
    outside = [of for of in verdicts if of.verdict in OUTSIDE or not of.n_reference]
    if outside:
        print(f"{len(outside)} of {len(verdicts)} methods are not within their bands", file=sys.stderr)
    return 1 if outside else 0


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.reference", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--algs", nargs="+", metavar="NAME", help=f"default: {' '.join(ALGS)}")
    parser.add_argument("--maps", nargs="+", metavar="MAP", help=f"default: {' '.join(MAPS)}")
    parser.add_argument("--seeds", nargs="+", metavar="SEED", help=f"default: {SEEDS[0]}")
    parser.add_argument("--t_max", type=int, default=T_MAX, metavar="STEPS", help="default: %(default)s")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings of main.py")
    parser.add_argument("--short", action="store_true", help="three algorithms on 3m for 20,000 steps")
    parser.add_argument("--check", action="store_true", help="compare with reference/; status 1 outside of the bands")
    parser.add_argument("--export", action="store_true", help="add what has been trained to reference/")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/reference, or results/short")
    parser.add_argument("--plan", action="store_true", help="only show the runs")
    add_arguments(parser)
    args = parser.parse_args(argv)
    check_arguments(args)
    check_at_least(1, t_max=args.t_max)
    args.algs = args.algs or list(SHORT_ALGS if args.short else ALGS)
    args.maps = args.maps or list(SHORT_MAPS if args.short else MAPS)
    args.seeds = args.seeds or list(SEEDS)
    for name in args.algs:
        if name not in ALGS:
            raise UserError(f"--algs: {unknown('algorithm of the suite', name, ALGS)}")
    args.out = args.out or experiment_root() / ("short" if args.short else "reference")
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the suite; returns the exit status, as `exit_status` does, and 1 as `train` does."""
    return exit_status(lambda: train(_parse(argv)), "interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_program(main)
