"""What the evaluation of OMG consists of: its scales, methods, groups of teammates, and the runs of main.py.

`omg.py` runs them stage by stage, `omg_report.py` reads what the tests leave.
"""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from experiments.jobs import NOT_PUBLISHED, Job
from experiments.pool import member_name
from experiments.stages import RUN_FILE, Folders
from utils.checkpoints import whole_folder
from utils.config import Key
from utils.files import Json, fitted, read_config
from utils.pools import Identity
from utils.records import METRIC, read_csv, read_json_lines, write_csv

TRAIN_ALGS, TEST_ALGS = ("qmix",), ("iql", "vdn", "qmix")
TRAIN_SEED, TEST_POOL_SEED = 1, 1001  # the first seeds of the pools' members
TEST_SEED = 2001  # of every test, so that all agents meet the same teammates in battles that start alike
CHECKPOINTS = 10  # of a training, for the case that it is interrupted
WORLDS = 32  # that a test plays at once
EPISODE_GUESS = 40  # environment steps, before a test has measured it
PHASES = ("zero-shot", "tuned")
EPISODE = {"won": (bool, int), "return": float, "length": int, "seat": (None, int, [int]), "teammates": [str]}
"""The layout of a line of test_episodes.jsonl, as utils/files.py has layouts."""
FIELDS = ("method", "seed", "phase", "group", "episode", "won", "return", "length", "seat", "teammates", "engine")


@dataclass(frozen=True)
class Scale:
    """How much is trained and tested."""

    train_members: int  # trained by QMIX
    test_members: int  # by each of IQL, VDN and QMIX
    pool_t_max: int  # environment steps
    seeds: int  # of each method
    agent_t_max: int  # environment steps per seat of the team: main.py plays n times as many
    prior_t_max: int  # the same
    omg_horizon: int
    test_episodes: int  # for each agent, group and phase
    tune_episodes: int
    tune_batch: int  # batch_size while tuning, small so that a few episodes allow some updates
    settings: tuple[str, ...] = ()  # of every run
    pool_settings: tuple[str, ...] = ()  # of members' runs
    team_periods: tuple[str, ...] = ()  # in a team's episodes or steps: n times as large where one seat of n learns
    rounds: int = 1  # of one episode for each seat of the team, played together before as many updates
    best_response_t_max: int = 0  # of IQL's training beside each test member alone, as agent_t_max; 0: none


SCALES = {
    "tiny": Scale(
        *(1, 1, 100, 2, 40, 20, 2, 4, 6, 1),
        settings=("rnn_hidden_dim=8", "batch_size=1", "buffer_size=40", "test_interval=1000000", "test_nepisode=2"),
    ),
    "small": Scale(4, 2, 100_000, 3, 50_000, 10_000, 10, 96, 100, 2),
    "medium": Scale(
        *(4, 3, 500_000, 3, 200_000, 20_000, 10, 192, 100, 2),
        settings=("optimizer=adam", "lr=0.001", "td_lambda=0.5", "batch_size=16"),  # those of `make train`
        pool_settings=("stop_win_rate=0.8", "test_nepisode=128"),
        team_periods=("target_update_interval=100", "epsilon_anneal_time=20000"),
        rounds=4,
        best_response_t_max=50_000,
    ),
    "paper": Scale(10, 10, 2_050_000, 5, 2_050_000, 50_000, 10, 320, 100, 2),
}


class Method(NamedTuple):
    title: str  # as the paper's table has it
    alg: str  # as --config has it
    settings: tuple[str, ...] = ()


METHODS = {
    "iql": Method("IQL", "iql", ("dueling=True",)),
    "liam": Method("LIAM", "iql_liam", ("dueling=True",)),
    "naive_om": Method("naive OM", "iql_am", ("dueling=True",)),
    "omg_conservative": Method("OMG-conservative", "iql_omg", ("dueling=True", "subgoal_mode=conservative")),
    "omg_optimistic": Method("OMG-optimistic", "iql_omg", ("dueling=True", "subgoal_mode=optimistic")),
}
BEST_RESPONSE = Method("best response", "iql", ("dueling=True",))
CONTROL = "qmix"
CONTROL_METHOD = Method("QMIX", "qmix", ("qmix.mixer=null",))
"""The members of the training pool themselves, in the learner's seat. They learn as teams, so they are not tuned."""


class Group(NamedTuple):
    """Teammates that an agent is tested with. Where they leave two seats open, the agent's policy takes both."""

    n_teammates: int
    kind: str  # of opponent_group

    @property
    def title(self) -> str:
        return f"{self.n_teammates} {self.kind.replace('_', '-')}"

    @property
    def name(self) -> str:
        return f"{self.n_teammates}_{self.kind}"


def groups_of(n_agents: int) -> list[Group]:
    """Returns the groups that a team of this size allows."""
    groups = [Group(n_agents - 1, "homologue")]
    if n_agents >= 3:
        groups.insert(0, Group(n_agents - 1, "non_homologue"))
    if n_agents > 3:
        groups.insert(1, Group(n_agents - 2, "homologue"))
    return groups


@dataclass(frozen=True)
class Setup(Folders):
    """One evaluation."""

    map_name: str
    n_agents: int
    scale: Scale
    engine: str

    def tuned(self, method: str, seed: int, group: Group) -> Path:
        return self.out / "tuned" / f"{method}_seed{seed}_{group.name}"

    def test(self, method: str, seed: int, group: Group, phase: str) -> Path:
        return self.out / "tests" / f"{method}_seed{seed}_{group.name}_{phase}.csv"

    @property
    def seeds(self) -> range:
        return range(1, self.scale.seeds + 1)

    @property
    def groups(self) -> list[Group]:
        return groups_of(self.n_agents)

    @property
    def test_members(self) -> int:
        """The members of each algorithm: what the scale says, or as many as non-homologue teammates need."""
        return max(self.scale.test_members, math.ceil((self.n_agents - 1) / len(TEST_ALGS)))

    def member(self, pool: Path, alg: str, seed: int) -> Path:
        """Returns the folder of a member."""
        return pool / member_name(Identity(alg, "sc2", self.map_name, seed), self.engine)

    @property
    def test_folders(self) -> list[Path]:
        """The members of the test pool, by algorithm and seed."""
        seeds = range(TEST_POOL_SEED, TEST_POOL_SEED + self.test_members)
        return [self.member(self.test_pool, alg, seed) for alg in TEST_ALGS for seed in seeds]

    def best_response(self, member: Path) -> Path:
        return self.out / "best_responses" / member.name

    def best_response_test(self, member: Path) -> Path:
        return self.out / "best_responses" / f"{member.name}.csv"

    def common(self, *settings: str) -> tuple[str, ...]:
        """Returns the settings of a run, over which the scale's go."""
        place = (f"env_args.map_name={self.map_name}", f"env_args.engine={self.engine}")
        return (*place, *settings, *self.scale.settings)

    def settings_of(self, method: Method) -> tuple[str, ...]:
        """Returns what its trainings and its tests have in common."""
        horizon = (f"omg_horizon={self.scale.omg_horizon}",) if method.alg == "iql_omg" else ()
        return method.settings + horizon

    def population(self, alg: str, n_teammates: int, pool: Path, kind: str) -> tuple[str, ...]:
        """Returns the first arguments of a run in which `alg` plays with teammates from a pool."""
        frozen = "vdn" if alg == "qmix" else "qmix"
        names = f"{n_teammates}{frozen}{self.n_agents - n_teammates}{alg}"
        return (*beside_a_pool(names, alg, pool), f"opponent_group={kind}")

    def at_once(self, n_own_seats: int, rounds: int = 1) -> tuple[str, ...]:
        """Plays the episodes before as many updates as `rounds` together, where a world is no process of its own."""
        factor = self.n_agents // n_own_seats  # by which main.py multiplies the episodes
        together = ("runner=parallel", f"batch_size_run={rounds * factor}", f"updates_per_round={rounds}")
        return together if self.engine == "sim" else ()

    def team_learning(self) -> tuple[str, ...]:
        """Returns the settings of the runs in which a whole team learns."""
        rounds = self.scale.rounds
        together = self.at_once(self.n_agents, rounds) if rounds > 1 else ()
        return (*self.scale.pool_settings, *together, *self.scale.team_periods)

    def learning(self) -> tuple[str, ...]:
        """Returns the settings of the runs in which one seat learns for long."""
        periods = (setting.split("=") for setting in self.scale.team_periods)
        return (
            *self.at_once(1, self.scale.rounds),
            *(f"{key}={int(value) * self.n_agents}" for key, value in periods),
        )


def beside_a_pool(
    names: str, alg: str, pool: Path, env_config: str = "sc2", is_agent_shift: bool = True
) -> tuple[str, ...]:
    """Returns the first arguments of a run of the population `names`, in which `alg` learns or is tested.

    Members of the pool play all other seats; which algorithm the population names for them does not matter.
    """
    shift = ("--is_agent_shift",) if is_agent_shift else ()
    seats = (f"--config={names}", f"--env-config={env_config}", "--multi_algs", f"--train_alg={alg}", *shift)
    return (*seats, "with", f"opponent_pool={pool}")


@dataclass(frozen=True, eq=False)
class Training(Job):
    """Leaves the final weights and run.yaml."""

    def publish(self) -> str:
        checkpoint, records = self.final_weights()
        config = read_config(records, dict)
        last = {entry["key"]: entry["value"] for entry in read_json_lines(records / "metrics.jsonl", METRIC)}
        content = {"steps": self.steps(), "steps_per_second": last.get("steps_per_second")}
        content |= {"test_win_rate": last.get("test_battle_won_mean"), "config": config}
        with whole_folder(self.output) as partial:
            shutil.copytree(checkpoint, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_PUBLISHED))
            (partial / RUN_FILE).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return f"{self.steps():,} steps"


@dataclass(frozen=True, eq=False)
class Evaluation(Job):
    """Leaves a CSV of its episodes."""

    about: Json  # the fields that are the same for all of them
    n_episodes: int

    def publish(self) -> str:
        records = self.records()
        file = records / "test_episodes.jsonl" if records else None
        episodes = list(read_json_lines(file, EPISODE)) if file and file.is_file() else []
        if records is None or len(episodes) != self.n_episodes:
            raise OSError(f"it has recorded {len(episodes)} of {self.n_episodes} test episodes")
        engine = read_config(records, {"resolved": {"engine": str}})["resolved"]["engine"]
        partial = self.work / "partial.csv"
        rows = []
        for number, episode in enumerate(episodes):
            seats = episode["seat"] if isinstance(episode["seat"], list) else [episode["seat"]]
            row = {**self.about, **episode, "episode": number, "won": int(episode["won"]), "engine": engine}
            rows.append(row | {"seat": "+".join(map(str, seats)), "teammates": "+".join(episode["teammates"])})
        write_csv(partial, FIELDS, rows)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, self.output)
        return f"won {sum(episode['won'] for episode in episodes) / len(episodes):.0%}"


def read_rows(file: Path, fields: Sequence[str] = FIELDS) -> list[dict[str, str]]:
    """Returns the episodes that a test has left, with these fields. Raises: UserError where it holds others."""
    layout = [{field: ROW.get(field, str) for field in fields}]
    return read_csv(file, lambda rows: fitted(rows, layout), "holds no test episodes", "delete it to play them anew")


def _number(text: str) -> str:
    int(text)
    return text


ROW = {
    "method": Key(str, choices=(*METHODS, CONTROL)).read,
    "phase": Key(str, choices=PHASES).read,
    "won": _number,
    "length": _number,
    "engine": Key(str, choices=("sim", "game")).read,
}
"""What the fields of a test's episodes hold, all of them as text."""


def prior_job(setup: Setup) -> Training:
    """Trains OMG's prior once, among teammates of the training pool, on what a seat sees that acts at random."""
    steps = setup.n_agents * setup.scale.prior_t_max
    settings = ("iql_omg.learner=am_learner", f"t_max={setup.scale.prior_t_max}", "seed=1", "epsilon_finish=1.0")
    rest = (f"save_model_interval={steps}", f"test_interval={steps}", "test_nepisode=1")
    first = setup.population("iql_omg", setup.n_agents - 1, setup.train_pool, "homologue")
    return setup.job(Training, setup.prior, first + setup.common(*setup.learning(), *settings, *rest), steps)


def agent_jobs(setup: Setup) -> list[Training]:
    """Trains each method with each seed among teammates of the training pool; OMG's prior is the same for all."""
    scale, steps, jobs = setup.scale, setup.n_agents * setup.scale.agent_t_max, []
    interval = max(steps // CHECKPOINTS, 1)
    rest = (f"t_max={scale.agent_t_max}", f"save_model_interval={interval}", f"test_interval={interval}")
    for seed in setup.seeds:
        for name, method in METHODS.items():
            first = setup.population(method.alg, setup.n_agents - 1, setup.train_pool, "homologue")
            own = setup.settings_of(method)
            own += (f"omg_prior_path={setup.prior / 'iql_omg'}",) if method.alg == "iql_omg" else ()
            arguments = first + setup.common(*setup.learning(), *own, f"seed={seed}", *rest)
            jobs.append(setup.job(Training, setup.agent(name, seed), arguments, steps))
    return jobs


def evaluation_jobs(setup: Setup, phase: str) -> list[Evaluation]:
    """Tests each agent with each group; zero-shot also the control."""
    jobs = []
    for group in setup.groups:
        for name, method in METHODS.items():
            for seed in setup.seeds:
                weights = setup.agent(name, seed) if phase == "zero-shot" else setup.tuned(name, seed, group)
                jobs.append(_evaluation_job(setup, name, method, seed, group, phase, weights))
        if phase == "zero-shot":
            for seed in range(TRAIN_SEED, TRAIN_SEED + setup.scale.train_members):
                folder = setup.member(setup.train_pool, CONTROL, seed)
                jobs.append(_evaluation_job(setup, CONTROL, CONTROL_METHOD, seed, group, phase, folder))
    return jobs


def best_response_jobs(setup: Setup) -> list[Training]:
    """Trains IQL beside each member of the test pool alone, where the scale asks for it: the best that one can do."""
    steps = setup.n_agents * setup.scale.best_response_t_max
    jobs = []
    for member in setup.test_folders if steps else ():
        first = setup.population(BEST_RESPONSE.alg, setup.n_agents - 1, member, "homologue")
        rest = (f"t_max={setup.scale.best_response_t_max}", f"save_model_interval={max(steps // CHECKPOINTS, 1)}")
        own = setup.common(*setup.learning(), *BEST_RESPONSE.settings, "seed=1", f"test_interval={steps}", *rest)
        jobs.append(setup.job(Training, setup.best_response(member), first + own, steps))
    return jobs


def best_response_tests(setup: Setup) -> list[Evaluation]:
    """Tests each best response with the member that it was trained beside."""
    if not setup.scale.best_response_t_max:
        return []
    group = Group(setup.n_agents - 1, "homologue")
    return [
        _evaluation_job(
            setup,
            "iql",
            BEST_RESPONSE,
            1,
            group,
            PHASES[0],
            setup.best_response(member),
            pool=member,
            output=setup.best_response_test(member),
        )
        for member in setup.test_folders
    ]


def _evaluation_job(
    setup: Setup,
    name: str,
    method: Method,
    seed: int,
    group: Group,
    phase: str,
    weights: Path,
    pool: Path | None = None,
    output: Path | None = None,
) -> Evaluation:
    n_episodes = setup.scale.test_episodes
    worlds = math.gcd(n_episodes, WORLDS)
    settings = (*setup.settings_of(method), f"seed={TEST_SEED}", f"evaluate_path={weights}", "runner=parallel")
    first = setup.population(method.alg, group.n_teammates, pool or setup.test_pool, group.kind)
    # Behind the scale's settings, which are those of trainings' tests.
    arguments = (*first, *setup.common(*settings), f"batch_size_run={worlds}", f"test_nepisode={n_episodes}")
    about = {"method": name, "seed": seed, "phase": phase, "group": group.title}
    output = output or setup.test(name, seed, group, phase)
    return setup.job(Evaluation, output, arguments, n_episodes * EPISODE_GUESS, about=about, n_episodes=n_episodes)


def tune_jobs(setup: Setup) -> list[Training]:
    """Trains each agent on with the teammates of each group, for about `tune_episodes` episodes.

    How many steps that is follows from the zero-shot test, once that is there.
    """
    scale, jobs = setup.scale, []
    for group in setup.groups:
        n_own_seats = setup.n_agents - group.n_teammates
        factor = setup.n_agents // n_own_seats  # by which main.py multiplies t_max
        for name, method in METHODS.items():
            first = setup.population(method.alg, group.n_teammates, setup.test_pool, group.kind)
            own = (*setup.at_once(n_own_seats), *setup.settings_of(method))
            own += ("eta=0.0",) if method.alg == "iql_omg" else ()
            for seed in setup.seeds:
                test = setup.test(name, seed, group, "zero-shot")
                rows = read_rows(test, ["length"]) if test.is_file() else [{"length": str(EPISODE_GUESS)}]
                lengths = [int(row["length"]) for row in rows]
                # main.py plays `factor` episodes at a time, the last of them beyond t_max: half of those on average
                n_episodes = scale.tune_episodes - factor / 2
                t_max = max(round(n_episodes * sum(lengths) / len(lengths) / factor), 1)
                settings = (f"seed={seed}", f"t_max={t_max}", f"init_param_path={setup.agent(name, seed)}")
                rest = ("epsilon_start=0.05", "epsilon_finish=0.05", "test_interval=1000000000", "test_nepisode=1")
                arguments = (*first, *setup.common(*own, *settings, *rest), f"batch_size={scale.tune_batch}")
                jobs.append(setup.job(Training, setup.tuned(name, seed, group), arguments, factor * t_max))
    return jobs
