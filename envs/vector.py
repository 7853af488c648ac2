"""`VectorEnv` over any `MultiAgentEnv`: the worlds live in this process and are stepped one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.multiagentenv import MultiAgentEnv, Observations, Outcomes, VectorEnv


class SerialVectorEnv(VectorEnv):
    """Plays the given worlds, which must have equal sizes, in turn."""

    def __init__(self, envs: Sequence[MultiAgentEnv]):
        self.envs = list(envs)
        self.n_envs = len(self.envs)
        self.info_keys = self.envs[0].info_keys

    def get_env_info(self) -> dict[str, Any]:
        return self.envs[0].get_env_info()

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        for i in self._chosen(worlds):
            obs, state = self.envs[i].reset()
            self._write(i, observations, obs, state)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        for i in self._chosen(worlds):
            env = self.envs[i]
            reward, over, info = env.step(actions[i])
            truncated = bool(over and info.get("episode_limit", False))
            outcomes.reward[i] = reward
            outcomes.terminated[i] = over and not truncated
            outcomes.truncated[i] = truncated
            for key in self.info_keys:
                outcomes.info[key][i] = float(info.get(key, 0))
            self._write(i, observations, env.get_obs(), env.get_state())

    def get_stats(self) -> list[dict[str, float]]:
        return [env.get_stats() for env in self.envs]

    def state_dict(self) -> dict[str, Any] | None:
        states = [env.state_dict() for env in self.envs]
        return None if None in states else {"worlds": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for env, world in zip(self.envs, state["worlds"], strict=True):
            env.load_state_dict(world)

    @property
    def keeps_replays(self) -> bool:
        return self.envs[0].keeps_replays

    def save_replay(self) -> Any:
        return self.envs[0].save_replay()

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _chosen(self, worlds: np.ndarray | None) -> Sequence[int]:
        return range(self.n_envs) if worlds is None else np.flatnonzero(worlds).tolist()

    def _write(self, i: int, observations: Observations, obs: Sequence[np.ndarray], state: np.ndarray) -> None:
        observations.obs[i] = obs
        observations.state[i] = state
        observations.avail_actions[i] = self.envs[i].get_avail_actions()
