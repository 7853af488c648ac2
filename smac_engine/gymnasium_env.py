"""Battles for Gymnasium: `Battle` is one, `BattleVector` many that are played at once.

One learner acts for the whole team: actions [agent], observations of all agents, the state for a critic, and masks.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiDiscrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.render import Painter

Seen = dict[str, np.ndarray]


class BattleVector(gymnasium.vector.VectorEnv):
    """`num_envs` battles on one map. `env_args` are the arguments of `BattleVectorEnv`, such as `n_threads`.

    Observations are dicts of `obs` float32 [batch, agent, obs_shape], `state` float32 [batch, state_shape] and
    `action_mask` int8 [batch, agent, n_actions]; actions are [batch, agent]. An action that is not available counts as
    the agent's first one that is: stop, or nothing for the dead. A battle that has ended begins anew with the next
    step, whose action and reward (0) mean nothing (Gymnasium's `NEXT_STEP`). `infos` has `battle_won`, `dead_allies`
    and `dead_enemies`.

    `reset(seed=s)` seeds battle i with s + i.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}

    _over: np.ndarray  # [batch] bool, the battles that begin anew with the next step

    def __init__(self, map_name: str = "8m", num_envs: int = 1, **env_args: Any):
        self.num_envs = num_envs
        self._env_args = {**env_args, "map_name": map_name}
        self._begin([int(seed) for seed in np.random.SeedSequence().generate_state(num_envs)])
        sizes = self._battles.get_env_info()
        n_agents, n_actions = sizes["n_agents"], sizes["n_actions"]
        self.single_observation_space = Dict(
            {
                "obs": Box(-np.inf, np.inf, (n_agents, sizes["obs_shape"]), np.float32),
                "state": Box(-np.inf, np.inf, (sizes["state_shape"],), np.float32),
                "action_mask": Box(0, 1, (n_agents, n_actions), np.int8),
            }
        )
        self.single_action_space = MultiDiscrete([n_actions] * n_agents)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Seen, dict[str, Any]]:
        """Begins a battle in all worlds; returns (observations, infos). `options` has no meaning here."""
        if seed is not None:
            self._begin([seed + i for i in range(self.num_envs)])
        self._battles.reset(self._seen)
        self._over[:] = False
        return self._look(), {}

    def step(self, actions: np.ndarray) -> tuple[Seen, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Returns (observations, rewards [batch], terminations [batch], truncations [batch], infos)."""
        begins, plays, outcomes = self._over.copy(), ~self._over, self._outcomes
        allowed = np.take_along_axis(self._seen.avail_actions, np.asarray(actions, np.int64)[..., None], 2)[..., 0]
        chosen = np.where(allowed, actions, self._seen.avail_actions.argmax(2))
        for array in (outcomes.reward, outcomes.terminated, outcomes.truncated, *outcomes.info.values()):
            array[begins] = 0
        if plays.any():
            self._battles.step(chosen, self._seen, outcomes, plays)
        if begins.any():
            self._battles.reset(self._seen, begins)
        self._over = outcomes.terminated | outcomes.truncated
        infos = {name: values.copy() for name, values in outcomes.info.items()}
        infos |= {f"_{name}": plays.copy() for name in outcomes.info}
        ends = outcomes.terminated.copy(), outcomes.truncated.copy()
        return self._look(), outcomes.reward.astype(np.float64), *ends, infos

    def _begin(self, seeds: list[int]) -> None:
        self._battles = BattleVectorEnv(seeds, **self._env_args)
        self._seen = Observations.empty(self.num_envs, self._battles.get_env_info())
        self._outcomes = Outcomes.empty(self.num_envs, self._battles.info_keys)
        self._over = np.zeros(self.num_envs, bool)

    def _look(self) -> Seen:
        masks = self._seen.avail_actions.astype(np.int8)
        return {"obs": self._seen.obs.copy(), "state": self._seen.state.copy(), "action_mask": masks}


class Battle(gymnasium.Env):
    """One battle, with the spaces of a world of `BattleVector`. It is to be reset when it has ended."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, map_name: str = "8m", render_mode: str | None = None, **env_args: Any):
        self._world = BattleVector(map_name, **env_args)
        self.render_mode = render_mode
        self.observation_space = self._world.single_observation_space
        self.action_space = self._world.single_action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Seen, dict[str, Any]]:
        super().reset(seed=seed)
        seen, _ = self._world.reset(seed=seed)
        return {name: array[0] for name, array in seen.items()}, {}

    def step(self, action: np.ndarray) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        seen, rewards, terminations, truncations, infos = self._world.step(np.asarray(action)[None])
        info = {name: float(values[0]) for name, values in infos.items() if not name.startswith("_")}
        first = {name: array[0] for name, array in seen.items()}
        return first, float(rewards[0]), bool(terminations[0]), bool(truncations[0]), info

    def render(self) -> np.ndarray | None:
        if self.render_mode is None:
            return None
        return np.array(Painter(self._world._battles.map).draw(self._world._battles))
