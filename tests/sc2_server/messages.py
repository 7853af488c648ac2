"""The game's messages, written from a battle of the embedded engine, and its orders, carried out there.

A battle begins as SMAC's maps have it: when no unit is left, all are created anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import numpy as np
from pysc2.run_configs.lib import VERSIONS
from s2clientprotocol import error_pb2, raw_pb2, sc2api_pb2

from envs.sc2.sim import dynamics
from envs.sc2.sim.maps import MAP_NAMES, SC2Map
from envs.sc2.sim.records import NO_UNIT
from envs.sc2.sim.smac import StarCraft2Env, Unit
from envs.sc2.sim.smacv2.capabilities import Draws, Places, Teams
from envs.sc2.sim.smacv2.races import API_NAMES, flat_map, standard_config
from envs.sc2.sim.smacv2.smacv2 import AGENT_TYPES, FIRST_UNIT_TYPE
from envs.sc2.sim.smacv2.smacv2 import StarCraft2Env as SmacV2Env
from envs.sc2.sim.terrain import BORDER
from envs.sc2.sim.units import AIR, layer, unit_data
from tests.sc2_server.install import BUILD_4_10_0, FLAT_MAP

PLAYER, COMPUTER = 1, 2
STOP, MOVE, ATTACK, HEAL = 4, 16, 23, 386
ABILITIES = {STOP: "stop", MOVE: "move", ATTACK: "attack", HEAL: "effect_heal"}
DO_STOP, DO_MOVE, DO_TARGET = 1, 2, 6
"""Actions of the engine: stop, move (it does not matter where), the first target."""
RACE_MAPS = {1: "10gen_terran", 2: "10gen_zerg", 3: "10gen_protoss"}
"""SMACv2's name of its map for each race, which is that of both sides."""
AGENTS = "_RL"
"""The end of the names of the agents' own unit types."""
GRAIN = 4096
"""The game's coordinates are multiples of 1/4096. A point of a message, in single precision, is taken as the nearest
one, counted from the unit; so the engine gets just the point that it would order itself."""


class Game:
    """One game: a map's battles, one after the other."""

    def __init__(self, map_name: str, seed: int, build: int):
        self.map_name, self.seed, self.build = map_name, seed, build

    @classmethod
    def of(cls, request: Any, response: Any, build: int) -> Game | None:
        """The game that a client asks for; None, and the error in the response, where there is none like it."""
        map_name = PurePath(request.local_map.map_path).stem
        if map_name == FLAT_MAP:
            races = [player.race for player in request.player_setup if player.type == sc2api_pb2.Computer]
            return Arena(RACE_MAPS[races[0]], request.random_seed, build)
        if map_name not in MAP_NAMES:
            response.error = sc2api_pb2.ResponseCreateGame.InvalidMapPath
            response.error_details = f"the stand-in does not know the map {request.local_map.map_path}"
            return None
        return cls(map_name, request.random_seed, build)

    def begin(self) -> None:
        self.env = StarCraft2Env(self.map_name, seed=self.seed)
        self.battle, self.map = self.env.battle, self.env.battle.map
        self.loop, self.n_battles, self.n_orders = 0, 0, 0
        self.types = [self.map.ally_types, self.map.enemy_types]
        self._create_units()

    def create(self, command: Any) -> None:
        raise ValueError("SMAC's maps create their units themselves")

    def name_of(self, unit: Unit) -> str:
        n_agents = self.map.n_agents
        return self.types[unit.tag > n_agents][unit.tag - 1 - (n_agents if unit.tag > n_agents else 0)]

    def unit_types(self) -> list[tuple[str, int]]:
        """(name, id) of the types that the game knows."""
        return list(dict(zip(sum(self.types, []), self.env.get_unit_types())).items())

    def _create_units(self) -> None:
        """The engine's battles are seen first when they are some loops old."""
        self.env.reset()
        self.n_battles += 1
        self.loop += self.battle.rules.spawn_age_loops

    def step(self, n_loops: int) -> None:
        if not (self.battle.units["health"] > 0).any():
            self.loop += 1  # in which the map sees that all are dead
            self._create_units()
            n_loops -= 1 + self.battle.rules.spawn_age_loops
        if n_loops > 0:
            self.battle._play(self.battle._all_worlds, n_loops)
            self.loop += n_loops

    def units(self) -> list[tuple[int, Unit]]:
        """(tag, unit) of the living, agents first. Tags are never used twice."""
        units = [*self.env.agents.values(), *self.env.enemies.values()]
        return [(self.n_battles << 16 | unit.tag, unit) for unit in units if unit.health > 0]

    def index(self, tag: int) -> int:
        """The position of this tag's unit among all; NO_UNIT if it does not live."""
        index = (tag & 0xFFFF) - 1
        living = tag >> 16 == self.n_battles and self.battle.units[0, index]["health"] > 0
        return index if living else NO_UNIT

    def kill(self, tags: list[int]) -> None:
        for index in map(self.index, tags):
            if index != NO_UNIT:
                self.battle.units[0, index]["health"] = 0

    def order(self, command: raw_pb2.ActionRawUnitCommand) -> int:
        """Has the units do it, as far as they live and can; gives the result."""
        if command.ability_id not in ABILITIES or command.queue_command:
            return error_pb2.NotSupported
        for index in map(self.index, command.unit_tags):
            if 0 <= index < self.map.n_agents and (action := self._action(index, command)):
                self._give(index, action, command.target_world_space_pos)
        self.n_orders += 1
        return error_pb2.Success

    def _action(self, index: int, command: raw_pb2.ActionRawUnitCommand) -> int:
        """The engine's action; 0 where the order makes no sense."""
        if command.ability_id in (STOP, MOVE):
            return DO_STOP if command.ability_id == STOP else DO_MOVE
        target = self.index(command.target_unit_tag)
        heals = bool(self.battle.units[0, index]["heals"])
        if target == NO_UNIT or heals != (command.ability_id == HEAL) or heals != (target < self.map.n_agents):
            return 0
        return DO_TARGET + target - (0 if heals else self.map.n_agents)

    def _give(self, index: int, action: int, point: Any) -> None:
        battle, unit = self.battle, self.battle.units[0, index]
        actions = np.zeros((1, self.map.n_agents), np.int64)
        actions[0, index] = action
        anything = np.ones((1, self.map.n_agents, DO_TARGET + battle.units.shape[1]), np.uint8)
        dynamics.give_orders(battle.units, actions, anything, battle._all_worlds, battle.move_amount, battle.types)
        if action == DO_MOVE:
            for axis in "xy":
                distance = getattr(point, axis) - float(np.float32(unit[axis]))
                unit[f"goal_{axis}"] = unit[axis] + round(distance * GRAIN) / GRAIN
                way = unit[f"goal_{axis}"] - unit[axis]
                unit[f"step_{axis}"] = way / battle.move_amount * battle.types["speed"][unit["type"]]


class Arena(Game):
    """A game on SMACv2's map, which creates no units of its own: they come by debug commands, and appear in the step
    after them."""

    def begin(self) -> None:
        self.map: SC2Map = flat_map(self.map_name, 1, 1)
        self.battle: Any = None
        self.loop, self.n_battles, self.n_orders = 0, 0, 0
        self.commands: list[tuple[int, str, float, float]] = []  # (owner, type, x, y)

    def create(self, command: Any) -> None:
        names = {api_id: name for name, api_id in self.unit_types()}
        name = API_NAMES[names[command.unit_type].removesuffix(AGENTS)]
        self.commands.append((command.owner, name, command.pos.x, command.pos.y))

    def step(self, n_loops: int) -> None:
        self.loop += n_loops
        if self.commands:
            self._create_units()
            n_loops -= 1
        if n_loops > 0 and self.units():
            self.battle._play(self.battle._all_worlds, n_loops)

    def _create_units(self) -> None:
        sides = [[unit[1:] for unit in self.commands if unit[0] == owner] for owner in (PLAYER, COMPUTER)]
        self.commands = []
        if self.battle is None:
            race = self.map_name.removeprefix("10gen_")
            config = {**standard_config(f"{race}_5_vs_5"), "n_units": len(sides[0]), "n_enemies": len(sides[1])}
            self.env: Any = SmacV2Env(self.map_name, seed=self.seed, capability_config=config)
            self.battle, self.map = self.env.battle, self.env.battle.map
        teams = Teams(*([unit[0] for unit in side] for side in sides))
        places = Places(*(np.array([unit[1:] for unit in side], float) for side in sides))
        self.battle._draw = lambda seed: Draws(teams, places, None, None, None)
        self.env.reset()
        self.n_battles += 1

    def name_of(self, unit: Unit) -> str:
        return self.map.type_names[self.battle.units["type"][0, unit.tag - 1]]

    def units(self) -> list[tuple[int, Unit]]:
        return [] if self.battle is None else super().units()

    def kill(self, tags: list[int]) -> None:
        if self.battle is not None:
            super().kill(tags)

    def unit_types(self) -> list[tuple[str, int]]:
        of_game = {data["api_id"]: name for name, data in unit_data().items()}
        agents = [(f"{name}{AGENTS}", FIRST_UNIT_TYPE + index) for index, name in enumerate(AGENT_TYPES)]
        return [(of_game.get(number, f"type {number}"), number) for number in range(FIRST_UNIT_TYPE)] + agents


# ------------------------------------------------------------------------------------------------ answers


def write_version(response: Any, build: int) -> None:
    version = next(version for version in VERSIONS.values() if version.build_version == build)
    response.game_version, response.data_version = version.game_version, version.data_version
    response.base_build = response.data_build = build


def write_game_info(game: Game, request: Any, response: Any) -> None:
    pathing, heights = game.map.pathing, game.map.heights
    width, height = pathing.shape
    response.map_name = game.map_name
    raw = response.start_raw
    raw.map_size.x, raw.map_size.y = width, height
    raw.playable_area.p0.x, raw.playable_area.p0.y = BORDER, BORDER
    raw.playable_area.p1.x, raw.playable_area.p1.y = width - BORDER, height - BORDER
    if game.build >= BUILD_4_10_0:  # a bit per cell, rows from south to north
        _write_image(raw.pathing_grid, pathing.shape, 1, np.packbits(pathing.T, axis=1))
    else:  # a byte per cell, 255 where nobody can walk, rows from north to south
        _write_image(raw.pathing_grid, pathing.shape, 8, np.where(pathing, 0, 255).T[::-1])
    _write_image(raw.terrain_height, heights.shape, 8, np.round(heights * 255).T[::-1])  # SMAC reads it so in any build
    for player, race in ((PLAYER, game.map.ally_race), (COMPUTER, game.map.enemy_race)):
        kind = sc2api_pb2.Participant if player == PLAYER else sc2api_pb2.Computer
        response.player_info.add(player_id=player, type=kind, race_requested="TZP".index(race) + 1)


def _write_image(image: Any, size: tuple[int, int], bits: int, values: np.ndarray) -> None:
    image.bits_per_pixel, image.data = bits, values.astype(np.uint8).tobytes()
    image.size.x, image.size.y = size


def write_observation(game: Game, request: Any, response: Any) -> None:
    observation = response.observation
    observation.game_loop = game.loop
    observation.player_common.player_id = PLAYER
    for tag, unit in game.units():
        agent = unit.tag <= game.map.n_agents
        name = game.name_of(unit)
        data = unit_data()[name]
        u = observation.raw_data.units.add(
            tag=tag,
            unit_type=unit.unit_type,
            owner=PLAYER if agent else COMPUTER,
            alliance=raw_pb2.Self if agent else raw_pb2.Enemy,
            display_type=raw_pb2.Visible,
            radius=data["radius"],
            build_progress=1,
            is_flying=layer(name) == AIR,
            health=unit.health,
            health_max=unit.health_max,
            shield=unit.shield,
            shield_max=unit.shield_max,
            energy=unit.energy,
            energy_max=data.get("energy", {}).get("max", 0),
            weapon_cooldown=unit.weapon_cooldown,
        )
        u.pos.x, u.pos.y = unit.pos
        u.pos.z = 32 * game.map.heights[math.floor(unit.pos.x), math.floor(unit.pos.y)] - 16


def write_data(game: Game, request: Any, response: Any) -> None:
    for ability, name in ABILITIES.items():
        response.abilities.add(ability_id=ability, link_name=name, friendly_name=name.capitalize(), available=True)
    for name, unit_type in game.unit_types():
        response.units.add(unit_id=unit_type, name=name, available=True, movement_speed=0)


def carry_out(game: Game, request: Any, response: Any) -> None:
    for action in request.actions:
        response.result.append(game.order(action.action_raw.unit_command))


def debug(game: Game, request: Any, response: Any) -> None:
    for command in request.debug:
        if command.HasField("create_unit"):
            game.create(command.create_unit)
        elif command.HasField("kill_unit"):
            game.kill(command.kill_unit.tag)


def step(game: Game, request: Any, response: Any) -> None:
    game.step(request.count or 1)
    response.simulation_loop = game.loop


def save_replay(game: Game, request: Any, response: Any) -> None:
    about = {"map": game.map_name, "seed": game.seed, "loops": game.loop, "orders": game.n_orders}
    response.data = f"replay of the stand-in: {json.dumps(about)}\n".encode()


ANSWERS: dict[str, Callable[[Game, Any, Any], None]] = {
    "game_info": write_game_info,
    "data": write_data,
    "observation": write_observation,
    "action": carry_out,
    "debug": debug,
    "step": step,
    "save_replay": save_replay,
}
