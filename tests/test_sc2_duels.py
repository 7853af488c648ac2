"""One unit shoots, another one lets itself be shot: damage, number of shots and times of all pairs of the SMAC maps.

The tables are worked out by hand from StarCraft II's numbers; the engine reads the same numbers from its data.
"""

from math import ceil, floor
from typing import NamedTuple

import numpy as np
import pytest

from envs.sc2.sim import records, weapons
from envs.sc2.sim.maps import MAP_NAMES, get_map
from envs.sc2.sim.units import unit_data, unit_types
from tests.scenes import ATTACK, EAST, STOP, Scene, edges_apart, loops_of_loss


class Duel(NamedTuple):
    """Strikes are the loops in which the victim is hurt: two per attack of a zealot; a colossus's beams strike at once,
    for twice the damage."""

    damage: float  # of one hit to life
    shield_damage: float | None  # None: the victim has no shield
    strikes: int  # until a whole victim is dead, which regenerates meanwhile if it is zerg
    strikes_unshielded: int


DUELS = {
    # 45 = 7 * 6 + 3
    ("Marine", "Marine"): Duel(6, None, 8, 8),
    # armor 1: 125 = 25 * 5, 150 = 30 * 5
    ("Marine", "Marauder"): Duel(5, None, 25, 25),
    ("Marine", "Medivac"): Duel(5, None, 30, 30),
    # 50 = 8 * 6 + 2, so that the ninth shot takes 2 and 4 - 1; 97 = 19 * 5 + 2; 100 = 20 * 5
    ("Marine", "Zealot"): Duel(5, 6, 29, 20),
    # 45 = 4 * 10 + 5; 10 + 10 - 1 against armored: 125 = 6 * 19 + 11
    ("Marauder", "Marine"): Duel(10, None, 5, 5),
    ("Marauder", "Marauder"): Duel(19, None, 7, 7),
    # 50 = 3 * 13 + 11, the fourth takes 11 and 2 - 1; 99 = 8 * 12 + 3; 100 = 8 * 12 + 4
    ("Stalker", "Zealot"): Duel(12, 13, 13, 9),
    # 13 + 5 against armored: 80 = 4 * 18 + 8, the fifth takes 8 and 10 - 1; 71 = 4 * 17 + 3; 80 = 4 * 17 + 12
    ("Stalker", "Stalker"): Duel(17, 18, 10, 5),
    # 150 = 8 * 18 + 6, the ninth takes 6 and 12 - 1; 189 = 11 * 17 + 2; 200 = 11 * 17 + 13
    ("Stalker", "Colossus"): Duel(17, 18, 21, 12),
    # armor 2: 300 = 18 * 16 + 12, and it regenerates about 10 in 18 * 31 loops
    ("Stalker", "SpineCrawler"): Duel(16, None, 20, 20),
    # 45 = 5 * 8 + 5
    ("Zealot", "Marine"): Duel(8, None, 6, 6),
    # 50 = 6 * 8 + 2, the seventh takes 2 and 6 - 1; 95 = 13 * 7 + 4; 100 = 14 * 7 + 2
    ("Zealot", "Zealot"): Duel(7, 8, 21, 15),
    # 80 = 10 * 8; 80 = 11 * 7 + 3
    ("Zealot", "Stalker"): Duel(7, 8, 22, 12),
    # 150 = 18 * 8 + 6, the nineteenth takes 6 and 2 - 1; 199 = 28 * 7 + 3; 200 = 28 * 7 + 4
    ("Zealot", "Colossus"): Duel(7, 8, 48, 29),
    # 35 = 4 * 8 + 3; 30 = 3 * 8 + 6; 90 = 11 * 8 + 2, and it regenerates less than two points meanwhile
    ("Zealot", "Zergling"): Duel(8, None, 5, 5),
    ("Zealot", "Baneling"): Duel(8, None, 4, 4),
    ("Zealot", "Hydralisk"): Duel(8, None, 12, 12),
    # 10 + 5 against light: 50 = 3 * 15 + 5, the fourth hit takes 5 and 10 - 1; 91 = 6 * 14 + 7: eleven hits; 100: eight
    ("Colossus", "Zealot"): Duel(14, 15, 6, 4),
    # 80 = 8 * 10; 80 = 8 * 9 + 8: 17 hits, and nine
    ("Colossus", "Stalker"): Duel(9, 10, 9, 5),
    # 150 = 15 * 10; 200 = 22 * 9 + 2: 38 hits, and 23
    ("Colossus", "Colossus"): Duel(9, 10, 19, 12),
    # 35 = 2 * 15 + 5
    ("Colossus", "Zergling"): Duel(15, None, 2, 2),
    # 50 = 10 * 5, 150 = 30 * 5; armor 1: 100 = 25 * 4, 200 = 50 * 4
    ("Zergling", "Zealot"): Duel(4, 5, 35, 25),
    ("Zergling", "Colossus"): Duel(4, 5, 80, 50),
    # 35 = 7 * 5 and 30 = 6 * 5, and both regenerate about a point meanwhile
    ("Zergling", "Zergling"): Duel(5, None, 8, 8),
    ("Zergling", "Baneling"): Duel(5, None, 7, 7),
    # 50 = 4 * 12 + 2, the fifth takes 2 and 10 - 1; 91 = 8 * 11 + 3; 100 = 9 * 11 + 1
    ("Hydralisk", "Zealot"): Duel(11, 12, 14, 10),
    # 25 + 5 against armored: 80 = 2 * 30 + 20, the third takes 20 and 10 - 1; 71 = 2 * 29 + 13; 80 = 2 * 29 + 22
    ("SpineCrawler", "Stalker"): Duel(29, 30, 6, 3),
    # explosions of as many banelings; 20 + 15 against light: 50 = 35 + 15, the second takes 15 and 20 - 1;
    # 81 = 2 * 34 + 13; 100 = 2 * 34 + 32
    ("Baneling", "Zealot"): Duel(34, 35, 5, 3),
    ("Baneling", "Zergling"): Duel(35, None, 1, 1),
    ("Baneling", "Baneling"): Duel(20, None, 2, 2),
}

REFUSED = {("Marauder", "Medivac"), ("Medivac", "Marine"), ("Medivac", "Marauder"), ("Medivac", "Medivac")}
"""Pairs that meet and of which the first can't attack the second."""

PERIOD = {  # loops from one attack to the next, before the random delay of -1 to 2
    "Marine": 0.8608 * 16,
    "Marauder": 1.5 * 16,
    "Stalker": 1.87 * 16,
    "Zealot": 1.2 * 16,
    "Colossus": 1.5 * 16,
    "Zergling": 0.696 * 16,
    "Hydralisk": 0.83 * 16,
    "SpineCrawler": 1.85 * 16,
}
SECOND_HIT = 5  # loops after a zealot's first one: 0.28 s are 4.48 loops
MELEE = ("Zealot", "Zergling", "Baneling")


def duel(attacker: str, victim: str, agent_attacks: bool, gap: float | None = None, **arguments) -> Scene:
    """The attacker is about to attack, of its own will if it is the enemy; `gap` is from edge to edge."""
    gap = (0.05 if attacker in MELEE else 4) if gap is None else gap
    where, there = (16, 16), (16 + edges_apart(gap, attacker, victim), 16)
    if agent_attacks:
        scene = Scene([where], [there], ally_type=attacker, enemy_type=victim, **arguments)
        scene.enemies["acquires"] = 0
        scene.order(ATTACK)
    else:
        scene = Scene([there], [where], ally_type=victim, enemy_type=attacker, **arguments)
        scene.allies["free_fire"] = 0
    return scene


def victim_of(scene: Scene, agent_attacks: bool) -> np.ndarray:
    return (scene.enemies if agent_attacks else scene.allies)[0]


SHOOTING = [
    (attacker, victim, agent_attacks)
    for attacker, victim in DUELS
    for agent_attacks in (True, False)
    if attacker != "Baneling" and (attacker if agent_attacks else victim) != "SpineCrawler"  # which no agent is
]


def test_the_table_has_all_pairs_of_opponents_on_the_maps():
    pairs = set()
    for sc2_map in map(get_map, MAP_NAMES):
        for ally in sc2_map.ally_types:
            for enemy in sc2_map.enemy_types:
                pairs |= {(ally, enemy), (enemy, ally)}
    assert pairs == set(DUELS) | REFUSED


@pytest.mark.parametrize(("attacker", "victim"), DUELS)
def test_damage_of_a_hit(attacker, victim):
    """Bonus against matching attributes, less armor; shields come first and have none."""
    expected = DUELS[attacker, victim]
    assert hit(attacker, victim) == (0, expected.damage)
    if expected.shield_damage is not None:
        assert hit(attacker, victim, shield=100) == (expected.shield_damage, 0)


def test_what_a_shield_leaves_is_reduced_by_armor():
    assert hit("Stalker", "Stalker", shield=3) == (3, 18 - 3 - 1)


def test_a_hit_takes_at_least_half_a_point():
    assert hit("Marine", "Zealot", armor=10) == (0, 0.5)
    assert hit("Marine", "Zealot", armor=5.75) == (0, 0.5)


def hit(attacker: str, victim: str, shield: float = 0, armor: float | None = None) -> tuple[float, float]:
    """(shield, health) that one hit takes from a victim of 1000 health."""
    types = unit_types([attacker, victim])
    if armor is not None:
        types["armor"][1] = armor
    unit = np.zeros(1, records.UNIT)
    unit["type"], unit["health"], unit["shield"] = 1, 1000, shield
    weapons.hit(unit[0], types[0], types[1])
    return shield - unit["shield"][0], 1000 - unit["health"][0]


@pytest.mark.parametrize("has_shield", [True, False], ids=["whole", "unshielded"])
@pytest.mark.parametrize(("attacker", "victim", "agent_attacks"), SHOOTING)
def test_shots_and_time_to_kill(attacker, victim, agent_attacks, has_shield):
    expected = DUELS[attacker, victim]
    n_strikes = expected.strikes if has_shield else expected.strikes_unshielded
    scene = duel(attacker, victim, agent_attacks)
    unit = victim_of(scene, agent_attacks)
    if not has_shield:
        unit["shield"], unit["shield_wait"] = 0, 160
    strikes = loops_of_loss(scene, unit, 1200)
    assert unit["health"] == 0
    assert len(strikes) == n_strikes
    per_attack = 2 if attacker == "Zealot" else 1
    n_periods, is_second = divmod(n_strikes - 1, per_attack)
    first_to_last = strikes[-1] - strikes[0] - is_second * SECOND_HIT
    assert n_periods * (PERIOD[attacker] - 1) - 1 <= first_to_last <= n_periods * (PERIOD[attacker] + 2) + 1


@pytest.mark.parametrize("attacker", PERIOD)
def test_time_between_attacks(attacker):
    """A period and a uniform delay of -1 to 2 loops; what is left of a loop counts for the next attack."""
    scene = duel(attacker, "Marauder", agent_attacks=False, ally_health=1e6)
    attacks = loops_of_loss(scene, scene.allies[0], 300 * ceil(PERIOD[attacker]))
    if attacker == "Zealot":
        assert set(np.subtract(attacks[1::2], attacks[:-1:2])) == {SECOND_HIT}
        attacks = attacks[::2]
    gaps = np.diff(attacks)
    assert floor(PERIOD[attacker] - 1) <= gaps.min() <= ceil(PERIOD[attacker] - 1)
    assert floor(PERIOD[attacker] + 2) <= gaps.max() <= ceil(PERIOD[attacker] + 2)
    assert np.mean(gaps) == pytest.approx(PERIOD[attacker] + 0.5, abs=0.15)


@pytest.mark.parametrize(
    ("attacker", "gap", "loop"),
    [
        # a wind-up of w loops that begins in loop 1 ends in loop 1 + w, to the nearest loop
        ("Marine", 4, 2),
        ("Zealot", 0.05, 1),
        ("Zergling", 0.05, 1 + 3),
        ("Baneling", 0.2, 1),
        ("Hydralisk", 0.5, 1 + 5),  # by its claws
        # beams hit the target 6 loops after the shot
        ("Colossus", 4, 1 + 1 + 6),
        # missiles fly from the shooter's centre to the target's edge, their first stretch in the loop of the shot
        ("Marauder", 4, 1 + 4 - 1),  # 4.5625 at 1.25 a loop
        ("Marauder", 6, 1 + 6 - 1),  # 6.5625 at 1.25
        ("Stalker", 4, 1 + 3 + 4 - 1),  # 4.625 at 1.17
        ("Stalker", 6, 1 + 3 + 6 - 1),  # 6.625 at 1.17
        ("Hydralisk", 0.51, 1 + 3 + 1 - 1),  # 1.135 at 2.5
        ("Hydralisk", 4, 1 + 3 + 2 - 1),  # 4.625 at 2.5
        ("SpineCrawler", 4, 1 + 5 + 2 - 1),  # 4.875 at 2.5
        ("SpineCrawler", 7, 1 + 5 + 4 - 1),  # 7.875 at 2.5
    ],
)
def test_wind_up_and_flight(attacker, gap, loop):
    for agent_attacks in (False,) if attacker == "SpineCrawler" else (True, False):
        scene = duel(attacker, "Marauder", agent_attacks, gap=gap)
        assert loops_of_loss(scene, victim_of(scene, agent_attacks), loop) == [loop]


RANGE = {
    "Marine": 5,
    "Marauder": 6,
    "Stalker": 6,
    "Zealot": 0.1,
    "Colossus": 7,
    "Zergling": 0.1,
    "Hydralisk": 5,
    "SpineCrawler": 7,
    "Baneling": 0.25,
}


@pytest.mark.parametrize("attacker", RANGE)
def test_range_is_from_edge_to_edge(attacker):
    for gap, in_range in ((RANGE[attacker] - 0.001, True), (RANGE[attacker] + 0.001, False)):
        scene = duel(attacker, "Marauder", agent_attacks=False, gap=gap)
        unit = scene.enemies[0]
        scene.loop()
        assert (unit["shooting_at"] == 0 or unit["cooldown"] != 0 or unit["health"] == 0) == in_range


@pytest.mark.parametrize(
    ("attacker", "slop", "n_loops"),
    [("Marine", 1, 2), ("Stalker", 1, 11), ("Zergling", 1, 5), ("Colossus", 0, 8), ("SpineCrawler", 0, 11)],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_shot_in_preparation_reaches_as_far_as_the_slop(attacker, slop, n_loops, inside):
    scene = duel(attacker, "Marauder", agent_attacks=False)
    scene.loop()
    reach = RANGE[attacker] + slop + (-0.001 if inside else 0.001)
    scene.allies["x"] = 16 + edges_apart(reach, attacker, "Marauder")
    scene.loop(n_loops - 1)
    assert (scene.allies["health"][0] < 125) == inside


@pytest.mark.parametrize("has_shield", [True, False], ids=["whole", "unshielded"])
@pytest.mark.parametrize("victim", [victim for attacker, victim in DUELS if attacker == "Baneling"])
def test_how_many_banelings_kill(victim, has_shield):
    expected = DUELS["Baneling", victim]
    n_needed = expected.strikes if has_shield else expected.strikes_unshielded
    distance = edges_apart(0.2, "Baneling", victim)
    for n_banelings in (n_needed - 1, n_needed):
        around = [(10 + distance * np.cos(k), 10 + distance * np.sin(k)) for k in range(n_banelings)]
        scene = Scene([*around, (2, 2)], [(10, 10)], ally_type="Baneling", enemy_type=victim)
        scene.enemies["acquires"] = 0
        if not has_shield:
            scene.enemies["shield"], scene.enemies["shield_wait"] = 0, 160
        scene.order(*[ATTACK] * n_banelings, STOP)
        scene.loop()
        assert scene.allies["health"].tolist() == [0] * n_banelings + [30]
        assert (scene.enemies["health"][0] == 0) == (n_banelings == n_needed)


@pytest.mark.parametrize("attacker", ["Marauder", "Zealot", "Zergling", "Baneling", "Colossus"])
@pytest.mark.parametrize("before", [STOP, EAST])
def test_the_order_to_attack_what_the_weapon_cannot_reach_changes_nothing(attacker, before):
    scene = Scene([(10, 10)], [(10.9, 10.9), (30, 30)], ally_type=attacker, enemy_type=["Medivac", "Marine"])
    scene.order(before)
    scene.loop()
    was = scene.units.copy()
    scene.order(ATTACK)
    assert np.array_equal(scene.units, was)
    scene.loop(60)
    assert scene.enemies["health"].tolist() == [150, 45]
    assert scene.allies["health"][0] == unit_data()[attacker]["hp"]
    assert scene.allies["x"][0] == (10 if before == STOP else pytest.approx(12))


@pytest.mark.parametrize("enemy", ["Marauder", "Zealot", "Zergling", "Baneling", "Colossus", "SpineCrawler", "Medivac"])
def test_enemies_ignore_what_their_weapon_cannot_reach(enemy):
    scene = Scene([(10, 10)], [(12, 10)], ally_type="Medivac", enemy_type=enemy)
    scene.loop(40)
    assert scene.enemies["target"][0] == records.NO_UNIT
    assert (scene.enemies["x"][0], scene.allies["health"][0]) == (12, 150)


@pytest.mark.parametrize("attacker", ["Marine", "Stalker", "Hydralisk"])
def test_who_reaches_the_air_shoots_a_medivac(attacker):
    scene = duel(attacker, "Medivac", agent_attacks=False)
    scene.loop(40)
    assert scene.allies["health"][0] < 150


@pytest.mark.parametrize("enemy", ["Zealot", "Zergling", "Stalker", "Colossus"])
def test_a_colossus_is_reached_from_the_ground(enemy):
    scene = duel(enemy, "Colossus", agent_attacks=False)
    scene.loop(40)
    assert scene.allies["shield"][0] < 150
