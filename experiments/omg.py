"""The evaluations of OMG: `python -m experiments.omg --map 3m --scale small`, or `--world foraging`.

Trains pools, prior and agents, tests them, and reports. On StarCraft maps (`omg_runs.py`) agents play with teammates
that they have never met, zero-shot and after fine-tuning; in the paper's small worlds (`worlds.py`) with opponents.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from envs import REGISTRY as ENVS
from envs.sc2.sim.maps import MAP_NAMES, get_map
from experiments import omg_report, omg_runs, worlds
from experiments.executors import add_arguments, check_arguments
from experiments.omg_runs import PHASES, TEST_ALGS, TEST_POOL_SEED, TRAIN_ALGS, TRAIN_SEED, Setup
from experiments.stages import Evaluation, PoolOrder, Stage
from utils.command import Parser, exit_status, run_program
from utils.errors import UserError, unknown
from utils.MY_EXP_PATH import check_results_path, experiment_root

DESCRIPTION = """Trains a pool of others, a pool of more others, OMG's prior, and IQL, LIAM, naive OM and OMG in two
modes among the first; tests all with the second, on StarCraft maps also after fine-tuning; writes tables, figures and
all episodes. The same command goes on where it was stopped. Ctrl-C or SIGTERM ends it after the current episodes."""
SMAC = "smac"
WORLDS = (SMAC, *worlds.WORLDS)
SCALE_HELP = "tiny: ten minutes; small: some hours on two cores; medium, of smac: a day; paper: the paper's sizes"


def on_a_map(args: Namespace) -> Evaluation:
    """Returns the evaluation with teammates on a StarCraft map."""
    map_name = args.map or "3m"
    out = (args.out or experiment_root() / "omg" / f"{map_name}_{args.scale}").absolute()
    engine = ENVS["sc2"].resolve(engine=args.engine)
    setup = Setup(out, map_name, get_map(map_name).n_agents, omg_runs.SCALES[args.scale], engine)
    scale = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(setup.scale).items()}
    settings = {"map": setup.map_name, "engine": setup.engine, "scale": scale}
    return Evaluation(out, settings, pools(setup), stages(setup), lambda: report(setup))


def pools(setup: Setup) -> list[PoolOrder]:
    """Returns the train pool and the test pool."""
    return [
        PoolOrder(
            title,
            folder,
            algs,
            range(first, first + n),
            setup.scale.pool_t_max,
            setup.common(*setup.team_learning()),
        )
        for title, folder, algs, first, n in (
            ("train pool", setup.train_pool, TRAIN_ALGS, TRAIN_SEED, setup.scale.train_members),
            ("test pool", setup.test_pool, TEST_ALGS, TEST_POOL_SEED, setup.test_members),
        )
    ]


def stages(setup: Setup) -> list[Stage]:
    speed = 700 if setup.scale.rounds == 1 else 1500  # of one seat that learns, before it has been measured
    return [
        Stage("prior", lambda: [omg_runs.prior_job(setup)], 1000),
        Stage("agents", lambda: omg_runs.agent_jobs(setup), speed),
        Stage("zero-shot tests", lambda: omg_runs.evaluation_jobs(setup, PHASES[0]), 2000),
        Stage("fine-tuning", lambda: omg_runs.tune_jobs(setup), 1000),
        Stage("tests after it", lambda: omg_runs.evaluation_jobs(setup, PHASES[1]), 2000),
        Stage("best responses", lambda: omg_runs.best_response_jobs(setup), speed),
        Stage("their tests", lambda: omg_runs.best_response_tests(setup), 2000),
    ]


def report(setup: Setup) -> str:
    """Writes the report; returns what is printed."""
    tests = [job for phase in PHASES for job in omg_runs.evaluation_jobs(setup, phase)]
    best = [row for job in omg_runs.best_response_tests(setup) for row in omg_runs.read_rows(job.output)]
    return omg_report.write(setup, [row for job in tests for row in omg_runs.read_rows(job.output)], best)


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.omg", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--world", default=SMAC, help=f"{', '.join(WORLDS)} (default: %(default)s)")
    parser.add_argument("--map", help="a StarCraft map, in the world smac (default: 3m)")
    parser.add_argument("--scale", default="small", help=f"{SCALE_HELP} (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/omg/<map or world>_<scale>")
    parser.add_argument("--engine", help="of the world smac, as env_args.engine of main.py (default: auto)")
    add_arguments(parser)
    parser.add_argument("--plan", action="store_true", help="only show what there is to do")
    args = parser.parse_args(argv)
    if args.world not in WORLDS:
        raise UserError(f"--world: {unknown('world', args.world, WORLDS)}")
    if args.world != SMAC and (args.map or args.engine):
        raise UserError(f"--map and --engine are for --world={SMAC}; {args.world} has neither, so leave them out")
    if args.map and args.map not in MAP_NAMES:
        raise UserError(f"--map: {unknown('map', args.map, MAP_NAMES)}")
    scales = omg_runs.SCALES if args.world == SMAC else worlds.WORLDS[args.world].scales
    if args.scale not in scales:
        raise UserError(f"--scale of --world={args.world}: {unknown('scale', args.scale, scales)}")
    check_arguments(args)
    args.engine = args.engine or "auto"
    return args


def evaluate(args: Namespace) -> int:
    """Does what is missing of the evaluation; returns the exit status."""
    evaluation = on_a_map(args) if args.world == SMAC else worlds.evaluation(args)
    check_results_path(evaluation.out, "--out")
    evaluation.check()
    if args.plan:
        print(evaluation.plan(args.jobs))
        return 0
    return evaluation.run(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; returns the exit status: 1 where runs failed, and as `exit_status` does."""
    return exit_status(lambda: evaluate(_parse(argv)), "interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_program(main)
