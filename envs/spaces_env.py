"""What any Gymnasium or PettingZoo environment needs to be a `MultiAgentEnv`: `gymma.py` and `pettingzoo_env.py`.

Spaces become sizes, and what the environment answers for each of its agents becomes rows of arrays.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from envs.multiagentenv import Info
from envs.package_env import PackageEnv
from utils.config import STEPS, M, key
from utils.errors import UserError


class Answer(NamedTuple):
    """What a step returned, in the order of the agents."""

    rewards: Sequence[float] | float  # one for each agent, or one for the team
    terminated: bool  # for all agents
    truncated: bool  # for those that are left, and the episode did not end otherwise


class SpacesEnv(PackageEnv):
    """A team of agents that each have an observation space and a discrete action space.

    Observations are flattened and, where agents' differ in length, padded with zeros to the longest. Where agents have
    fewer actions than another, the rest is never available. An action is available unless the environment says
    otherwise by an `action_mask`. The state is all observations joined. The reward of the team is the agents' sum; with
    `common_reward=False` each agent has its own. `time_limit` cuts an episode off, as the environment may, too.

    Every other argument is passed to the environment's own constructor.
    """

    takes_any_key: ClassVar[bool] = True
    """Its `env_args` may hold keys that `Keys` does not declare."""

    @dataclass(frozen=True)
    class Keys(PackageEnv.Keys):
        time_limit: int = key(
            100, "the time limit; the environment may cut an episode off earlier", STEPS, low=1, high=M
        )

    def __init__(self, common_reward: bool = True, **env_args: Any):
        declared = {one.name for one in fields(self.Keys)}
        keys = self.Keys(**{name: value for name, value in env_args.items() if name in declared})
        super().__init__(keys.seed)
        self.common_reward = common_reward
        self.episode_limit = keys.time_limit
        observations, actions = self._make(keys, {k: v for k, v in env_args.items() if k not in declared})
        self._spaces = observations
        self._counts = [self._count(i, space) for i, space in enumerate(actions)]
        self._firsts = [int(space.start) for space in actions]
        self.n_agents, self.n_actions = len(actions), max(self._counts)
        self._flatten = self._import("spaces").flatten
        self._sizes = [self._size(i, space) for i, space in enumerate(observations)]
        self._avail_actions = np.zeros((self.n_agents, self.n_actions), np.uint8)
        self._reset(0)

    @abstractmethod
    def _make(self, keys: Any, extra: dict[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Makes the environment; returns the observation space and the action space of each agent.

        Raises: UserError where it can't be made.
        """

    @abstractmethod
    def _begin(self, seed: int) -> None:
        """Starts the episode of this seed and calls `_look`."""

    @abstractmethod
    def _play(self, actions: list[int]) -> Answer:
        """Plays one action for each agent and calls `_look`."""

    @property
    @abstractmethod
    def _title(self) -> str:
        """How messages call the environment: the setting that chose it."""

    def _reset(self, seed: int) -> None:
        self._t = 0
        self._begin(seed)

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, Info]:
        answer = self._play([int(action) + first for action, first in zip(actions, self._firsts)])
        self._t += 1
        rewards = np.asarray(answer.rewards, float)
        if not self.common_reward and rewards.ndim == 0:
            raise UserError(f"common_reward=False, but {self._title} returns one reward for the team; leave it True")
        is_cut_off = not answer.terminated and (answer.truncated or self._t >= self.episode_limit)
        reward = float(rewards.sum()) if self.common_reward else rewards.tolist()
        return reward, answer.terminated or is_cut_off, {"episode_limit": is_cut_off}

    def _look(self, observations: Sequence[Any], masks: Sequence[Any]) -> None:
        """Takes what each agent sees, and which actions it has; None stands for an agent that sees nothing (zeros), or
        has no mask.
        """
        self._obs = np.zeros((self.n_agents, max(self._sizes)), np.float32)
        self._avail_actions = np.zeros((self.n_agents, self.n_actions), np.uint8)
        for i, (seen, mask) in enumerate(zip(observations, masks)):
            if seen is not None:
                self._obs[i, : self._sizes[i]] = self._flatten(self._spaces[i], seen)
            self._avail_actions[i, : self._counts[i]] = 1 if mask is None else np.asarray(mask)

    def _count(self, agent: int, space: Any) -> int:
        if type(space).__name__ != "Discrete":
            raise UserError(
                f"{self._title} has actions {space} for agent {agent}; only Discrete actions can be chosen here, so "
                "take a discrete version of it"
            )
        return int(space.n)

    def _size(self, agent: int, space: Any) -> int:
        try:
            return int(self._import("spaces").flatdim(space))
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"{self._title} has observations {space} for agent {agent}, which have no fixed length ({error}); "
                "take a version of it that has"
            ) from error

    def get_avail_actions(self) -> list[list[int]]:
        return self._avail_actions.tolist()

    def render(self, mode: str = "human") -> np.ndarray | None:
        """Returns the environment's own picture, where `env_args.render_mode=rgb_array` was given."""
        return self._env.render()

    def close(self) -> None:
        self._env.close()

    _env: Any


def made(title: str, make: Any, extra: Mapping[str, Any]) -> Any:
    """Returns `make(**extra)`. Raises: UserError where the environment does not take these arguments."""
    try:
        return make(**extra)
    except UserError:
        raise
    except Exception as error:  # whatever an environment raises for its arguments
        given = ", ".join(f"env_args.{name}={value}" for name, value in extra.items()) or "no arguments of its own"
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{title} can't be made with {given} ({what}); correct or leave them out") from error
