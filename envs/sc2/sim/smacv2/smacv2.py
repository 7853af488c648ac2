"""SMACv2's `StarCraft2Env` on the embedded engine: one battle, with every method that SMACv2's own has.

`env.py` plays the battle; `features.py` writes observations, state and available actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.sc2.sim import smac
from envs.sc2.sim.features import N_ACTIONS_NO_ATTACK
from envs.sc2.sim.maps import AGENT_TYPE_ORDER
from envs.sc2.sim.smacv2.env import BattleVectorEnv, visibility
from envs.sc2.sim.smacv2.layout import obs_feature_names, sizes_of, state_feature_names
from envs.sc2.sim.units import unit_data

AGENT_TYPES = tuple(name for name in AGENT_TYPE_ORDER if name != "SpineCrawler")
"""SMACv2's map has types of its own for these, in this order; of their ids the first is FIRST_UNIT_TYPE."""
FIRST_UNIT_TYPE = 1970
"""Id of the first of the agents' unit types, in the alphabetical order of all nine, in version 4.10 of the game."""


class StarCraft2Env(smac.StarCraft2Env):
    """SMACv2's `StarCraft2Env`, and the wrapper around it, on the embedded engine; arguments: `BattleVectorEnv`.

    The agents look once per step, and what they saw is kept: `get_obs` returns it however often it is asked.
    """

    min_unit_type = FIRST_UNIT_TYPE
    battle_class = BattleVectorEnv
    battle: BattleVectorEnv

    def __init__(self, map_name: str = "terran_5_vs_5", *, seed: int | None = None, **env_args: Any):
        super().__init__(map_name, seed=seed, **env_args)
        self.n_actions_no_attack = N_ACTIONS_NO_ATTACK + self.battle.switches.n_directions
        self.n_fov_actions = self.battle.switches.n_directions
        self.conic_fov = self.n_fov_actions > 0
        self.sizes = sizes_of(self.battle.map, self.battle.capabilities, self.battle.options)
        self._type_names |= {FIRST_UNIT_TYPE + index: name for index, name in enumerate(AGENT_TYPES)}

    def full_restart(self) -> None:
        max_reward = self.battle.max_reward
        super().full_restart()
        self.battle.max_reward = max_reward

    # -------------------------------------------------------------------------------------------- what is seen

    def get_state_dict(self) -> dict[str, Any]:
        state, layout = self.get_state(), self.battle.layout
        n_ally_values = self.n_agents * layout.ally_state_features
        n_values = n_ally_values + self.n_enemies * layout.enemy_state_features
        parts: dict[str, Any] = {
            "allies": state[:n_ally_values].reshape(self.n_agents, -1),
            "enemies": state[n_ally_values:n_values].reshape(self.n_enemies, -1),
        }
        if self.state_last_action:
            parts["last_action"] = self.last_action
        if self.state_timestep_number:
            parts["timestep"] = float(self.battle.episode_steps[0] / self.episode_limit)
        return parts

    def get_true_avail_agent_actions(self, agent_id: int) -> list[int]:
        """Returns what is available to an agent with `action_mask` on: of the targets only those in reach."""
        available = self._seen.avail_actions[0, agent_id].copy()
        in_reach = self.battle.episode.can_target[0, agent_id]
        n_targets = self.n_actions - self.n_actions_no_attack
        available[self.n_actions_no_attack :] = in_reach[:n_targets]
        return available.tolist()

    def get_visibility_matrix(self) -> np.ndarray:
        return visibility(self.battle.units[0], self.n_agents, self.battle.sight)

    def get_capabilities(self) -> np.ndarray:
        """Returns the capabilities of all agents joined, float32, of the dead, too."""
        return self.battle.capabilities_of(0).ravel()

    def get_capabilities_agent(self, agent_id: int) -> np.ndarray:
        return self.battle.capabilities_of(0)[agent_id]

    def get_obs_feature_names(self) -> list[str]:
        """Returns names of the columns of the first agent's observation."""
        return obs_feature_names(self.battle.layout, self.battle.switches)

    def get_state_feature_names(self) -> list[str]:
        return state_feature_names(self.battle.layout, self.battle.switches)

    # -------------------------------------------------------------------------------------------- sizes

    def get_cap_size(self) -> int:
        """Returns the size of one agent's capabilities."""
        return self.sizes.capability

    def get_obs_own_feats_size(self) -> int:
        return self.sizes.own

    # -------------------------------------------------------------------------------------------- units

    def get_unit_types(self) -> list[int]:
        """The type ids of all units of this episode, agents first."""
        names = [self.battle.map.type_names[index] for index in self.battle.units["type"][0]]
        agents = [FIRST_UNIT_TYPE + AGENT_TYPES.index(name) for name in names[: self.n_agents]]
        return agents + [unit_data()[name]["api_id"] for name in names[self.n_agents :]]

    def unit_shoot_range(self, agent_id: int) -> float:
        return float(self.battle.reach[self.battle.units["type"][0, agent_id]])

    def unit_sight_range(self, agent_id: int) -> float:
        return float(self.battle.sight[self.battle.units["type"][0, agent_id]])
