"""SMAC's environment on the embedded engine: `BattleVectorEnv` plays B battles at once, `StarCraft2Env` one.

A step gives orders and plays `step_mul` loops (`dynamics.py`), settles rewards and ends, and writes what is seen next
(`features.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.multiagentenv import MultiAgentEnv, Observations, Outcomes, VectorEnv
from envs.sc2.sim import dynamics, features, heuristic
from envs.sc2.sim.maps import MAP_NAMES, SC2Map, get_map, spawn_positions
from envs.sc2.sim.rules import Rules
from envs.sc2.sim.units import unit_data, unit_types
from utils.errors import UserError

if TYPE_CHECKING:
    from envs.sc2.sim.render import Painter

INFO_KEYS = ("battle_won", "dead_allies", "dead_enemies")


class BattleVectorEnv(VectorEnv):
    """B battles on one map, battle i seeded by `seeds[i]`. The other arguments are those of SMAC's `StarCraft2Env`.

    `n_threads` above one spreads the battles over threads; the battles are the same whatever it is.

    Raises: ValueError where the map or a rule is not known.
    """

    info_keys = INFO_KEYS

    def __init__(
        self,
        seeds: Sequence[int],
        map_name: str = "8m",
        step_mul: int = 8,
        move_amount: float = 2,
        continuing_episode: bool = False,
        heuristic_ai: bool = False,
        heuristic_rest: bool = False,
        rules: Mapping[str, Any] | Rules = Rules(),  # noqa: B008 (immutable)
        n_threads: int = 1,
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
        if map_name not in MAP_NAMES:
            raise ValueError(f"the embedded engine has no map {map_name!r}; it has {', '.join(MAP_NAMES)}")
        self.map = get_map(map_name)
        unknown = set(rules) - set(Rules._fields) if isinstance(rules, Mapping) else set()
        if unknown:
            raise ValueError(f"unknown rules {sorted(unknown)}; the engine's are {', '.join(Rules._fields)}")
        self.rules = rules if isinstance(rules, Rules) else Rules(**rules)
        self.n_envs = len(seeds)
        self.step_mul, self.move_amount = step_mul, float(move_amount)
        self.heuristic_ai, self.heuristic_rest = heuristic_ai, heuristic_rest
        self.replay_dir, self.replay_prefix = replay_dir, replay_prefix
        self.n_threads = n_threads
        self.layout = make_layout(
            self.map,
            max_distance=self.rules.playable_area,
            move_amount=self.move_amount,
            obs_all_health=obs_all_health,
            obs_own_health=obs_own_health,
            obs_last_action=obs_last_action,
            obs_pathing_grid=obs_pathing_grid,
            obs_terrain_height=obs_terrain_height,
            obs_instead_of_state=obs_instead_of_state,
            obs_timestep_number=obs_timestep_number,
            state_last_action=state_last_action,
            state_timestep_number=state_timestep_number,
            reward_sparse=reward_sparse,
            reward_only_positive=reward_only_positive,
            reward_death_value=reward_death_value,
            reward_win=reward_win,
            reward_defeat=reward_defeat,
            reward_negative_scale=reward_negative_scale,
            reward_scale=reward_scale,
            reward_scale_rate=reward_scale_rate,
        )
        names = self.map.ally_types + self.map.enemy_types
        type_names = sorted(set(names))
        self.types = unit_types(type_names)
        self._battle = dynamics.Battle(
            n_agents=self.map.n_agents,
            scan_period_loops=self.rules.scan_period_loops,
            cooldown_from_effect=self.rules.cooldown_start == "effect",
        )
        self._fresh_units = fresh_units(self.map, self.rules, type_names)

        n_units = len(names)
        self.units = np.tile(self._fresh_units, (self.n_envs, 1))
        self.loops = np.zeros(self.n_envs, np.int64)
        self.episode_steps = np.zeros(self.n_envs, np.int64)
        self.last_actions = np.full((self.n_envs, self.map.n_agents), -1, np.int64)
        self.result = np.zeros(self.n_envs, np.int64)
        self.counts = np.zeros((self.n_envs, 3), np.int64)  # battles won, battles played, time-outs
        self._sequences = np.tile(np.arange(n_units), (self.n_envs, 1))
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

    def get_env_info(self) -> dict[str, Any]:
        return {
            "state_shape": self.layout.state_size,
            "obs_shape": self.layout.obs_size,
            "n_actions": self.layout.n_actions,
            "n_agents": self.map.n_agents,
            "episode_limit": self.map.episode_limit,
            **attribute_names(self.layout),
        }

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        worlds = self._all_worlds if worlds is None else worlds
        chosen = np.flatnonzero(worlds)
        if worlds[0]:
            self.recorded_random, self.recorded_actions = self._random[0], []
        dynamics.reset_units(self.units, self._fresh_units, self._random, worlds)
        self._sequences[chosen] = np.arange(self.units.shape[1])
        self.loops[chosen] = 0
        self.episode_steps[chosen] = 0
        self.last_actions[chosen] = -1
        self._targets[chosen] = -1
        self.result[chosen] = features.RUNNING
        self._play(worlds, self.rules.spawn_age_loops)
        self._previous[chosen] = self.units["health"][chosen] + self.units["shield"][chosen]
        self._observe(worlds, observations)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        worlds = self._all_worlds if worlds is None else worlds
        self._give_orders(np.asarray(actions, np.int64), worlds)
        np.copyto(self.last_actions, actions, where=worlds[:, None], casting="unsafe")
        if worlds[0]:
            self.recorded_actions.append(self.last_actions[0].copy())
        self._play(worlds, self.step_mul)
        features.settle(self.units, self._previous, worlds, self.layout, self._reward, self.result)
        np.copyto(outcomes.reward, self._reward, where=worlds, casting="same_kind")
        features.conclude(
            self.units, self.result, self.episode_steps, worlds, self.layout, self.counts, outcomes.terminated,
            outcomes.truncated, *(outcomes.info[key] for key in INFO_KEYS),
        )  # fmt: skip
        self._observe(worlds, observations)

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
            unknown = worlds[:, None] & ((actions < 0) | (actions >= self.layout.n_actions))
            if unknown.any():
                raise self._refusal(actions, int(unknown.argmax()))
            commands, allowed = self._commands, np.ones_like(self._avail_actions)
            heuristic.choose_actions(
                self.units, self._targets, self._avail_actions, self.layout, self.heuristic_rest, commands
            )
        refused = dynamics.give_orders(self.units, commands, allowed, worlds, self.move_amount)
        if refused >= 0:
            raise self._refusal(actions, refused)

    def _refusal(self, actions: np.ndarray, index: int) -> ValueError:
        """The error for the action [battle * n_agents + agent] of this index."""
        b, i = divmod(index, self.map.n_agents)
        available = np.flatnonzero(self._avail_actions[b, i]).tolist()
        return ValueError(
            f"action {int(actions[b, i])} of agent {i} in battle {b} is not available; available are {available}"
        )

    def _play(self, worlds: np.ndarray, n_loops: int) -> None:
        advance = dynamics.advance
        if self.n_threads > 1 and self.n_envs > 1:
            from numba import set_num_threads

            set_num_threads(self.n_threads)
            advance = dynamics.advance_parallel
        advance(
            self.units, self._sequences, self._random, self.loops, worlds, n_loops,
            self.types, self.map.pathing, self._battle,
        )  # fmt: skip

    def _observe(self, worlds: np.ndarray, observations: Observations) -> None:
        features.observe(
            self.units, self.last_actions, self.episode_steps, worlds, self.layout, self.map.pathing, self.map.heights,
            observations.obs, observations.state, observations.avail_actions,
        )  # fmt: skip
        np.copyto(self._avail_actions, observations.avail_actions, where=worlds[:, None, None])


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
        self._painter: Painter | None = None

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


def fresh_units(sc2_map: SC2Map, rules: Rules, type_names: list[str]) -> np.ndarray:
    """The records [unit] of dynamics.UNIT when they are created: agents by agent id, enemies in order of creation."""
    allies = sorted(
        spawn_positions(sc2_map.ally_spawns, rules.spawn_lattice),
        key=lambda unit: (sc2_map.ally_types.index(unit[0]), unit[1], unit[2]),
    )
    enemies = spawn_positions(sc2_map.enemy_spawns, rules.spawn_lattice)
    units = np.zeros(len(allies) + len(enemies), dynamics.UNIT)
    for k, (type_name, x, y) in enumerate(allies + enemies):
        unit, data = units[k], unit_data()[type_name]
        unit["type"] = type_names.index(type_name)
        unit["x"], unit["y"], unit["home_x"], unit["home_y"] = x, y, x, y
        unit["radius"], unit["separation_radius"] = data["radius"], data["separation_radius"]
        unit["health"], unit["shield"] = data["hp"], data["shield"]
        unit["energy"] = data.get("energy", {}).get("start", 0)
        unit["team"] = unit["acquires"] = k >= len(allies)  # the agents' units never choose a target themselves
        unit["health_max"], unit["shield_max"] = data["hp"], max(data["shield"], 1)
        unit["cooldown_max"] = data["smac_unit_max_cooldown_allied"]
        unit["heals"] = sc2_map.map_type == "MMM" and type_name == "Medivac"
    units["type_index"] = sc2_map.ally_type_index + sc2_map.enemy_type_index
    units["target"] = units["shooting_at"] = units["chases"] = dynamics.NO_UNIT
    if "point" in sc2_map.enemy_order or "segment" in sc2_map.enemy_order:
        units["order"][len(allies) :] = dynamics.ATTACK_MOVE
    if "point" in sc2_map.enemy_order:  # else drawn in every episode
        units["goal_x"][len(allies) :], units["goal_y"][len(allies) :] = sc2_map.enemy_order["point"]
    return units


def make_layout(
    sc2_map: SC2Map, max_distance: float, reward_scale: bool, reward_scale_rate: float, **options: Any
) -> features.Layout:
    """The feature layout of a map under SMAC's options: sizes, divisors and switches."""
    options["obs_own_health"] = options["obs_own_health"] or options["obs_all_health"]
    n_agents, n_enemies, bits = sc2_map.n_agents, sc2_map.n_enemies, sc2_map.unit_type_bits
    n_actions = features.N_ACTIONS_NO_ATTACK + n_enemies
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
        max_distance_x=float(max_distance),
        max_distance_y=float(max_distance),
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
