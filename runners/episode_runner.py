"""Plays whole episodes, one in each world of a VectorEnv, and keeps PyMARL's statistics of them.

The worlds write what is seen straight into the episode batch; `run.py` decides when to train and when to test.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch, Episodes, Preprocess, Scheme
from envs import REGISTRY as ENVS
from envs.answers import whole_sizes
from envs.multiagentenv import EnvInfo, Observations, Outcomes, WorkerLimits, as_word, fields_of
from runners.step_collector import StepCollector
from utils.config import Key, M, key
from utils.dict2namedtuple import Args, Config
from utils.errors import UserError
from utils.files import Json
from utils.logging import Logger
from utils.seeding import world_seeds
from utils.weights import StateDict

COUNT = Key(int, low=0).read


class ActingTeam(Protocol):
    """What acts for all agents, such as the teams of controllers/team.py, which documents these methods."""

    @property
    def epsilon(self) -> float: ...
    def reset(self, batch: EpisodeBatch, worlds: np.ndarray) -> None: ...
    def restart(self, worlds: np.ndarray) -> None: ...
    def renew(self) -> None: ...
    def hidden_states(self) -> th.Tensor: ...
    def select_actions(
        self, batch: EpisodeBatch, t_ep: int, t_env: int, bs: Episodes = ..., test_mode: bool = False
    ) -> th.Tensor: ...
    def seats_of(self, world: int) -> tuple[list[int], list[str]]: ...


def bootstraps_timeouts(args: Args) -> bool:
    """Whether targets reach beyond the time limit. SMAC says that it was one only where episodes continue, and PyMARL
    takes what is not said for an end."""
    if args.bootstrap_timeouts is not None:
        return args.bootstrap_timeouts
    default = getattr(getattr(ENVS[args.env], "Keys", None), "continuing_episode", True)
    return args.env_args.get("continuing_episode", default)


class EpisodeRunner:
    """Plays `batch_size_run` episodes per call of `run`; `t_env` counts the environment steps of training.

    An episode whose world is lost (`Outcomes.lost`) is dropped and played anew: it reaches neither the batch nor the
    statistics nor `t_env`, only the count `dropped_episodes`.
    """

    @dataclass(frozen=True)
    class Keys:
        max_worker_restarts: int = key(5, "worker processes that may be lost before the run stops", low=0, high=M)
        worker_timeout_seconds: float = key(300, "longest wait for a worker's answer", "seconds", above=0, high=M)
        collect_steps: int | None = key(
            None, "steps of each world between updates, over the ends of episodes; null: an episode", low=1, high=M
        )
        bootstrap_timeouts: bool | None = key(
            None, "the value after a time-out counts; null: on StarCraft II as env_args.continuing_episode, else yes"
        )

    parallel = False  # whether worlds that need no process of their own get one, too

    def __init__(self, args: Args, logger: Logger):
        self.args = args
        self.logger = logger
        self.batch_size = args.batch_size_run
        env_args = {**args.env_args, **({} if args.common_reward else {"common_reward": False})}
        env_seed = env_args.pop("seed", None)
        self.seeds = world_seeds(args.seed if env_seed is None else env_seed, self.batch_size)
        limits = WorkerLimits(args.max_worker_restarts, args.worker_timeout_seconds)
        self.env = ENVS[args.env].vector(self.seeds, workers=limits, parallel=self.parallel, **env_args)
        env_info = self.get_env_info()
        self.episode_limit = env_info["episode_limit"]
        self.seen = [name for name in fields_of(env_info) if name != "reward"]
        self.outcomes = Outcomes.empty(self.batch_size, self.env.info_keys, env_info)
        self.bootstraps_timeouts = bootstraps_timeouts(args)
        self.t_env = 0
        self.dropped_episodes = 0
        self.n_ended = 0  # training episodes that ended in the last `run`
        self.collector: StepCollector | None = None  # of worlds that go on, if `collect_steps`
        self.train_stats = self.new_stats()
        self.test_stats = self.new_stats()
        self.enemy_stats: dict[str, EpisodeStats] = {}  # of the test, by enemy, where there are several
        self.test_nepisode = args.test_nepisode  # episodes after which the statistics of a test are logged
        self.n_tests = [0] * self.batch_size  # test episodes of each world
        self.log_train_stats_t = -args.runner_log_interval - 1  # so that the first episodes are logged
        self.test_win_rate: float | None = None
        self.test_prefix = "test_"  # of the names of a test's statistics

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        n = config["batch_size_run"]
        if config["collect_steps"]:
            learner, steps = config["learner"], config["collect_steps"]
            if not kinds["learner"].learns_pieces:  # type: ignore[attr-defined]  # learners/base_learner.py
                return (
                    f"collect_steps={steps} cuts episodes, but learner={learner} learns from whole ones; leave it out, "
                    "or take --config=pqn_iql, pqn_vdn or pqn_qmix"
                )
            if config["population"] or "am_model" in kinds:
                other = "a population" if config["population"] else f"am_model={config['am_model']}"
                return f"collect_steps={steps} cuts episodes, but {other} needs whole ones; set collect_steps=null"
        alone = f"batch_size_run={n} but the episode runner plays one environment; set it to 1, or runner=parallel"
        return "" if cls.parallel or n == 1 else alone

    def setup(self, scheme: Scheme, groups: dict[str, int], preprocess: Preprocess, mac: ActingTeam) -> None:
        """Takes the layout of episodes and the team that acts; `mac` is PyMARL's name for it."""
        self.layout = scheme, groups, preprocess
        self.team = mac

    def new_batch(self, n_steps: int | None = None, n_rows: int | None = None) -> EpisodeBatch:
        """Returns an empty batch, by default of one episode for each world."""
        scheme, groups, preprocess = self.layout
        sizes = n_rows or self.batch_size, n_steps or self.episode_limit + 1
        return EpisodeBatch(scheme, groups, *sizes, preprocess=preprocess)

    @property
    def state_layout(self) -> dict[str, object]:
        """The layout of `state_dict`, in the form of utils/files.py."""
        return {
            "t_env": COUNT,
            "log_train_stats_t": int,
            "train_stats": self.train_stats.layout,
            "test_win_rate": (None, float),
            "n_tests": [COUNT],
            "dropped_episodes": COUNT,
            "n_envs": COUNT,
            "env": (None, dict),
        }

    def new_stats(self) -> "EpisodeStats":
        return EpisodeStats(0 if self.args.common_reward else self.outcomes.reward.shape[1])

    def get_env_info(self) -> EnvInfo:
        return whole_sizes(self.env.get_env_info(), self.args.env)

    def save_replay(self) -> None:
        """Has the environment write the last episode of its first world."""
        self.env.save_replay()

    def close_env(self) -> None:
        self.env.close()

    def state_dict(self) -> StateDict:
        """Returns where training stands: steps, what is not logged yet, and the worlds' state (None: unknown).

        Worlds that go on begin new episodes after it, so that a run that is resumed from here does the same.
        """
        self.collector = None
        return {
            "t_env": self.t_env,
            "log_train_stats_t": self.log_train_stats_t,
            "train_stats": self.train_stats.state_dict(),
            "test_win_rate": self.test_win_rate,
            "n_tests": list(self.n_tests),
            "dropped_episodes": self.dropped_episodes,
            "n_envs": self.env.n_envs,
            "env": self.env.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continues from a `state_dict` with the next episode; a test that was under way is dropped.

        Worlds whose state is unknown, or that were not as many, stay as they are.

        Raises: ValueError where there are not as many counts of tests as worlds, or the worlds refuse their state.
        """
        if len(state["n_tests"]) != state["n_envs"]:
            raise ValueError(f"'runner.n_tests' is of {len(state['n_tests'])} worlds, not of {state['n_envs']}")
        self.t_env, self.log_train_stats_t = state["t_env"], state["log_train_stats_t"]
        self.train_stats, self.test_stats, self.enemy_stats = self.new_stats(), self.new_stats(), {}
        self.train_stats.load_state_dict(state["train_stats"])
        self.test_win_rate, self.dropped_episodes = state["test_win_rate"], state["dropped_episodes"]
        if state["n_envs"] == self.env.n_envs:
            self.n_tests = list(state["n_tests"])
        if state["env"] is not None and state["n_envs"] == self.env.n_envs:
            self.env.load_state_dict(state["env"])

    def run(self, test_mode: bool = False) -> EpisodeBatch:
        """Plays one episode per world; greedily, and without counting the steps, when testing.

        In training with `collect_steps` it plays so many steps in each world, and returns the pieces of episodes. A
        test begins all episodes anew.
        """
        if self.args.collect_steps and not test_mode:
            return self._collect()
        self.collector = None
        self.env.test_mode = test_mode
        batch = self.new_batch()
        missing = np.ones(self.batch_size, bool)
        while missing.any():
            missing = self._play(batch, missing, test_mode)
            if missing.any():
                self.count_dropped(int(missing.sum()))

        returns = batch["reward"].numpy().sum((1, 2), dtype=float)
        own_returns = batch["reward"].numpy().sum(1, dtype=float)[:, : self.train_stats.n_agents]
        lengths = batch["filled"].numpy().sum((1, 2), dtype=int) - 1
        if not test_mode:
            self.t_env += int(lengths.sum())
            self.n_ended = self.batch_size
        self._keep_stats(test_mode, returns, own_returns, lengths)
        return batch

    def _collect(self) -> EpisodeBatch:
        self.n_ended, self.env.test_mode = 0, False
        self.collector = self.collector or StepCollector(self, self.args.collect_steps)
        batch = self.collector.collect()
        if self.train_stats.returns:
            self._log_train_stats_if_due()
        return batch

    def count_dropped(self, n_episodes: int) -> None:
        """Counts episodes whose worlds were lost."""
        if n_episodes:
            self.dropped_episodes += n_episodes
            self.logger.log_stat("dropped_episodes", self.dropped_episodes, self.t_env)

    def _play(self, batch: EpisodeBatch, worlds: np.ndarray, test_mode: bool) -> np.ndarray:
        """Plays one episode in each world of the mask [batch]; returns the mask of lost worlds, whose rows stay 0."""
        fields = {key: value.numpy() for key, value in batch.data.transition_data.items()}
        running, lost = worlds.copy(), np.zeros(self.batch_size, bool)

        rewards = self.outcomes.reward.reshape(self.batch_size, -1)  # a view: one for the team, or one for each agent

        self.env.reset(self._observations(fields, 0), worlds)
        fields["filled"][worlds, 0] = 1
        self.team.reset(batch, worlds)
        for t in range(self.episode_limit):
            rows = slice(None) if running.all() else np.flatnonzero(running)
            actions = self.team.select_actions(batch, t, self.t_env, bs=rows, test_mode=test_mode)
            fields["actions"][rows, t, :, 0] = actions.cpu().numpy()
            self.env.step(fields["actions"][:, t, :, 0], self._observations(fields, t + 1), self.outcomes, running)

            over, cut_off = self.outcomes.terminated, self.outcomes.truncated
            is_end = over if self.bootstraps_timeouts else over | cut_off
            fields["reward"][rows, t] = rewards[rows]
            fields["terminated"][rows, t, 0] = is_end[rows]
            fields["filled"][rows, t + 1] = 1
            lost |= running & self.outcomes.lost
            running &= ~(over | cut_off | lost)
            if not running.any():
                break
        else:
            raise UserError(
                f"the environment '{self.args.env}' went on beyond its episode_limit of {self.episode_limit} steps; "
                'end the episode at its last step, with info["episode_limit"]=True'
            )

        for values in fields.values():
            values[lost] = 0
        return lost

    def _observations(self, fields: dict[str, np.ndarray], t: int) -> Observations:
        """Returns the places of step t in the batch, for the worlds to write into."""
        return Observations(**{name: fields[name][:, t] for name in self.seen})

    def _keep_stats(self, test_mode: bool, returns: np.ndarray, own_returns: np.ndarray, lengths: np.ndarray) -> None:
        stats = self.test_stats if test_mode else self.train_stats
        stats.add(returns, own_returns, lengths, self.outcomes.info)
        if test_mode:
            self._record_tests(returns, own_returns, lengths)
            self._keep_enemy_stats(returns, own_returns, lengths)
        if test_mode and len(stats.returns) >= self.test_nepisode:
            self.test_win_rate = stats.mean("battle_won")
            stats.log(self.logger, self.t_env, prefix=self.test_prefix)
            self._log_enemy_stats()
        elif not test_mode:
            self._log_train_stats_if_due()

    def _keep_enemy_stats(self, returns: np.ndarray, own_returns: np.ndarray, lengths: np.ndarray) -> None:
        """Keeps the statistics of a test's episodes by enemy, where tests have several."""
        if len(self.env.test_enemy_names) > 1:
            met = np.array([notes["enemy"] for notes in self.env.episode_notes()])
            for enemy in np.unique(met).tolist():
                rows, stats = met == enemy, self.enemy_stats.setdefault(enemy, self.new_stats())
                info = {key: values[rows] for key, values in self.outcomes.info.items()}
                stats.add(returns[rows], own_returns[rows], lengths[rows], info)

    def _log_enemy_stats(self) -> None:
        for enemy, stats in self.enemy_stats.items():
            prefix, won = f"{self.test_prefix}vs_{as_word(enemy)}_", stats.mean("battle_won")
            self.logger.log_stat(f"{prefix}return_mean", np.mean(stats.returns), self.t_env)
            if won is not None:
                self.logger.log_stat(f"{prefix}battle_won_mean", won, self.t_env)
        self.enemy_stats = {}

    def _log_train_stats_if_due(self) -> None:
        if self.t_env - self.log_train_stats_t >= self.args.runner_log_interval:
            self.train_stats.log(self.logger, self.t_env)
            self.logger.log_stat("epsilon", self.team.epsilon, self.t_env)
            self.log_train_stats_t = self.t_env

    def _record_tests(self, returns: np.ndarray, own_returns: np.ndarray, lengths: np.ndarray) -> None:
        """Records the test episode of each world: one line of `test_episodes.jsonl`."""
        notes = self.env.episode_notes()
        for world, seed in enumerate(self.seeds):
            seats, teammates = self.team.seats_of(world)
            info = {key: float(values[world]) for key, values in self.outcomes.info.items()}
            episode: Json = {
                "t_env": self.t_env,
                "world": world,
                "seed": seed,
                "episode": self.n_tests[world],  # counted from 0 in each world
                "return": float(returns[world]),
                **({} if self.args.common_reward else {"returns": own_returns[world].tolist()}),  # of each agent
                "length": int(lengths[world]),
                "won": bool(info["battle_won"]) if "battle_won" in info else None,
                "seat": None if not teammates else seats[0] if len(seats) == 1 else seats,  # the learner's
                "teammates": teammates,
                **notes[world],  # such as `enemy`
                "info": info,
            }
            self.logger.log_test_episode(episode)
            self.n_tests[world] += 1


class EpisodeStats:
    """What episodes came to since the last log: returns, lengths and the environment's declared info.

    Those of each agent, too, where `n_agents` have rewards of their own; else that is 0.
    """

    def __init__(self, n_agents: int) -> None:
        self.n_agents = n_agents
        self.returns: list[float] = []  # of the team
        self.own_returns: list[list[float]] = []  # of each agent
        self.sums: dict[str, float] = defaultdict(float)
        own = {"own_returns": [[float] * n_agents]} if n_agents else {}
        self.layout = {"returns": [float], "sums": {str: float}, **own}

    def state_dict(self) -> StateDict:
        own = {"own_returns": list(self.own_returns)} if self.n_agents else {}
        return {"returns": list(self.returns), "sums": dict(self.sums), **own}

    def load_state_dict(self, state: StateDict) -> None:
        self.returns = list(state["returns"])
        self.own_returns = list(state["own_returns"]) if self.n_agents else []
        self.sums.update(state["sums"])

    def add(self, returns: np.ndarray, own: np.ndarray, lengths: np.ndarray, info: dict[str, np.ndarray]) -> None:
        self.returns.extend(returns.tolist())
        self.own_returns.extend(own.tolist())
        self.sums["ep_length"] += float(lengths.sum())
        for name, values in info.items():
            self.sums[name] += float(values.sum())

    def mean(self, key: str) -> float | None:
        """Returns the mean of an entry of the info over the episodes; None if the environment does not declare it."""
        return self.sums[key] / len(self.returns) if key in self.sums else None

    def log(self, logger: Logger, t_env: int, prefix: str = "") -> None:
        """Logs the means under PyMARL's names, rewards of each agent under EPyMARL's too, and starts anew."""
        returns = {"": self.returns}
        if self.n_agents:
            of_agents = np.array(self.own_returns).T
            returns |= {"total_": self.returns, **{f"agent_{i}_": own for i, own in enumerate(of_agents)}}
        for name, values in returns.items():
            logger.log_stat(f"{prefix}{name}return_mean", np.mean(values), t_env)
            logger.log_stat(f"{prefix}{name}return_std", np.std(values), t_env)
        for name in self.sums:
            logger.log_stat(f"{prefix}{name}_mean", self.sums[name] / len(self.returns), t_env)
        self.returns.clear()
        self.own_returns.clear()
        self.sums.clear()
