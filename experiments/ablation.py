"""What each choice in OMG is worth: `python -m experiments.ablation --seeds 1 2 3 --t_max 200000`.

Trains OMG with one choice changed at a time, and IQL, as a team or, with `--teammates POOL`, in one seat beside frozen
teammates; writes curves.csv (all tests), table.csv and table.md. `omg.py` has the paper's evaluation.
"""

import csv
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import main as command_line
from envs import REGISTRY as ENVS
from envs.sc2.sim.maps import MAP_NAMES, get_map
from experiments.executors import add_arguments, check_arguments, make_executor
from experiments.jobs import WORK, Job, JobQueue, only_one
from experiments.omg_runs import beside_a_pool
from experiments.stages import check_settings, write_settings
from run import ENGINE_NAMES
from utils.command import Parser, check_at_least, exit_status, run_program
from utils.errors import UserError, unknown
from utils.intervals import mean_interval
from utils.MY_EXP_PATH import check_results_path, experiment_root
from utils.pools import load_pool_for
from utils.records import METRIC, write_csv

READ = ("omg_policy_reads=mean", "omg_next_subgoal=next", "omg_kl_reduction=mean", "eta_steps=learner")
"""The readings that are compared with the paper's, alone and together."""
CHANGES = (
    *("eta=0.0", "omg_value=max", "omg_horizon=1", "omg_horizon=10", "omg_subgoal_dim=16"),
    *("omg_vae_alpha=0.0001", "omg_vae_alpha=0.01", "omg_cvae_alpha=0.0001", "omg_cvae_alpha=0.01"),
)
"""What is changed in the default, one at a time. A mean over 64 dimensions weighs a KL term as 1/64 of the weight."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "iql": (),
    "paper": (),
    **{setting: (setting,) for setting in READ},
    "mean+next": READ[:2],
    "mean+next+kl": READ[:3],
    "mean+next+eta": (*READ[:2], READ[3]),
    "all": READ,
    "draw+next": ("omg_policy_reads=draw", READ[1]),
    **{f"mean+next, {setting}": (*READ[:2], setting) for setting in CHANGES},
}
"""Settings of each variant over the paper's reading, `iql_omg_paper`; "iql" is IQL with the same dueling head."""
LAST_TESTS = 5
CURVE = ("key", "t_env", "value")
DIAGNOSES = ("omg_active_units", "omg_signal_to_noise", "omg_skill", "omg_q_sensitivity")
COLUMNS = ("variant", "n_seeds", "last_tests", "low", "high", "seeds", "best_test", *DIAGNOSES)
N_TESTS = 20  # of a run
STEPS_HELP = "environment steps, with --teammates of the seat; the run has n times as many (default: %(default)s)"
DESCRIPTION = "Trains OMG with one choice changed at a time, and IQL; writes their curves and a table."


@dataclass(frozen=True, eq=False)
class Curve(Job):
    """Leaves a CSV of what the run logged: `key,t_env,value`."""

    variant: str
    seed: int

    def publish(self) -> str:
        entries = self.lines("metrics.jsonl", METRIC | {"t_env": int})
        logged = ("test_battle_won_mean", *DIAGNOSES)
        rows = [{column: entry[column] for column in CURVE} for entry in entries if entry["key"] in logged]
        if not tests(rows):
            raise OSError("it has recorded no tests")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(self.output, CURVE, rows)
        return f"won {mean(tests(rows)[-LAST_TESTS:]):.0%}"


def tests(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the test win rates of a run in their order."""
    return [float(row["value"]) for row in rows if row["key"] == "test_battle_won_mean"]


def jobs(args: Namespace) -> list[Curve]:
    """The run of each variant and seed."""
    made = []
    for variant in dict.fromkeys(args.variants):
        for seed in dict.fromkeys(args.seeds):
            alg = "iql" if variant == "iql" else "iql_omg_paper"
            n = get_map(args.map).n_agents
            name = f"{variant.replace(', ', '+').replace('=', '_')}_seed{seed}"
            first: tuple[str, ...] = (f"--config={alg}", "--env-config=sc2", "with")
            own: tuple[str, ...] = ()
            if args.teammates:
                first = beside_a_pool(f"{n - 1}qmix1{alg}", alg, args.teammates)
                own = ("runner=parallel", f"batch_size_run={n}")  # the episodes between two updates at once
            own += (f"env_args.map_name={args.map}", "dueling=True", f"seed={seed}", f"t_max={args.t_max}")
            steps = args.t_max * (n if args.teammates else 1)
            own += (f"test_interval={max(steps // N_TESTS, 1)}", *args.set)
            own += () if variant == "iql" else (*args.set_omg, *VARIANTS[variant])
            output = args.out / "curves" / f"{name}.csv"
            made.append(Curve(name, first + own, steps, output, args.out / WORK / name, variant=variant, seed=seed))
    return made


def summarise(done: Sequence[Curve]) -> list[dict[str, Any]]:
    """Returns a row of COLUMNS for each variant: means over seeds, with the interval of the last tests' mean."""
    curves: dict[str, list[list[dict[str, str]]]] = {}
    for job in done:
        with job.output.open(newline="", encoding="utf-8") as file:
            curves.setdefault(job.variant, []).append(list(csv.DictReader(file)))
    rows = []
    for variant, runs in curves.items():
        last = [mean(tests(run)[-LAST_TESTS:]) for run in runs]
        low, high = mean_interval(last)
        row = {"variant": variant, "n_seeds": len(runs), "last_tests": mean(last), "low": max(low, 0.0)}
        row |= {"high": min(high, 1.0), "best_test": mean(max(tests(run)) for run in runs)}
        row["seeds"] = " ".join(f"{value:.2f}" for value in last)
        for key in DIAGNOSES:
            found = [[float(entry["value"]) for entry in run if entry["key"] == key][-LAST_TESTS:] for run in runs]
            row[key] = mean(mean(values) for values in found) if all(found) else None
        rows.append(row)
    return rows


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table in Markdown."""
    cells = [
        ["-" if row[c] is None else f"{row[c]:.2f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [COLUMNS, ["---"] * len(COLUMNS), *cells])


def run(args: Namespace) -> int:
    """Trains what is missing, and reports; returns the exit status.

    Raises: UserError where main.py would refuse a run, or the folder holds runs with other settings.
    """
    wanted = jobs(args)
    config, *_ = [command_line.read_settings(*job.arguments) for job in wanted]
    if args.teammates:
        load_pool_for(args.teammates, config["env"], config["env_args"])
    engine = ENVS["sc2"].resolve(**config["env_args"])
    settings = {
        "engine": engine,
        "map": args.map,
        "t_max": args.t_max,
        "set": args.set,
        "set_omg": args.set_omg,
        "teammates": str(args.teammates) if args.teammates else None,
    }
    check_settings(args.out, settings)
    with only_one(args.out) as lock:
        write_settings(args.out, settings)
        executor = make_executor(args, (args.out / WORK).absolute(), lock)
        queue = JobQueue([job for job in wanted if not job.output.exists()], args.jobs, lock, executor=executor)
        queue.run()
        done = [job for job in wanted if job.output.exists()]
        if done:
            _report(args, engine, summarise(done))
    return 1 if queue.failed else 0


def _report(args: Namespace, engine: str, rows: Sequence[Mapping[str, Any]]) -> None:
    write_csv(args.out / "table.csv", COLUMNS, rows)
    text = as_table(rows)
    last = f"the mean of the last {LAST_TESTS} tests"
    beside = f"one seat beside {args.teammates.name}" if args.teammates else "a team"
    head = f"{args.map} as {beside}, {ENGINE_NAMES[engine]}, {args.t_max:,} steps; {last} per seed"
    (args.out / "table.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    print(f"{head}\n{text}\nwritten to {args.out}")


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.ablation", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--map", default="3m", help="a StarCraft map (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--t_max", type=int, default=200_000, help=STEPS_HELP)
    parser.add_argument("--teammates", type=Path, metavar="POOL", help="frozen ones, as experiments.pool trains them")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings of every run")
    parser.add_argument("--set_omg", nargs="+", default=[], metavar="KEY=VALUE", help="the same, of OMG's runs alone")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/ablation/<map>_<pool>")
    add_arguments(parser)
    args = parser.parse_args(argv)
    if args.map not in MAP_NAMES:
        raise UserError(f"--map: {unknown('map', args.map, MAP_NAMES)}")
    for name in args.variants:
        if name not in VARIANTS:
            raise UserError(f"--variants: {unknown('variant', name, VARIANTS)}")
    check_arguments(args)
    check_at_least(1, t_max=args.t_max)
    args.teammates = args.teammates and args.teammates.absolute()
    words = [args.map, *([args.teammates.name] if args.teammates else [])]
    args.out = (args.out or experiment_root() / "ablation" / "_".join(words)).absolute()
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the ablation; returns the exit status: 1 where runs failed, and as `exit_status` does."""
    return exit_status(lambda: run(_parse(argv)), "interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_program(main)
