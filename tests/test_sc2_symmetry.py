"""Battles that must not depend on the side, the numbers or the place of units: mirrored and renumbered ones."""

import numpy as np
import pytest

from envs.sc2.sim import records
from tests.scenes import Scene

ARMY = [(9.1, 14.2), (9.3, 15.9), (7.4, 16.1), (9.6, 17.7), (7.9, 14.3)]
OTHER_ARMY = [(22.7, 13.7), (23.6, 15.4), (22.1, 16.8), (23.8, 17.9), (25.1, 16.2)]
ARMIES = {
    "marines": ["Marine"] * 5,
    "2s3z": ["Stalker"] * 2 + ["Zealot"] * 3,
    "MMM": ["Marauder"] * 2 + ["Marine"] * 2 + ["Medivac"],
    "bane": ["Baneling"] * 2 + ["Zergling"] * 3,
    "1c3s5z": ["Colossus"] + ["Stalker"] * 2 + ["Zealot"] * 2,
    "hydralisks": ["Hydralisk"] * 5,
}


def melee(seed: int, army: str, passing_side: str = "right") -> Scene:
    """Two armies that both march on each other."""
    types, rules = ARMIES[army], {"passing_side": passing_side}
    scene = Scene(ARMY, OTHER_ARMY, enemy_goal=(9, 16), ally_type=types, enemy_type=types, seed=seed, rules=rules)
    scene.allies["acquires"] = 1
    scene.allies["order"], scene.allies["goal_x"], scene.allies["goal_y"] = records.ATTACK_MOVE, 23, 16
    return scene


def renumber(scene: Scene, numbers: np.ndarray) -> None:
    """Gives unit `numbers[k]` the number k, wherever units are named. Teams follow from numbers."""
    battle = scene.battle
    units = battle.units[0, numbers].copy()
    units["team"] = battle.units[0]["team"]
    new_number = np.append(np.argsort(numbers), records.NO_UNIT)  # NO_UNIT is -1 and stays
    for name in ("target", "shooting_at", "chases"):
        units[name] = new_number[units[name]]
    battle.units[0] = units
    battle._sequences[0] = new_number[battle._sequences[0]]


def mirror(units: np.ndarray) -> None:
    """Swaps x and y, the one reflection that is exact in floating point."""
    for prefix in ("", "goal_", "home_"):
        units[f"{prefix}x"], units[f"{prefix}y"] = units[f"{prefix}y"].copy(), units[f"{prefix}x"].copy()


def assert_alike(scene: Scene, other: Scene, numbers: np.ndarray, x: str = "x", y: str = "y") -> None:
    units, others = scene.battle.units[0, numbers], other.battle.units[0]
    np.testing.assert_array_equal(units["health"], others["health"])
    np.testing.assert_allclose(units["x"], others[x], atol=1e-9)
    np.testing.assert_allclose(units["y"], others[y], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("army", ARMIES)
def test_a_mirrored_battle_is_won_by_the_mirrored_side(army, seed):
    """In a mirror friends pass on the other side."""
    scene, mirrored = melee(seed, army), melee(seed, army, passing_side="left")
    numbers = np.roll(np.arange(10), 5)  # swaps the teams
    renumber(mirrored, numbers)
    mirror(mirrored.units)
    for _ in range(80):
        scene.loop(8)
        mirrored.loop(8)
        assert_alike(scene, mirrored, numbers, x="y", y="x")
    assert (scene.units["health"] == 0).sum() >= 3  # they have fought


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("army", ARMIES)
def test_units_of_other_numbers_fight_the_same_battle(army, seed):
    scene, renumbered = melee(seed, army), melee(seed, army)
    rng = np.random.default_rng(seed)
    numbers = np.concatenate([rng.permutation(5), 5 + rng.permutation(5)])
    renumber(renumbered, numbers)
    for _ in range(80):
        scene.loop(8)
        renumbered.loop(8)
        assert_alike(scene, renumbered, numbers)
    assert (scene.units["health"] == 0).sum() >= 3
