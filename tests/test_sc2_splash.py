"""What strikes later or strikes many: the colossus's beams, exploding banelings, missiles in flight.

Numbers are StarCraft II's, worked out by hand; `test_sc2_duels.py` has what hits one target at once.
"""

import numpy as np
import pytest

from envs.sc2.sim import features
from tests.scenes import ATTACK, STOP, WEST, Point, Scene, loops_of_loss, losses

TARGET = (16.0, 16.0)
HALF_LINE = 1.25  # of the beams; each of their points touches whoever is within 0.15 of it
SHOT, TO_TARGET, TO_OTHERS = 2, 6, 4  # the loop of the first shot; loops to the target, and from touch to hit

# ------------------------------------------------------------------------------------------------ beams


def beams(*bystanders: tuple[str, Point], shooter: Point = (11, 16), target: str = "Zergling") -> Scene:
    """A colossus is about to shoot at the first enemy; the others stand by, relative to it. All live long."""
    types = [target, *(name for name, _ in bystanders)]
    points = [TARGET, *((TARGET[0] + dx, TARGET[1] + dy) for _, (dx, dy) in bystanders)]
    scene = Scene([shooter, (30, 30)], points, ally_type=["Colossus", "Zergling"], enemy_type=types, enemy_health=1e4)
    scene.enemies["acquires"] = scene.enemies["shield"] = 0
    scene.enemies["shield_wait"] = 1000
    scene.order(ATTACK, STOP)
    return scene


def lost(scene: Scene, n_loops: int = 30) -> list[float]:
    """What each enemy loses of its health."""
    scene.loop(n_loops)
    return (1e4 - scene.enemies["health"]).tolist()


@pytest.mark.parametrize(
    ("offset", "damage"),
    [
        ((0, 1.25 + 0.15 + 0.375 - 0.01), 30),
        ((0, 1.25 + 0.15 + 0.375 + 0.01), 0),
        ((0, -1.25 - 0.15 - 0.375 + 0.01), 30),
        ((0, -1.25 - 0.15 - 0.375 - 0.01), 0),
        ((0.15 + 0.375 - 0.01, 0.75), 30),
        ((0.15 + 0.375 + 0.01, 0.75), 0),
        ((-0.15 - 0.375 + 0.01, -1), 30),
        ((-0.15 - 0.375 - 0.01, -1), 0),
    ],
)
def test_beams_hit_what_they_touch_once_each(offset, damage):
    assert lost(beams(("Zergling", offset))) == [30, damage]


@pytest.mark.parametrize("shooter", [(16, 11), (21, 16), (16, 21), (12, 12), (20, 12)])
def test_the_beams_run_across_the_shot(shooter):
    along = (np.array(TARGET) - shooter) / np.hypot(*np.array(TARGET) - shooter)
    across = np.array([-along[1], along[0]])
    offsets = [1.2 * across, -1.2 * across, 1.2 * along, -1.2 * along]
    assert lost(beams(*(("Zergling", tuple(offset)) for offset in offsets), shooter=shooter)) == [30, 30, 30, 0, 0]


@pytest.mark.parametrize(
    ("bystander", "damage"),
    [("Zealot", 28), ("Marine", 30), ("Stalker", 18), ("SpineCrawler", 16), ("Colossus", 18), ("Medivac", 0)],
)
def test_beams_hit_on_the_ground_only_and_armor_counts_for_each(bystander, damage):
    assert lost(beams((bystander, (0, 1))))[1] == damage


def test_beams_spare_friends():
    scene = beams()
    scene.allies["x"][1], scene.allies["y"][1] = 16, 16.8
    scene.loop(30)
    assert scene.allies["health"][1] == 35


def test_the_beams_come_from_both_ends():
    """Two of eleven points a loop, from the loop after the shot. Who is at one end is touched by one beam at once, and
    by the other one when it is at three quarters of its way there, four loops later."""
    scene = beams(("Zergling", (0, HALF_LINE)), ("Zergling", (0, 0.125)))
    scene.battle.types["speed"] = 0  # so that nobody is pushed aside, however near
    hits = []
    for enemy in scene.enemies:
        scene.battle.reset(scene.seen)
        scene.enemies["acquires"] = 0
        scene.order(ATTACK, STOP)
        hits.append(losses(scene, enemy, 24))
    touched = SHOT + 1 + TO_OTHERS
    assert hits[0] == [(SHOT + TO_TARGET, 30)]
    assert hits[1] == [(touched, 15), (touched + 4, 15)]
    assert hits[2] == [(touched + 1, 15), (touched + 2, 15)]  # from above half a unit away, from below a quarter more


@pytest.mark.parametrize(("end", "damage"), [("death", 15), ("order", 30)])
def test_beams_end_with_the_colossus_and_outlast_its_order(end, damage):
    scene = beams(("Zergling", (0, HALF_LINE)))
    scene.loop(SHOT + 2)  # one beam has touched the bystander, the other one is on its way
    if end == "death":
        scene.allies["health"][0] = 0
    else:
        scene.order(WEST, STOP)
    scene.loop(3)
    scene.allies["cooldown"][0] = 1000
    assert lost(scene)[1] == damage


def test_the_same_order_does_not_stop_the_beams():
    scene = beams(("Zergling", (0, HALF_LINE)))
    for _ in range(30):
        scene.order(ATTACK, STOP)
        scene.allies["cooldown"][0] = max(scene.allies["cooldown"][0], 30 * (scene.allies["sweep"][0] > 0))
        scene.loop()
    assert lost(scene, 0)[1] == 30


def test_a_colossus_stands_while_its_beams_sweep():
    scene = beams()
    scene.loop(SHOT + 1)
    scene.enemies["x"][0] = 25
    scene.loop(5)
    assert scene.allies["x"][0] == 11
    scene.loop(8)
    assert scene.allies["x"][0] > 11


def test_beams_of_the_second_shot_hit_again():
    assert lost(beams(("Zergling", (0, 1))), SHOT + 26 + 12) == [60, 60]


def test_enemy_colossi_sweep_agents():
    scene = Scene([TARGET, (16, 17), (17, 16)], [(11, 16)], enemy_type="Colossus", ally_health=1000)
    scene.loop(20)
    assert scene.allies["health"].tolist() == [970, 970, 1000]


# ------------------------------------------------------------------------------------------------ explosions

BLAST = 2.2  # from the baneling's centre to the edge of whoever is hit


def blast(bystander: str, distance: float, **arguments) -> Scene:
    """A baneling, a victim, and a bystander at a distance from the baneling; all enemies live long."""
    scene = Scene(
        [(16, 16), (30, 30)],
        [(16.9, 16), (16, 16 + distance)],
        ally_type="Baneling",
        enemy_type=["Marine", bystander],
        enemy_health=1000,
        **arguments,
    )
    scene.battle.types["speed"] = 0  # nobody is pushed aside, however near
    scene.enemies["acquires"] = scene.enemies["shield"] = 0
    scene.enemies["shield_wait"] = 1000
    return scene


@pytest.mark.parametrize("way", ["attack", "death"])
@pytest.mark.parametrize(
    ("bystander", "damage"),
    [("Zealot", 34), ("Hydralisk", 35), ("Stalker", 19), ("Colossus", 19), ("SpineCrawler", 0), ("Medivac", 0)],
)
def test_a_baneling_hurts_who_is_near_on_the_ground(bystander, damage, way):
    scene = blast(bystander, 2)
    explode(scene, way)
    assert (1000 - scene.enemies["health"]).tolist() == [35, damage]
    assert scene.allies["health"].tolist() == [0, 30]


def explode(scene: Scene, way: str) -> None:
    if way == "attack":
        scene.order(ATTACK, STOP)
        scene.loop()
    else:
        scene.allies["health"][0] = 5
        scene.enemies["acquires"][0] = 1
        scene.loop(2)


@pytest.mark.parametrize(("edge", "radius"), [("Zealot", 0.5), ("Marine", 0.375)])
def test_the_blast_reaches_2_2_from_the_centre_to_the_edge(edge, radius):
    for distance, is_hit in ((BLAST + radius - 0.001, True), (BLAST + radius + 0.001, False)):
        scene = blast(edge, distance)
        explode(scene, "attack")
        assert (scene.enemies["health"][1] < 1000) == is_hit


def test_the_blast_spares_friends():
    scene = Scene([(16, 16), (16, 17), (16, 18)], [(16.9, 16)], ally_type="Baneling", enemy_health=1000)
    scene.enemies["acquires"] = 0
    scene.order(ATTACK, STOP, STOP)
    scene.loop()
    assert scene.allies["health"].tolist() == [0, 30, 30]
    assert scene.enemies["health"][0] == 1000 - 35


def test_banelings_of_both_sides_set_each_other_off():
    """All in one row: the first of the agents' explodes at the zealot and sets off the first enemy's, that one the
    second of the agents', and so on."""
    row = [(10 + 2.4 * k, 10) for k in range(7)]
    scene = Scene(
        [row[0], row[2], row[4], row[6]],
        [(9, 10), row[1], row[3], row[5]],
        ally_type=["Baneling"] * 3 + ["Zergling"],
        enemy_type=["Zealot"] + ["Baneling"] * 3,
        ally_health=[10, 10, 10, 100],
        enemy_health=[100, 10, 10, 10],
    )
    scene.enemies["acquires"] = 0
    scene.order(ATTACK, STOP, STOP, STOP)
    scene.loop()
    assert scene.allies["health"].tolist() == [0, 0, 0, 65]
    assert scene.enemies["health"].tolist() == [100, 0, 0, 0]
    assert scene.enemies["shield"][0] == 15
    assert scene.battle.n_effects[0] == 0


def test_nobody_is_hit_by_the_blast_of_a_baneling_twice():
    scene = blast("Marine", 2)
    explode(scene, "attack")
    scene.loop(10)
    assert (1000 - scene.enemies["health"]).tolist() == [35, 35]


@pytest.mark.parametrize("health", [30, 12])
def test_the_suicide_of_a_baneling_pays_like_its_death(health):
    scene = Scene([(16, 16)], [(16.9, 16), (30, 30)], ally_type="Zealot", enemy_type="Baneling", reward_scale=False)
    scene.enemies["health"][0] = health
    scene.battle._previous[0, 1] = health
    assert scene.step(STOP) == pytest.approx(health + 10)
    assert scene.allies["shield"][0] == 15
    assert scene.outcomes.info["dead_enemies"][0] == 1


# ------------------------------------------------------------------------------------------------ missiles

IN_FLIGHT, LANDS = 5, 7  # loops after the order to a stalker 4 away: its missile is on its way, and hits


def stalkers(**arguments) -> Scene:
    """Two stalkers of the agents and one enemy, 4 from edge to edge, that lets itself be shot."""
    scene = Scene([(10, 10), (10, 11.3)], [(15.25, 10)], ally_type="Stalker", enemy_type="Stalker", **arguments)
    scene.enemies["acquires"] = 0
    return scene


def test_a_missile_lands_though_its_shooter_is_dead():
    scene = stalkers()
    scene.order(ATTACK, STOP)
    scene.loop(IN_FLIGHT)
    scene.allies["health"][0] = 0
    assert losses(scene, scene.enemies[0], 60) == [(LANDS - IN_FLIGHT, 18)]


def test_a_missile_follows_its_target_and_never_misses():
    scene = stalkers()
    scene.order(ATTACK, STOP)
    scene.loop(IN_FLIGHT)
    scene.enemies["x"], scene.enemies["y"] = 25, 25
    scene.allies["health"] = 0
    # it is at (12.34, 10); the 18.96 from there to the target's edge take 16.2 loops
    assert losses(scene, scene.enemies[0], 60) == [(17, 18)]


def test_missiles_at_the_dead_are_wasted():
    scene = stalkers(enemy_health=5)
    scene.enemies["shield"], scene.enemies["shield_wait"] = 0, 1000
    scene.order(ATTACK, ATTACK)
    scene.loop(IN_FLIGHT)
    assert scene.battle.n_effects[0] == 2
    scene.loop(LANDS - IN_FLIGHT + 1)
    assert scene.enemies["health"][0] == 0
    assert scene.battle.n_effects[0] == 0
    assert (scene.allies["cooldown"] > 0).all()  # both have spent their shots
    scene.enemies["health"] = 80  # nothing comes after it has fallen
    assert loops_of_loss(scene, scene.enemies[0], 5) == []


def test_who_is_struck_twice_at_once_dies_once():
    """A baneling would explode twice."""
    scene = Scene(
        [(10, 10), (10, 11.3), (16, 11)],
        [(15.25, 10)],
        ally_type=["Stalker", "Stalker", "Zealot"],
        enemy_type="Baneling",
        enemy_health=5,
    )
    scene.enemies["acquires"] = 0
    scene.order(ATTACK, ATTACK, STOP)
    assert losses(scene, scene.allies[2], 20) == [(LANDS + 1, 35)]  # to its edge it is a little further


def test_a_hit_kills_once_however_much_too_hard():
    scene = stalkers(enemy_health=5)
    scene.enemies["shield"], scene.enemies["shield_wait"] = 0, 1000
    scene.battle._previous[0, 2] = 5
    assert scene.step(ATTACK, ATTACK) == pytest.approx((5 + 10 + 200) / scene.battle.layout.reward_divisor)


def fall_together(ally_type: list[str], enemy_type: list[str]) -> Scene:
    """The first units of both sides kill each other in the same loop; everybody is on the ground or far off."""
    allies, enemies = [(10, 10), (4, 4)][: len(ally_type)], [(15.25, 10), (28, 28)][: len(enemy_type)]
    scene = Scene(allies, enemies, ally_type=ally_type, enemy_type=enemy_type)
    for side in (scene.allies, scene.enemies):
        side["health"][0], side["shield"][0] = 5, 0
        side["shield_wait"] = 1000
    scene.step(ATTACK, *[STOP] * (len(ally_type) - 1))
    assert (scene.allies["health"][0], scene.enemies["health"][0]) == (0, 0)
    return scene


def test_who_fall_together_draw():
    scene = fall_together(["Stalker"], ["Stalker"])
    assert scene.outcomes.terminated[0] and not scene.outcomes.truncated[0]
    assert scene.battle.result[0] == features.DRAWN
    assert scene.outcomes.info["battle_won"][0] == 0


@pytest.mark.parametrize("enemy_type", [["Marauder"], ["Marauder", "Medivac"]])
def test_medivacs_that_are_left_alone_have_lost(enemy_type):
    """Whatever is left of the enemies: SMAC asks for the agents first."""
    scene = fall_together(["Marauder", "Medivac"], enemy_type)
    assert scene.outcomes.terminated[0]
    assert scene.battle.result[0] == features.LOST


def test_a_zealots_second_hit_on_the_dead_is_wasted():
    scene = Scene([(10, 10)], [(10.8, 10)], enemy_type="Zealot", ally_health=8)
    scene.loop()
    assert scene.allies["health"][0] == 0
    scene.allies["health"] = 45
    scene.enemies["acquires"], scene.enemies["order"], scene.enemies["target"] = 0, 0, -1
    assert loops_of_loss(scene, scene.allies[0], 4) == []
