"""What an environment is: `MultiAgentEnv`, one world with PyMARL's methods, and `VectorEnv`, B worlds at once.

The runner only knows `VectorEnv`. Every `MultiAgentEnv` has one (`MultiAgentEnv.vector`): by default a generic one of
`vector.py`, in this process or in worker processes; an environment that can play many worlds together overrides it.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from utils.config import key
from utils.errors import UserError


class Observations(NamedTuple):
    """What the agents may see at one step, written by a `VectorEnv` into arrays that the caller owns."""

    obs: np.ndarray  # [batch, agent, obs_shape] float32
    state: np.ndarray  # [batch, state_shape] float32
    avail_actions: np.ndarray  # [batch, agent, n_actions] uint8

    @classmethod
    def empty(cls, batch_size: int, env_info: dict[str, Any]) -> Observations:
        """Arrays of the right sizes for an environment with this `env_info`."""
        n_agents = env_info["n_agents"]
        return cls(
            obs=np.zeros((batch_size, n_agents, env_info["obs_shape"]), np.float32),
            state=np.zeros((batch_size, env_info["state_shape"]), np.float32),
            avail_actions=np.zeros((batch_size, n_agents, env_info["n_actions"]), np.uint8),
        )


class Outcomes(NamedTuple):
    """What one step brought in each world. Rows of worlds that were not stepped keep their old content.

    `terminated` says that the episode is over in earnest, `truncated` that the time limit cut it off: a learner
    bootstraps from the second and not from the first (Pardo et al. 2018, *Time Limits in Reinforcement Learning*).
    `lost` says that the world's process, or the game that the world is played in, died or fell silent: the rest of its
    row means nothing, the episode can't go on, and a new world stands in its place and waits for its `reset`.
    """

    reward: np.ndarray  # [batch] float32, one reward for the team
    terminated: np.ndarray  # [batch] bool
    truncated: np.ndarray  # [batch] bool
    info: dict[str, np.ndarray]  # for each name of `info_keys`: [batch] float32
    lost: np.ndarray  # [batch] bool

    @classmethod
    def empty(cls, batch_size: int, info_keys: Sequence[str]) -> Outcomes:
        return cls(
            reward=np.zeros(batch_size, np.float32),
            terminated=np.zeros(batch_size, bool),
            truncated=np.zeros(batch_size, bool),
            info={key: np.zeros(batch_size, np.float32) for key in info_keys},
            lost=np.zeros(batch_size, bool),
        )


class WorkerLimits(NamedTuple):
    """How much worker processes are put up with."""

    max_restarts: int  # workers that may be replaced, of all worlds together
    timeout_seconds: float  # the longest wait for an answer, the launch of the world included


class MultiAgentEnv(ABC):
    """One cooperative world in PyMARL's terms. The sizes never change while it lives."""

    episode_limit: int
    n_agents: int
    info_keys: tuple[str, ...] = ()
    """The entries of `step`'s info that become statistics, read at the last step of an episode."""
    needs_process: ClassVar[bool] = False
    """A program of its own plays it, which may hang, must not get the terminal's Ctrl-C, and must not be left behind:
    any runner plays it in a worker process."""

    @abstractmethod
    def reset(self) -> tuple[Sequence[np.ndarray], np.ndarray]:
        """Starts an episode; gives (observations of all agents, state)."""

    @abstractmethod
    def step(self, actions: Sequence[int]) -> tuple[float, bool, dict[str, Any]]:
        """Plays one action per agent; gives (team reward, terminated, info).

        `info["episode_limit"]` is True where only the time limit ended the episode, `info["lost"]` where the world
        failed: it has repaired itself, and waits for its `reset` (`Outcomes.lost`).
        """

    @abstractmethod
    def get_obs(self) -> Sequence[np.ndarray]:
        """Observations of all agents, each [obs_shape]."""

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """The global state [state_shape], for training only."""

    @abstractmethod
    def get_avail_actions(self) -> Sequence[Sequence[int]]:
        """For each agent and action, 1 where it may be taken. At least one action of each agent is available."""

    @abstractmethod
    def get_obs_size(self) -> int: ...

    @abstractmethod
    def get_state_size(self) -> int: ...

    @abstractmethod
    def get_total_actions(self) -> int: ...

    def get_obs_agent(self, agent_id: int) -> np.ndarray:
        return self.get_obs()[agent_id]

    def get_avail_agent_actions(self, agent_id: int) -> Sequence[int]:
        return self.get_avail_actions()[agent_id]

    def get_env_info(self) -> dict[str, Any]:
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.get_total_actions(),
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
        }

    def get_stats(self) -> dict[str, float]:
        """Counts over the life of the environment; empty where it keeps none."""
        return {}

    def render(self, mode: str = "human") -> Any:
        """Shows the world in a window ("human"), or gives a picture uint8 [height, width, 3] ("rgb_array")."""
        raise NotImplementedError(f"{type(self).__name__} can't be drawn")

    @property
    def keeps_replays(self) -> bool:
        return type(self).save_replay is not MultiAgentEnv.save_replay

    def save_replay(self) -> Any:
        """Writes the last episode as a file."""
        raise NotImplementedError(f"{type(self).__name__} keeps no replays")

    def seed(self) -> int | None:
        """The seed that the environment was made with."""
        return None

    def state_dict(self) -> dict[str, Any] | None:
        """What it carries from one episode to the next, such as where its random numbers stand, as plain data.

        None where the environment can't tell; a run in it resumes, but not bit for bit.
        """
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state at the next `reset`."""
        raise NotImplementedError(f"{type(self).__name__} can't go on from a state")

    def close(self) -> None:
        """Frees what the environment holds; calling it twice does no harm."""

    @classmethod
    def resolve(cls, **env_args: Any) -> str | None:
        """Settles before a run what will play: the engine's name, where there is a choice of engines.

        Raises: UserError where the world can't be had on this machine or with these arguments.
        """
        return None

    @classmethod
    def describe(cls, **env_args: Any) -> dict[str, Any]:
        """What a run's record must tell of the world besides its arguments, by name."""
        return {}

    @classmethod
    def vector(
        cls, seeds: Sequence[int], *, workers: WorkerLimits | None = None, parallel: bool = True, **env_args: Any
    ) -> VectorEnv:
        """One world per seed, played together. `env_args` are the constructor's, less `seed`.

        With `workers`, several worlds that are to be played in `parallel`, and all that `needs_process`, live in a
        process each. Who overrides this to play them all in one ignores both.

        Raises: UserError where the class does not take these arguments, or lacks methods.
        """
        from envs.vector import ProcessVectorEnv, SerialVectorEnv

        if workers is not None and (cls.needs_process or (parallel and len(seeds) > 1)):
            return ProcessVectorEnv(cls, seeds, workers, env_args)
        try:
            inspect.signature(cls).bind(seed=None, **env_args)
        except TypeError as error:
            given = ", ".join(["seed", *env_args])
            raise UserError(
                f"{cls.__name__} can't be made with {given} (env_args and a seed for each): {error}"
            ) from None
        if cls.__abstractmethods__:
            missing = ", ".join(sorted(cls.__abstractmethods__))
            raise UserError(f"{cls.__name__} lacks {missing}, which envs/multiagentenv.py asks of every environment")
        return SerialVectorEnv([cls(seed=seed, **env_args) for seed in seeds])  # type: ignore[call-arg]


class SeededEnv(MultiAgentEnv):
    """A world that carries nothing from one episode to the next but where its generator `_rng` stands."""

    @dataclass(frozen=True)
    class Keys:
        seed: int | None = key(None, "the environment's seed; null: the run's seed", low=0, high=2**32 - 1)

    def __init__(self, seed: int | None = None):
        self._seed = seed
        self._rng = np.random.default_rng(seed)

    def seed(self) -> int | None:
        return self._seed

    def state_dict(self) -> dict[str, Any]:
        return {"random": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["random"]


class VectorEnv(ABC):
    """B worlds at once over arrays [batch, ...]. World i behaves as it would alone with the same seed."""

    n_envs: int
    info_keys: tuple[str, ...] = ()

    @abstractmethod
    def get_env_info(self) -> dict[str, Any]:
        """As `MultiAgentEnv.get_env_info`; the same for all worlds."""

    @abstractmethod
    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        """Starts an episode in the worlds of the mask [batch] bool (None: in all) and writes what is seen."""

    @abstractmethod
    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        """Plays actions [batch, agent] in the worlds of the mask (None: in all); writes what is seen next and what it
        brought. Worlds outside the mask stand still and their rows are not written.

        Raises: ValueError where an action is not available.
        """

    def get_stats(self) -> list[dict[str, float]]:
        """`MultiAgentEnv.get_stats` of each world."""
        return [{} for _ in range(self.n_envs)]

    def state_dict(self) -> dict[str, Any] | None:
        """As `MultiAgentEnv.state_dict`, of all worlds."""
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `MultiAgentEnv.load_state_dict`; the number of worlds must be the same."""
        raise NotImplementedError(f"{type(self).__name__} can't go on from a state")

    @property
    def keeps_replays(self) -> bool:
        return type(self).save_replay is not VectorEnv.save_replay

    def save_replay(self) -> Any:
        """Writes the last episode of the first world as a file."""
        raise NotImplementedError(f"{type(self).__name__} keeps no replays")

    def close(self) -> None:
        """Frees what the worlds hold; calling it twice does no harm."""
