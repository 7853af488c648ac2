"""What an environment is: `MultiAgentEnv`, one world with PyMARL's methods, and `VectorEnv`, B worlds at once.

`Field` declares what a world writes at every step; batch, buffer and workers' memory follow from `fields_of`.
The runner only knows `VectorEnv`. Every `MultiAgentEnv` has one (`MultiAgentEnv.vector`): by default a generic one of
`vector.py`, in this process or in worker processes; an environment that can play many worlds together overrides it.
"""

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from utils.config import key
from utils.errors import UserError

EnvInfo = dict[str, Any]
"""The sizes of an environment and its own fields, by PyMARL's names (`MultiAgentEnv.get_env_info`)."""
Info = dict[str, Any]
"""What `step` returns besides reward and end, by name."""
State = dict[str, Any]
"""What an environment carries from one episode to the next, as plain data."""


@dataclass(frozen=True)
class Field:
    """A field of a batch that the environment writes, as an entry of a scheme (components/episode_buffer.py)."""

    vshape: int | tuple[int, ...]
    dtype: str = "float32"  # NumPy's and torch's name
    group: str | None = None  # "agents": such an entry for each agent
    below: int | None = None  # a bound of whole numbers from 0 on

    def empty(self, batch_size: int, n_agents: int) -> np.ndarray:
        """Returns zeros [batch, *vshape] or [batch, agent, *vshape]."""
        vshape = (self.vshape,) if isinstance(self.vshape, int) else self.vshape
        return np.zeros((batch_size, *([n_agents] if self.group else []), *vshape), self.dtype)


REWARD_OF_EACH = Field((), group="agents")


def fields_of(env_info: EnvInfo) -> dict[str, Field]:
    """Returns all fields that an environment with this `env_info` writes: what is seen at every step, and `reward`."""
    return {
        "state": Field(env_info["state_shape"]),
        "obs": Field(env_info["obs_shape"], group="agents"),
        "avail_actions": Field(env_info["n_actions"], "uint8", "agents", below=2),
        "reward": Field((1,)),
        **env_info.get("fields", {}),
    }


class Observations:
    """What the agents may see at one step, written by a `VectorEnv` into arrays that the caller owns.

    They are attributes, those of the environment's own fields too, and come in order when it is iterated over.
    """

    obs: np.ndarray  # [batch, agent, obs_shape] float32
    state: np.ndarray  # [batch, state_shape] float32
    avail_actions: np.ndarray  # [batch, agent, n_actions] uint8

    def __init__(self, obs: np.ndarray, state: np.ndarray, avail_actions: np.ndarray, **own: np.ndarray):
        self.__dict__.update(obs=obs, state=state, avail_actions=avail_actions, **own)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(vars(self).values())

    @classmethod
    def empty(cls, batch_size: int, env_info: EnvInfo) -> "Observations":
        """Returns arrays of the right sizes for an environment with this `env_info`."""
        fields = fields_of(env_info)
        del fields["reward"]
        return cls(**{name: field.empty(batch_size, env_info["n_agents"]) for name, field in fields.items()})


class Outcomes(NamedTuple):
    """What one step brought in each world. Rows of worlds that were not stepped keep their old content.

    `terminated` says that the episode is over in earnest, `truncated` that the time limit cut it off: a learner
    bootstraps from the second and not from the first (Pardo et al. 2018, *Time Limits in Reinforcement Learning*).
    `lost` says that the world's process, or the game that the world is played in, died or fell silent: the rest of its
    row means nothing, the episode can't go on, and a new world stands in its place and waits for its `reset`.
    """

    reward: np.ndarray  # [batch] float32, one for the team; or [batch, agent], one for each
    terminated: np.ndarray  # [batch] bool
    truncated: np.ndarray  # [batch] bool
    info: dict[str, np.ndarray]  # for each name of `info_keys`: [batch] float32
    lost: np.ndarray  # [batch] bool

    @classmethod
    def empty(cls, batch_size: int, info_keys: Sequence[str], env_info: EnvInfo | None = None) -> "Outcomes":
        """Returns arrays of zeros, with a reward for each agent if `env_info` declares it so."""
        of_each = env_info is not None and fields_of(env_info)["reward"] == REWARD_OF_EACH
        return cls(
            reward=np.zeros((batch_size, env_info["n_agents"]) if env_info and of_each else batch_size, np.float32),
            terminated=np.zeros(batch_size, bool),
            truncated=np.zeros(batch_size, bool),
            info={key: np.zeros(batch_size, np.float32) for key in info_keys},
            lost=np.zeros(batch_size, bool),
        )


def check_rewards_of_each(env_class: type, name: str) -> None:
    """Raises: UserError where the environment of this name has no rewards of each agent."""
    if "common_reward" not in inspect.signature(env_class).parameters:
        raise UserError(
            f"common_reward=False, but the environment '{name}' has one reward for the whole team; leave it True, or "
            "take an environment that has one for each agent, such as lbforaging"
        )


class WorkerLimits(NamedTuple):
    """How much worker processes are put up with."""

    max_restarts: int  # workers that may be replaced, of all worlds together
    timeout_seconds: float  # the longest wait for an answer, the launch of the world included


class Env(ABC):
    """What one world and many worlds have in common. The sizes never change while it lives."""

    info_keys: tuple[str, ...] = ()
    """The entries of `step`'s info that become statistics, read at the last step of an episode."""

    @abstractmethod
    def get_env_info(self) -> EnvInfo:
        """Returns the sizes, the same for all worlds, and under `fields` what else `fields_of` needs."""

    def state_dict(self) -> State | None:
        """Returns what is carried from one episode to the next, such as the state of a generator, as plain data.

        None where the environment can't say; a run in it resumes, but not bit for bit.
        """
        return None

    def load_state_dict(self, state: State) -> None:
        """Continues from the `state_dict` of as many worlds at the next `reset`."""
        raise NotImplementedError(f"{type(self).__name__} can't go on from a state")

    @property
    def keeps_replays(self) -> bool:
        return type(self).save_replay is not Env.save_replay

    def save_replay(self) -> Sequence[Path] | None:
        """Writes the last episode, of the first world, as a file."""
        raise NotImplementedError(f"{type(self).__name__} keeps no replays")

    def close(self) -> None:
        """Frees what the environment holds; calling it twice does no harm."""


class MultiAgentEnv(Env):
    """One cooperative world in PyMARL's terms."""

    episode_limit: int
    n_agents: int
    fields: Mapping[str, Field] = {}
    """What it shows at every step beside observations, state and available actions; `get_<name>()` returns each."""
    common_reward: bool = True
    """`step` returns one reward for the team, and not one for each agent; a class whose constructor takes
    `common_reward` and keeps it here can do either."""
    needs_process: ClassVar[bool] = False
    """A program of its own plays it, which may hang, must not get the terminal's Ctrl-C, and must not be left behind:
    any runner plays it in a worker process."""

    @abstractmethod
    def reset(self) -> tuple[Sequence[np.ndarray], np.ndarray]:
        """Starts an episode; returns (observations of all agents, state)."""

    @abstractmethod
    def step(self, actions: Sequence[int]) -> tuple[float | Sequence[float], bool, Info]:
        """Plays one action per agent; returns (reward, terminated, info), with rewards [agent] unless `common_reward`.

        `info["episode_limit"]` is True where only the time limit ended the episode, `info["lost"]` where the world
        failed: it has repaired itself, and waits for its `reset` (`Outcomes.lost`).
        """

    @abstractmethod
    def get_obs(self) -> Sequence[np.ndarray]:
        """Returns the observations of all agents, each [obs_shape]."""

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """Returns the global state [state_shape], for training only."""

    @abstractmethod
    def get_avail_actions(self) -> Sequence[Sequence[int]]:
        """Returns, for each agent and action, 1 where it may be taken. Each agent has at least one available action."""

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

    def get_env_info(self) -> EnvInfo:
        fields = {**self.fields, **({} if self.common_reward else {"reward": REWARD_OF_EACH})}
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.get_total_actions(),
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            **({"fields": fields} if fields else {}),
        }

    def get_stats(self) -> dict[str, float]:
        """Returns counts over the life of the environment; empty if it keeps none."""
        return {}

    def render(self, mode: str = "human") -> np.ndarray | None:
        """Draws the world in a window ("human"), or returns a picture uint8 [height, width, 3] ("rgb_array")."""
        raise NotImplementedError(f"{type(self).__name__} can't be drawn")

    def seed(self) -> int | None:
        """Returns the seed that the environment was made with."""
        return None

    @classmethod
    def resolve(cls, **env_args: Any) -> str | None:
        """Returns what will play, decided before a run: the engine's name, where there is a choice of engines.

        Raises: UserError where the world can't be had on this machine or with these arguments.
        """
        return None

    @classmethod
    def describe(cls, **env_args: Any) -> Info:
        """Returns what a run's record must hold of the world besides its arguments, by name."""
        return {}

    @classmethod
    def vector(
        cls, seeds: Sequence[int], *, workers: WorkerLimits | None = None, parallel: bool = True, **env_args: Any
    ) -> "VectorEnv":
        """Returns an environment of one world per seed, played together. `env_args` are the constructor's, less `seed`.

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
            raise UserError(f"{cls.__name__} can't be made with {given} (env_args and a seed): {error}") from None
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

    def state_dict(self) -> State:
        return {"random": self._rng.bit_generator.state}

    def load_state_dict(self, state: State) -> None:
        self._rng.bit_generator.state = state["random"]


SELF, POLICY = "self", "policy:"
"""Names of enemies that policies play: copies of the one that learns, and the one in a folder, `policy:FOLDER`."""


def as_word(text: str) -> str:
    """Returns an enemy's name as a part of the names of statistics: script_kite for script:kite."""
    return re.sub(r"\W+", "_", text).strip("_")


class VectorEnv(Env):
    """B worlds at once over arrays [batch, ...]. World i behaves as it would alone with the same seed."""

    n_envs: int
    test_mode: bool = False
    """Set by the runner before a `reset`: whether the episodes that begin are of a test. Few worlds heed it."""

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

    def rows_of(self, worlds: np.ndarray | None) -> np.ndarray:
        """Returns the indices of the worlds of a mask (None: of all)."""
        return np.arange(self.n_envs) if worlds is None else np.flatnonzero(worlds)

    def episode_notes(self) -> list[Info]:
        """Returns what was drawn for the episode of each world, by name, for its record; `enemy`: who plays against."""
        return [{} for _ in range(self.n_envs)]

    enemy_names: tuple[str, ...] = ()
    """All who play against the team, where that is a choice of `env_args`."""
    test_enemy_names: tuple[str, ...] = ()
    """Those of them who are met in tests, as `episode_notes` has them."""
    enemy_info: EnvInfo = {}
    """The sizes of `get_env_info` for a policy that plays against the team, where one can."""

    def seat_enemies(self, sources: Mapping[str, Any]) -> None:
        """Says what plays the enemies of these names that are policies; the environment says what it takes."""
        raise NotImplementedError(f"{type(self).__name__} has no enemies that a policy could play")

    def get_stats(self) -> list[dict[str, float]]:
        """Returns `MultiAgentEnv.get_stats` of each world."""
        return [{} for _ in range(self.n_envs)]
