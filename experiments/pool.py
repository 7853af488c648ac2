"""Trains a pool of policies: `python -m experiments.pool pools/train --algs qmix vdn --seeds 1 2 3 --t_max 500000`.

Each member is a run of main.py in a process of its own. `utils/pools.py` has what a pool looks like and reads it.
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

import main as command_line
from envs import REGISTRY as ENVS
from experiments.executors import add_arguments, check_arguments, make_executor
from experiments.jobs import NOT_PUBLISHED, WORK, Job, JobQueue, only_one
from utils.checkpoints import whole_folder
from utils.command import Parser, exit_status, run_program
from utils.config import flatten
from utils.dict2namedtuple import Config
from utils.errors import UserError
from utils.files import Json, read_config
from utils.MY_EXP_PATH import check_results_path
from utils.pools import AGENT_FILE, MEMBER_FILE, Identity, Member, check_disjoint, find_members, load_pool, weights_id
from utils.records import METRIC
from utils.timehelper import time_str

DESCRIPTION = """Trains one member for each algorithm and seed, as many at once as there are cores, and writes its final
weights and a member.yaml to FOLDER. The same command goes on where it was stopped: finished members stay as they are,
interrupted ones resume from their newest checkpoint. Ctrl-C or SIGTERM ends it after the current episodes."""
DISJOINT_HELP = "pools that must not share a member with this one; seeds that are in them are refused"
SET_HELP = "settings of main.py, such as env_args.map_name=3m"
INTERVAL_HELP = "from one checkpoint to resume from to the next (default: a tenth of --t_max)"
CHECKPOINTS_PER_MEMBER = 10
OWN_KEYS = (
    *("seed", "t_max", "n_threads", "local_results_path", "use_tensorboard", "mongo_url"),
    *("save_model", "save_model_interval", "save_buffer", "keep_checkpoints", "checkpoint_path", "load_step"),
    *("evaluate", "evaluate_path", "save_replay"),
)
"""What --set may not hold: the pool sets it, or trains nothing with it."""
FREE_KEYS = {*OWN_KEYS, "env_args.seed", "env_args.engine", "use_cuda", "test_nepisode", "label", "repeat_id"}
FREE_KEYS.remove("t_max")
"""What may differ between members of a name. (The engine is in the name; use_cuda depends on the machine.)"""


@dataclass(frozen=True, eq=False)
class Plan(Job):
    """A member to be trained; `output` is its folder."""

    identity: Identity
    config: Json  # as the command line means it

    def publish(self) -> str:
        """Puts the final weights into the pool, with `member.yaml` and the run's `metrics.jsonl`."""
        checkpoint, records = self.final_weights()
        config = read_config(records, {"resolved": {"engine": (None, str)}, "t_max": int})
        stats: dict[str, list[float]] = {}
        for entry in self.lines("metrics.jsonl", METRIC | {"t_env": int}):
            stats.setdefault(entry["key"], []).append(entry["value"])
        won = stats.get("test_battle_won_mean", [])[-5:]
        algorithm = self.identity.algorithm
        with whole_folder(self.output) as partial:
            shutil.copytree(checkpoint, partial / algorithm, ignore=shutil.ignore_patterns(*NOT_PUBLISHED))
            self.write_lines("metrics.jsonl", partial)
            member = Member(
                folder=self.output,
                **self.identity._asdict(),
                engine=config["resolved"]["engine"],
                t_max=config["t_max"],
                steps=int(checkpoint.name),
                test_win_rate=won[-1] if won else None,
                test_win_rate_of_five=sum(won) / len(won) if won else None,
                test_return=stats.get("test_return_mean", [None])[-1],
                steps_per_second=stats.get("steps_per_second", [None])[-1],
                weights={algorithm: weights_id(partial / algorithm / AGENT_FILE)},
                config=config,
            )
            content = {key: value for key, value in asdict(member).items() if key != "folder"}
            (partial / MEMBER_FILE).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return f"{member.steps:,} steps" + (f", last test won {won[-1]:.0%}" if won else "")


def member_name(identity: Identity, engine: str | None) -> str:
    """Returns the name of a member's folder: qmix_3m_sim_seed1; without an engine where there is no choice of them."""
    words = [identity.algorithm, identity.map or identity.env, *([engine] if engine else []), f"seed{identity.seed}"]
    return "_".join(words)


def make_plans(args: Namespace) -> list[Plan]:
    """Returns a plan for each algorithm and seed; nothing has been written.

    Raises: UserError where main.py would refuse the settings, or a plan is in one of the pools that are to be disjoint.
    """
    for text in args.set:
        if text.partition("=")[0] in OWN_KEYS:
            raise UserError(f"--set: '{text.partition('=')[0]}' is not for you to set here; see --help")
    settings = [f"t_max={args.t_max}", f"save_model_interval={args.save_model_interval}", *args.set]
    plans: list[Plan] = []
    for algorithm in dict.fromkeys(args.algs):
        if algorithm[:1].isdigit():
            raise UserError(f"--algs: {algorithm} is no algorithm; a member plays one alone, in all seats: name those")
        names = [f"--config={algorithm}", f"--env-config={args.env_config}"]
        for seed in dict.fromkeys(args.seeds):
            arguments = [*names, "with", f"seed={seed}", *settings]
            if not plans or plans[-1].identity.algorithm != algorithm:
                config = command_line.read_settings(*arguments)
                engine = ENVS[config["env"]].resolve(**config["env_args"])
            identity = Identity(algorithm, config["env"], config["env_args"].get("map_name"), seed)
            name = member_name(identity, engine)
            output, work = args.folder / name, args.folder.absolute() / WORK / name
            plans.append(Plan(name, tuple(arguments), args.t_max, output, work, identity, config))
    for other in args.disjoint_from:
        members = load_pool(other)
        check_disjoint(find_members(args.folder), members)
        taken = {member.identity: member for member in members}
        for plan in plans:
            if plan.identity in taken:
                place = taken[plan.identity].folder
                raise UserError(f"{plan.identity} is in the other pool, as {place}; take another seed")
    return plans


def check_settings(plan: Plan, found: Config, place: Path) -> None:
    """Raises: UserError where what has been trained under this plan's name was trained with other settings."""
    was, wanted = dict(flatten(found)), dict(flatten(plan.config))
    for key in sorted(was.keys() & wanted.keys() - FREE_KEYS):
        if was[key] != wanted[key]:
            raise UserError(
                f"{place} is trained with {key}={was[key]}, not {wanted[key]}; "
                "use the same settings, take another folder for the pool, or delete this one"
            )


def waiting(plans: Sequence[Plan]) -> list[Plan]:
    """Returns the plans that are no members yet. Raises: UserError where members or interrupted runs do not fit."""
    members = {member.folder.name: member for member in find_members(plans[0].output.parent)}
    for plan in plans:
        records = plan.records()
        if plan.name in members:
            check_settings(plan, members[plan.name].config, members[plan.name].folder)
        elif records:
            check_settings(plan, read_config(records, dict), plan.work)
    return [plan for plan in plans if plan.name not in members]


# ------------------------------------------------------------------------------------------------ command


def describe(plans: Sequence[Plan], to_train: Sequence[Plan], n_jobs: int | None, left: float | None) -> str:
    """Returns the plan as text: a line for each member, then how much there is to do."""
    states = {plan: f"from step {plan.steps():,}" if plan.steps() else "new" for plan in to_train}
    lines = [f"{plan.name:<40}{states.get(plan, 'is there')}" for plan in plans]
    estimate = f", about {time_str(left)}" if left else ""
    total = f"{len(to_train)} of {len(plans)} members to train, {plans[0].n_steps:,} steps each"
    total += f", {n_jobs} at a time" if n_jobs else ""
    return "\n".join([*lines, total + estimate])


def fill(args: Namespace) -> int:
    """Trains what is missing; returns the exit status.

    Raises: UserError for a mistake in the arguments, or where something in the folder does not fit them.
    """
    plans = make_plans(args)
    waiting(plans)  # mistakes come before anything is written
    with only_one(args.folder) as lock:
        to_train = waiting(plans)
        for plan in set(plans) - set(to_train):
            shutil.rmtree(plan.work, ignore_errors=True)  # of a member that was killed between its last two steps
        known = [member.steps_per_second for member in find_members(args.folder) if member.steps_per_second]
        executor = make_executor(args, (args.folder / WORK).absolute(), lock)
        training = JobQueue(to_train, args.jobs, lock, known, executor)
        print(describe(plans, to_train, args.jobs, training.seconds_left()), flush=True)
        training.run()
    if training.failed:
        print(f"{len(training.failed)} of {len(plans)} members failed: {', '.join(training.failed)}", file=sys.stderr)
        return 1
    won = [member.test_win_rate for member in load_pool(args.folder) if member.test_win_rate is not None]
    rates = f"; last tests won: {min(won):.0%} to {max(won):.0%}, mean {sum(won) / len(won):.0%}" if won else ""
    print(f"{args.folder} is complete{rates}")
    return 0


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.pool", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the pool; it may hold members already")
    parser.add_argument("--algs", nargs="+", required=True, metavar="NAME", help="algorithms, as --config of main.py")
    parser.add_argument("--seeds", nargs="+", required=True, type=int, metavar="SEED", help="of each algorithm")
    parser.add_argument("--env-config", default="sc2", metavar="NAME", help="as of main.py (default: %(default)s)")
    parser.add_argument("--t_max", required=True, type=int, metavar="STEPS", help="length of each run")
    add_arguments(parser)
    parser.add_argument("--save_model_interval", type=int, metavar="STEPS", help=INTERVAL_HELP)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help=SET_HELP)
    parser.add_argument("--disjoint-from", nargs="+", default=[], type=Path, metavar="POOL", help=DISJOINT_HELP)
    args = parser.parse_args(argv)
    check_arguments(args)
    if min(args.seeds) < 0:
        raise UserError(f"--seeds: {min(args.seeds)} must be at least 0")
    if args.save_model_interval is None:
        args.save_model_interval = max(args.t_max // CHECKPOINTS_PER_MEMBER, 1)
    check_results_path(args.folder, "FOLDER")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Fills a pool; returns the exit status: 1 where members failed, and as `exit_status` does."""
    return exit_status(lambda: fill(_parse(argv)), "interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_program(main)
