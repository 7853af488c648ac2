"""Foraging on a grid (Yu, Jiang and Lu, NeurIPS 2024): players walk to foods and pick them up, each for itself.

The paper gives the grid, the players and the foods; the foods' worth, the time limit and what happens where two players
pick up the same food are readings of this file. Level-Based Foraging is `foraging.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.multiagentenv import Info, SeededEnv
from utils.config import STEPS, K, M, key
from utils.errors import UserError

MOVES = np.array([(0, 1), (0, -1), (-1, 0), (1, 0)])
PICK_UP = len(MOVES)


class GridForaging(SeededEnv):
    """Actions: north, south, west, east, pick up. A move off the grid is not available; to pick up always is.

    Players and foods start on different cells. Players pass through each other and over foods. A food is gone once it
    was picked up on its cell, and those who did so in the same step share `food_value`, the only reward; the team's is
    the sum. An episode ends with the last food.

    A player sees, in shares of the grid, its own place, and of every other player and then of every food how far to the
    east and north it is; behind each food 1, or three zeros where it is gone. The state is what all players see.
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

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        size = self.keys.field_size
        cells = self._rng.choice(size**2, self.n_agents + self.keys.foods, replace=False)
        places = np.stack([cells % size, cells // size], -1)
        self.players, self.foods = places[: self.n_agents], places[self.n_agents :]
        self.is_there = np.ones(self.keys.foods, bool)
        self.t = 0
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, Info]:
        actions = [int(action) for action in actions]
        if not all(avail[action] for action, avail in zip(actions, self.get_avail_actions(), strict=True)):
            raise ValueError(f"actions {actions} are not all available")
        picks = np.array(actions) == PICK_UP
        self.players = self.players + np.array([(0, 0) if action == PICK_UP else MOVES[action] for action in actions])
        on_food = (self.players[:, None] == self.foods).all(-1) & self.is_there  # [player, food]
        picked = on_food & picks[:, None]
        rewards = (self.keys.food_value * picked / picked.sum(0).clip(min=1)).sum(1)
        self.is_there &= ~picked.any(0)
        self.t += 1
        is_empty = not self.is_there.any()
        is_cut_off = self.t == self.episode_limit and not is_empty
        info = {"food_picked": 1 - float(self.is_there.mean()), "episode_limit": is_cut_off}
        return float(rewards.sum()) if self.common_reward else rewards.tolist(), is_empty or is_cut_off, info

    def get_obs(self) -> list[np.ndarray]:
        return list(self._see())

    def get_state(self) -> np.ndarray:
        return self._see().ravel()

    def _see(self) -> np.ndarray:
        """Returns what each player sees, [player, feature]."""
        n, size = self.n_agents, self.keys.field_size
        others = [[j for j in range(n) if j != i] for i in range(n)]
        to_others = (self.players[others] - self.players[:, None]) if n > 1 else np.zeros((n, 0, 2))
        to_foods = self.foods - self.players[:, None]  # [player, food, 2]
        there = np.broadcast_to(self.is_there[:, None], (n, len(self.foods), 1))
        seen_foods = np.concatenate([to_foods / size * there, there], -1)
        parts = (self.players / size, (to_others / size).reshape(n, -1), seen_foods.reshape(n, -1))
        return np.concatenate(parts, -1, dtype=np.float32)

    def get_avail_actions(self) -> list[list[int]]:
        moved = self.players[:, None] + MOVES  # [player, move, 2]
        inside = ((moved >= 0) & (moved < self.keys.field_size)).all(-1)
        return [[*map(int, row), 1] for row in inside]

    def get_obs_size(self) -> int:
        return 2 * self.n_agents + 3 * self.keys.foods

    def get_state_size(self) -> int:
        return self.n_agents * self.get_obs_size()

    def get_total_actions(self) -> int:
        return len(MOVES) + 1
