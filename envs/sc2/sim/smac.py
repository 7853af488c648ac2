"""SMAC's `StarCraft2Env` on the embedded engine: one battle, with every method that SMAC's own has.

`env.py` plays the battle; `features.py` writes observations, state and available actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from envs.multiagentenv import MultiAgentEnv, Observations, Outcomes
from envs.sc2.sim import features
from envs.sc2.sim.env import INFO_KEYS, BattleVectorEnv
from envs.sc2.sim.units import unit_data
from utils.errors import UserError

if TYPE_CHECKING:
    from envs.sc2.sim.render import Painter

MIN_UNIT_TYPE = 2000
"""Id of the first of the agents' unit types; the others follow in alphabetical order. In the game, too, these are types
of the map's own with ids beyond all others; which ones, depends on its version. Enemies have the game's own ids."""
DEFAULT_MAX_COOLDOWN = 15


class Direction(IntEnum):
    """Where a unit can move to; the action is 2 more."""

    NORTH = 0
    SOUTH = 1
    EAST = 2
    WEST = 3


STEPS = {Direction.NORTH: (0, 1), Direction.SOUTH: (0, -1), Direction.EAST: (1, 0), Direction.WEST: (-1, 0)}


class Point(NamedTuple):
    x: float
    y: float


class Unit(NamedTuple):
    """One unit as it was when it was asked for, under the names of the game's interface. The dead have no health."""

    tag: int  # from 1, over the units of both sides
    unit_type: int
    pos: Point
    health: float
    health_max: float
    shield: float
    shield_max: float
    energy: float
    weapon_cooldown: float  # game loops until it is ready


class StarCraft2Env(MultiAgentEnv):
    """SMAC's `StarCraft2Env` on the embedded engine, method by method. The arguments are those of `BattleVectorEnv`.

    SMAC's attributes are here, too: sizes, the switches of observations and state, and the grids [x, y].
    """

    info_keys = INFO_KEYS
    n_actions_no_attack = features.N_ACTIONS_NO_ATTACK
    n_actions_move = len(Direction)
    min_unit_type = MIN_UNIT_TYPE
    battle_class: type[BattleVectorEnv] = BattleVectorEnv

    def __init__(self, map_name: str = "8m", *, seed: int | None = None, **env_args: Any):
        self._seed = int(np.random.SeedSequence().entropy % 2**32) if seed is None else seed  # type: ignore[operator]
        self._env_args = {"map_name": map_name, **env_args}
        self.continuing_episode = env_args.get("continuing_episode", False)
        self.battle = self.battle_class([self._seed], **self._env_args)
        self.force_restarts = 0
        sc2_map, layout = self.battle.map, self.battle.layout
        self.map_name, self.map_type = map_name, sc2_map.map_type
        self.n_agents, self.n_enemies, self.n_actions = layout.n_agents, layout.n_enemies, layout.n_actions
        self.episode_limit = layout.episode_limit
        self.unit_type_bits = layout.type_bits
        self.shield_bits_ally, self.shield_bits_enemy = int(layout.ally_has_shield), int(layout.enemy_has_shield)
        self.max_distance_x, self.max_distance_y = layout.max_distance_x, layout.max_distance_y
        self.map_x, self.map_y = sc2_map.pathing.shape
        self.pathing_grid, self.terrain_height = sc2_map.pathing.copy(), sc2_map.heights.copy()
        self.obs_all_health, self.obs_own_health = layout.obs_all_health, layout.obs_own_health
        self.obs_last_action = layout.obs_last_action
        self.obs_pathing_grid, self.obs_terrain_height = layout.obs_pathing_grid, layout.obs_terrain_height
        self.obs_instead_of_state = layout.obs_instead_of_state
        self.obs_timestep_number = layout.obs_timestep_number
        self.state_last_action, self.state_timestep_number = layout.state_last_action, layout.state_timestep_number

        self._type_names = {data["api_id"]: name for name, data in unit_data().items()}
        ally_ids = [MIN_UNIT_TYPE + index for index in sc2_map.ally_type_index]
        self._type_names.update(zip(ally_ids, sc2_map.ally_types))
        self._ally_ids = ally_ids
        self._api_ids = [unit_data()[name]["api_id"] for name in sc2_map.type_names]
        self._seen = Observations.empty(1, self.battle.get_env_info())
        self._outcome = Outcomes.empty(1, INFO_KEYS)
        self._painter: Painter | None = None

    @classmethod
    def vector(cls, seeds: Sequence[int], **env_args: Any) -> BattleVectorEnv:
        return cls.battle_class(seeds, **env_args)

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

    def full_restart(self) -> None:
        """Launches the battle anew from its seed, which SMAC does when the game has crashed; `reset` must follow."""
        before, self.battle = self.battle, self.battle_class([self._seed], **self._env_args)
        self.battle.counts = before.counts
        if before.enemies is not None:
            self.battle.seat_enemies(before.enemies.sources)
        self.force_restarts += 1

    def state_dict(self) -> dict[str, Any]:
        return self.battle.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.battle.load_state_dict(state)

    def seed(self) -> int:
        return self._seed

    def save_replay(self) -> list[Path]:
        """Writes the last episode as a replay and as an animated GIF; gives both files."""
        return self.battle.save_replay()

    def render(self, mode: str = "human") -> np.ndarray:
        """A picture of the battle, uint8 [height, width, 3], with the shots since the last picture.

        Raises: UserError for any mode but "rgb_array".
        """
        if mode != "rgb_array":
            raise UserError(
                f"the embedded engine has no window for mode {mode!r}; "
                'take a picture with render(mode="rgb_array") or a film with save_replay()'
            )
        from envs.sc2.sim.render import Painter

        if self._painter is None:
            self._painter = Painter(self.battle.map)
        return np.array(self._painter.draw(self.battle))

    # -------------------------------------------------------------------------------------------- what is seen

    def get_obs(self) -> list[np.ndarray]:
        return list(self._seen.obs[0].copy())

    def get_state(self) -> np.ndarray:
        return self._seen.state[0].copy()

    def get_state_dict(self) -> dict[str, Any]:
        """The state in parts: "allies" [agent, feature], "enemies" [enemy, feature] and, as the options have it,
        "last_action" [agent, action] and "timestep" (0..1). `get_env_info` names the features."""
        battle, layout = self.battle, self.battle.layout
        n_ally_values = self.n_agents * layout.ally_state_features
        state = np.zeros((1, n_ally_values + self.n_enemies * layout.enemy_state_features), np.float32)
        only_units = layout._replace(obs_instead_of_state=False, state_last_action=False, state_timestep_number=False)
        features.observe(
            battle.units, battle.last_actions, battle.episode_steps, np.ones(1, bool), only_units, battle.map.pathing,
            battle.map.heights, self._seen.obs.copy(), state, self._seen.avail_actions.copy(),
        )  # fmt: skip
        parts: dict[str, Any] = {
            "allies": state[0, :n_ally_values].reshape(self.n_agents, -1),
            "enemies": state[0, n_ally_values:].reshape(self.n_enemies, -1),
        }
        if self.state_last_action:
            parts["last_action"] = self.last_action
        if self.state_timestep_number:
            parts["timestep"] = float(battle.episode_steps[0] / self.episode_limit)
        return parts

    def get_avail_actions(self) -> list[list[int]]:
        return self._seen.avail_actions[0].tolist()

    @property
    def last_action(self) -> np.ndarray:
        """[agent, action]: the actions of the last step as one-hots, all zero before the first."""
        return (self.battle.last_actions[0][:, None] == np.arange(self.n_actions)).astype(np.float32)

    def get_visibility_matrix(self) -> np.ndarray:
        """bool [agent, agent + enemy]: who is alive and within sight of whom; False on the diagonal."""
        units = self.battle.units[0]
        distance = np.hypot(units["x"][:, None] - units["x"], units["y"][:, None] - units["y"])
        alive = units["health"] > 0
        visible = (distance < features.SIGHT_RANGE) & alive & alive[:, None]
        np.fill_diagonal(visible, False)
        return visible[: self.n_agents]

    # -------------------------------------------------------------------------------------------- sizes and counts

    def get_env_info(self) -> dict[str, Any]:
        return self.battle.get_env_info()

    def get_total_actions(self) -> int:
        return self.n_actions

    def get_obs_size(self) -> int:
        return self.battle.layout.obs_size

    def get_obs_move_feats_size(self) -> int:
        return len(Direction) + 8 * self.obs_pathing_grid + 9 * self.obs_terrain_height

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """(enemies, features of each)"""
        return self.n_enemies, self.battle.layout.enemy_features

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """(allies, features of each)"""
        return self.n_agents - 1, self.battle.layout.ally_features

    def get_obs_own_feats_size(self) -> int:
        """What follows the features of the others; both columns of `obs_timestep_number` are among it."""
        layout = self.battle.layout
        others = self.n_enemies * layout.enemy_features + (self.n_agents - 1) * layout.ally_features
        return layout.obs_size - self.get_obs_move_feats_size() - others

    def get_state_size(self) -> int:
        return self.battle.layout.state_size

    def get_ally_num_attributes(self) -> int:
        """Columns of an ally in the state."""
        return self.battle.layout.ally_state_features

    def get_enemy_num_attributes(self) -> int:
        return self.battle.layout.enemy_state_features

    def get_stats(self) -> dict[str, float]:
        return {**self.battle.get_stats()[0], "restarts": self.force_restarts}

    @property
    def battles_won(self) -> int:
        return int(self.battle.counts[0, 0])

    @property
    def battles_game(self) -> int:
        """Battles that have ended."""
        return int(self.battle.counts[0, 1])

    @property
    def timeouts(self) -> int:
        return int(self.battle.counts[0, 2])

    # -------------------------------------------------------------------------------------------- units

    @property
    def agents(self) -> dict[int, Unit]:
        """The agents' units by agent id."""
        return {i: self._unit(i) for i in range(self.n_agents)}

    @property
    def enemies(self) -> dict[int, Unit]:
        """By the number that an attack names them with."""
        return {k: self._unit(self.n_agents + k) for k in range(self.n_enemies)}

    def get_unit_by_id(self, a_id: int) -> Unit:
        return self.agents[a_id]

    def _unit(self, index: int) -> Unit:
        unit, unit_type = self.battle.units[0, index], self.get_unit_types()[index]
        return Unit(
            tag=index + 1,
            unit_type=unit_type,
            pos=Point(float(unit["x"]), float(unit["y"])),
            health=float(unit["health"]),
            health_max=float(unit["health_max"]),
            shield=float(unit["shield"]),
            shield_max=float(unit_data()[self._type_names[unit_type]]["shield"]),
            energy=float(unit["energy"]),
            weapon_cooldown=max(float(unit["cooldown"]), 0.0),
        )

    def get_unit_types(self) -> list[int]:
        """The type ids of all units, agents first."""
        enemies = self.battle.units["type"][0, len(self._ally_ids) :]  # in the order of this episode's list
        return self._ally_ids + [self._api_ids[index] for index in enemies]

    def unit_shoot_range(self, agent_id: int) -> float:
        """How near a target must be for its action to be available; the same for all, whatever their weapons."""
        return features.SHOOT_RANGE

    def unit_sight_range(self, agent_id: int) -> float:
        return features.SIGHT_RANGE

    def unit_max_cooldown(self, unit: Unit) -> int:
        """What the state divides cooldowns (of medivacs, energy) by. SMAC knows the agents' types only."""
        if unit.unit_type < self.min_unit_type:
            return DEFAULT_MAX_COOLDOWN
        return unit_data()[self._type_names[unit.unit_type]]["smac_unit_max_cooldown_allied"]

    def unit_max_shield(self, unit: Unit) -> float | None:
        """None where its type has no shield."""
        return unit_data()[self._type_names[unit.unit_type]]["shield"] or None

    # -------------------------------------------------------------------------------------------- ground

    def check_bounds(self, x: float, y: float) -> bool:
        """Whether the point is on the map."""
        return 0 <= x < self.map_x and 0 <= y < self.map_y

    def can_move(self, unit: Unit, direction: int) -> bool:
        """Whether the ground half a move ahead can be walked on; other units are no hindrance.

        Raises: ValueError where `direction` is none of `Direction`.
        """
        east, north = STEPS[Direction(direction)]
        ahead = self.battle.move_amount / 2
        x, y = int(unit.pos.x + east * ahead), int(unit.pos.y + north * ahead)
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def get_surrounding_points(self, unit: Unit, include_self: bool = False) -> list[tuple[int, int]]:
        """Two moves to the north, south, east and west, one move to the north-east, south-west, south-east and
        north-west, and on request where the unit is."""
        x, y, m = int(unit.pos.x), int(unit.pos.y), int(self.battle.move_amount)
        points = [
            (x, y + 2 * m), (x, y - 2 * m), (x + 2 * m, y), (x - 2 * m, y),
            (x + m, y + m), (x - m, y - m), (x + m, y - m), (x - m, y + m),
        ]  # fmt: skip
        return [*points, (x, y)] if include_self else points

    def get_surrounding_pathing(self, unit: Unit) -> list[bool]:
        """Of the eight points; True outside the map."""
        points = self.get_surrounding_points(unit)
        return [bool(self.pathing_grid[point]) if self.check_bounds(*point) else True for point in points]

    def get_surrounding_height(self, unit: Unit) -> list[float]:
        """Of the eight points and the unit's own, 0..1; 1 outside the map."""
        points = self.get_surrounding_points(unit, include_self=True)
        return [float(self.terrain_height[point]) if self.check_bounds(*point) else 1.0 for point in points]
