"""Level-Based Foraging (Papoudakis et al. 2021) from the package `lbforaging`, as one team.

Players walk on a grid and load food beside them; the levels of those who load together must reach the food's level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.package_env import PackageEnv
from utils.config import STEPS, K, M, key
from utils.errors import UserError


class ForagingEnv(PackageEnv):
    """The arguments are the package's; `field_size` is the side of a square, `sight` None the whole field.

    Actions: none, north, south, west, east, load; one that can't be done counts as none. A player's reward is its
    part, by levels, of the food that it loaded, less its penalty; the team's is their sum: with `normalize_reward`, the
    share of all food (by level) that was loaded in this step, less the penalties. An episode ends when no food is left;
    `max_episode_steps` cuts it off.
    """

    @dataclass(frozen=True)
    class Keys(PackageEnv.Keys):
        field_size: int = key(8, "side of the square field", "cells", low=5, high=K)
        players: int = key(2, "agents of the team", "players", low=1, high=20)
        max_num_food: int = key(2, "pieces of food; fewer, where no more find a place two cells apart", low=1, high=K)
        sight: int | None = key(None, "how far a player sees, cells; null: the whole field", "cells", low=1, high=K)
        force_coop: bool = key(True, "every piece of food takes all players (or three of them) to lift")
        max_episode_steps: int = key(50, "the time limit", STEPS, low=1, high=M)
        min_player_level: int = key(1, "a player's lowest level", low=1, high=K)
        max_player_level: int = key(2, "a player's highest level", low=1, high=K)
        min_food_level: int = key(1, "the lowest level of food", low=1, high=K)
        max_food_level: int | None = key(
            None, "the highest level of food; null: the sum of the players' levels (of the lowest three)", low=1, high=K
        )
        observe_agent_levels: bool = key(True, "observe the players' levels")
        normalize_reward: bool = key(True, "the return of an episode in which all food is loaded is 1")
        penalty: float = key(0.0, "subtracted for each player whose attempt to load failed", low=0, high=M)

    n_actions = 6
    package = "lbforaging"
    info_keys = ("food_loaded",)
    """The share of the food, by level, that was loaded in the episode."""

    def __init__(
        self,
        field_size: int = 8,
        players: int = 2,
        max_num_food: int = 2,
        sight: int | None = None,
        force_coop: bool = True,
        max_episode_steps: int = 50,
        min_player_level: int = 1,
        max_player_level: int = 2,
        min_food_level: int = 1,
        max_food_level: int | None = None,
        observe_agent_levels: bool = True,
        normalize_reward: bool = True,
        penalty: float = 0.0,
        seed: int | None = None,
        common_reward: bool = True,
    ):
        super().__init__(seed)
        self.common_reward = common_reward
        for kind, low, high in (
            ("player", min_player_level, max_player_level),
            ("food", min_food_level, max_food_level),
        ):
            if high is not None and low > high:
                raise UserError(
                    f"env_args.min_{kind}_level={low} is above max_{kind}_level={high}; lower it or raise that"
                )
        liftable = min_player_level * min(players, 3)
        if max_food_level is None and not force_coop and min_food_level > liftable:
            raise UserError(
                f"env_args.min_food_level={min_food_level} is above {liftable}, the least that the players may lift; "
                "lower it or give max_food_level"
            )
        self.n_agents = players
        self.episode_limit = max_episode_steps
        self._env = self._import("foraging.environment").ForagingEnv(
            players=players,
            min_player_level=min_player_level,
            max_player_level=max_player_level,
            min_food_level=min_food_level,
            max_food_level=max_food_level,
            field_size=(field_size, field_size),
            max_num_food=max_num_food,
            sight=field_size if sight is None else sight,
            max_episode_steps=max_episode_steps,
            force_coop=force_coop,
            normalize_reward=normalize_reward,
            observe_agent_levels=observe_agent_levels,
            penalty=penalty,
        )
        self._begin(0)

    def _begin(self, seed: int) -> None:
        for player in self._env.players:
            player.position = None  # else where they ended the last episode, nobody would begin this one
        obs, _ = self._env.reset(seed=seed)
        self._obs = np.stack(obs)
        self._food_levels = float(self._env.field.sum())

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, dict[str, Any]]:
        obs, rewards, over, _, _ = self._env.step([int(action) for action in actions])
        self._obs = np.stack(obs)
        left = float(self._env.field.sum())
        info = {"food_loaded": 1 - left / max(self._food_levels, 1), "episode_limit": bool(over and left > 0)}
        return float(sum(rewards)) if self.common_reward else [float(own) for own in rewards], bool(over), info
