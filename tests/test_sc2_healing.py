"""What gives units back what they lost: medivacs, shields, the regeneration of zerg; and what is paid for it.

Numbers are StarCraft II's, worked out by hand.
"""

import numpy as np
import pytest

from envs.sc2.sim.records import ATTACK as HEALS
from envs.sc2.sim.records import IDLE, NO_UNIT
from envs.sc2.sim.units import unit_data
from tests.scenes import ATTACK, EAST, STOP, WEST, Scene, edges_apart

HEAL = 9 / 16  # per loop
ENERGY_PER_HEALTH = 0.33
ENERGY = 0.5625 / 16  # per loop
ZERG = 0.2734 / 16  # health per loop
FAR = (30.0, 30.0)
PATIENT, MEDIVAC = 0, 1

# ------------------------------------------------------------------------------------------------ an agent's medivac


def hospital(gap: float = 2, patient: str = "Marine", health: float = 5, energy: float = 50) -> Scene:
    """A patient of the agents and a medivac, `gap` apart from edge to edge; the enemy is far off."""
    there = 10 + edges_apart(gap, patient, "Medivac")
    scene = Scene([(10, 10), (there, 10)], [FAR], ally_type=[patient, "Medivac"], ally_health=[health, 150])
    scene.allies["energy"][MEDIVAC] = energy
    return scene


@pytest.mark.parametrize("patient", ["Marine", "Marauder", "Zealot"])
def test_healing_gives_nine_health_a_second_for_a_third_of_the_energy(patient):
    scene = hospital(patient=patient)
    scene.order(STOP, ATTACK + PATIENT)
    scene.loop(48)
    assert scene.allies["health"][PATIENT] == pytest.approx(5 + 27)
    assert scene.allies["energy"][MEDIVAC] == pytest.approx(50 - 27 * ENERGY_PER_HEALTH + 48 * ENERGY)
    assert scene.allies["x"][MEDIVAC] == 10 + edges_apart(2, patient, "Medivac")


@pytest.mark.parametrize(("gap", "moves"), [(3.999, False), (4.001, True)])
def test_healing_reaches_four_from_edge_to_edge(gap, moves):
    scene = hospital(gap)
    scene.order(STOP, ATTACK + PATIENT)
    x = scene.allies["x"][MEDIVAC]
    scene.loop()
    assert (scene.allies["health"][PATIENT] == 5, scene.allies["x"][MEDIVAC] < x) == (moves, moves)
    scene.loop(8)
    assert scene.allies["health"][PATIENT] > 5


def test_a_medivac_follows_its_patient_and_heals_on_the_way():
    scene = hospital()
    scene.allies["x"] += 14
    scene.allies["health_max"][PATIENT] = 1000
    for _ in range(18):
        scene.order(WEST, ATTACK + PATIENT)
        scene.loop(8)
    assert scene.allies["x"][PATIENT] == pytest.approx(24 - 18 * 1.125)
    assert scene.allies["x"][MEDIVAC] - scene.allies["x"][PATIENT] <= edges_apart(4, "Marine", "Medivac")
    assert scene.allies["health"][PATIENT] == pytest.approx(5 + 18 * 8 * HEAL)


def test_a_medivac_is_idle_when_its_patient_is_well():
    scene = hospital(health=40)
    scene.order(STOP, ATTACK + PATIENT)
    scene.loop(8)  # 4.5 of 5
    assert scene.allies["order"][MEDIVAC] == HEALS
    scene.loop(2)
    assert scene.allies["health"][PATIENT] == 45
    assert (scene.allies["order"][MEDIVAC], scene.allies["target"][MEDIVAC]) == (IDLE, NO_UNIT)
    scene.allies["health"][PATIENT], scene.allies["x"][PATIENT] = 20, 2
    where = scene.allies["x"][MEDIVAC]
    scene.loop(40)
    assert (scene.allies["health"][PATIENT], scene.allies["x"][MEDIVAC]) == (20, where)


def test_the_last_bit_of_health_costs_a_bit_of_energy():
    scene = hospital(health=44.9)
    scene.order(STOP, ATTACK + PATIENT)
    scene.loop()
    assert scene.allies["health"][PATIENT] == 45
    assert scene.allies["energy"][MEDIVAC] == pytest.approx(50 + ENERGY - 0.1 * ENERGY_PER_HEALTH)


def test_a_medivac_is_idle_when_its_patient_is_dead():
    scene = hospital()
    scene.order(STOP, ATTACK + PATIENT)
    scene.loop(4)
    scene.allies["health"][PATIENT] = 0
    scene.loop()
    assert scene.allies["order"][MEDIVAC] == IDLE
    assert scene.allies["health"][PATIENT] == 0


def test_a_medivac_is_idle_when_its_energy_is_spent():
    scene = hospital(energy=1)
    scene.order(STOP, ATTACK + PATIENT)
    scene.loop(16)
    assert scene.allies["order"][MEDIVAC] == IDLE
    assert 3 <= scene.allies["health"][PATIENT] - 5 <= 4.2  # 1 / 0.33, and what has come in meanwhile
    health = scene.allies["health"][PATIENT]
    scene.loop(40)
    assert scene.allies["health"][PATIENT] == health
    scene.order(STOP, ATTACK + PATIENT)  # with what has come in since
    scene.loop(40)
    assert 40 * ENERGY / ENERGY_PER_HEALTH <= scene.allies["health"][PATIENT] - health <= 7


def test_energy_is_never_below_zero_nor_above_two_hundred():
    scene = hospital(energy=0.3)
    scene.order(STOP, ATTACK + PATIENT)
    for _ in range(20):
        scene.loop()
        assert scene.allies["energy"][MEDIVAC] >= 0
    scene.allies["energy"][MEDIVAC] = 200 - 8 * ENERGY
    scene.order(STOP, STOP)
    for n in range(1, 9):
        scene.loop()
        assert scene.allies["energy"][MEDIVAC] == pytest.approx(200 - (8 - n) * ENERGY)
    scene.allies["energy"][MEDIVAC] = 199.99
    scene.loop(20)
    assert scene.allies["energy"][MEDIVAC] == 200


@pytest.mark.parametrize(
    ("patient", "health", "energy"),
    [("Stalker", 5, 50), ("Marine", 45, 50), ("Marine", 0, 50), ("Marine", 5, 0.1)],
    ids=["mechanical", "healthy", "dead", "no energy"],
)
def test_an_order_to_heal_that_makes_no_sense_changes_nothing(patient, health, energy):
    scene = hospital(patient=patient, health=health, energy=energy)
    scene.order(STOP, EAST)
    was = scene.units.copy()
    scene.order(STOP, ATTACK + PATIENT)
    assert np.array_equal(scene.units, was)


def test_a_medivac_does_not_heal_itself_or_another():
    scene = Scene([(10, 10), (12, 10)], [FAR], ally_type="Medivac", ally_health=100)
    scene.order(ATTACK + 0, ATTACK + 0)
    scene.loop(16)
    assert scene.allies["health"].tolist() == [100, 100]


def test_an_agents_medivac_heals_on_orders_only():
    scene = hospital()
    scene.loop(40)
    assert scene.allies["health"][PATIENT] == 5


def test_the_state_tells_the_energy():
    scene = hospital()
    row = 4 + 3  # health, energy or cooldown, x, y, three types
    assert scene.seen.state[0, row * MEDIVAC + 1] == 50 / 200
    scene.step(STOP, ATTACK + PATIENT)
    assert scene.seen.state[0, row * MEDIVAC + 1] == pytest.approx((50 + 8 * (ENERGY - HEAL * ENERGY_PER_HEALTH)) / 200)


def test_a_medivac_takes_a_second_to_reach_its_speed():
    """2.3125 / 16^2 more per loop, up to 2.5 / 16: 17 loops."""
    scene = hospital()
    start, more, most = float(scene.allies["x"][MEDIVAC]), 2.3125 / 256, 2.5 / 16
    scene.order(STOP, EAST)
    scene.loop(8)
    assert scene.allies["x"][MEDIVAC] == pytest.approx(start + more * 36)
    scene.order(STOP, EAST)
    scene.loop(8)
    scene.order(STOP, EAST)
    scene.loop(8)
    assert scene.allies["x"][MEDIVAC] == pytest.approx(start + more * 153 + 7 * most)


def test_a_medivac_that_stood_starts_from_rest():
    scene = hospital()
    scene.order(STOP, EAST)
    scene.loop(8)
    scene.order(STOP, STOP)
    scene.loop(2)
    x = float(scene.allies["x"][MEDIVAC])
    scene.order(STOP, EAST)
    scene.loop(8)
    assert scene.allies["x"][MEDIVAC] == pytest.approx(x + 2.3125 / 256 * 36)


def test_everybody_else_has_full_speed_at_once():
    for name in ("Zealot", "Stalker", "Colossus", "Zergling"):
        scene = Scene([(10, 10)], [FAR], ally_type=name)
        scene.order(EAST)
        scene.loop()
        assert scene.allies["x"][0] == pytest.approx(10 + unit_data()[name]["speed_per_normal_second"] / 16)


# ------------------------------------------------------------------------------------------------ an enemy medivac


def ward(*patients: tuple[str, float, float], energy: float = 50, **arguments) -> Scene:
    """An enemy medivac at (16, 16) and its friends, each of a type, at a gap to the east, with so much health; they
    count from 0, the medivac last. The agent is far off."""
    types, gaps, healths = zip(*patients)
    points = [(16 + edges_apart(gap, name, "Medivac"), 16) for name, gap, _ in patients]
    scene = Scene(
        [(2, 2)],
        [*points, (16, 16)],
        enemy_type=[*types, "Medivac"],
        enemy_health=[*healths, 150],
        **arguments,
    )
    scene.enemies["energy"][-1] = energy
    return scene


def test_an_enemy_medivac_heals_by_itself_again_and_again():
    scene = ward(("Marine", 2, 40))
    for _ in range(3):
        scene.loop(12)
        assert scene.enemies["health"][0] == 45
        scene.enemies["health"][0] = 40


@pytest.mark.parametrize(("gap", "comes"), [(5.99, True), (6.01, False)])
def test_an_enemy_medivac_looks_six_around(gap, comes):
    scene = ward(("Marine", gap, 20))
    scene.loop(60)
    assert (scene.enemies["health"][0] > 20) == comes
    assert (scene.enemies["x"][1] > 16) == comes


@pytest.mark.parametrize(("energy", "starts"), [(4.9, False), (5, True)])
def test_an_enemy_medivac_needs_five_energy_to_start(energy, starts):
    scene = ward(("Marine", 2, 20), energy=energy)
    scene.loop(2)
    assert (scene.enemies["health"][0] > 20) == starts


def test_an_enemy_medivac_goes_on_below_five_energy_until_it_is_spent():
    scene = ward(("Marine", 2, 1), energy=5)
    scene.loop(40)
    assert scene.enemies["target"][1] == NO_UNIT
    assert 5 / ENERGY_PER_HEALTH <= scene.enemies["health"][0] - 1 <= 20
    health = scene.enemies["health"][0]
    scene.loop(60)
    assert scene.enemies["health"][0] == health


@pytest.mark.parametrize(
    ("patients", "first"),
    [
        ([("Marine", 2, 40), ("Marauder", 2.5, 100)], 1),  # 8/9 and 4/5 of its health
        ([("Marine", 2, 30), ("Marauder", 3.5, 100)], 0),  # 2/3 and 4/5
        ([("Marine", 3, 30), ("Marine", 1.5, 30)], 1),  # the nearer
        ([("Stalker", 2, 10), ("Marine", 3.5, 40)], 1),  # mechanical
        ([("Marine", 2, 45), ("Marine", 3.5, 44)], 1),  # well
    ],
)
def test_an_enemy_medivac_heals_the_least_share_of_health_first(patients, first):
    scene = ward(*patients)
    scene.loop()
    assert scene.enemies["target"][2] == 1 + first


def test_an_enemy_medivac_stays_with_its_patient_until_it_is_well():
    scene = ward(("Marine", 2, 40), ("Marine", 3.5, 41))
    scene.loop(4)
    scene.enemies["health"][1] = 1
    scene.loop(4)
    assert scene.enemies["target"][2] == 1
    scene.loop(8)
    assert scene.enemies["health"][0] == 45
    assert scene.enemies["target"][2] == 2


def test_an_enemy_medivac_marches_with_the_army():
    scene = ward(("Marine", 2, 45), enemy_goal=(8, 16))
    scene.loop(40)
    assert scene.enemies["x"][1] < 14
    assert scene.enemies["x"][0] < 15


def test_a_marching_medivac_stops_to_heal():
    scene = ward(("Marine", 2, 20), enemy_goal=(8, 16))
    scene.enemies["order"][0] = IDLE
    scene.loop(30)
    assert scene.enemies["x"][1] == 16
    scene.loop(70)
    assert scene.enemies["health"][0] == 45
    assert scene.enemies["x"][1] < 15


# ------------------------------------------------------------------------------------------------ regeneration


def rises(scene: Scene, unit: np.ndarray, field: str, n_loops: int) -> dict[int, float]:
    """By how much the field rises in which of the next loops."""
    result = {}
    for n in range(1, n_loops + 1):
        before = float(unit[field])
        scene.loop()
        if unit[field] > before:
            result[n] = float(unit[field]) - before
    return result


def shot_once(victim: str) -> Scene:
    """An enemy that has been hit by a marine just now, in loop 2, and is left alone."""
    scene = Scene([(10, 10)], [(10 + edges_apart(4, "Marine", victim), 10)], enemy_type=victim)
    scene.enemies["acquires"] = 0
    scene.order(ATTACK)
    scene.loop(2)
    scene.order(STOP)
    return scene


@pytest.mark.parametrize("victim", ["Zealot", "Stalker", "Colossus"])
def test_a_shield_regenerates_when_it_was_left_alone_for_ten_seconds(victim):
    scene = shot_once(victim)
    full = unit_data()[victim]["shield"]
    assert scene.enemies["shield"][0] == full - 6
    amounts = rises(scene, scene.enemies[0], "shield", 300)
    assert min(amounts) in (160, 161)  # whoever acts first in a loop
    assert list(amounts) == list(range(min(amounts), min(amounts) + 48))  # 6 / 0.125
    assert set(amounts.values()) == {0.125}
    scene.enemies["shield"] = full - 0.3
    scene.loop(10)
    assert scene.enemies["shield"][0] == full


def test_damage_starts_the_ten_seconds_anew():
    scene = shot_once("Zealot")
    scene.loop(165)
    assert scene.enemies["shield"][0] > 44
    scene.order(ATTACK)
    scene.loop(2)
    scene.order(STOP)
    assert min(rises(scene, scene.enemies[0], "shield", 200)) in (160, 161)
    scene.order(ATTACK)
    scene.enemies["shield"], scene.enemies["shield_wait"] = 0, 50  # damage to life counts as well
    scene.loop(2)
    assert scene.enemies["health"][0] == 95
    scene.order(STOP)
    assert min(rises(scene, scene.enemies[0], "shield", 200)) in (160, 161)


@pytest.mark.parametrize("name", ["Zergling", "Baneling", "Hydralisk", "SpineCrawler"])
def test_zerg_always_regenerate_up_to_their_health(name):
    full = unit_data()[name]["hp"]
    scene = Scene([(2, 2)], [FAR], enemy_type=name, enemy_health=full - 1)
    amounts = rises(scene, scene.enemies[0], "health", 100)
    assert list(amounts) == list(range(1, 60))  # 1 / 0.0171
    assert list(amounts.values())[:-1] == pytest.approx([ZERG] * 58)
    assert scene.enemies["health"][0] == full


def test_zerg_regenerate_under_fire():
    scene = shot_once("Hydralisk")
    scene.order(ATTACK)
    scene.loop(60)
    lost = 90 - scene.enemies["health"][0]
    assert -lost % 6 == pytest.approx(60 * ZERG, abs=0.1)  # whole hits, less what has regenerated


@pytest.mark.parametrize("name", ["Marine", "Marauder", "Medivac", "Zealot", "Stalker", "Colossus"])
def test_terran_and_protoss_never_regain_health(name):
    scene = Scene([(2, 2), (4, 4)], [FAR], ally_type=name, enemy_type=name, ally_health=20, enemy_health=20)
    scene.loop(400)
    assert scene.units["health"].tolist() == [20, 20, 20]


def test_a_spine_crawler_off_creep_regenerates_like_all_zerg():
    scene = Scene([(2, 2)], [FAR], enemy_type="SpineCrawler", enemy_health=200)
    scene.loop(160)
    assert scene.enemies["health"][0] == pytest.approx(200 + 160 * ZERG)


# ------------------------------------------------------------------------------------------------ rewards


@pytest.mark.parametrize(("only_positive", "sign"), [(True, 1), (False, -1)])
def test_what_enemies_regain_is_paid_or_deducted(only_positive, sign):
    """SMAC pays the amount of the change where rewards are only positive."""
    options = {"reward_scale": False, "reward_only_positive": only_positive}
    zerg = Scene([(2, 2)], [FAR], enemy_type="Hydralisk", enemy_health=50, **options)
    assert zerg.step(STOP) == pytest.approx(sign * 8 * ZERG, rel=1e-5)
    patient = ward(("Marine", 2, 20), **options)
    assert patient.step(STOP) == pytest.approx(sign * 8 * HEAL, rel=1e-5)
    shielded = Scene([(2, 2)], [FAR], enemy_type="Stalker", **options)
    shielded.enemies["shield"] = shielded.battle._previous[0, 1] = 20
    shielded.battle._previous[0, 1] += 80
    assert shielded.step(STOP) == pytest.approx(sign * 8 * 0.125, rel=1e-5)


def test_damage_is_paid_less_what_regenerates():
    scene = Scene([(10, 10)], [(15, 10)], enemy_type="Hydralisk", enemy_health=50, reward_scale=False)
    scene.enemies["acquires"] = 0
    assert scene.step(ATTACK) == pytest.approx(6 - 8 * ZERG, rel=1e-5)


@pytest.mark.parametrize(("only_positive", "reward"), [(True, 0), (False, 0.5 * 8 * ZERG)])
def test_what_agents_regain_is_paid_where_their_losses_are_deducted(only_positive, reward):
    scene = Scene(
        [(2, 2)], [FAR], ally_type="Hydralisk", ally_health=50, reward_scale=False, reward_only_positive=only_positive
    )
    assert scene.step(STOP) == pytest.approx(reward, rel=1e-5)
