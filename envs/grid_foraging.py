"""Foraging on a grid (Yu, Jiang and Lu, NeurIPS 2024): players walk to foods and pick them up, each for itself.

The paper gives the grid, the players and the foods; the foods' worth, the time limit and what happens where two players
pick up the same food are readings of this file. Level-Based Foraging is `foraging.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.multiagentenv import Info, SeededEnv, VectorEnv, WorkerLimits
from utils.config import STEPS, K, M, key
from utils.errors import UserError

MOVES = ((0, 1), (0, -1), (-1, 0), (1, 0), (0, 0))  # to the east and to the north, by action
PICK_UP = len(MOVES) - 1


class GridForaging(SeededEnv):
    """Actions: north, south, west, east, pick up. A move off the grid is not available; to pick up always is.

    Players and foods start on different cells. Players pass through each other and over foods. A food is gone once it
    was picked up on its cell, and those who did so in the same step share `food_value`, the only reward; the team's is
    the sum. An episode ends with the last food.

    A player sees its own place, and of every other player and then of every food how far to the east and north it is:
    each number as a one-hot vector, of a food that is gone zeros. The state is what all players see.
    """

    @dataclass(frozen=True)
    class Keys(SeededEnv.Keys):
        field_size: int = key(8, "side of the square grid", "cells", low=2, high=K)
        players: int = key(2, "players", low=1, high=20)
        foods: int = key(3, "pieces of food", low=1, high=K)
        food_value: float = key(4.0, "reward for a piece of food", above=0, high=M)
        max_episode_steps: int = key(50, "the time limit", STEPS, low=1, high=M)

    info_keys = ("food_picked",)
    """The share of the foods that were picked up in the episode."""

    def __init__(self, common_reward: bool = True, **env_args: int | float | None):
        self.keys = self.Keys(**env_args)  # type: ignore[arg-type]  # checked against Keys by the command line
        super().__init__(self.keys.seed)
        self.common_reward = common_reward
        self.n_agents, self.episode_limit = self.keys.players, self.keys.max_episode_steps
        if self.n_agents + self.keys.foods > self.keys.field_size**2:
            raise UserError(
                f"env_args.field_size={self.keys.field_size} has no room for {self.n_agents} players and "
                f"{self.keys.foods} foods; give a larger one, or fewer of them"
            )
        self.reset()

    @classmethod
    def vector(
        cls, seeds: Sequence[int], *, workers: WorkerLimits | None = None, parallel: bool = True, **env_args: Any
    ) -> VectorEnv:
        """Returns worlds that are played together in this process: a step is cheaper than a message to another."""
        if cls is not GridForaging:  # a class that changes the rules plays by its own, world by world
            return super().vector(seeds, **env_args)
        from envs.grid_foraging_worlds import GridForagingWorlds

        return GridForagingWorlds([cls(seed=seed, **env_args) for seed in seeds])

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.draw_start()
        return self.get_obs(), self.get_state()

    def draw_start(self) -> None:
        """Begins an episode, with everything on a cell of its own."""
        size = self.keys.field_size
        cells = self._rng.choice(size**2, self.n_agents + self.keys.foods, replace=False).tolist()
        places = [(cell % size, cell // size) for cell in cells]
        self.players, self.foods = places[: self.n_agents], places[self.n_agents :]
        self.is_there = [True] * self.keys.foods
        self.t = 0

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, Info]:
        actions = [int(action) for action in actions]
        if not all(avail[action] for action, avail in zip(actions, self.get_avail_actions(), strict=True)):
            raise ValueError(f"actions {actions} are not all available")
        self.players = [moved(place, action) for place, action in zip(self.players, actions)]
        picking = [place for place, action in zip(self.players, actions) if action == PICK_UP]
        rewards = [0.0] * self.n_agents
        for k, food in enumerate(self.foods):
            if self.is_there[k] and food in picking:
                self.is_there[k] = False
                for i, action in enumerate(actions):
                    if action == PICK_UP and self.players[i] == food:
                        rewards[i] += self.keys.food_value / picking.count(food)
        self.t += 1
        is_empty = not any(self.is_there)
        is_cut_off = self.t == self.episode_limit and not is_empty
        info = {"food_picked": 1 - sum(self.is_there) / self.keys.foods, "episode_limit": is_cut_off}
        return sum(rewards) if self.common_reward else rewards, is_empty or is_cut_off, info

    def get_obs(self) -> list[np.ndarray]:
        return list(self._see())

    def get_state(self) -> np.ndarray:
        return self._see().ravel()

    def _see(self) -> np.ndarray:
        """Returns what each player sees, [player, feature]."""
        size, width = self.keys.field_size, 2 * self.keys.field_size - 1  # distances: 1 - size .. size - 1
        seen = np.zeros((self.n_agents, self.get_obs_size()), np.float32)
        for i, (x, y) in enumerate(self.players):
            others = [place for j, place in enumerate(self.players) if j != i]
            is_there = [True] * len(others) + self.is_there
            ones = [x, size + y]
            for k, (place, there) in enumerate(zip(others + self.foods, is_there)):
                if there:
                    start = 2 * (size + k * width) + size - 1
                    ones += [start + place[0] - x, start + width + place[1] - y]
            seen[i, ones] = 1
        return seen

    def get_avail_actions(self) -> list[list[int]]:
        inside = range(self.keys.field_size)
        moves = [[moved(place, action) for action in range(PICK_UP)] for place in self.players]
        return [[*(int(x in inside and y in inside) for x, y in own), 1] for own in moves]

    def get_obs_size(self) -> int:
        size = self.keys.field_size
        return 2 * size + 2 * (2 * size - 1) * (self.n_agents - 1 + self.keys.foods)

    def get_state_size(self) -> int:
        return self.n_agents * self.get_obs_size()

    def get_total_actions(self) -> int:
        return PICK_UP + 1


def moved(place: tuple[int, int], action: int) -> tuple[int, int]:
    """Returns where an action takes a player that stands at (x, y)."""
    dx, dy = MOVES[action]
    return place[0] + dx, place[1] + dy
