"""SMACv2's environment on the embedded engine: `BattleVectorEnv` plays B battles at once, each with teams of its own.

`capabilities.py` draws teams and places, `dynamics.py` creates the units and gives the enemies' orders, `features.py`
writes what is seen; `smacv2.py` has the single environment.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, Literal

import numpy as np

from envs.multiagentenv import Observations
from envs.sc2.enemies import BOT, check_enemies
from envs.sc2.sim import dynamics as of_smac
from envs.sc2.sim import heuristic, records
from envs.sc2.sim.creation import Types
from envs.sc2.sim.env import BattleVectorEnv as SmacVectorEnv
from envs.sc2.sim.env import Cone, write_new_unit
from envs.sc2.sim.features import N_ACTIONS_NO_ATTACK
from envs.sc2.sim.maps import lattice
from envs.sc2.sim.replay import SMACV2
from envs.sc2.sim.rules import ENGINE_VERSION, Rules
from envs.sc2.sim.smacv2 import dynamics, features
from envs.sc2.sim.smacv2.arguments import checked, without_nothing
from envs.sc2.sim.smacv2.capabilities import Draws
from envs.sc2.sim.smacv2.enemies import Enemies
from envs.sc2.sim.smacv2.layout import make_layout, names_in_env_info, ranges, sizes_of
from envs.sc2.sim.smacv2.races import API_NAMES, MAP_SIZE, FlatMap, flat_map
from envs.sc2.sim.terrain import BORDER
from envs.sc2.sim.units import unit_data
from utils.config import Key
from utils.files import fitted

ODD = 0xA3EC647659359ACD9E3779B97F4A7C15
"""Spreads seeds over the states of a generator."""


class BattleVectorEnv(SmacVectorEnv):
    """B battles of one scenario, battle i seeded by `seeds[i]`, which all that is drawn depends on.

    The arguments are those of SMACv2's `StarCraft2Env`. `map_name` is a standard scenario, such as terran_5_vs_5, or
    one of SMACv2's three maps, which needs a `capability_config`. `version` chooses the rules of who sees whom.

    Raises: UserError for arguments that can't be, or not together.
    """

    map: FlatMap
    enemies: Enemies | None = None

    def __init__(
        self,
        seeds: Sequence[int],
        map_name: str = "terran_5_vs_5",
        capability_config: Mapping[str, Any] | None = None,
        version: Literal["before_epo", "head"] = "before_epo",
        step_mul: int = 8,
        move_amount: float = 2,
        continuing_episode: bool = False,
        heuristic_ai: bool = False,
        heuristic_rest: bool = False,
        rules: Mapping[str, Any] | Rules = Rules(),  # noqa: B008 (immutable)
        n_threads: int = 1,
        enemy: str | Sequence[str] = BOT,
        test_enemies: Sequence[str] | None = None,
        conic_fov: bool = False,
        num_fov_actions: int = 12,
        use_unit_ranges: bool = False,
        min_attack_range: float = 2,
        kill_unit_step_mul: int = 2,
        fully_observable: bool = False,
        prob_obs_enemy: float = 1.0,
        action_mask: bool = True,
        obs_own_pos: bool = False,
        obs_starcraft: bool = True,
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
        given = locals()
        options = {name: given[name] for name in DEFAULTS}
        self.capabilities = checked(map_name, capability_config, options, version)
        self.options, self.version, self.capability_config = options, version, without_nothing(capability_config or {})
        sc2_map = flat_map(map_name, self.capabilities.n_units, self.capabilities.n_enemies)
        of_layout = {name: options[name] for name in OF_LAYOUT} | {"blanks": version == "head"}
        of_layout["move_amount"] = float(move_amount)
        self.layout, self.switches = make_layout(sc2_map, self.capabilities, **of_layout)
        self._set_up(
            seeds, sc2_map, self.layout, rules, step_mul, move_amount, heuristic_ai, heuristic_rest, n_threads,
            replay_dir, replay_prefix,
        )  # fmt: skip
        self._type_of = {API_NAMES[name]: index for index, name in enumerate(sc2_map.type_names)}
        self._worth = np.array([worth([name]) for name in sc2_map.type_names])
        self.sight, self.reach = ranges(sc2_map, use_unit_ranges, min_attack_range)
        self.episode = features.empty_episode(self.n_envs, self.layout, self.switches)
        if check_enemies(enemy, test_enemies):
            other = sc2_map.from_other_side()
            self._choose_enemies(
                Enemies(
                    self.n_envs, enemy, test_enemies, other, *make_layout(other, self.capabilities, **of_layout),
                    self.types, (self.sight, self.reach), self.capabilities,
                )
            )  # fmt: skip
        self.kill_unit_step_mul = kill_unit_step_mul if self.switches.stochastic_health else 0
        self.teams = np.zeros(self.units.shape, np.int64)  # [battle, unit] types, in the order of creation
        self.points = np.zeros((*self.units.shape, 2))  # where they were to be created
        self.max_reward = np.zeros(self.n_envs)  # health and shields of the first enemies
        self.phases = np.zeros(self.n_envs, np.int64)
        self._divisors = np.ones(self.n_envs)
        self._doomed = np.zeros((self.n_envs, self.layout.n_agents), bool)
        self._anything = np.ones((*self._avail_actions.shape[:2], N_ACTIONS_NO_ATTACK + self.units.shape[1]), np.uint8)
        self._generator, self._shuffler = np.random.Generator(np.random.PCG64(0)), Random(0)
        self._generators = self.capabilities.generators(lambda: self._generator)
        self._fresh = np.zeros(self.units.shape[1], records.UNIT)
        self._ground = _ground(sc2_map.type_names)
        self._new_units = np.zeros((2, len(sc2_map.type_names)), records.UNIT)
        for team in range(2):
            for index, type_name in enumerate(sc2_map.type_names):
                write_new_unit(self._new_units[team, index], type_name, sc2_map.type_names, team)
                self._new_units[team, index]["type_index"] = index

    def get_env_info(self) -> dict[str, Any]:
        return {
            "state_shape": self.layout.state_size,
            "obs_shape": self.layout.obs_size,
            "cap_shape": sizes_of(self.map, self.capabilities, self.options).capability,
            "n_actions": self.layout.n_actions,
            "n_agents": self.map.n_agents,
            "episode_limit": self.map.episode_limit,
            "engine_version": ENGINE_VERSION,
            "smacv2_version": self.version,
            **names_in_env_info(self.layout, self.switches),
        }

    def capabilities_of(self, b: int) -> np.ndarray:
        """Returns SMACv2's `get_capabilities` of battle b: of each agent the numbers that were drawn for it, and its
        type as a one-hot; float32 [agent, capability]."""
        columns = []
        if self.switches.stochastic_attack:
            columns.append(self.episode.attack[b][:, None])
        if self.switches.stochastic_health:
            columns.append(self.episode.health[b][:, None])
        types = self.units["type_index"][b, : self.map.n_agents]
        columns.append(types[:, None] == np.arange(self.layout.type_bits))
        return np.concatenate(columns, axis=1).astype(np.float32)

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        """Starts an episode in the worlds of the mask. Where looking changes what is seen next (`version=head`) the
        agents look twice, as SMACv2's `reset` looks once for itself and PyMARL's runner after it."""
        super().reset(observations, worlds)
        if self.switches.blanks:
            self._observe(self._all_worlds if worlds is None else worlds, observations)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "max_reward": self.max_reward.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        points = Key(float, low=0, high=1e9).read
        super().load_state_dict({name: state[name] for name in state if name != "max_reward"})
        fitting = fitted({"max_reward": state.get("max_reward")}, {"max_reward": [points] * self.n_envs})
        self.max_reward[:] = fitting["max_reward"]

    def cones(self, b: int) -> list[Cone]:
        if self.switches.n_directions == 0:
            return []
        agents, directions = self.units[b, : self.map.n_agents], self.episode.direction[b]
        angles, reach = np.arctan2(directions[:, 1], directions[:, 0]), self.sight[agents["type"]]
        alive = np.flatnonzero(agents["health"] > 0).tolist()
        return [Cone(i, float(reach[i]), float(angles[i]), self.switches.half_angle) for i in alive]

    def more_settings(self) -> dict[str, Any]:
        own = {name: value for name, value in self.options.items() if name in OF_BATTLES}
        return {SMACV2: {"capability_config": self.capability_config, "version": self.version, **own}}

    # -------------------------------------------------------------------------------------------- an episode

    def _create_units(self, worlds: np.ndarray) -> None:
        episode = self.episode
        for b in np.flatnonzero(worlds).tolist():
            self._random[b], seed = _next_seed(self._random[b])
            self._take(b, self._draw(seed))
            episode.random[b] = seed
        dynamics.create(
            self.units, self._new_units, self.teams, self.points, self._ground, self.n_effects, self._sequences,
            self._random, self.loops, worlds, self.map.n_agents, self.rules.enemy_list == "shuffled", self._fresh,
            self.phases,
        )  # fmt: skip
        features.begin(worlds, episode)

    def _draw(self, seed: int) -> Draws:
        """Returns what the seed draws, of 53 bits."""
        start = {"state": seed * ODD % 2**128, "inc": ODD}
        self._generator.bit_generator.state = {"bit_generator": "PCG64", "state": start, "has_uint32": 0, "uinteger": 0}
        self._shuffler.seed(seed)
        return self.capabilities.draw(self._generators, self._shuffler)

    def _take(self, b: int, draws: Draws) -> None:
        """Begins an episode of battle b with what was drawn for it."""
        names = draws.teams.allies + draws.teams.enemies
        self.teams[b] = [self._type_of[name] for name in names]
        self.points[b] = np.concatenate(draws.places)
        for array, drawn in zip(self.episode[1:4], (draws.attack, draws.health, draws.enemy_mask), strict=True):
            if drawn is not None:
                array[b] = drawn
        if self.counts[b, 1] == 0:  # SMACv2 adds up the enemies' health until an episode has ended
            self.max_reward[b] += self._worth[self.teams[b, self.map.n_agents :]].sum()
        points = self.map.n_enemies * self.layout.reward_death_value + self.layout.reward_win
        if self.options["reward_scale"]:
            self._divisors[b] = (self.max_reward[b] + points) / self.options["reward_scale_rate"]

    def _give_orders(self, actions: np.ndarray, worlds: np.ndarray) -> None:
        """Raises: ValueError for an action that is not available; nothing has happened in any battle then."""
        commands, n_directions = self._commands, self.switches.n_directions
        if self.heuristic_ai:
            self._check_known(actions, worlds)
            heuristic.choose_actions(
                self.units, self._targets, self._avail_actions, self.layout, self.heuristic_rest,
                N_ACTIONS_NO_ATTACK + n_directions, commands,
            )  # fmt: skip
            commands = np.where(commands >= N_ACTIONS_NO_ATTACK, commands - n_directions, commands)
        else:
            if (refused := of_smac.find_refused(actions, self._avail_actions, worlds)) >= 0:
                raise self._refusal(actions, refused)
            if self.switches.stochastic_attack:
                features.draw_rolls(worlds, self.episode)
            features.turn_and_translate(actions, worlds, self.switches, self.episode, commands)
        of_smac.give_orders(self.units, commands, self._anything, worlds, self.move_amount, self.types)

    def _play_step(self, worlds: np.ndarray) -> None:
        if not self.switches.stochastic_health:
            return super()._play_step(worlds)
        features.doom(self.units, worlds, self.layout, self.episode, self._doomed)
        self._play(worlds, self.step_mul - self.kill_unit_step_mul)
        self.units["health"][:, : self.map.n_agents][self._doomed] = 0
        if self.enemies is not None:
            self.enemies.kill(self.units, worlds)
        self._play(worlds, self.kill_unit_step_mul)

    def _play(self, worlds: np.ndarray, n_loops: int) -> None:
        advance = dynamics.advance_parallel if self._goes_parallel(worlds) else dynamics.advance
        advance(
            self.units, self.effects, self.n_effects, self._sequences, self._random, self.loops,
            self._places, self._near, worlds, n_loops, self.types, self.map.grid, self._cells, self._ways, self._battle,
            self.phases,
        )  # fmt: skip

    def _settle(self, worlds: np.ndarray) -> None:
        features.settle(
            self.units, self._previous, worlds, self.layout, self.switches, self._divisors, self._reward, self.result
        )
        if self.switches.blanks:
            features.forget(self.units, worlds, self.layout, self.episode)

    def _observe(self, worlds: np.ndarray, observations: Observations) -> None:
        if self.switches.blanks:
            features.draw_looks(worlds, self.switches, self.episode)
        observe = features.observe_parallel if self._goes_parallel(worlds) else features.observe
        observe(
            self.units, self.last_actions, self.episode_steps, worlds, self.layout, self.switches, self.sight,
            self.reach, self.episode, self.map.pathing, self.map.heights, observations.obs, observations.state,
            observations.avail_actions,
        )  # fmt: skip
        self._copy(observations.avail_actions, self._avail_actions, worlds)


# ------------------------------------------------------------------------------------------------ arguments

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(BattleVectorEnv).parameters.items()
    if name not in ("seeds", "map_name", "capability_config", "version", "rules", "n_threads", "enemy", "test_enemies")
}
"""SMACv2's options of one environment, with its defaults."""
OF_LAYOUT = (
    *(
        name
        for name in DEFAULTS
        if name.startswith(("obs_", "state_", "reward_"))
        and name not in ("obs_instead_of_state", "reward_scale", "reward_scale_rate")
    ),
    *("conic_fov", "num_fov_actions", "fully_observable", "action_mask", "prob_obs_enemy"),
)
"""Those of them that `layout.make_layout` takes."""
OF_BATTLES = (
    *("conic_fov", "num_fov_actions", "use_unit_ranges", "min_attack_range", "kill_unit_step_mul"),
    *("action_mask", "prob_obs_enemy"),
)
"""Those that SMAC lacks and on which battles or actions depend."""


# ------------------------------------------------------------------------------------------------ units


def worth(type_names: Iterable[str]) -> float:
    """Returns the full health and shields of units of these types, which is what damage can be worth."""
    return float(sum(unit_data()[name]["hp"] + unit_data()[name]["shield"] for name in type_names))


def visibility(units: np.ndarray, n_agents: int, sight: np.ndarray) -> np.ndarray:
    """Returns SMACv2's visibility matrix of one battle, bool [agent, agent + enemy]: who is alive and in sight of whom,
    but of two agents the one with the lower id decides for both."""
    distance = np.hypot(units["x"][:, None] - units["x"], units["y"][:, None] - units["y"])
    alive = units["health"] > 0
    visible = (distance < sight[units["type"]][:, None]) & alive & alive[:, None]
    agents = np.triu(visible[:n_agents, :n_agents], 1)
    visible[:n_agents, :n_agents] = agents | agents.T
    return visible[:n_agents]


def _ground(type_names: list[str]) -> dynamics.Ground:
    return dynamics.Ground(lattice(), float(BORDER), float(MAP_SIZE - BORDER), Types.of(type_names))


def _next_seed(state: np.uint64) -> tuple[np.uint64, int]:
    """(new state, a seed of 53 bits)"""
    state, draw = records.next_random(state)
    return state, int(draw * 2**53)
