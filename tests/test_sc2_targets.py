"""Whom the enemies attack, follow and answer, and where they march."""

import numpy as np
import pytest

from envs.multiagentenv import Observations
from envs.sc2.sim import records
from envs.sc2.sim.env import BattleVectorEnv
from tests.scenes import ATTACK, EAST, NORTH, STOP, Scene, edges_apart

WEAPON_REACH = 5 + 2 * 0.375  # of a marine against a marine, centre to centre
MARCHING = [(23.0, 16.0), (23.0, 17.0), (24.0, 16.5)]


def test_idle_agents_never_shoot_back():
    scene = Scene([(10, 10), (10, 11)], [(14, 10)])
    scene.loop(400)
    assert scene.allies["health"].tolist() == [0, 0]
    assert scene.enemies["health"].tolist() == [45]


def test_enemies_march_to_one_point():
    scene = Scene([(3, 28)], MARCHING, enemy_goal=(9, 16))
    scene.loop(16 * 10)
    distance = np.hypot(scene.enemies["x"] - 9, scene.enemies["y"] - 16)
    assert distance.min() < 0.5
    assert distance.max() < 2
    assert scene.allies["health"][0] == 45


def test_enemies_march_in_formation():
    env = BattleVectorEnv([0], map_name="8m")
    env.reset(Observations.empty(1, env.get_env_info()))
    enemies = env.units[0, 8:]
    created = np.stack([enemies["x"], enemies["y"]])
    env.units["health"][0, :8] = 0  # nobody to fight
    env._play(np.ones(1, bool), 16 * 10)
    places = np.stack([enemies["x"], enemies["y"]])
    assert places.mean(1) == pytest.approx([9, 16], abs=1e-3)
    assert places - places.mean(1, keepdims=True) == pytest.approx(created - created.mean(1, keepdims=True), abs=1e-3)
    assert (enemies["order"] == records.IDLE).all()


@pytest.mark.parametrize(
    ("name", "scan"),
    [
        ("Marine", 5.5),
        ("Marauder", 6.5),
        ("Stalker", 6.5),
        ("Zealot", 5),
        ("Colossus", 7.5),
        ("Zergling", 5),
        ("Baneling", 5),
        ("Hydralisk", 5.5),
        ("SpineCrawler", 7.5),
    ],
)
def test_enemies_look_five_around_or_half_a_unit_further_than_they_shoot(name, scan):
    for gap, sees in ((scan - 0.001, True), (scan + 0.001, False)):
        scene = Scene([(10, 10)], [(10 + edges_apart(gap, "Marine", name), 10)], enemy_type=name)
        scene.loop(20)
        assert (scene.enemies["target"][0] == 0 or scene.enemies["health"][0] == 0) == sees


def test_a_marching_enemy_stops_to_fight_and_then_marches_on():
    scene = Scene([(16, 10)], [(24, 10)], enemy_goal=(6, 10), ally_health=12)
    scene.loop(40)
    assert scene.allies["health"][0] == 0
    where = scene.enemies["x"][0]
    assert where == pytest.approx(16 + WEAPON_REACH, abs=0.15)
    scene.loop(8 * 10)
    assert scene.enemies["x"][0] < where - 5


def test_enemies_choose_the_nearest():
    scene = Scene([(10, 10), (12, 10)], [(15, 10)])
    scene.loop(2)
    assert scene.allies["health"].tolist() == [45, 39]


def test_enemies_keep_a_target_in_range_though_another_comes_nearer():
    scene = Scene([(10, 10), (10, 25)], [(14, 10)])
    scene.loop(5)
    scene.allies["x"][1], scene.allies["y"][1] = 13, 10
    scene.loop(40)
    assert scene.allies["health"][1] == 45
    assert scene.allies["health"][0] < 39


def test_enemies_leave_a_target_that_left_their_range():
    scene = Scene([(10, 10), (10, 25)], [(14, 10)])
    scene.loop(5)
    scene.allies["x"][1], scene.allies["y"][1] = 13, 10
    scene.allies["x"][0] = 14 - WEAPON_REACH - 0.1
    scene.loop(40)
    assert scene.allies["health"][0] == 39
    assert scene.allies["health"][1] < 45


def test_enemies_prefer_who_attacks_them():
    scene = Scene([(10, 10), (12, 10)], [(15, 10)])
    scene.order(ATTACK, STOP)
    scene.loop(2)
    assert scene.allies["health"].tolist() == [39, 45]


@pytest.mark.parametrize("enemy_goal", [None, (28, 10)], ids=["idle", "marching away"])
def test_an_attack_from_out_of_scan_range_is_answered(enemy_goal):
    scene = Scene([(10, 10)], [(17, 10)], enemy_goal=enemy_goal, ally_type="Stalker", enemy_type="Zealot")
    scene.order(ATTACK)
    scene.loop(1)
    assert scene.allies["shooting_at"][0] == 1
    scene.order(STOP)
    scene.loop(60)
    assert scene.allies["shield"][0] < 80


@pytest.mark.parametrize(("gap", "comes"), [(2.9, True), (3.1, False)])
def test_a_hurt_enemy_calls_idle_friends_for_help(gap, comes):
    scene = Scene([(10, 10)], [(14, 10), (14 + gap, 10)])
    scene.order(ATTACK)
    scene.loop(40)
    assert (scene.enemies["x"][1] < 14 + gap) == comes


# ------------------------------------------------------------------------------------------------ all unit types


@pytest.mark.parametrize(("medivac", "marine"), [(3, 4), (4, 3)])
def test_a_medivac_is_a_threat_though_it_attacks_nobody(medivac, marine):
    scene = Scene([(16 - marine, 16), (16, 16 + medivac)], [(16, 16)], ally_type=["Marine", "Medivac"])
    scene.loop()
    assert scene.enemies["target"][0] == 1


@pytest.mark.parametrize("name", ["Zealot", "Marauder", "Colossus"])
def test_who_cannot_reach_the_nearest_takes_the_nearest_that_it_reaches(name):
    scene = Scene([(12, 16), (16, 18)], [(16, 16)], ally_type=["Marine", "Medivac"], enemy_type=name)
    scene.loop()
    assert scene.enemies["target"][0] == 0


def test_a_colossus_turns_to_who_is_nearest_to_its_last_target():
    scene = Scene([(16, 21), (17.5, 21), (16, 12)], [(16, 16)], enemy_type="Colossus", ally_health=1000)
    scene.allies["y"][2] = 5  # out of range until the first target has been chosen
    scene.loop()
    assert scene.enemies["target"][0] == 0
    scene.allies["y"][2] = 12
    scene.allies["x"][0], scene.allies["y"][0] = 16, 25  # out of its range
    scene.loop(30)
    assert scene.enemies["target"][0] == 1  # the third agent is nearer to the colossus itself


def test_others_turn_to_who_is_nearest_to_them():
    scene = Scene([(16, 20.5), (17.5, 20.5), (16, 12)], [(16, 16)], ally_health=1000)
    scene.allies["y"][2] = 8
    scene.loop()
    assert scene.enemies["target"][0] == 0
    scene.allies["y"][2] = 12
    scene.allies["health"][0] = 0
    scene.loop(20)
    assert scene.enemies["target"][0] == 2


def test_a_spine_crawler_never_moves():
    scene = Scene([(8, 10), (9, 20)], [(16, 16)], enemy_type="SpineCrawler", ally_type="Stalker", ally_health=1000)
    scene.enemies["chases"] = 0
    for step in range(30):
        scene.order(ATTACK if step % 3 else EAST, ATTACK if step % 2 else EAST)
        scene.loop(8)
        assert (scene.enemies["x"][0], scene.enemies["y"][0]) == (16, 16)
    assert scene.enemies["health"][0] < 300
    assert scene.allies["shield"].sum() < 160


# ------------------------------------------------------------------------------------------------ chases


def test_an_idle_enemy_gives_up_a_chase_after_21_and_goes_home():
    scene = Scene([(2.5, 3)], [(9.5, 3)], ally_type="Stalker", enemy_type="Zealot")
    scene.order(ATTACK)
    scene.loop(6)
    scene.order(STOP)
    scene.allies["x"], scene.allies["y"] = 9.5, 31.5
    farthest = 0.0
    for _ in range(320):
        scene.loop()
        farthest = max(farthest, float(scene.enemies["y"][0] - 3))
    assert 21 <= farthest < 21.2
    assert (scene.enemies["x"][0], scene.enemies["y"][0]) == pytest.approx((9.5, 3))
    assert scene.enemies["order"][0] == records.IDLE


def test_a_marching_enemy_goes_on_when_who_it_chased_is_dead():
    scene = Scene([(10, 10)], [(16.6, 10)], ally_type="Stalker", enemy_type="Zealot", enemy_goal=(16.6, 2))
    scene.order(ATTACK)
    scene.loop(12)
    assert scene.enemies["x"][0] < 16.5
    scene.allies["health"] = 0
    scene.loop(80)
    assert (scene.enemies["x"][0], scene.enemies["y"][0]) == pytest.approx((16.6, 2))


def chasing(agents, agent_types, enemy_type, **scene):
    """An enemy at (20, 10) that the first agent has shot at from out of its scan range; the agents live long."""
    scene = Scene(agents, [(20, 10)], ally_type=agent_types, enemy_type=enemy_type, ally_health=1000, **scene)
    scene.enemies["chases"] = 0
    return scene


def test_a_zealot_chases_on_past_others_until_one_attacks_it_hand_to_hand():
    types, rules = ["Stalker", "Zealot"], {"scan_period_loops": 1}
    scene = chasing([(13, 10), (17, 10.7)], types, "Zealot", enemy_health=1000, rules=rules)
    scene.order(STOP, STOP)
    scene.loop(16)
    assert scene.enemies["target"][0] == 0
    assert scene.enemies["x"][0] < 18.1
    scene.order(STOP, ATTACK)
    scene.loop(3)
    assert scene.enemies["target"][0] == 1


def test_a_marine_chases_until_it_can_shoot_at_somebody_once_it_sees_whom_it_chases():
    scene = chasing([(10, 10), (14, 10)], ["Stalker", "Marine"], "Marine")
    scene.order(STOP, STOP)
    scene.loop(16)
    assert scene.enemies["target"][0] == 0  # out of its scan range: on, past the one within weapon range
    assert scene.enemies["x"][0] < 18.1
    scene.loop(32)
    assert scene.enemies["target"][0] == 1


def test_whoever_gets_out_of_weapon_range_is_chased_only_if_it_threatens():
    for agent_attacks, target in ((True, 0), (False, 1)):
        scene = Scene([(10, 10), (10, 14.6)], [(14, 12)], ally_health=1000, enemy_health=1000)
        scene.enemies["target"] = 0
        scene.order(ATTACK if agent_attacks else STOP, STOP)
        scene.loop(3)
        scene.allies["x"][0] = 6
        scene.loop(10)
        assert scene.enemies["target"][0] == target


def test_whoever_is_chased_and_dies_is_forgotten():
    scene = chasing([(8, 10)], ["Stalker"], "Zealot")
    scene.loop(4)
    assert scene.enemies["target"][0] == 0
    scene.allies["health"][0] = 0
    scene.loop(2)
    assert scene.enemies["target"][0] == scene.enemies["chases"][0] == records.NO_UNIT


def test_who_is_shot_at_on_the_way_to_its_target_turns_on_the_attacker():
    scene = Scene([(10, 10), (13.5, 16.6)], [(14, 10)], ally_type=["Marine", "Stalker"], enemy_type="Zealot")
    scene.allies["health"] = 1000
    scene.order(STOP, STOP)
    scene.loop(8)
    assert scene.enemies["target"][0] == 0
    scene.enemies["x"] = 14
    scene.order(STOP, ATTACK)
    scene.loop(6)
    assert scene.enemies["target"][0] == 1


def test_a_marching_enemy_answers_however_far_from_home():
    scene = Scene([(10, 10)], [(16.6, 10)], ally_type="Stalker", enemy_type="Zealot", enemy_goal=(16.6, 2))
    scene.enemies["home_x"] = 40
    scene.order(ATTACK)
    scene.loop(20)
    assert scene.enemies["x"][0] < 16


def test_medivacs_and_spine_crawlers_do_not_answer():
    scene = Scene(
        [(10, 10)],
        [(16.5, 10), (17, 12), (18, 8)],
        ally_type="Stalker",
        enemy_type=["Zealot", "Medivac", "SpineCrawler"],
    )
    scene.order(ATTACK)
    scene.loop(20)
    assert scene.enemies["x"][0] < 16
    assert scene.enemies["x"][1:].tolist() == [17, 18]


def test_marching_friends_are_called_too():
    scene = Scene([(10, 10)], [(14, 10), (16.9, 10)], enemy_goal=(28, 10))
    scene.enemies["order"][0] = records.IDLE
    scene.order(ATTACK)
    scene.loop(40)
    assert scene.enemies["health"][0] < 45
    assert scene.enemies["x"][1] < 16


def test_an_enemy_turns_from_a_target_that_does_not_attack_it_to_one_that_does():
    scene = Scene([(10, 10), (10, 12)], [(14, 10)], ally_health=1000)
    scene.order(ATTACK, STOP)
    scene.loop(2)
    assert scene.enemies["target"][0] == 0
    scene.order(ATTACK, ATTACK)
    scene.loop(8)
    assert scene.enemies["target"][0] == 0  # as long as that one attacks, too
    scene.order(NORTH, ATTACK)
    scene.loop(2)
    assert scene.enemies["target"][0] == 1


def test_an_agents_colossus_fires_by_itself_while_it_has_no_order_and_goes_after_nobody():
    scene = Scene([(10, 10), (10, 12)], [(17, 10)], ally_type=["Colossus", "Stalker"], enemy_health=1000)
    scene.enemies["acquires"] = 0
    scene.order(STOP, STOP)
    scene.loop(20)
    assert scene.enemies["health"][0] < 1000
    health = scene.enemies["health"][0]
    scene.enemies["x"] = 19
    scene.loop(60)
    assert scene.enemies["health"][0] == health
    assert (scene.allies["x"][0], scene.allies["y"][0]) == (10, 10)


def test_an_agents_colossus_does_not_fire_while_it_moves():
    scene = Scene([(10, 10)], [(17, 10)], ally_type="Colossus", enemy_type="Zealot", enemy_health=1000)
    scene.enemies["acquires"] = 0
    for _ in range(5):
        scene.order(NORTH)
        scene.loop(8)
    assert scene.allies["y"][0] == pytest.approx(10 + 5 * 1.125)
    assert scene.enemies["health"][0] == 1000


def test_friends_are_called_every_two_seconds():
    """The friend comes near only after the first call."""
    scene = Scene([(10, 10)], [(15.5, 10), (28, 10)], enemy_health=1000)
    scene.order(ATTACK)
    scene.loop(2)
    assert scene.enemies["health"][0] < 1000
    scene.enemies["x"][1] = 18
    scene.loop(31)
    assert scene.enemies["chases"][1] == records.NO_UNIT
    scene.loop(18)  # the first hit after 32 loops
    assert scene.enemies["x"][1] < 18


@pytest.mark.parametrize("period", [1, 8])
def test_the_scan_period_is_a_rule(period):
    """Everybody looks in one of as many loops, by its phase, which the seed draws."""
    scene = Scene([(10, 10)], [(13, 10), (13, 11)], rules={"scan_period_loops": period})
    scene.enemies["scan_phase"] = [1, 2]
    found = [0, 0]
    for loop in range(1, 9):
        scene.loop()
        for k in range(2):
            if scene.enemies["target"][k] == 0 and not found[k]:
                found[k] = loop
    assert found == ([1, 1] if period == 1 else [7, 6])


def test_a_dead_target_is_dropped_between_two_scans():
    scene = Scene([(10, 10)], [(13, 10)], rules={"scan_period_loops": 8})
    scene.loop(8)
    assert scene.enemies["target"][0] == 0
    scene.allies["health"] = 0
    scene.loop(3)
    assert scene.enemies["target"][0] == records.NO_UNIT


# ------------------------------------------------------------------------------------------------ the maps' orders


def test_the_zealot_of_2m_vs_1z_goes_to_a_random_point_between_the_marines():
    env = BattleVectorEnv(range(200), map_name="2m_vs_1z")
    seen = Observations.empty(200, env.get_env_info())
    draws = []
    for _ in range(2):
        env.reset(seen)
        assert (env.units["order"][:, 2] == records.ATTACK_MOVE).all()
        assert (env.units["goal_y"][:, 2] == 12).all()
        draws.append(env.units["goal_x"][:, 2].copy())
    goals = np.concatenate(draws)
    assert len(set(goals)) == 400
    assert 13 <= goals.min() < 13.1 and 18.9 < goals.max() <= 19
    assert np.mean(goals) == pytest.approx(16, abs=0.3)
    env.units["health"][:, :2] = 0  # the marines would stand in its way
    env._play(np.ones(200, bool), 100)
    assert env.units["x"][:, 2] == pytest.approx(env.units["goal_x"][:, 2])
    assert env.units["y"][:, 2] == pytest.approx(env.units["goal_y"][:, 2])


def test_the_zerglings_of_2c_vs_64zg_hunt_the_colossi_down():
    env = BattleVectorEnv([0], map_name="2c_vs_64zg")
    env.reset(Observations.empty(1, env.get_env_info()))
    assert (env.units["order"][0, 2:] == records.HUNT).all()
    for n_colossi in (1, 0):
        env._play(np.ones(1, bool), 800)
        assert (env.units["health"][0, :2] > 0).sum() <= n_colossi


def test_a_hunter_takes_the_nearest_wherever_it_is_and_keeps_it():
    scene = Scene([(2, 2), (28, 28)], [(20, 20)], ally_type="Colossus", enemy_type="Zergling")
    scene.enemies["order"] = records.HUNT
    scene.loop()
    assert scene.enemies["target"][0] == 1
    scene.allies["x"][0], scene.allies["y"][0] = 19, 17
    scene.loop()
    assert scene.enemies["target"][0] == 1
    scene.allies["health"][1] = 0
    scene.loop()
    assert scene.enemies["target"][0] == 0


def test_the_spine_crawler_of_2s_vs_1sc_has_no_order():
    env = BattleVectorEnv([0], map_name="2s_vs_1sc")
    assert env._fresh_units[0]["order"][2] == records.IDLE


@pytest.mark.parametrize("map_name", ["3m", "MMM", "2s3z", "corridor", "6h_vs_8z", "so_many_baneling", "bane_vs_bane"])
def test_enemies_march_to_the_point_of_the_map(map_name):
    env = BattleVectorEnv([0], map_name=map_name)
    enemies = env._fresh_units[0, env.map.n_agents :]
    assert (enemies["order"] == records.ATTACK_MOVE).all()
    point = {"corridor": (4.47, 4.3298), "so_many_baneling": (4.47, 4.3298), "6h_vs_8z": (14.5998, 9.49)}
    x, y = point.get(map_name, (16, 8) if map_name == "bane_vs_bane" else (9, 16))
    assert (enemies["goal_x"].mean(), enemies["goal_y"].mean()) == pytest.approx((x, y))
