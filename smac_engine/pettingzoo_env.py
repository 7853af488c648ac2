"""One battle as a PettingZoo parallel environment."""

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from pettingzoo import ParallelEnv

from envs.sc2.sim.features import RUNNING
from envs.sc2.sim.smac import StarCraft2Env


class BattleParallelEnv(ParallelEnv):
    """Agents `agent_0`, ... see dicts of `observation` float32 [obs_shape] and `action_mask` int8 [n_actions].

    All stay until the battle ends; the dead have one action, 0, and see zeros. The reward is the team's and each agent
    gets it. A victory or a defeat terminates, the time limit truncates; `info[agent]` says then whether the battle was
    won. `state()` is for training only.

    `reset(seed=...)` starts the sequence of battles that this seed means; without a seed the next battle follows.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "smac_engine", "render_modes": ["rgb_array"]}

    def __init__(self, map_name: str = "8m", render_mode: str | None = None, **env_args: Any):
        self._env_args = {**env_args, "map_name": map_name}
        self.render_mode = render_mode
        self._battle = StarCraft2Env(**self._env_args)
        self._is_over = True
        battle = self._battle
        self.possible_agents = [f"agent_{i}" for i in range(battle.n_agents)]
        self.agents: list[str] = []
        self.state_space = Box(-np.inf, np.inf, (battle.get_state_size(),), np.float32)
        self._observation_spaces = {
            name: Dict(
                {
                    "observation": Box(-np.inf, np.inf, (battle.get_obs_size(),), np.float32),
                    "action_mask": Box(0, 1, (battle.n_actions,), np.int8),
                }
            )
            for name in self.possible_agents
        }
        self._action_spaces = {name: Discrete(battle.n_actions) for name in self.possible_agents}

    def observation_space(self, agent: str) -> Space:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Space:
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts a battle; returns (observations, infos). `options` has no meaning here."""
        if seed is not None:
            self._battle = StarCraft2Env(seed=seed, **self._env_args)
        self._battle.reset()
        self.agents = self.possible_agents[:]
        return self._see(), {name: {} for name in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict[str, float], dict[str, bool], dict[str, bool], dict]:
        """Raises: ValueError where an action is missing or not available, and before the first `reset`."""
        if not self.agents:
            raise ValueError("no battle is running; call reset() first")
        if missing := [name for name in self.agents if name not in actions]:
            raise ValueError(f"step needs an action for every agent; {', '.join(missing)} have none")
        battle = self._battle
        reward, over, info = battle.step([int(actions[name]) for name in self.agents])
        terminated = bool(battle.battle.result[0] != RUNNING)
        names = self.agents
        if over:
            self.agents = []
        return (
            self._see(names),
            dict.fromkeys(names, reward),
            dict.fromkeys(names, terminated),
            dict.fromkeys(names, over and not terminated),
            {name: dict(info) for name in names},
        )

    def state(self) -> np.ndarray:
        return self._battle.get_state()

    def render(self) -> np.ndarray | None:
        return self._battle.render(mode=self.render_mode) if self.render_mode else None

    def close(self) -> None:
        self._battle.close()

    def _see(self, names: list[str] | None = None) -> dict[str, Any]:
        obs = self._battle.get_obs()
        masks = np.array(self._battle.get_avail_actions(), np.int8)
        return {name: {"observation": obs[i], "action_mask": masks[i]} for i, name in enumerate(names or self.agents)}
