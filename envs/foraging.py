"""Level-Based Foraging (Papoudakis et al. 2021) from the package `lbforaging`, as one team.

Players walk on a grid and load food beside them; the levels of those who load together must reach the food's level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.multiagentenv import Info
from envs.package_env import PackageEnv
from utils.config import STEPS, K, M, key
from utils.errors import UserError


class ForagingEnv(PackageEnv):
    """The arguments are those of `Keys`, as the package names them, and `common_reward`.

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
        max_food_level: int | None = key(None, "highest; null: the (three lowest) players' sum", low=1, high=K)
        observe_agent_levels: bool = key(True, "observe the players' levels")
        normalize_reward: bool = key(True, "the return of an episode in which all food is loaded is 1")
        penalty: float = key(0.0, "subtracted for each player whose attempt to load failed", low=0, high=M)

    n_actions = 6
    package = "lbforaging"
    info_keys = ("food_loaded",)
    """The share of the food, by level, that was loaded in the episode."""

    def __init__(self, common_reward: bool = True, **env_args: Any):
        keys = self.Keys(**env_args)
        super().__init__(keys.seed)
        self.common_reward = common_reward
        for kind in ("player", "food"):
            low, high = getattr(keys, f"min_{kind}_level"), getattr(keys, f"max_{kind}_level")
            if high is not None and low > high:
                raise UserError(f"env_args.min_{kind}_level={low} is above max_{kind}_level={high}; lower it")
        liftable = keys.min_player_level * min(keys.players, 3)
        if keys.max_food_level is None and not keys.force_coop and keys.min_food_level > liftable:
            raise UserError(
                f"env_args.min_food_level={keys.min_food_level} is above {liftable}, the least that the players may "
                "lift; lower it or give max_food_level"
            )
        self.n_agents = keys.players
        self.episode_limit = keys.max_episode_steps
        given = {**vars(keys), "field_size": (keys.field_size, keys.field_size)}
        given["sight"] = keys.field_size if keys.sight is None else keys.sight
        del given["seed"]
        self._env = self._import("foraging.environment").ForagingEnv(**given)
        self._reset(0)

    def _reset(self, seed: int) -> None:
        for player in self._env.players:
            player.position = None  # else where they ended the last episode, nobody would begin this one
        obs, _ = self._env.reset(seed=seed)
        self._obs = np.stack(obs)
        self._food_levels = float(self._env.field.sum())

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, Info]:
        obs, rewards, over, _, _ = self._env.step([int(action) for action in actions])
        self._obs = np.stack(obs)
        left = float(self._env.field.sum())
        info = {"food_loaded": 1 - left / max(self._food_levels, 1), "episode_limit": bool(over and left > 0)}
        return float(sum(rewards)) if self.common_reward else [float(own) for own in rewards], bool(over), info
