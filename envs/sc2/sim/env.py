"""SMAC's environment on the embedded engine: `BattleVectorEnv` plays B battles at once; `smac.py` has the single one.

A step gives orders and plays `step_mul` loops (`dynamics.py`), settles rewards and ends, and writes what is seen next
(`features.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import set_num_threads

from envs.multiagentenv import Observations, Outcomes, VectorEnv
from envs.sc2 import own_maps
from envs.sc2.enemies import BOT, check_enemies
from envs.sc2.sim import creation, dynamics, features, heuristic, records, targets
from envs.sc2.sim.enemies import Enemies, EnemySource
from envs.sc2.sim.maps import MAP_NAMES, SC2Map, Start, get_map, is_map_file, starts
from envs.sc2.sim.movement import N_ROWS, n_columns
from envs.sc2.sim.paths import find_ways
from envs.sc2.sim.rules import ENGINE_VERSION, Rules
from envs.sc2.sim.units import BEAMS, planes, unit_data, unit_types
from utils.config import Key
from utils.files import fitted

INFO_KEYS = ("battle_won", "dead_allies", "dead_enemies")
BATTLES_PER_THREAD = 4  # at least
REGENERATIONS = ("health_regeneration", "shield_regeneration", "energy_regeneration")


class Moment(NamedTuple):
    """What a recorded state tells of the units of some battles; agents first, enemies as they are listed."""

    x: np.ndarray  # [batch, unit]
    y: np.ndarray
    health: np.ndarray  # 0: dead
    shield: np.ndarray
    cooldown: np.ndarray  # [batch, agent], loops


class Cone(NamedTuple):
    """A field of view: from the place of a unit, this far, to both sides of a direction, in radians."""

    unit: int
    reach: float
    direction: float
    half_angle: float


class BattleVectorEnv(VectorEnv):
    """B battles on one map, battle i seeded by `seeds[i]`. The other arguments are those of SMAC's `StarCraft2Env`.

    `n_threads` above one spreads the battles over threads; the battles are the same whatever it is.

    Raises: ValueError where the map or a rule is not known.
    """

    info_keys = INFO_KEYS
    enemies: Enemies | None = None
    """Who plays the enemies; None: a bot in all episodes."""

    def __init__(
        self,
        seeds: Sequence[int],
        map_name: str | Mapping[str, Any] = "8m",
        step_mul: int = 8,
        move_amount: float = 2,
        continuing_episode: bool = False,
        heuristic_ai: bool = False,
        heuristic_rest: bool = False,
        rules: Mapping[str, Any] | Rules = Rules(),  # noqa: B008 (immutable)
        n_threads: int = 1,
        enemy: str | Sequence[str] = BOT,
        test_enemies: Sequence[str] | None = None,
        obs_all_health: bool = True,
        obs_own_health: bool = True,
        obs_last_action: bool = False,
        obs_pathing_grid: bool = False,
        obs_terrain_height: bool = False,
        obs_instead_of_state: bool = False,
        obs_timestep_number: bool = False,
        state_last_action: bool = True,
        state_timestep_number: bool = False,
        reward_sparse: bool = False,
        reward_only_positive: bool = True,
        reward_death_value: float = 10,
        reward_win: float = 200,
        reward_defeat: float = 0,
        reward_negative_scale: float = 0.5,
        reward_scale: bool = True,
        reward_scale_rate: float = 20,
        # SMAC's arguments that only the real game heeds
        difficulty: str = "7",
        game_version: str | None = None,
        replay_dir: str = "",
        replay_prefix: str = "",
        window_size_x: int = 1920,
        window_size_y: int = 1200,
        debug: bool = False,
    ):
        sc2_map = find_map(map_name)
        options: dict[str, Any] = {
            "move_amount": float(move_amount),
            "obs_all_health": obs_all_health,
            "obs_own_health": obs_own_health,
            "obs_last_action": obs_last_action,
            "obs_pathing_grid": obs_pathing_grid,
            "obs_terrain_height": obs_terrain_height,
            "obs_instead_of_state": obs_instead_of_state,
            "obs_timestep_number": obs_timestep_number,
            "state_last_action": state_last_action,
            "state_timestep_number": state_timestep_number,
            "reward_sparse": reward_sparse,
            "reward_only_positive": reward_only_positive,
            "reward_death_value": reward_death_value,
            "reward_win": reward_win,
            "reward_defeat": reward_defeat,
            "reward_negative_scale": reward_negative_scale,
            "reward_scale": reward_scale,
            "reward_scale_rate": reward_scale_rate,
        }
        layout = make_layout(sc2_map, **options)
        self._set_up(
            seeds, sc2_map, layout, rules, step_mul, move_amount, heuristic_ai, heuristic_rest, n_threads,
            replay_dir, replay_prefix,
        )  # fmt: skip
        if check_enemies(enemy, test_enemies):
            other = sc2_map.from_other_side()
            layout = make_layout(other, **options)
            self._choose_enemies(Enemies(self.n_envs, enemy, test_enemies, other, layout, self.types))

    def _set_up(
        self,
        seeds: Sequence[int],
        sc2_map: SC2Map,
        layout: features.Layout,
        rules: Mapping[str, Any] | Rules,
        step_mul: int,
        move_amount: float,
        heuristic_ai: bool,
        heuristic_rest: bool,
        n_threads: int,
        replay_dir: str,
        replay_prefix: str,
    ) -> None:
        """Makes all that a battle consists of, for one world per seed. Raises: ValueError where a rule is not known."""
        unknown = set(rules) - set(Rules._fields) if isinstance(rules, Mapping) else set()
        if unknown:
            raise ValueError(f"unknown rules {sorted(unknown)}; the engine's are {', '.join(Rules._fields)}")
        self.map, self.layout = sc2_map, layout
        self.rules = rules if isinstance(rules, Rules) else Rules(**rules)
        self.n_envs = len(seeds)
        self.step_mul, self.move_amount = step_mul, float(move_amount)
        self.heuristic_ai, self.heuristic_rest = heuristic_ai, heuristic_rest
        self.replay_dir, self.replay_prefix = replay_dir, replay_prefix
        self.n_threads = n_threads
        type_names = self.map.type_names
        self.types = unit_types(type_names)
        self._cells, self._ways = find_ways(self.map.pathing)
        self._battle = records.Battle(
            n_agents=self.map.n_agents,
            scan_period_loops=self.rules.scan_period_loops,
            regenerates=any(self.types[name].any() for name in REGENERATIONS),
            passing_side=1 if self.rules.passing_side == "left" else -1,
            has_ways=self._ways.size > 0,
        )
        self._segment = np.array(self.map.enemy_order.get("segment", np.zeros((2, 2))))
        self._fresh_units, self._chances = fresh_units(self.map, type_names)
        self._creation_types = creation.Types.of(type_names)

        n_units = self.map.n_agents + self.map.n_enemies
        self.units = np.tile(self._fresh_units[0], (self.n_envs, 1))
        self.effects = np.zeros((self.n_envs, most_effects(self.map)), records.EFFECT)
        self.n_effects = np.zeros((self.n_envs, 1), np.int64)
        self.loops = np.zeros(self.n_envs, np.int64)
        self.episode_steps = np.zeros(self.n_envs, np.int64)
        self.last_actions = np.full((self.n_envs, self.map.n_agents), -1, np.int64)
        self.result = np.zeros(self.n_envs, np.int64)
        self.counts = np.zeros((self.n_envs, 3), np.int64)  # battles won, battles played, time-outs
        self._sequences = np.tile(np.arange(n_units), (self.n_envs, 1))
        self._places = np.zeros((self.n_envs, N_ROWS, n_columns(n_units)))
        self._near = np.zeros((self.n_envs, 2 * n_units), np.int64)
        self._random = np.array([np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] for seed in seeds])
        self._previous = np.zeros((self.n_envs, n_units))
        self._reward = np.zeros(self.n_envs)
        self._targets = np.full((self.n_envs, self.map.n_agents), -1, np.int64)
        self._avail_actions = np.zeros((self.n_envs, self.map.n_agents, self.layout.n_actions), np.uint8)
        self._commands = np.zeros((self.n_envs, self.map.n_agents), np.int64)
        self._all_worlds = np.ones(self.n_envs, bool)
        # all that the first battle's current episode depends on, for `replay.py`
        self.recorded_random = self._random[0]  # before its reset
        self.recorded_actions: list[np.ndarray] = []  # of each step, [agent]

    def _choose_enemies(self, enemies: Enemies) -> None:
        self.enemies, self.enemy_info, self.test_enemy_names = enemies, enemies.env_info, enemies.test_names
        self.enemy_names = tuple(dict.fromkeys((*enemies.names, *enemies.test_names)))

    def get_env_info(self) -> dict[str, Any]:
        return {
            "state_shape": self.layout.state_size,
            "obs_shape": self.layout.obs_size,
            "n_actions": self.layout.n_actions,
            "n_agents": self.map.n_agents,
            "episode_limit": self.map.episode_limit,
            "engine_version": ENGINE_VERSION,
            **attribute_names(self.layout),
        }

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        worlds = self._all_worlds if worlds is None else worlds
        if self.enemies is not None:
            self.enemies.deal(worlds, self._random, self.test_mode)
        if worlds[0]:
            self.recorded_random, self.recorded_actions = self._random[0], []
        self._create_units(worlds)
        if self.enemies is not None:
            self.enemies.begin(self.units, worlds)
        self._play(worlds, self.rules.spawn_age_loops)
        features.begin(
            self.units, self._previous, self.last_actions, self._targets, self.episode_steps, self.result, worlds
        )
        self._observe(worlds, observations)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        worlds = self._all_worlds if worlds is None else worlds
        actions = np.asarray(actions, np.int64)
        self._give_orders(actions, worlds)
        if self.enemies is not None:
            self.enemies.give_orders(self.units, self.episode_steps, worlds, self.move_amount)
        self._copy(actions, self.last_actions, worlds)
        if worlds[0]:
            self.recorded_actions.append(self.last_actions[0].copy())
        self._play_step(worlds)
        self._settle(worlds)
        self._copy(self._reward, outcomes.reward, worlds)
        features.conclude(
            self.units, self.result, self.episode_steps, worlds, self.layout, self.counts, outcomes.terminated,
            outcomes.truncated, *(outcomes.info[key] for key in INFO_KEYS),
        )  # fmt: skip
        self._observe(worlds, observations)

    def set_moment(self, moment: Moment) -> None:
        """Puts all units where a recorded state has them, with its health, shields and agents' cooldowns.

        What no state tells stays as the battle has made it: orders, targets, the enemies' cooldowns. Right after the
        reset, enemies that march to a point in formation do so from their new places.
        """
        units, n_agents = self.units, self.map.n_agents
        alive = moment.health > 0
        for name in ("x", "y", "shield"):
            np.copyto(units[name], getattr(moment, name), where=alive)
        units["health"] = moment.health
        units["cooldown"][:, :n_agents] = moment.cooldown
        self._previous[:] = np.where(alive, moment.health + units["shield"], -1)
        if not self.episode_steps.any() and "point" in self.map.enemy_order:
            for axis, point in zip("xy", self.map.enemy_order["point"], strict=True):
                units[f"goal_{axis}"][:, n_agents:] = _goals_in_formation(point, units[axis][:, n_agents:])

    def obey_all(self) -> None:
        """Lets the agents be given any order in the next step, also at what they have no action for."""
        self._avail_actions[:] = 1

    def episode_notes(self) -> list[dict[str, Any]]:
        return [dict(notes) for notes in self.enemies.notes] if self.enemies else [{"enemy": BOT}] * self.n_envs

    def seat_enemies(self, sources: Mapping[str, EnemySource]) -> None:
        """Says who plays the enemies that are named `policy:FOLDER` or `self`, by these names."""
        assert self.enemies is not None, "a bot plays all enemies"
        self.enemies.sources.update(sources)

    def state_dict(self) -> dict[str, Any]:
        own = self.enemies.state_dict() if self.enemies else {}
        return {"random": self._random.tolist(), "counts": self.counts.tolist(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        number, count = Key(int, low=0, high=2**64 - 1).read, Key(int, low=0, high=2**62).read
        state = fitted(state, {"random": [number] * self.n_envs, "counts": [[count] * 3] * self.n_envs})
        if self.enemies is not None and "dealt" in state:  # else it is of a run against the bot alone
            self.enemies.load_state_dict(state)
        self._random[:] = np.array(state["random"], np.uint64)
        self.counts[:] = state["counts"]

    def get_stats(self) -> list[dict[str, float]]:
        return [
            {
                "battles_won": int(won),
                "battles_game": int(games),
                "battles_draw": int(timeouts),
                "win_rate": float(won / games) if games else 0.0,
                "timeouts": int(timeouts),
                "restarts": 0,
            }
            for won, games, timeouts in self.counts
        ]

    def cones(self, b: int) -> list[Cone]:
        """Returns what the agents of battle b can see only, where they don't see all around."""
        return []

    def more_settings(self) -> dict[str, Any]:
        """Returns what a replay must hold of the arguments besides those of SMAC's battles, as plain data."""
        return {}

    def save_replay(self) -> list[Path]:
        """Writes the last episode of the first battle as a replay and as an animated GIF; gives both files.

        Raises: UserError where no step has been played since the reset, or the files can't be written.
        """
        from envs.sc2.sim.film import save_replay  # here: it imports this module, and Pillow

        return save_replay(self)

    def _give_orders(self, actions: np.ndarray, worlds: np.ndarray) -> None:
        """Checks the actions and turns them, or the heuristic's, into orders.

        Raises: ValueError for an action that is not available; nothing has happened in any battle then.
        """
        commands, allowed = actions, self._avail_actions
        if self.heuristic_ai:  # any action will do that can stand among the last actions
            self._check_known(actions, worlds)
            commands, allowed = self._commands, np.ones_like(self._avail_actions)
            heuristic.choose_actions(
                self.units, self._targets, self._avail_actions, self.layout, self.heuristic_rest,
                features.N_ACTIONS_NO_ATTACK, commands,
            )  # fmt: skip
        refused = dynamics.give_orders(self.units, commands, allowed, worlds, self.move_amount, self.types)
        if refused >= 0:
            raise self._refusal(actions, refused)

    def _check_known(self, actions: np.ndarray, worlds: np.ndarray) -> None:
        """Raises: ValueError for an action that no agent has."""
        unknown = worlds[:, None] & ((actions < 0) | (actions >= self.layout.n_actions))
        if unknown.any():
            raise self._refusal(actions, int(unknown.argmax()))

    def _refusal(self, actions: np.ndarray, index: int) -> ValueError:
        """The error for the action [battle * n_agents + agent] of this index."""
        b, i = divmod(index, self.map.n_agents)
        available = np.flatnonzero(self._avail_actions[b, i]).tolist()
        return ValueError(
            f"action {int(actions[b, i])} of agent {i} in battle {b} is not available; available are {available}"
        )

    def _create_units(self, worlds: np.ndarray) -> None:
        if self.map.placement is not None and self.map.placement.areas is not None:
            goal = np.array(self.map.enemy_order.get("point", (np.nan, np.nan)), float)
            creation.create_in_areas(
                self.units, self._fresh_units[0], self.map.placement.areas, goal, self._creation_types, self.map.grid,
                self.n_effects, self._sequences, self._random, self.loops, worlds, self.map.n_agents,
                self.rules.enemy_list == "shuffled", self._fresh_units[0].copy(),
            )  # fmt: skip
            return
        dynamics.reset_units(
            self.units, self._fresh_units, self._chances, self.n_effects, self._sequences, self._random, self.loops,
            worlds, self.map.n_agents, self._segment, self.rules.enemy_list == "shuffled",
        )  # fmt: skip

    def _play_step(self, worlds: np.ndarray) -> None:
        self._play(worlds, self.step_mul)

    def _settle(self, worlds: np.ndarray) -> None:
        """Writes the reward of the step and how each battle stands."""
        features.settle(self.units, self._previous, worlds, self.layout, self._reward, self.result)

    def _play(self, worlds: np.ndarray, n_loops: int) -> None:
        advance = dynamics.advance_parallel if self._goes_parallel(worlds) else dynamics.advance
        advance(
            self.units, self.effects, self.n_effects, self._sequences, self._random, self.loops,
            self._places, self._near, worlds, n_loops, self.types, self.map.grid, self._cells, self._ways, self._battle,
        )  # fmt: skip

    def _observe(self, worlds: np.ndarray, observations: Observations) -> None:
        observe = features.observe_parallel if self._goes_parallel(worlds) else features.observe
        observe(
            self.units, self.last_actions, self.episode_steps, worlds, self.layout, self.map.pathing, self.map.heights,
            observations.obs, observations.state, observations.avail_actions,
        )  # fmt: skip
        self._copy(observations.avail_actions, self._avail_actions, worlds)

    def _goes_parallel(self, worlds: np.ndarray) -> bool:
        """Whether to spread the battles of the mask over threads; numba is told over how many."""
        if self.n_threads == 1 or np.count_nonzero(worlds) < BATTLES_PER_THREAD * self.n_threads:
            return False  # a few are over before another thread has begun
        set_num_threads(self.n_threads)
        return True

    def _copy(self, source: np.ndarray, target: np.ndarray, worlds: np.ndarray) -> None:
        """Copies the rows of the battles in the mask."""
        np.copyto(target, source, where=worlds.reshape(-1, *[1] * (target.ndim - 1)))


def find_map(map_name: str | Mapping[str, Any]) -> SC2Map:
    """The map of this name, in this file, or with the content that SC2Map.content has.

    Raises: ValueError where there is no such map; UserError where the file holds none.
    """
    if isinstance(map_name, Mapping):
        return own_maps.map_of(map_name)
    if map_name in MAP_NAMES:
        return get_map(map_name)
    if is_map_file(map_name):
        return own_maps.load_map(map_name)
    raise ValueError(f"the embedded engine has no map {map_name!r}; it has {', '.join(MAP_NAMES)}")


def fresh_units(sc2_map: SC2Map, type_names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The records [start, unit] of records.UNIT when they are created, agents by agent id, enemies in order of
    creation; and [start] the chance that a battle begins with this start or an earlier one."""
    if sc2_map.placement is not None:
        pairs = [(Start(sc2_map.placement.allies, 1.0), Start(sc2_map.placement.enemies, 1.0))]
    else:
        allies = starts(sc2_map.ally_spawns, sc2_map.grid, "agents")
        pairs = list(product(allies, starts(sc2_map.enemy_spawns, sc2_map.grid, "enemies")))
    ways = [
        (_units(sc2_map, type_names, ally_start, enemy_start), ally_start.probability * enemy_start.probability)
        for ally_start, enemy_start in pairs
    ]
    fresh = np.zeros((len(ways), sc2_map.n_agents + sc2_map.n_enemies), records.UNIT)  # padding bytes, too
    for row, (units, _) in zip(fresh, ways, strict=True):
        row[:] = units
    return fresh, np.cumsum([probability for _, probability in ways])


def _units(sc2_map: SC2Map, type_names: list[str], ally_start: Start, enemy_start: Start) -> np.ndarray:
    allies = sorted(ally_start.units, key=lambda unit: (sc2_map.ally_types.index(unit[0]), unit[1], unit[2]))
    enemies = enemy_start.units
    units = np.zeros(len(allies) + len(enemies), records.UNIT)
    for k, (type_name, x, y) in enumerate(allies + enemies):
        write_new_unit(units[k], type_name, type_names, team=int(k >= len(allies)))
        unit = units[k]
        unit["x"], unit["y"], unit["home_x"], unit["home_y"] = x, y, x, y
    units["type_index"] = sc2_map.ally_type_index + sc2_map.enemy_type_index
    _give_enemy_orders(units[len(allies) :], sc2_map.enemy_order)
    return units


def write_new_unit(unit: np.void, type_name: str, type_names: list[str], team: int) -> None:
    """Writes all that the record of a unit holds when it is created, but its place and its orders; team 0: agents."""
    data = unit_data()[type_name]
    unit["type"], unit["planes"] = type_names.index(type_name), planes(type_name)
    unit["radius"], unit["separation_radius"] = data["radius"], data["separation_radius"]
    unit["health"], unit["shield"] = data["hp"], data["shield"]
    unit["energy"] = data.get("energy", {}).get("start", 0)
    unit["team"] = unit["acquires"] = team  # the agents' units never choose a target themselves
    unit["health_max"], unit["shield_max"] = data["hp"], max(data["shield"], 1)
    unit["cooldown_max"] = data["smac_unit_max_cooldown_allied"]
    unit["heals"] = type_name == "Medivac"
    unit["free_fire"] = team == 0 and type_name == "Colossus"
    unit["face_y"] = -1  # units are created facing south
    unit["target"] = unit["shooting_at"] = unit["chases"] = unit["killed_by"] = records.NO_UNIT
    unit["alert_loop"] = targets.NEVER


def _give_enemy_orders(enemies: np.ndarray, order: dict[str, Any]) -> None:
    """The order that the map's script gives once to all enemies."""
    if order["kind"] == "attack_unit_group":
        enemies["order"] = records.HUNT
    elif order["kind"] != "none":
        enemies["order"] = records.ATTACK_MOVE
    if "point" in order:  # else it is drawn in every episode
        for axis, point in zip("xy", order["point"], strict=True):
            enemies[f"goal_{axis}"] = _goals_in_formation(point, enemies[axis])


def _goals_in_formation(point: float, places: np.ndarray) -> np.ndarray:
    """Returns the goals, on one axis, of units at places [..., unit] that march to a point in formation."""
    return point + (places - places.mean(-1, keepdims=True))


def most_effects(sc2_map: SC2Map) -> int:
    """How many missiles, hits and explosions can be under way at once: less than two per shot, and beams touch all."""
    n_effects = 0
    sides = (sc2_map.ally_types, sc2_map.n_enemies), (sc2_map.enemy_types, sc2_map.n_agents)
    for type_names, n_opponents in sides:
        for row in unit_types(type_names):
            n_effects += 2 * n_opponents if row["weapon"] == BEAMS else 2
    return n_effects


def make_layout(
    sc2_map: SC2Map, reward_scale: bool, reward_scale_rate: float, max_distance: float | None = None, **options: Any
) -> features.Layout:
    """The feature layout of a map under SMAC's options: sizes, divisors and switches.

    max_distance: by which positions are divided in the state; None: the playable area.
    """
    width, height = sc2_map.playable if max_distance is None else (max_distance, max_distance)
    options["obs_own_health"] = options["obs_own_health"] or options["obs_all_health"]
    n_agents, n_enemies, bits = sc2_map.n_agents, sc2_map.n_enemies, sc2_map.unit_type_bits
    n_targets = max(n_enemies, n_agents) if "Medivac" in sc2_map.ally_types else n_enemies
    n_actions = features.N_ACTIONS_NO_ATTACK + n_targets
    ally_shield, enemy_shield = sc2_map.ally_race == "P", sc2_map.enemy_race == "P"

    move_features = 4 + 8 * options["obs_pathing_grid"] + 9 * options["obs_terrain_height"]
    enemy_features = 4 + options["obs_all_health"] * (1 + enemy_shield) + bits
    ally_features = 4 + options["obs_all_health"] * (1 + ally_shield) + bits + options["obs_last_action"] * n_actions
    timestep_features = 2 * options["obs_timestep_number"]  # SMAC leaves an empty column before the time: its own quirk
    own_features = options["obs_own_health"] * (1 + ally_shield) + bits + timestep_features
    obs_size = move_features + n_enemies * enemy_features + (n_agents - 1) * ally_features + own_features
    ally_state_features, enemy_state_features = 4 + ally_shield + bits, 3 + enemy_shield + bits
    state_size = n_agents * ally_state_features + n_enemies * enemy_state_features
    state_size += options["state_last_action"] * n_agents * n_actions + options["state_timestep_number"]

    enemy_total = sum(unit_data()[name]["hp"] + unit_data()[name]["shield"] for name in sc2_map.enemy_types)
    max_reward = n_enemies * options["reward_death_value"] + options["reward_win"] + enemy_total
    as_typed: dict[str, Any] = {
        key: value if isinstance(value, bool) else float(value) for key, value in options.items()
    }
    return features.Layout(
        n_agents=n_agents,
        n_enemies=n_enemies,
        n_actions=n_actions,
        obs_size=obs_size,
        state_size=n_agents * obs_size if options["obs_instead_of_state"] else state_size,
        ally_features=ally_features,
        enemy_features=enemy_features,
        ally_state_features=ally_state_features,
        enemy_state_features=enemy_state_features,
        type_bits=bits,
        ally_has_shield=ally_shield,
        enemy_has_shield=enemy_shield,
        max_distance_x=float(width),
        max_distance_y=float(height),
        episode_limit=sc2_map.episode_limit,
        reward_divisor=max_reward / reward_scale_rate if reward_scale else 1.0,
        **as_typed,
    )


def attribute_names(layout: features.Layout) -> dict[str, list[str]]:
    """SMAC's names of the state's columns of one ally and of one enemy, as `get_env_info` lists them."""
    types = [f"type_{bit}" for bit in range(layout.type_bits)]
    ally = ["health", "energy/cooldown", "rel_x", "rel_y"] + ["shield"] * layout.ally_has_shield
    enemy = ["health", "rel_x", "rel_y"] + ["shield"] * layout.enemy_has_shield
    return {"agent_features": ally + types, "enemy_features": enemy + types}
