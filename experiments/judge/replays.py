"""Replays: complete battles decoded from StarCraft II's replays, beside the engine under the same commands.

The commands are played as they were given; a battle soon takes its own course, so that positions are compared as long
as they mean something, and the rest by averages over the battles.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES, SC2Map, get_map, starts
from envs.sc2.sim.rules import Rules
from utils.errors import UserError

STEP_LOOPS = 8
MOST_DEATHS = 8  # of a side whose times are shown, evenly spread over all
FIRST_LOOPS = 48  # until which positions are compared
DIRECTIONS = {"N": 2, "S": 3, "E": 4, "W": 5}
STOP, ATTACK = 1, 6
REMEDY = "give a folder of decoded replays, NAME.json.gz with map and episodes of units, deaths, cmds and pos"


class ReplayRow(NamedTuple):
    """One figure of the battles of one replay, in the game and in the engine."""

    map: str
    source: str
    measure: str
    n: int  # battles, or positions
    game: float
    engine: float
    spread: float  # the engine's with other seeds


class Side(NamedTuple):
    """What one side of the comparison shows of each battle."""

    deaths: list[list[tuple[int, int, int]]]  # of each battle: (step, unit, killer), units in the order of creation
    places: list[dict[tuple[int, int], tuple[float, float]]]  # of each battle: (loop, unit) -> x, y
    n_steps: list[int]


def judge_replays(folder: Path, rules: Rules, maps: Sequence[str] = (), n_threads: int = 1) -> list[ReplayRow]:
    """The rows of all decoded replays in a folder, or of those on these maps.

    Raises:
        UserError: there is none, or a file is torn, no replay or of no known map.
    """
    rows: list[ReplayRow] = []
    for path in sorted(folder.glob("*.json.gz")):
        map_name, episodes = read_replay(path)
        if not maps or map_name in maps:
            sides = [_game(map_name, episodes)]
            sides += [play(map_name, episodes, rules, seed, n_threads) for seed in (0, len(episodes))]
            rows += _judge(map_name, path.name.removesuffix(".json.gz"), sides)
    if not rows:
        raise UserError(f"{folder} holds no replays of the given maps; {REMEDY}")
    return rows


def read_replay(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The map, and the complete battles as the file has them.

    Raises:
        UserError: as `judge_replays`.
    """
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        map_name, episodes = content["map"], [episode for episode in content["episodes"] if episode["complete"]]
        for episode in episodes:
            for name in ("units", "deaths", "cmds", "pos", "end_loop"):
                episode[name]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no decoded replay, or is torn; {REMEDY}") from error
    if map_name not in MAP_NAMES:
        raise UserError(f"{path} is of map {map_name!r}, which the engine does not have; {REMEDY}")
    sc2_map = get_map(map_name)
    for episode in episodes:
        owners = Counter(unit[1] for unit in episode["units"])
        if (owners[1], owners[2]) != (sc2_map.n_agents, sc2_map.n_enemies):
            raise UserError(f"{path} has a battle of {owners[1]} against {owners[2]}, which is not {map_name}")
    return map_name, episodes


# ------------------------------------------------------------------------------------------------ the game


def _game(map_name: str, episodes: list[dict[str, Any]]) -> Side:
    deaths, places = [], []
    for episode in episodes:
        removed = set(episode.get("cheat_kill", ()))
        deaths.append(
            [
                (-(-death[0] // STEP_LOOPS), death[1], -1 if death[3] is None else death[3])
                for death in episode["deaths"]
                if death[1] not in removed
            ]
        )
        places.append({(loop, unit): (x, y) for loop, unit, x, y in episode["pos"] if loop <= FIRST_LOOPS})
    return Side(deaths, places, [-(-int(episode["end_loop"]) // STEP_LOOPS) for episode in episodes])


# ------------------------------------------------------------------------------------------------ the engine


def play(map_name: str, episodes: list[dict[str, Any]], rules: Rules, seed: int, n_threads: int = 1) -> Side:
    """The battles under the recorded commands; an agent without one, or whose target is dead, stops."""
    sc2_map, n = get_map(map_name), len(episodes)
    rules = rules._replace(enemy_list="created")
    env = BattleVectorEnv(range(seed, seed + n), map_name, rules=rules, n_threads=n_threads)
    seen, outcomes = Observations.empty(n, env.get_env_info()), Outcomes.empty(n, env.info_keys)
    env.reset(seen)
    row_of = _rows_by_creation(sc2_map)
    n_agents = sc2_map.n_agents
    actions = np.stack([_actions(sc2_map, episode, row_of) for episode in _padded(episodes)])
    side = Side([[] for _ in episodes], [{} for _ in episodes], [actions.shape[1]] * n)
    alive, over = np.ones((n, len(row_of)), bool), np.zeros(n, bool)
    for t in range(actions.shape[1]):
        _note_places(side, env, row_of, t * STEP_LOOPS)
        health, chosen = env.units["health"], actions[:, t].copy()
        targets = np.where(chosen >= ATTACK, chosen - ATTACK + n_agents, 0)
        heals = env.units["heals"][:, :n_agents] == 1
        target_dead = (chosen >= ATTACK) & ~heals & (np.take_along_axis(health, targets, 1) <= 0)
        chosen[target_dead] = STOP
        chosen[health[:, :n_agents] <= 0] = 0
        env.obey_all()
        env.step(chosen, seen, outcomes)
        now = env.units["health"][:, row_of] > 0
        for b, unit in np.argwhere(alive & ~now & ~over[:, None]):
            killer = env.units["killed_by"][b, row_of[unit]]
            side.deaths[b].append((t + 1, int(unit), int(np.argmax(np.array(row_of) == killer)) if killer >= 0 else -1))
        for b in np.flatnonzero(outcomes.terminated & ~over):
            side.n_steps[b] = t + 1
        alive, over = now, over | outcomes.terminated
    return side


def _rows_by_creation(sc2_map: SC2Map) -> list[int]:
    """The engine's row of each unit of a replay: agents by type and place, enemies as they were created."""
    created = starts(sc2_map.ally_spawns, sc2_map.grid, "agents")[0].units
    by_id = sorted(range(len(created)), key=lambda k: (sc2_map.ally_types.index(created[k][0]), *created[k][1:]))
    return [by_id.index(k) for k in range(len(created))] + [sc2_map.n_agents + k for k in range(sc2_map.n_enemies)]


def _padded(episodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    n_steps = max(-(-int(episode["end_loop"]) // STEP_LOOPS) for episode in episodes)
    for episode in episodes:
        yield {**episode, "n_steps": n_steps}


def _actions(sc2_map: SC2Map, episode: dict[str, Any], row_of: list[int]) -> np.ndarray:
    """[step, agent]"""
    actions = np.full((episode["n_steps"], sc2_map.n_agents), STOP)
    for loop, unit, kind, *rest in episode["cmds"]:
        step = loop // STEP_LOOPS
        if step >= len(actions) or row_of[unit] >= sc2_map.n_agents:
            continue
        if kind == "m":
            action = DIRECTIONS.get(str(rest[-1])[:1], STOP)
        elif kind == "a":
            action = ATTACK + row_of[rest[0]] - sc2_map.n_agents
        else:
            action = ATTACK + row_of[rest[0]] if kind == "h" else STOP
        actions[step, row_of[unit]] = action
    return actions


def _note_places(side: Side, env: BattleVectorEnv, row_of: list[int], loop: int) -> None:
    if loop <= FIRST_LOOPS:
        for b, units in enumerate(env.units):
            for unit, row in enumerate(row_of):
                if units["health"][row] > 0:
                    side.places[b][loop, unit] = (float(units["x"][row]), float(units["y"][row]))


# ------------------------------------------------------------------------------------------------ judging


def _judge(map_name: str, source: str, sides: list[Side]) -> Iterator[ReplayRow]:
    game, engine, other = sides
    n_agents = get_map(map_name).n_agents
    yield from _places(map_name, source, game, engine, other)
    for measure, figures in _figures(map_name, n_agents).items():
        values = [[figures(deaths, steps) for deaths, steps in zip(side.deaths, side.n_steps)] for side in sides]
        means = [float(np.mean([v for v in column if v is not None] or [np.nan])) for column in values]
        yield ReplayRow(map_name, source, measure, len(game.deaths), *means)
    pairs = [_kills(map_name, side) for side in sides]
    for pair in sorted(set().union(*pairs)):
        killed = [counts[pair] / len(game.deaths) for counts in pairs]
        yield ReplayRow(map_name, source, f"{pair}, per battle", len(game.deaths), *killed)


def _places(map_name: str, source: str, game: Side, engine: Side, other: Side) -> Iterator[ReplayRow]:
    """Distances from the game's places; "game" is 0 there, as no battle differs from itself."""
    n_agents = get_map(map_name).n_agents
    for measure, is_agent, loops in (
        ("agents' start, median distance", True, range(1)),
        ("agents' places to loop 48, median distance", True, range(1, FIRST_LOOPS + 1)),
        ("enemies' places to loop 48, median distance", False, range(FIRST_LOOPS + 1)),
    ):
        gaps: list[list[float]] = [[], []]
        for b, places in enumerate(game.places):
            for (loop, unit), (x, y) in places.items():
                if loop in loops and (unit < n_agents) == is_agent:
                    for column, side in zip(gaps, (engine, other), strict=True):
                        found = side.places[b].get((loop, unit))
                        if found:
                            column.append(float(np.hypot(found[0] - x, found[1] - y)))
        if gaps[0] and gaps[1]:
            medians = [float(np.median(column)) for column in gaps]
            yield ReplayRow(map_name, source, measure, len(gaps[0]), 0.0, *medians)


def _figures(map_name: str, n_agents: int) -> dict[str, Any]:
    """By measure: the figure of one battle from its deaths and steps, or None."""
    n_enemies = get_map(map_name).n_enemies

    def died(deaths: list, of_agents: bool) -> list[int]:
        """The steps in which units of a side died, in order."""
        return sorted(step for step, unit, _ in deaths if (unit < n_agents) == of_agents)

    def of_death(k: int, of_agents: bool) -> Callable[[list, int], int | None]:
        return lambda deaths, steps: next(iter(died(deaths, of_agents)[k - 1 :]), None)

    def times(side: str, n: int, of_agents: bool) -> dict[str, Any]:
        some = sorted({-(-n * part // MOST_DEATHS) for part in range(1, MOST_DEATHS + 1)})
        return {f"{side} death {k} of {n}, step": of_death(k, of_agents) for k in some}

    return {
        "steps": lambda deaths, steps: steps,
        "won": lambda deaths, steps: float(len(died(deaths, False)) == n_enemies),
        **times("enemies'", n_enemies, False),
        **times("agents'", n_agents, True),
        "enemies killed": lambda deaths, steps: len(died(deaths, False)),
        "agents lost": lambda deaths, steps: len(died(deaths, True)),
    }


def _kills(map_name: str, side: Side) -> Counter[str]:
    sc2_map = get_map(map_name)
    created = [spawn.type_name for spawn in sc2_map.ally_spawns for _ in range(spawn.n_units)]
    names = [f"agents' {name}" for name in created] + [f"enemies' {name}" for name in sc2_map.enemy_types]
    return Counter(
        f"{names[killer]} kills {names[unit]}" for deaths in side.deaths for _, unit, killer in deaths if killer >= 0
    )
