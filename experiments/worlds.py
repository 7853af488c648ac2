"""OMG in the paper's small worlds, where the others are opponents: `python -m experiments.omg --world foraging`.

Pools of opponents, OMG's prior, the methods and the paper's ablations are runs of main.py; `worlds_report.py` draws
what they leave. Everybody has a reward of its own.
"""

import math
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.jobs import Job
from experiments.omg_runs import CHECKPOINTS, TEST_POOL_SEED, TEST_SEED, TRAIN_SEED, Method, Training, beside_a_pool
from experiments.stages import Evaluation, Folders, PoolOrder, Stage
from utils.errors import UserError
from utils.MY_EXP_PATH import experiment_root
from utils.records import METRIC, Row, read_csv, read_json_lines, write_csv

EPISODE = {"t_env": int, "return": float, "returns": (None, [float]), "length": int, "seat": int, "teammates": [str]}
TEST_FIELDS = ("method", "seed", "episode", "score", "length", "seat", "opponents")
CURVE_FIELDS = ("method", "seed", "t_env", "episode", "key", "value")
CURVES = ("score", "steps", "subgoal_hit_ratio")
WORLDS_AT_ONCE = 32  # in a test


class Paper(NamedTuple):
    """What Yu, Jiang and Lu 2024 show at the end of training, read off their figures."""

    score: float
    steps: float | None = None


@dataclass(frozen=True)
class Scale:
    """How much is trained and tested; steps are environment steps."""

    train_members: int
    test_members: int
    pool_t_max: int
    seeds: int  # of each method
    ablation_seeds: int  # of each ablation
    agent_t_max: int  # main.py plays `World.factor` times as much
    prior_t_max: int  # the same; 0: each run of OMG trains a prior of its own
    checks: int  # tests during a training, for its curves
    test_episodes: int  # of each agent
    settings: tuple[str, ...] = ()  # of every run


@dataclass(frozen=True)
class World:
    """A world, who plays in it, and what the paper says of it."""

    title: str
    env_config: str
    n_agents: int
    is_agent_shift: bool  # the learner may take any seat; else it has the first
    factor: int  # by which main.py multiplies t_max where one seat learns
    settings: tuple[str, ...]  # of every run
    opponents: str  # the algorithm of the pools' members
    frozen: str  # a name for the seats that they play
    methods: Mapping[str, Method]
    ablations: Mapping[str, Mapping[str, Method]]  # by the panel of the figure
    reference: str  # the method that ablations are variants of
    judged_by: str  # "steps" per episode, the fewer the better, or the agent's "score"
    scales: Mapping[str, Scale]
    paper: Mapping[str, Paper]
    paper_hit_ratio: float | None = None  # at the end of training

    def runs(self, scale: Scale) -> list[tuple[str, Method, int]]:
        """Returns every method and ablation with each of its seeds."""
        ablations = {name: method for panel in self.ablations.values() for name, method in panel.items()}
        return [
            (name, method, seed)
            for methods, n_seeds in ((self.methods, scale.seeds), (ablations, scale.ablation_seeds))
            for name, method in methods.items()
            for seed in range(1, n_seeds + 1)
        ]


_CONSERVATIVE = ("subgoal_mode=conservative",)


def _variant(title: str, *settings: str) -> Method:
    return Method(title, "iql_omg", (*_CONSERVATIVE, *settings))


FORAGING = World(
    title="foraging on a grid",
    env_config="foraging",
    n_agents=2,
    is_agent_shift=True,
    factor=2,
    settings=(
        *("agent=mlp", "dueling=True", "optimizer=adam", "runner=parallel", "batch_size_run=32", "updates_per_round=2"),
        *("lr=0.005", "batch_size=32", "target_update_interval=100", "epsilon_start=0.5", "epsilon_anneal_time=50000"),
        "gamma=0.95",  # the paper names none; with 0.99 D3QN's episodes take nearly twice as long
    ),
    opponents="iql",
    frozen="iql_idv",
    methods={
        "d3qn": Method("D3QN", "iql"),
        "liam": Method("LIAM", "iql_liam"),
        "naive_om": Method("naive OM", "iql_am"),
        "omg_conservative": _variant("OMG-conservative"),
        "omg_optimistic": Method("OMG-optimistic", "iql_omg", ("subgoal_mode=optimistic",)),
    },
    ablations={
        "what infers, and which state": {
            "supervised": _variant("supervised", "omg_supervised=True"),
            "random": Method("random state", "iql_omg", ("subgoal_mode=random",)),
            "one_step": Method("1 step ahead", "iql_omg", ("subgoal_mode=1",)),
            "three_steps": Method("3 steps ahead", "iql_omg", ("subgoal_mode=3",)),
        },
        "which subgoal is learned from": {
            "inferred": _variant("inferred only", "eta=0.0"),
            "hindsight": _variant("hindsight only", "eta=1.0", "eta_anneal_time=1000000000000"),
        },
        "horizon": {f"horizon_{n}": _variant(f"horizon {n}", f"omg_horizon={n}") for n in (1, 3, 10)},
    },
    reference="omg_conservative",
    judged_by="steps",
    scales={
        "tiny": Scale(
            *(1, 1, 200, 1, 1, 200, 100, 2, 8),
            settings=(
                *("rnn_hidden_dim=8", "batch_size_run=8", "batch_size=2", "buffer_size=16"),
                "env_args.max_episode_steps=10",
            ),
        ),
        "small": Scale(3, 6, 200_000, 3, 0, 100_000, 20_000, 20, 320),
        "paper": Scale(10, 30, 150_000, 5, 2, 300_000, 50_000, 40, 960),
    },
    paper={
        "d3qn": Paper(6.32, 12.56),
        "liam": Paper(7.0, 11.33),
        "omg_conservative": Paper(7.12, 10.90),
        "omg_optimistic": Paper(6.80, 11.44),
    },
    paper_hit_ratio=0.14,
)
PREDATOR_PREY = World(
    title="predators and prey",
    env_config="predator_prey",
    n_agents=4,
    is_agent_shift=False,  # it is a predator
    factor=1,
    settings=(),
    opponents="ippo",
    frozen="ippo_epymarl",
    methods={
        "ppo": Method("PPO", "ippo"),
        "liam": Method("LIAM", "ippo_liam"),
        "naive_om": Method("naive OM", "ippo_liam", ("am_model=base",)),
        "omg_conservative": Method("OMG-conservative", "ippo_omg", ("subgoal_mode=conservative",)),
        "omg_optimistic": Method("OMG-optimistic", "ippo_omg", ("subgoal_mode=optimistic",)),
    },
    ablations={},
    reference="omg_optimistic",
    judged_by="score",
    scales={
        "tiny": Scale(
            *(1, 1, 400, 1, 0, 400, 0, 2, 8),
            settings=("rnn_hidden_dim=8", "batch_size_run=8"),
        ),
        "small": Scale(3, 6, 500_000, 3, 0, 500_000, 0, 20, 320),
        "paper": Scale(10, 30, 2_500_000, 5, 0, 2_500_000, 0, 40, 960),
    },
    paper={
        "ppo": Paper(7.1),
        "liam": Paper(10.2),
        "naive_om": Paper(10.4),
        "omg_conservative": Paper(11.2),
        "omg_optimistic": Paper(11.8),
    },
)
WORLDS = {"foraging": FORAGING, "predator_prey": PREDATOR_PREY}


@dataclass(frozen=True)
class Setup(Folders):
    """One evaluation."""

    world: World
    scale: Scale

    def test(self, method: str, seed: int) -> Path:
        return self.out / "tests" / f"{method}_seed{seed}.csv"

    def common(self, *settings: str) -> tuple[str, ...]:
        """Returns the settings of a run, over which the scale's go."""
        return (*self.world.settings, *settings, *self.scale.settings)

    def against(self, alg: str, pool: Path) -> tuple[str, ...]:
        """Returns the first arguments of a run in which one seat plays `alg` and members of a pool the others."""
        world = self.world
        names = f"1{alg}{world.n_agents - 1}{world.frozen}"
        return beside_a_pool(names, alg, pool, world.env_config, world.is_agent_shift)


@dataclass(frozen=True, eq=False)
class CurvedTraining(Training):
    """Leaves the final weights, run.yaml, and curves.csv beside the folder: CURVE_FIELDS, of tests and of training."""

    method: str
    seed: int

    @property
    def curves(self) -> Path:
        return self.output.parent / f"{self.output.name}.csv"

    def publish(self) -> str:
        """Scores and steps are those of the learner's seat in tests with the training pool."""
        episodes: dict[int, float] = {}
        values: list[tuple[int, str, float]] = []
        for entry in self.lines("metrics.jsonl", METRIC | {"t_env": int}):
            if entry["key"] == "episode":
                episodes[entry["t_env"]] = entry["value"]
            elif entry["key"] in CURVES:
                values.append((entry["t_env"], entry["key"], entry["value"]))
        tests: dict[int, list[tuple[float, int]]] = {}
        for episode in self.lines("test_episodes.jsonl", EPISODE):
            tests.setdefault(episode["t_env"], []).append((score(episode), episode["length"]))
        for t_env, played in tests.items():
            for key, of_key in zip(("score", "steps"), zip(*played)):
                values.append((t_env, key, sum(of_key) / len(of_key)))
        rows = [
            {"method": self.method, "seed": self.seed, "t_env": t_env, "key": key, "value": value}
            | {"episode": _between(episodes, t_env)}
            for t_env, key, value in sorted(values)
        ]
        self.curves.parent.mkdir(parents=True, exist_ok=True)
        write_csv(self.curves, CURVE_FIELDS, rows)
        return super().publish()


def _between(episodes: Mapping[int, float], t_env: int) -> float:
    """Returns the number of episodes at a step, interpolated between the steps at which it was logged."""
    return float(np.interp(t_env, *np.array([(0, 0.0), *sorted(episodes.items())]).T))


def score(episode: Mapping[str, object]) -> float:
    """Returns the return of the learner's own seat in an episode."""
    returns, seat = episode["returns"], episode["seat"]
    if not isinstance(returns, list) or not isinstance(seat, int):
        raise UserError("test episodes lack the agents' own returns; they need common_reward=False")
    return float(returns[seat])


@dataclass(frozen=True, eq=False)
class OpponentTest(Job):
    """Leaves a CSV of its episodes."""

    method: str
    seed: int
    n_episodes: int

    def publish(self) -> str:
        records = self.records()
        file = records / "test_episodes.jsonl" if records else None
        episodes = list(read_json_lines(file, EPISODE)) if file and file.is_file() else []
        if len(episodes) != self.n_episodes:
            raise OSError(f"it has recorded {len(episodes)} of {self.n_episodes} test episodes")
        rows = [
            {"method": self.method, "seed": self.seed, "episode": i, "score": score(episode)}
            | {"length": episode["length"], "seat": episode["seat"], "opponents": "+".join(episode["teammates"])}
            for i, episode in enumerate(episodes)
        ]
        partial = self.work / "partial.csv"
        write_csv(partial, TEST_FIELDS, rows)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, self.output)
        return f"score {sum(map(score, episodes)) / len(episodes):.2f}"


def read_rows(file: Path, fields: Sequence[str]) -> list[Row]:
    """Returns the rows that a test or a training has left. Raises: UserError where it holds others."""

    def fit(rows: list[Row]) -> list[Row]:
        if any(row.keys() != set(fields) or None in row.values() for row in rows):
            raise ValueError(f"its columns are not {', '.join(fields)}")
        return rows

    return read_csv(file, fit, "can't be read", "delete it to make it anew")


def pools(setup: Setup) -> list[PoolOrder]:
    """Returns the pool of training and the pool of tests: opponents that have learned by playing themselves."""
    world, scale = setup.world, setup.scale
    return [
        PoolOrder(
            title,
            folder,
            (world.opponents,),
            range(first, first + n),
            scale.pool_t_max,
            setup.common(f"test_interval={scale.pool_t_max}"),
            world.env_config,
        )
        for title, folder, first, n in (
            ("train pool", setup.train_pool, TRAIN_SEED, scale.train_members),
            ("test pool", setup.test_pool, TEST_POOL_SEED, scale.test_members),
        )
    ]


def prior_job(setup: Setup) -> Training:
    """Trains OMG's prior once, on what a seat sees that acts at random among opponents of the training pool."""
    steps = setup.world.factor * setup.scale.prior_t_max
    alg = setup.world.methods[setup.world.reference].alg
    settings = (f"{alg}.learner=am_learner", f"t_max={setup.scale.prior_t_max}", "seed=1", "epsilon_start=1.0")
    rest = ("epsilon_finish=1.0", f"save_model_interval={steps}", f"test_interval={steps}", "test_nepisode=1")
    arguments = setup.against(alg, setup.train_pool) + setup.common(*settings, *rest)
    return setup.job(Training, setup.prior, arguments, steps)


def agent_jobs(setup: Setup) -> list[CurvedTraining]:
    """Trains each method and ablation with each seed against the training pool, OMG with the shared prior, if any."""
    scale, jobs = setup.scale, []
    steps = setup.world.factor * scale.agent_t_max
    for name, method, seed in setup.world.runs(scale):
        has_prior = method.alg.endswith("_omg") and scale.prior_t_max
        own = (f"omg_prior_path={setup.prior / method.alg}",) if has_prior else ()
        often = max(steps // scale.checks, 1)
        intervals = (f"test_interval={often}", f"log_interval={often}", f"learner_log_interval={often}")
        rest = (f"t_max={scale.agent_t_max}", f"save_model_interval={max(steps // CHECKPOINTS, 1)}", f"seed={seed}")
        settings = setup.common(*method.settings, *own, *intervals, *rest)
        arguments = setup.against(method.alg, setup.train_pool) + settings
        jobs.append(setup.job(CurvedTraining, setup.agent(name, seed), arguments, steps, method=name, seed=seed))
    return jobs


def test_jobs(setup: Setup) -> list[OpponentTest]:
    """Tests each agent against the opponents that it has never met."""
    n, jobs = setup.scale.test_episodes, []
    for name, method, seed in setup.world.runs(setup.scale):
        settings = (*method.settings, f"seed={TEST_SEED}", f"evaluate_path={setup.agent(name, seed)}")
        # Behind the scale's settings, which are those of trainings' tests.
        sizes = (f"batch_size_run={math.gcd(n, WORLDS_AT_ONCE)}", f"test_nepisode={n}")
        arguments = (*setup.against(method.alg, setup.test_pool), *setup.common(*settings), *sizes)
        more = {"method": name, "seed": seed, "n_episodes": n}
        jobs.append(setup.job(OpponentTest, setup.test(name, seed), arguments, 20 * n, **more))
    return jobs


def evaluation(args: Namespace) -> Evaluation:
    """Returns the evaluation in `args.world` at `args.scale`."""
    from experiments import worlds_report

    world = WORLDS[args.world]
    out = (args.out or experiment_root() / "omg" / f"{args.world}_{args.scale}").absolute()
    setup = Setup(out, world, world.scales[args.scale])
    stages = [
        Stage("prior", lambda: [prior_job(setup)] if setup.scale.prior_t_max else [], 1500),
        Stage("agents", lambda: agent_jobs(setup), 1500),
        Stage("tests", lambda: test_jobs(setup), 3000),
    ]
    scale = {**asdict(setup.scale), "settings": list(setup.scale.settings)}
    settings = {"world": args.world, "settings": list(world.settings), "scale": scale}
    return Evaluation(out, settings, pools(setup), stages, lambda: worlds_report.write(setup))
