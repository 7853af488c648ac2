"""SMAC's `StarCraft2Env` on the embedded engine: one battle, with every method that SMAC's own has.

`env.py` plays the battle; `features.py` writes observations, state and available actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.multiagentenv import MultiAgentEnv, Observations, Outcomes
from envs.sc2.sim import features
from envs.sc2.sim.env import INFO_KEYS, BattleVectorEnv


class StarCraft2Env(MultiAgentEnv):
    """SMAC's `StarCraft2Env` on the embedded engine, method by method. The arguments are those of `BattleVectorEnv`."""

    info_keys = INFO_KEYS

    def __init__(self, seed: int | None = None, **env_args: Any):
        self._seed = int(np.random.SeedSequence().entropy % 2**32) if seed is None else seed  # type: ignore[operator]
        self.continuing_episode = env_args.get("continuing_episode", False)
        self.battle = BattleVectorEnv([self._seed], **env_args)
        self.n_agents = self.battle.map.n_agents
        self.n_enemies = self.battle.map.n_enemies
        self.n_actions = self.battle.layout.n_actions
        self.episode_limit = self.battle.map.episode_limit
        self._seen = Observations.empty(1, self.battle.get_env_info())
        self._outcome = Outcomes.empty(1, INFO_KEYS)

    @classmethod
    def vector(cls, seeds: Sequence[int], **env_args: Any) -> BattleVectorEnv:
        return BattleVectorEnv(seeds, **env_args)

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.battle.reset(self._seen)
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float, bool, dict[str, Any]]:
        """Raises: ValueError where an action is not available."""
        self.battle.step(np.asarray(actions, np.int64)[None], self._seen, self._outcome)
        if self.battle.heuristic_ai and isinstance(actions, list):
            actions[:] = self.battle._commands[0].tolist()  # SMAC overwrites the list that it was given
        info: dict[str, Any] = {
            "battle_won": bool(self._outcome.info["battle_won"][0]),
            "dead_allies": int(self._outcome.info["dead_allies"][0]),
            "dead_enemies": int(self._outcome.info["dead_enemies"][0]),
        }
        truncated = bool(self._outcome.truncated[0])
        if truncated and self.continuing_episode:
            info["episode_limit"] = True
        return float(self.battle._reward[0]), bool(self._outcome.terminated[0]) or truncated, info

    def get_obs(self) -> list[np.ndarray]:
        return list(self._seen.obs[0].copy())

    def get_state(self) -> np.ndarray:
        return self._seen.state[0].copy()

    def get_avail_actions(self) -> list[list[int]]:
        return self._seen.avail_actions[0].tolist()

    def get_obs_size(self) -> int:
        return self.battle.layout.obs_size

    def get_state_size(self) -> int:
        return self.battle.layout.state_size

    def get_total_actions(self) -> int:
        return self.n_actions

    def get_env_info(self) -> dict[str, Any]:
        return self.battle.get_env_info()

    def get_stats(self) -> dict[str, float]:
        return self.battle.get_stats()[0]

    def get_visibility_matrix(self) -> np.ndarray:
        """bool [agent, agent + enemy]: who is alive and within sight of whom; False on the diagonal."""
        units = self.battle.units[0]
        distance = np.hypot(units["x"][:, None] - units["x"], units["y"][:, None] - units["y"])
        alive = units["health"] > 0
        visible = (distance < features.SIGHT_RANGE) & alive & alive[:, None]
        np.fill_diagonal(visible, False)
        return visible[: self.n_agents]

    def seed(self) -> int:
        return self._seed
