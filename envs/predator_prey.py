"""Predator and prey: `simple_tag` of the multi-agent particle environments (Lowe et al. 2017), package `mpe2`.

The predators are the team. The prey, which is faster, follows the fixed rule of `flee`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.multiagentenv import Info
from envs.package_env import PackageEnv
from utils.config import STEPS, M, key

DIRECTIONS = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], float)  # of none, left, right, down, up
# Where the prey expects to be within half a second: it is slow to turn.
SECONDS_AHEAD, REACH = 0.5, 0.3
OUTSIDE_COST = 10.0
PAY = 10.0  # for a touch, in the package


def flee(position: np.ndarray, velocity: np.ndarray, predators: np.ndarray) -> int:
    """Returns the prey's action: away from the nearest predator, within the square from -1 to 1 where it can.

    position and velocity [2], predators' positions [n, 2]. Of equally good actions it takes the first.
    """
    ahead = position + SECONDS_AHEAD * velocity + REACH * DIRECTIONS
    nearest = np.linalg.norm(predators - ahead[:, None], axis=-1).min(1)
    outside = (np.abs(ahead).max(1) - 1).clip(min=0)
    return int((nearest - OUTSIDE_COST * outside).argmax())


class PredatorPreyEnv(PackageEnv):
    """The arguments are those of `Keys`, by the package's names: adversaries are predators, good agents prey.

    Actions: none, left, right, down, up. The reward is 10 for every pair of predator and prey that touch: once for the
    team, or for the predator of the pair. `max_cycles` cuts an episode off; with `terminate_on_success` it ends when
    every prey is touched at once.
    """

    @dataclass(frozen=True)
    class Keys(PackageEnv.Keys):
        num_adversaries: int = key(3, "agents of the team", "predators", low=1, high=100)
        num_good: int = key(1, "those that flee", "prey", low=1, high=100)
        num_obstacles: int = key(2, "obstacles that nobody can pass", low=0, high=100)
        max_cycles: int = key(25, "the time limit", STEPS, low=1, high=M)
        terminate_on_success: bool = key(False, "the episode ends when every prey is touched at once")

    n_actions = 5
    package = "mpe2"
    info_keys = ("caught",)
    """1 if a prey was touched in the episode, else 0."""

    def __init__(self, common_reward: bool = True, **env_args: Any):
        keys = self.Keys(**env_args)
        super().__init__(keys.seed)
        self.common_reward = common_reward
        self.n_agents = keys.num_adversaries
        self.episode_limit = keys.max_cycles
        given = {**vars(keys), "render_mode": "rgb_array"}
        del given["seed"]
        self._env = self._import("simple_tag_v3").raw_env(**given)
        names = self._env.possible_agents
        self._predators, self._prey = names[: self.n_agents], names[self.n_agents :]
        first = 4 + 2 * keys.num_obstacles
        self._others = slice(first, first + 2 * self.n_agents)
        self._reset(0)

    def _reset(self, seed: int) -> None:
        self._env.reset(seed=seed)
        self._caught = False
        self._look()

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, Info]:
        # The package lets one agent after the other choose and moves them all after the last.
        for action in [*actions, *map(self._flee, self._prey)]:
            self._env.step(int(action))
        self._look()
        reward = float(self._env.rewards[self._predators[0]])  # of each predator alike: all touches of all predators
        self._caught |= reward > 0
        is_end = bool(self._env.scenario.is_terminal(self._env.world))
        is_cut_off = self._env.steps >= self.episode_limit and not is_end
        info = {"caught": self._caught, "episode_limit": is_cut_off}
        return reward if self.common_reward else self._own_rewards(), is_end or is_cut_off, info

    def _own_rewards(self) -> list[float]:
        """Returns what each predator's own touches pay; the package pays every predator for those of all."""
        world, touch = self._env.world, self._env.scenario.is_collision
        agents = {agent.name: agent for agent in world.agents}
        prey = [agents[name] for name in self._prey]
        return [PAY * sum(touch(one, agents[name]) for one in prey) for name in self._predators]

    def _flee(self, prey: str) -> int:
        obs = self._env.observe(prey)  # own velocity and position; obstacles, predators, other prey as seen from there
        position = obs[2:4]
        return flee(position, obs[:2], position + obs[self._others].reshape(-1, 2))

    def _look(self) -> None:
        self._obs = np.stack([self._env.observe(name) for name in self._predators])

    def render(self, mode: str = "human") -> np.ndarray | None:
        if mode != "rgb_array":
            return super().render(mode)
        return self._env.render()

    def close(self) -> None:
        self._env.close()
