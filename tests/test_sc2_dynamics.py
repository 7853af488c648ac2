"""The rules of single units in the embedded engine: weapons, movement, the dead; and what SMAC pays for their deeds.

Scenes are drawn by `scenes.py`; numbers are StarCraft II's, worked out by hand. `test_sc2_duels.py` has the damage and
times of all unit types, `test_sc2_targets.py` whom enemies attack, `test_sc2_terrain.py` walls and ways round them.
"""

import numpy as np
import pytest

from tests.scenes import ATTACK, EAST, NORTH, SOUTH, STOP, WEST, Scene, loops_of_loss, losses

WEAPON_REACH = 5 + 2 * 0.375  # of a marine against a marine, centre to centre

# ------------------------------------------------------------------------------------------------ weapons


def target_practice(distance: float = 4, **arguments) -> Scene:
    """One agent and one enemy that lets itself be shot."""
    scene = Scene([(10, 10)], [(10 + distance, 10)], **arguments)
    scene.enemies["acquires"] = 0
    return scene


def test_a_marine_kills_a_marine_with_eight_shots_in_time():
    scene = target_practice()
    scene.order(ATTACK)
    shots = loops_of_loss(scene, scene.enemies[0], 150)
    assert len(shots) == 8  # 45 health, 6 a shot
    assert scene.enemies["health"][0] == 0
    assert shots[0] == 2  # 0.05 s of wind-up
    assert 7 * 13 <= shots[-1] - shots[0] <= 7 * 16


def test_time_between_shots():
    """13.77 loops and a uniform delay of -1 to 2; what is left of a loop counts for the next shot."""
    scene = target_practice(enemy_health=1e6)
    scene.order(ATTACK)
    gaps = np.diff(loops_of_loss(scene, scene.enemies[0], 12000))
    assert set(gaps) == {12, 13, 14, 15, 16}
    assert np.mean(gaps) == pytest.approx(0.8608 * 16 + 0.5, abs=0.08)


@pytest.mark.parametrize(("direction", "loop"), [(EAST, 2), (NORTH, 3), (WEST, 4)])
def test_who_looks_elsewhere_turns_first(direction, loop):
    """By 62.5 degrees a loop, and it may shoot 12 degrees aside."""
    scene = target_practice(turns=True)
    scene.order(direction)
    scene.loop()
    scene.order(ATTACK)
    assert loops_of_loss(scene, scene.enemies[0], 6)[0] == loop


def test_a_new_order_calls_off_the_wind_up_and_gives_the_cooldown_back():
    scene = target_practice()
    scene.order(ATTACK)
    scene.loop()
    assert scene.allies["shooting_at"][0] == 1
    scene.order(STOP)
    assert scene.allies["cooldown"][0] == 0
    assert loops_of_loss(scene, scene.enemies[0], 20) == []
    scene.order(ATTACK)
    assert loops_of_loss(scene, scene.enemies[0], 3) == [2]


def test_a_new_order_after_the_shot_cuts_the_backswing_and_not_the_cooldown():
    scene = target_practice()
    scene.order(ATTACK)
    scene.loop(2)
    cooldown = scene.allies["cooldown"][0]
    scene.order(WEST)
    scene.loop()
    assert scene.allies["x"][0] == pytest.approx(10 - 2.25 / 16)
    assert scene.allies["cooldown"][0] == pytest.approx(cooldown - 1)


def test_the_same_attack_order_again_changes_nothing():
    once, again = target_practice(), target_practice()
    once.order(ATTACK)
    histories: list[list[float]] = [[], []]
    for _ in range(60):
        again.order(ATTACK)
        for scene, history in zip((once, again), histories):
            scene.loop()
            history.append(float(scene.enemies["health"][0]))
    assert histories[0] == histories[1]
    assert histories[0][-1] < 45


def test_range_is_from_edge_to_edge():
    at_the_edge, beyond = target_practice(WEAPON_REACH), target_practice(WEAPON_REACH + 0.01)
    for scene in (at_the_edge, beyond):
        scene.order(ATTACK)
        scene.loop(2)
    assert (at_the_edge.enemies["health"][0], at_the_edge.allies["x"][0]) == (39, 10)
    assert beyond.enemies["health"][0] == 45
    assert beyond.allies["x"][0] > 10  # it walks into its range
    beyond.loop()
    assert beyond.enemies["health"][0] == 39


@pytest.mark.parametrize(("distance", "health"), [(WEAPON_REACH + 1, 39), (WEAPON_REACH + 1.01, 45)])
def test_a_shot_in_preparation_reaches_a_little_further(distance, health):
    scene = target_practice()
    scene.order(ATTACK)
    scene.loop()
    scene.enemies["x"] = 10 + distance
    scene.loop()
    assert scene.enemies["health"][0] == health


def test_a_zealot_hits_twice_per_attack():
    scene = Scene([(10, 10)], [(10.8, 10)], enemy_type="Zealot")
    assert losses(scene, scene.allies[0], 16) == [(1, 8), (6, 8)]  # 0.28 s are 4.48 loops


def test_a_shot_at_who_dies_before_it_is_not_spent():
    scene = Scene([(10, 10)], [(14, 10), (14, 12)], ally_type="Stalker")
    scene.enemies["acquires"] = 0
    scene.order(ATTACK)
    scene.loop(2)
    scene.enemies["health"][0] = 0
    scene.loop(1)
    assert scene.allies["cooldown"][0] == 0
    scene.loop(10)
    assert scene.battle.n_effects[0] == 0 and scene.enemies["health"][1] == 45
    scene.order(ATTACK + 1)
    scene.loop()
    assert scene.allies["shooting_at"][0] == 2


# ------------------------------------------------------------------------------------------------ movement


@pytest.mark.parametrize(("action", "dx", "dy"), [(NORTH, 0, 1), (SOUTH, 0, -1), (EAST, 1, 0), (WEST, -1, 0)])
def test_a_marine_walks_1_125_per_step(action, dx, dy):
    scene = Scene([(10.3, 10.7)], [(25, 25)])
    for n_steps in (1, 2, 3):
        scene.step(action)
        assert scene.allies["x"][0] == pytest.approx(10.3 + n_steps * 1.125 * dx)
        assert scene.allies["y"][0] == pytest.approx(10.7 + n_steps * 1.125 * dy)


def test_a_move_ends_two_units_away_and_a_stopped_unit_stands():
    scene = Scene([(10, 10)], [(25, 25)])
    scene.order(EAST)
    scene.loop(40)
    assert scene.allies["x"][0] == pytest.approx(12)
    scene.order(WEST)
    scene.loop(4)
    scene.order(STOP)
    scene.loop(10)
    assert scene.allies["x"][0] == pytest.approx(12 - 4 * 2.25 / 16)


def test_units_stand_in_each_others_way():
    scene = Scene([(10, 10)], [(12, 10)])
    scene.enemies["acquires"] = 0
    for _ in range(6):
        scene.order(EAST)
        scene.loop(8)
        gap = np.hypot(scene.enemies["x"] - scene.allies["x"], scene.enemies["y"] - scene.allies["y"])
        assert gap >= 0.6875 - 0.01
    assert (scene.enemies["x"][0], scene.enemies["y"][0]) == (12, 10)  # nobody pushes an opponent


# ------------------------------------------------------------------------------------------------ the dead


def test_the_dead_do_not_block():
    scene = Scene([(10, 10), (12, 10)], [(25, 25)])
    scene.allies["health"][1] = 0
    for _ in range(4):
        scene.order(EAST, STOP)
        scene.loop(8)
    assert scene.allies["x"][0] == pytest.approx(10 + 4 * 1.125)
    assert scene.allies["y"][0] == 10


def test_who_falls_is_out_of_the_way_at_once():
    scene = Scene([(10, 10), (10, 12)], [(11.5, 10)], enemy_health=6)
    scene.enemies["acquires"] = 0
    scene.order(EAST, ATTACK)
    scene.loop(20)
    assert scene.enemies["health"][0] == 0
    assert (scene.allies["x"][0], scene.allies["y"][0]) == (pytest.approx(12), 10)


def test_the_dead_do_not_act():
    scene = Scene([(10, 10), (10, 12)], [(14, 10), (14, 12)])
    scene.allies["health"][0] = scene.enemies["health"][0] = 0
    corpses = [scene.allies[0].copy(), scene.enemies[0].copy()]
    scene.order(ATTACK + 1, STOP)
    scene.loop(40)
    assert scene.enemies["health"][1] == 45
    for corpse, unit in zip(corpses, (scene.allies[0], scene.enemies[0])):
        assert (unit["x"], unit["y"], unit["health"]) == (corpse["x"], corpse["y"], 0)


def test_the_dead_are_no_targets():
    scene = Scene([(10, 10), (10, 14)], [(12, 10)])  # the nearer agent is dead
    scene.allies["health"][0] = 0
    scene.loop(10)
    assert scene.enemies["target"][0] == 1
    assert scene.allies["health"].tolist() == [0, 39]


def test_an_agent_whose_target_died_does_nothing():
    scene = Scene([(10, 10)], [(14, 10), (14, 12)])
    scene.enemies["acquires"] = 0
    scene.enemies["health"][0] = 6
    scene.order(ATTACK)
    scene.loop(60)
    assert scene.enemies["health"].tolist() == [0, 45]
    assert (scene.allies["x"][0], scene.allies["y"][0]) == (10, 10)


# ------------------------------------------------------------------------------------------------ rewards and ends


def clash(**arguments) -> Scene:
    """3m's sizes; everybody is in range of everybody, and the enemies let themselves be shot."""
    scene = Scene([(10, 9), (10, 10), (10, 11)], [(13, 9), (13, 10), (13, 11)], **arguments)
    scene.enemies["acquires"] = 0
    return scene


def test_damage_is_paid_by_the_point():
    scene = clash()
    assert scene.step(ATTACK, ATTACK + 1, STOP) == pytest.approx(2 * 6 / 18.25)
    assert scene.step(STOP, STOP, STOP) == 0  # nothing is paid twice


def test_a_kill_pays_its_damage_and_ten():
    scene = clash(enemy_health=[6, 45, 45])
    assert scene.step(ATTACK, STOP, STOP) == pytest.approx((6 + 10) / 18.25)
    assert scene.outcomes.info["dead_enemies"][0] == 1
    assert not scene.is_over


def test_a_victory_pays_two_hundred():
    scene = clash(enemy_health=[6, 6, 6])
    assert scene.step(ATTACK, ATTACK + 1, ATTACK + 2) == pytest.approx((3 * (6 + 10) + 200) / 18.25)
    assert scene.outcomes.terminated[0] and not scene.outcomes.truncated[0]
    assert scene.outcomes.info["battle_won"][0] == 1


def test_damage_taken_is_deducted_where_rewards_may_be_negative():
    scene = clash(reward_only_positive=False, ally_health=6)
    scene.enemies["acquires"][1:] = 0
    scene.enemies["acquires"][0] = 1  # shoots the agent that it faces
    assert scene.step(STOP, STOP, STOP) == pytest.approx(-0.5 * (6 + 10) / 18.25)
    assert scene.outcomes.info["dead_allies"][0] == 1


@pytest.mark.parametrize(("winner", "reward"), [("allies", 1), ("enemies", -1)])
def test_sparse_rewards_are_for_the_outcome_only(winner, reward):
    scene = clash(reward_sparse=True, reward_scale=False, enemy_health=12, ally_health=6)
    assert scene.step(ATTACK, STOP, STOP) == 0
    (scene.enemies if winner == "allies" else scene.allies)["health"] = 0
    actions = [STOP] * 3 if winner == "allies" else [0] * 3
    scene.battle._avail_actions[:] = 1
    assert scene.step(*actions) == reward
    assert scene.outcomes.terminated[0]
    assert scene.outcomes.info["battle_won"][0] == (winner == "allies")


def test_a_battle_without_survivors_is_over_and_not_won():
    scene = clash()
    scene.allies["health"] = scene.enemies["health"] = 0
    assert scene.step(STOP, STOP, STOP) == pytest.approx((3 * 45 + 3 * 10) / 18.25)
    assert scene.outcomes.terminated[0] and not scene.outcomes.truncated[0]
    assert scene.outcomes.info["battle_won"][0] == 0


def test_time_runs_out():
    scene = clash()
    for step in range(scene.battle.map.episode_limit):
        assert not scene.is_over, step
        scene.step(STOP, STOP, STOP)
    assert scene.outcomes.truncated[0] and not scene.outcomes.terminated[0]
    assert scene.outcomes.info["battle_won"][0] == 0
    stats = scene.battle.get_stats()[0]
    assert (stats["timeouts"], stats["battles_draw"], stats["battles_game"], stats["battles_won"]) == (1, 1, 1, 0)


def test_a_won_battle_returns_twenty():
    scene = Scene([(9, 15), (9, 16), (9, 17)], [(23, 15), (23, 16), (23, 17)], enemy_goal=(9, 16), ally_health=200)
    total = 0.0
    while not scene.is_over:
        actions = [max(np.flatnonzero(avail)) for avail in scene.seen.avail_actions[0]]
        actions = [action if action >= ATTACK or action == 0 else STOP for action in actions]
        total += scene.step(*actions)
    assert scene.outcomes.info["battle_won"][0] == 1
    assert total == pytest.approx(20, abs=1e-4)
