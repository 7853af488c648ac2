"""Battles drawn for tests: units stand where a test puts them, on open ground or between drawn walls."""

from typing import Any
from unittest.mock import patch

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim import env as sim
from envs.sc2.sim.maps import Spawn, get_map
from envs.sc2.sim.rules import Rules

Point = tuple[float, float]
STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6  # ATTACK + k: enemy k
OPEN_GROUND = np.ones((32, 32), bool)


class Scene:
    """One battle of units of one type per side, from the moment of creation."""

    def __init__(
        self,
        allies: list[Point],
        enemies: list[Point],
        pathing: np.ndarray = OPEN_GROUND,
        enemy_goal: Point | None = None,
        enemy_type: str = "Marine",
        ally_health: float | None = None,
        enemy_health: float | list[float] | None = None,
        seed: int = 0,
        rules: dict[str, Any] | None = None,
        **options: Any,
    ):
        """`enemy_goal`: the point that the enemies march to; None: they stand. Health: None is what the type has."""
        order = {"kind": "none"} if enemy_goal is None else {"kind": "attack_move_to_point", "point": enemy_goal}
        drawn = get_map("3m")._replace(
            name="scene",
            ally_types=["Marine"] * len(allies),
            enemy_types=[enemy_type] * len(enemies),
            enemy_race="P" if enemy_type in ("Zealot", "Stalker", "Colossus") else "T",
            ally_spawns=[Spawn(1, "Marine", point) for point in allies],
            enemy_spawns=[Spawn(1, enemy_type, point) for point in enemies],
            enemy_order=order,
            pathing=np.ascontiguousarray(pathing),
        )
        rules = {"spawn_age_loops": 0} | (rules or {})
        with patch.multiple(sim, MAP_NAMES=("scene",), get_map=lambda name: drawn):
            self.battle = sim.BattleVectorEnv([seed], map_name="scene", rules=Rules(**rules), **options)
        fresh = self.battle._fresh_units
        fresh["x"], fresh["y"] = fresh["home_x"], fresh["home_y"] = np.transpose(allies + enemies)
        if ally_health is not None:
            fresh["health"][: len(allies)] = ally_health
        if enemy_health is not None:
            fresh["health"][len(allies) :] = enemy_health
        self.seen = Observations.empty(1, self.battle.get_env_info())
        self.outcomes = Outcomes.empty(1, self.battle.info_keys)
        self.battle.reset(self.seen)

    @property
    def allies(self) -> np.ndarray:
        """The agents' records, to read and to write."""
        return self.battle.units[0, : self.battle.map.n_agents]

    @property
    def enemies(self) -> np.ndarray:
        return self.battle.units[0, self.battle.map.n_agents :]

    def order(self, *actions: int) -> None:
        """Gives the agents' orders, available or not, and lets no time pass."""
        allowed = np.ones_like(self.seen.avail_actions)
        worlds = np.ones(1, bool)
        sim.dynamics.give_orders(self.battle.units, np.array([actions]), allowed, worlds, self.battle.move_amount)

    def loop(self, n_loops: int = 1) -> None:
        """Plays game loops without new orders."""
        self.battle._play(np.ones(1, bool), n_loops)

    def step(self, *actions: int) -> float:
        """Plays one environment step; gives the reward."""
        self.battle.step(np.array([actions]), self.seen, self.outcomes)
        return float(self.outcomes.reward[0])

    @property
    def is_over(self) -> bool:
        return bool(self.outcomes.terminated[0] or self.outcomes.truncated[0])


def draw(picture: str, **arguments: Any) -> Scene:
    """A scene from rows, the northern one first: `a` agent, `e` enemy, `.` ground, `X` wall; units stand amid cells."""
    rows = picture.split()[::-1]
    cells = np.array([list(row) for row in rows]).T
    where = {mark: [(x + 0.5, y + 0.5) for x, y in np.argwhere(cells == mark)] for mark in "ae"}
    return Scene(where["a"], where["e"], pathing=cells != "X", **arguments)


def loops_of_loss(scene: Scene, victim: np.ndarray, n_loops: int) -> list[int]:
    """In which of the next loops the unit loses health."""
    losses = []
    for n in range(1, n_loops + 1):
        before = float(victim["health"])
        scene.loop()
        if victim["health"] < before:
            losses.append(n)
    return losses
