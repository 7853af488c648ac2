"""One step: whole battles recorded in StarCraft II, played again with the recorded actions and set right after each
step, so that every step starts from the recorded state. `policies.py` and `replays.py` are the other judges."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv, Moment
from envs.sc2.sim.maps import MAP_NAMES, PLAYABLE_AREA, get_map
from envs.sc2.sim.rules import Rules
from envs.sc2.sim.units import unit_data
from utils.errors import UserError

PARTS = ("first half", "second half")
"""Of the battles of a file: rules may be fitted to the first, and are checked on the second."""

REMEDY = "give a folder of SOURCE_MAP_....npz files with state, actions, reward and filled or mask"


class StepRow(NamedTuple):
    """How one step of the engine differs from the game's, and two steps of the engine from each other."""

    map: str
    source: str
    part: str  # of PARTS
    measure: str
    n: int  # steps, or units in steps
    engine: float
    spread: float  # the same between two plays of the engine with other seeds


class Battles(NamedTuple):
    """Recorded battles of one map from their first state on; [battle, step], steps after the end hold zeros."""

    map_name: str
    source: str
    moments: list[Moment]  # of each step, [battle, unit]
    actions: np.ndarray  # [battle, step, agent]
    reward: np.ndarray
    running: np.ndarray  # bool: there is a state after this step, too


class Played(NamedTuple):
    """What became of the recorded states, one step later; row by row the steps of all battles that were running."""

    battle: np.ndarray
    health: np.ndarray  # [row, unit]
    x: np.ndarray
    y: np.ndarray
    cooldown: np.ndarray  # [row, agent]
    reward: np.ndarray


def judge_steps(folder: Path, rules: Rules, maps: Sequence[str] = (), n_threads: int = 1) -> list[StepRow]:
    """The rows of all recorded battles in a folder, or of those on these maps.

    Raises:
        UserError: there is none, or a file is torn, of no known map or of another shape than the map's.
    """
    rows: list[StepRow] = []
    for path in sorted(folder.glob("*.npz")):
        battles = read_battles(path)
        if not maps or battles.map_name in maps:
            rows += _judge(battles, rules, n_threads)
    if not rows:
        raise UserError(f"{folder} holds no recorded battles of the given maps; {REMEDY}")
    return rows


# ------------------------------------------------------------------------------------------------ reading


def read_battles(path: Path) -> Battles:
    """The battles in a file that begin with a battle's first state; what others start from is not known in full.

    Raises:
        UserError: as `judge_steps`.
    """
    map_name = next((name for name in sorted(MAP_NAMES, key=len, reverse=True) if f"_{name}_" in path.name), None)
    if map_name is None:
        raise UserError(f"{path} names no map of the engine; {REMEDY}")
    try:
        with np.load(path, allow_pickle=False) as file:
            state, actions, reward = file["state"], file["actions"].astype(np.int64), file["reward"]
            filled = file["filled"] if "filled" in file else file["mask"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no file of recorded battles, or is torn; {REMEDY}") from error
    sc2_map = get_map(map_name)
    sizes, shields = _row_sizes(map_name), (sc2_map.ally_race == "P", sc2_map.enemy_race == "P")
    n_features = sum(sizes) + sc2_map.n_agents * (6 + sc2_map.n_enemies)
    if state.ndim != 3 or state.shape[2] != n_features or actions.shape != (*state.shape[:2], sc2_map.n_agents):
        raise UserError(f"{path} holds states {state.shape} and actions {actions.shape}, which do not fit {map_name}")
    starts = ~state[:, 0, sum(sizes) :].any(1)  # no last actions
    state, filled = state[starts], filled[starts] > 0
    moments = [_moment(state[:, t], map_name, sizes, shields) for t in range(state.shape[1])]
    running = np.zeros(filled.shape, bool)
    running[:, :-1] = filled[:, :-1] & filled[:, 1:]
    return Battles(map_name, path.stem.split("_")[0], moments, actions[starts], reward[starts], running)


def _row_sizes(map_name: str) -> tuple[int, int]:
    """How many features of the state tell of the agents, and of the enemies."""
    sc2_map = get_map(map_name)
    ally = 4 + (sc2_map.ally_race == "P") + sc2_map.unit_type_bits
    enemy = 3 + (sc2_map.enemy_race == "P") + sc2_map.unit_type_bits
    return sc2_map.n_agents * ally, sc2_map.n_enemies * enemy


def _moment(state: np.ndarray, map_name: str, sizes: tuple[int, int], shields: tuple[bool, bool]) -> Moment:
    """SMAC's state [battle, feature] in the engine's units."""
    sc2_map = get_map(map_name)
    ally = state[:, : sizes[0]].reshape(len(state), sc2_map.n_agents, -1)
    enemy = state[:, sizes[0] : sum(sizes)].reshape(len(state), sc2_map.n_enemies, -1)
    data = [unit_data()[name] for name in sc2_map.ally_types + sc2_map.enemy_types]
    size = PLAYABLE_AREA
    columns = [
        np.concatenate([ally[..., k], enemy[..., j]], axis=1).astype(np.float64) for k, j in ((0, 0), (2, 1), (3, 2))
    ]
    shield = [
        side[..., k] if has_shield else np.zeros(side.shape[:2])
        for side, k, has_shield in zip((ally, enemy), (4, 3), shields, strict=True)
    ]
    return Moment(
        x=sc2_map.pathing.shape[0] / 2 + size * columns[1],
        y=sc2_map.pathing.shape[1] / 2 + size * columns[2],
        health=np.round(columns[0] * [unit["hp"] for unit in data], 2),
        shield=np.concatenate(shield, axis=1) * [max(unit["shield"], 1) for unit in data],
        cooldown=ally[..., 1] * [unit["smac_unit_max_cooldown_allied"] for unit in data[: sc2_map.n_agents]],
    )


# ------------------------------------------------------------------------------------------------ playing


def play(battles: Battles, rules: Rules, seed: int = 0, n_threads: int = 1) -> Played:
    """Every recorded step, from the recorded state and with the recorded actions."""
    n = len(battles.actions)
    env = BattleVectorEnv(range(seed, seed + n), battles.map_name, rules=rules, n_threads=n_threads)
    seen, outcomes = Observations.empty(n, env.get_env_info()), Outcomes.empty(n, env.info_keys)
    env.reset(seen)
    rows: list[tuple[np.ndarray, ...]] = []
    for t in range(battles.actions.shape[1]):
        running = battles.running[:, t]
        if not running.any():
            break
        env.set_moment(battles.moments[t])
        env.obey_all()
        env.step(battles.actions[:, t], seen, outcomes)
        units = env.units[running]
        cooldown = np.maximum(units["cooldown"][:, : env.map.n_agents], 0)
        rows.append(
            (np.flatnonzero(running), units["health"], units["x"], units["y"], cooldown, outcomes.reward[running])
        )
    return Played(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _recorded(battles: Battles, shift: int) -> Played:
    """The recorded states in the order of `play`: those before (0) or after (1) each step."""
    rows: list[tuple[np.ndarray, ...]] = []
    for t in range(battles.actions.shape[1]):
        running = battles.running[:, t]
        if running.any():
            moment = battles.moments[t + shift]
            rows.append(
                (np.flatnonzero(running), moment.health[running], moment.x[running], moment.y[running],
                 moment.cooldown[running], battles.reward[running, t])
            )  # fmt: skip
    return Played(*(np.concatenate(column) for column in zip(*rows, strict=True)))


# ------------------------------------------------------------------------------------------------ judging


def _judge(battles: Battles, rules: Rules, n_threads: int) -> Iterator[StepRow]:
    first, other = (play(battles, rules, seed, n_threads) for seed in (0, len(battles.actions)))
    before, after = (_recorded(battles, shift) for shift in (0, 1))
    sc2_map = get_map(battles.map_name)
    engine = list(_differences(before, first, after, sc2_map.name, sc2_map.n_agents))
    spread = list(_differences(before, other, first, sc2_map.name, sc2_map.n_agents))
    in_second = before.battle >= len(battles.actions) // 2
    for part, rows in zip(PARTS, (~in_second, in_second), strict=True):
        for (measure, summary, values, counts), (_, _, values_2, counts_2) in zip(engine, spread, strict=True):
            chosen, chosen_2 = values[rows][counts[rows]], values_2[rows][counts_2[rows]]
            if len(chosen) and len(chosen_2):
                yield StepRow(
                    battles.map_name, battles.source, part, measure, len(chosen),
                    float(summary(chosen)), float(summary(chosen_2)),
                )  # fmt: skip


def _differences(before: Played, one: Played, two: Played, map_name: str, n_agents: int) -> Iterator[tuple]:
    """(measure, summary, values, which values count) of the difference between two outcomes of the same states."""
    agents, enemies = slice(None, n_agents), slice(n_agents, None)
    alive = (one.health > 0) & (two.health > 0)
    error = np.hypot(one.x - two.x, one.y - two.y)
    for side, units in (("agents", agents), ("enemies", enemies)):
        for share, word in ((0.5, "median"), (0.9, "90 %")):
            yield (
                f"{side}' position, {word}",
                lambda v, share=share: np.quantile(v, share),
                error[:, units],
                (alive[:, units]),
            )
    near, hurt = _contact(before, map_name, n_agents), np.zeros(len(one.health), bool)
    for played in (one, two):
        hurt |= (played.health < before.health).any(1)
    off = np.abs(one.health - two.health)
    yield "health equal without contact", np.mean, (off < 0.5).all(1), ~near
    yield "health within one shot in contact", np.mean, (off <= _one_shot(map_name) + 0.1).all(1), near & hurt
    cooldown = np.abs(one.cooldown - two.cooldown)
    yield "agents' cooldown, median", np.median, cooldown, alive[:, agents]
    yield "reward equal", np.mean, np.abs(one.reward - two.reward) < 1e-3, np.ones(len(near), bool)
    yield "the same dead", np.mean, ((one.health > 0) == (two.health > 0)).all(1), np.ones(len(near), bool)


def _contact(before: Played, map_name: str, n_agents: int) -> np.ndarray:
    """bool [row]: some agent and enemy can come into range of each other within the step."""
    sc2_map = get_map(map_name)
    data = [unit_data()[name] for name in {*sc2_map.ally_types, *sc2_map.enemy_types}]
    reach = max(weapon["range"] for unit in data for weapon in unit["weapons"]) + 2 * max(u["radius"] for u in data)
    reach += max(unit["speed_per_normal_second"] for unit in data) / 2
    dx, dy = (axis[:, :n_agents, None] - axis[:, None, n_agents:] for axis in (before.x, before.y))
    alive = before.health > 0
    return ((np.hypot(dx, dy) <= reach) & alive[:, :n_agents, None] & alive[:, None, n_agents:]).any((1, 2))


def _one_shot(map_name: str) -> float:
    """The most that one attack on this map can take."""
    sc2_map = get_map(map_name)
    return max(
        (weapon["damage_per_hit"] + sum(weapon["bonus"].values())) * weapon["hits_per_attack"]
        for name in {*sc2_map.ally_types, *sc2_map.enemy_types}
        for weapon in unit_data()[name]["weapons"]
    )
