"""Trains a pool of policies: `python -m experiments.pool pools/train --algs qmix vdn --seeds 1 2 3 --t_max 500000`.

Each member is a run of main.py in a process of its own. `utils/pools.py` has what a pool looks like and reads it.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

import main as command_line
from envs import REGISTRY as ENVS
from utils.checkpoints import whole_folder
from utils.command import Parser
from utils.config import flatten
from utils.errors import UserError
from utils.MY_EXP_PATH import check_results_path
from utils.pools import AGENT_FILE, MEMBER_FILE, Identity, Member, check_disjoint, find_members, load_pool, weights_id
from utils.records import read_json_lines
from utils.signals import StopRequest
from utils.timehelper import time_str

DESCRIPTION = """Trains one member for each algorithm and seed, as many at once as there are cores, and writes its final
weights and a member.yaml to FOLDER. The same command goes on where it was stopped: finished members stay as they are,
interrupted ones resume from their newest checkpoint. Ctrl-C or SIGTERM ends it after the current episodes."""
DISJOINT_HELP = "pools that must not share a member with this one; seeds that are in them are refused"
SET_HELP = "settings of main.py, such as env_args.map_name=3m"
INTERVAL_HELP = "from one checkpoint to resume from to the next (default: a tenth of --t_max)"
MAIN = command_line.ROOT / "main.py"
WORK = ".work"  # holds what is being trained
NOT_RESUMED = ("buffer.th", "state.th")  # of a checkpoint: what a member's folder leaves out
CHECKPOINTS_PER_MEMBER = 10
POLL_SECONDS = 0.1
SECONDS_TO_END = 60  # that an interrupted run gets after the second signal, before it is killed
LOG_LINES = 10  # of a run that failed, to be shown
OWN_KEYS = (
    *("seed", "t_max", "n_threads", "local_results_path", "use_tensorboard", "mongo_url"),
    *("save_model", "save_model_interval", "save_buffer", "keep_checkpoints", "checkpoint_path", "load_step"),
    *("evaluate", "evaluate_path", "save_replay"),
)
"""What --set may not hold: the pool sets it, or trains nothing with it."""
FREE_KEYS = {*OWN_KEYS, "env_args.seed", "env_args.engine", "use_cuda", "test_nepisode", "label", "repeat_id"} - {
    "t_max"
}
"""What may differ between members of a name. (The engine is in the name; use_cuda depends on the machine.)"""


@dataclass(frozen=True, eq=False)
class Plan:
    """A member to be trained."""

    folder: Path  # of the pool
    identity: Identity
    engine: str | None
    config: Mapping[str, Any]  # as the command line means it
    arguments: tuple[str, ...]  # of main.py

    @property
    def name(self) -> str:
        place = [str(self.identity.map or self.identity.env), *([self.engine] if self.engine else [])]
        return "_".join([self.identity.algorithm, *place, f"seed{self.identity.seed}"])

    @property
    def work(self) -> Path:
        """Where its runs write."""
        return self.folder.absolute() / WORK / self.name

    @property
    def log(self) -> Path:
        return self.work / "log.txt"

    @property
    def t_max(self) -> int:
        return int(self.config["t_max"])

    def checkpoint(self) -> Path | None:
        """The newest one of its runs."""
        found = [path for path in self.work.glob("models/*/*") if path.name.isdigit()]
        return max(found, key=lambda path: (int(path.name), path.stat().st_mtime), default=None)

    def records(self) -> Path | None:
        """Those of its last run."""
        found = [path for path in self.work.glob("sacred/*") if (path / "config.json").is_file()]
        return max(found, key=lambda path: int(path.name), default=None)

    def steps(self) -> int:
        """How far it has been trained."""
        checkpoint = self.checkpoint()
        return int(checkpoint.name) if checkpoint else 0


def make_plans(args: Namespace) -> list[Plan]:
    """A plan for each algorithm and seed; nothing has been written.

    Raises:
        UserError: main.py would refuse the settings, or a plan is in one of the pools that are to be disjoint.
    """
    for text in args.set:
        if text.partition("=")[0] in OWN_KEYS:
            raise UserError(f"--set: '{text.partition('=')[0]}' is not for you to set here; see --help")
    settings = [f"t_max={args.t_max}", f"save_model_interval={args.save_model_interval}", *args.set]
    plans: list[Plan] = []
    for algorithm in dict.fromkeys(args.algs):
        names = [f"--config={algorithm}", f"--env-config={args.env_config}"]
        for seed in dict.fromkeys(args.seeds):
            arguments = [*names, "with", f"seed={seed}", *settings]
            if not plans or plans[-1].identity.algorithm != algorithm:
                config, _, _ = command_line._configure(command_line._experiment(), list(arguments))
                engine = ENVS[config["env"]].resolve(**config["env_args"])
            identity = Identity(algorithm, config["env"], config["env_args"].get("map_name"), seed)
            plans.append(Plan(args.folder, identity, engine, config, tuple(arguments)))
    for other in args.disjoint_from:
        members = load_pool(other)
        check_disjoint(find_members(args.folder), members)
        taken = {member.identity: member for member in members}
        for plan in plans:
            if plan.identity in taken:
                place = taken[plan.identity].folder
                raise UserError(f"{plan.identity} is in the other pool, as {place}; take another seed")
    return plans


def check_settings(plan: Plan, found: Mapping[str, Any], place: Path) -> None:
    """Raises: UserError where what has been trained under this plan's name was trained with other settings."""
    was, wanted = dict(flatten(found)), dict(flatten(plan.config))
    for key in sorted(was.keys() & wanted.keys() - FREE_KEYS):
        if was[key] != wanted[key]:
            raise UserError(
                f"{place} is trained with {key}={was[key]}, not {wanted[key]}; "
                "use the same settings, take another folder for the pool, or delete this one"
            )


def waiting(plans: Sequence[Plan]) -> list[Plan]:
    """The plans that are no members yet.

    Raises:
        UserError: members or interrupted runs do not fit the plans.
    """
    members = {member.folder.name: member for member in find_members(plans[0].folder)}
    for plan in plans:
        records = plan.records()
        if plan.name in members:
            check_settings(plan, members[plan.name].config, members[plan.name].folder)
        elif records:
            check_settings(plan, json.loads((records / "config.json").read_text(encoding="utf-8")), plan.work)
    return [plan for plan in plans if plan.name not in members]


# ------------------------------------------------------------------------------------------------ training


@contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Keeps other pool commands out of the folder; gives a descriptor by which the processes that inherit it do, too.

    Raises:
        UserError: another command, or a run that outlived it, is at work there.
    """
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    with (folder / WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder} is being filled by another process, perhaps by runs that outlived it; wait for it or end it"
            ) from error
        yield lock.fileno()


class Training:
    """The processes that train members, and what is known of their speed."""

    def __init__(self, plans: Sequence[Plan], n_jobs: int, lock: int, known_speeds: Sequence[float] = ()) -> None:
        self.waiting = deque(plans)
        self.n_jobs = n_jobs
        self.lock = lock
        self.running: dict[Plan, tuple[subprocess.Popen, TextIO, float, int]] = {}  # and when it began, at which step
        self.speeds = list(known_speeds)  # environment steps per second of the members that are finished
        self.n_plans, self.n_done = len(plans), 0
        self.failed: list[str] = []

    def run(self) -> bool:
        """Trains all members; gives False where a signal asked for a stop."""
        with StopRequest() as stop:
            try:
                told = False
                while self.running or (self.waiting and not stop.asked):
                    while self.waiting and len(self.running) < self.n_jobs and not stop.asked:
                        self._start(self.waiting.popleft())
                    if stop.asked and not told:
                        self._end_all()
                        told = True
                    time.sleep(POLL_SECONDS)
                    for plan in [plan for plan, (process, *_) in self.running.items() if process.poll() is not None]:
                        self._finish(plan, stop.asked)
            finally:
                self._end_all()
                for process, *_ in self.running.values():
                    try:
                        process.wait(SECONDS_TO_END)
                    except subprocess.TimeoutExpired:
                        process.kill()
        return not stop.asked

    def seconds_left(self) -> float | None:
        """Estimated from the mean speed of the members that are finished; None before there is one."""
        if not self.speeds:
            return None
        speed = sum(self.speeds) / len(self.speeds)
        ahead = float(sum(plan.t_max - plan.steps() for plan in self.waiting))
        for plan, (_, _, began, first_step) in self.running.items():
            ahead += max(plan.t_max - first_step - (time.monotonic() - began) * speed, 0)
        n_left = len(self.waiting) + len(self.running)
        return ahead / speed / max(min(self.n_jobs, n_left), 1)

    def _start(self, plan: Plan) -> None:
        plan.work.mkdir(parents=True, exist_ok=True)
        checkpoint = plan.checkpoint()
        for models in plan.work.glob("models/*"):  # of earlier runs: a replay buffer is large
            if checkpoint and models != checkpoint.parent:
                shutil.rmtree(models)
        own = ["n_threads=1", "use_tensorboard=False", f"local_results_path={plan.work}", "save_model=True"]
        own += ["save_buffer=True", "keep_checkpoints=1"]
        own += [f"checkpoint_path={checkpoint.parent}"] if checkpoint else []
        log = plan.log.open("a", encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(MAIN), *plan.arguments, *own],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
            start_new_session=True,  # so that Ctrl-C reaches it once, from here: a second one would end it at once
            pass_fds=[self.lock],
        )
        self.running[plan] = process, log, time.monotonic(), plan.steps()

    def _finish(self, plan: Plan, is_stopping: bool) -> None:
        """Makes a member of a run that has ended well; reports one that has not."""
        process, log, began, first_step = self.running.pop(plan)
        log.close()
        problem = f"failed with status {process.returncode}"
        if process.returncode == 0:
            try:
                self._welcome(publish(plan), (plan.t_max - first_step) / (time.monotonic() - began))
                return
            except OSError as error:
                problem = f"is trained, but {error}"
        if is_stopping:
            print(f"{plan.name}: stopped, to be resumed from step {plan.steps():,}", flush=True)
        else:
            self.failed.append(plan.name)
            last = plan.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            said = "\n".join(f"    {line}" for line in last)
            print(f"{plan.name} {problem}; {plan.log} ends:\n{said}", flush=True)

    def _welcome(self, member: Member, speed: float) -> None:
        self.n_done += 1
        self.speeds += [speed] if speed > 0 else []  # a run may have been resumed at its very end
        left = self.seconds_left()
        won = "" if member.test_win_rate is None else f", last test won {member.test_win_rate:.0%}"
        rest = f"; time left: {time_str(left)}" if left else ""
        print(f"[{self.n_done}/{self.n_plans}] {member.folder.name}: {member.steps:,} steps{won}{rest}", flush=True)

    def _end_all(self) -> None:
        """Sends each run SIGTERM: after the first it saves and ends, after the second it ends at once."""
        for process, *_ in self.running.values():
            process.terminate()


def publish(plan: Plan) -> Member:
    """Puts the final weights of a finished run into the pool, with `member.yaml` and the run's `metrics.jsonl`.

    Raises:
        OSError: the run has not saved them, or they can't be written.
    """
    checkpoint, records = plan.checkpoint(), plan.records()
    if checkpoint is None or records is None or plan.steps() <= plan.t_max:
        raise OSError("its final weights or its records have not been saved")
    config = json.loads((records / "config.json").read_text(encoding="utf-8"))
    stats: dict[str, list[float]] = {}
    for entry in read_json_lines(records / "metrics.jsonl"):
        stats.setdefault(entry["key"], []).append(entry["value"])
    won = stats.get("test_battle_won_mean", [])[-5:]
    algorithm, place = plan.identity.algorithm, plan.folder / plan.name
    with whole_folder(place) as partial:
        shutil.copytree(checkpoint, partial / algorithm, ignore=shutil.ignore_patterns(*NOT_RESUMED))
        shutil.copy(records / "metrics.jsonl", partial)
        member = Member(
            folder=place,
            **plan.identity._asdict(),
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
    shutil.rmtree(plan.work)
    return member


# ------------------------------------------------------------------------------------------------ command


def describe(plans: Sequence[Plan], to_train: Sequence[Plan], n_jobs: int, left: float | None) -> str:
    """The plan in words: a line for each member, then how much there is to do."""
    states = {plan: f"from step {plan.steps():,}" if plan.steps() else "new" for plan in to_train}
    lines = [f"{plan.name:<40}{states.get(plan, 'is there')}" for plan in plans]
    estimate = f", about {time_str(left)}" if left else ""
    total = f"{len(to_train)} of {len(plans)} members to train, {plans[0].t_max:,} steps each, {n_jobs} at a time"
    return "\n".join([*lines, total + estimate])


def fill(args: Namespace) -> int:
    """Trains what is missing; gives the exit status.

    Raises:
        UserError: a mistake in the arguments, or something in the folder does not fit them.
    """
    plans = make_plans(args)
    waiting(plans)  # mistakes come before anything is written
    with only_one(args.folder) as lock:
        to_train = waiting(plans)
        for plan in set(plans) - set(to_train):
            shutil.rmtree(plan.work, ignore_errors=True)  # of a member that was killed between its last two steps
        known = [member.steps_per_second for member in find_members(args.folder) if member.steps_per_second]
        training = Training(to_train, args.jobs, lock, known)
        print(describe(plans, to_train, args.jobs, training.seconds_left()), flush=True)
        if not training.run():
            raise KeyboardInterrupt
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
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at once (default: cores)")
    parser.add_argument("--save_model_interval", type=int, metavar="STEPS", help=INTERVAL_HELP)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help=SET_HELP)
    parser.add_argument("--disjoint-from", nargs="+", default=[], type=Path, metavar="POOL", help=DISJOINT_HELP)
    args = parser.parse_args(argv)
    if args.jobs < 1:
        raise UserError(f"--jobs={args.jobs} must be at least 1")
    if min(args.seeds) < 0:
        raise UserError(f"--seeds: {min(args.seeds)} must be at least 0")
    if args.save_model_interval is None:
        args.save_model_interval = max(args.t_max // CHECKPOINTS_PER_MEMBER, 1)
    check_results_path(args.folder, "FOLDER")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Fills a pool; gives the exit status: 1 where members failed, 2 after a user's mistake, 130 after a signal."""
    try:
        return fill(_parse(argv))
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
