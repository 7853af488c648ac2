"""How the embedded engine's battles go: weapons, targets, movement, and what must hold in every battle.

Scenes are drawn by `scenes.py`; numbers are StarCraft II's, worked out by hand.
"""

import numpy as np
import pytest

from envs.sc2.sim import dynamics
from envs.sc2.sim.units import unit_types
from tests.scenes import ATTACK, EAST, NORTH, SOUTH, STOP, WEST, Scene, draw, loops_of_loss

NAMES = ["Marine", "Marauder", "Medivac", "Stalker", "Zealot", "Colossus", "Zergling", "Baneling", "Hydralisk"]
NAMES.append("SpineCrawler")
WEAPON_REACH = 5 + 2 * 0.375  # of a marine against a marine, centre to centre

# ------------------------------------------------------------------------------------------------ damage


def hit(attacker: str, victim: str, shield: float = 0, armor: float | None = None) -> tuple[float, float]:
    """(shield, health) that one hit takes from a victim of 1000 health."""
    types = unit_types(NAMES)
    if armor is not None:
        types["armor"][NAMES.index(victim)] = armor
    unit = np.zeros(1, dynamics.UNIT)
    unit["type"], unit["health"], unit["shield"] = NAMES.index(victim), 1000, shield
    dynamics._hit(unit[0], types[NAMES.index(attacker)], types)
    return shield - unit["shield"][0], 1000 - unit["health"][0]


@pytest.mark.parametrize(
    ("attacker", "victim", "health"),
    [
        ("Marine", "Marine", 6),
        ("Marine", "Marauder", 5),
        ("Marine", "Zealot", 5),
        ("Marine", "Stalker", 5),
        ("Marine", "Medivac", 5),
        ("Zergling", "Zealot", 4),
        ("Zealot", "Marine", 8),
        ("Zealot", "Zealot", 7),
        ("Zealot", "Zergling", 8),
        ("Stalker", "Zealot", 9),
        ("Stalker", "Stalker", 13),
        ("Marauder", "Marine", 10),
        ("Marauder", "Marauder", 19),
        ("SpineCrawler", "Stalker", 29),
        ("Hydralisk", "Zealot", 11),
    ],
)
def test_a_hit_takes_damage_and_bonus_less_armor(attacker, victim, health):
    assert hit(attacker, victim) == (0, health)


@pytest.mark.parametrize(
    ("attacker", "victim", "shield"),
    [
        ("Marine", "Zealot", 6),
        ("Zergling", "Zealot", 5),
        ("Stalker", "Zealot", 10),
        ("Stalker", "Stalker", 14),
        ("SpineCrawler", "Stalker", 30),
        ("Hydralisk", "Zealot", 12),
    ],
)
def test_shields_absorb_first_and_have_no_armor(attacker, victim, shield):
    assert hit(attacker, victim, shield=100) == (shield, 0)


def test_what_a_shield_leaves_is_reduced_by_armor():
    assert hit("Stalker", "Stalker", shield=3) == (3, 14 - 3 - 1)


def test_a_hit_takes_at_least_half_a_point():
    assert hit("Marine", "Zealot", armor=10) == (0, 0.5)
    assert hit("Marine", "Zealot", armor=5.75) == (0, 0.5)


def test_a_zealot_hits_twice_per_attack():
    scene = Scene([(10, 10)], [(10.8, 10)], enemy_type="Zealot")
    scene.loop()
    assert scene.allies["health"][0] == 45 - 2 * 8


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


@pytest.mark.parametrize(("cooldown_start", "shortest"), [("windup", 13), ("effect", 14)])
def test_time_between_shots(cooldown_start, shortest):
    """13.77 loops and a uniform delay of -1 to 2, in whole loops; and the wind-up if the period starts at the shot."""
    scene = target_practice(enemy_health=1e6, rules={"cooldown_start": cooldown_start})
    scene.order(ATTACK)
    gaps = np.diff(loops_of_loss(scene, scene.enemies[0], 6000))
    assert set(gaps) == {shortest, shortest + 1, shortest + 2, shortest + 3}
    assert np.mean(gaps) == pytest.approx(shortest + 1.773, abs=0.15)


def test_a_new_order_calls_off_the_wind_up_and_gives_the_cooldown_back():
    scene = target_practice()
    scene.order(ATTACK)
    scene.loop()
    assert scene.allies["cooldown"][0] > 12
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


def test_walls_stop_units():
    scene = draw("""
        XXXXXXXXXXX
        X.........X
        Xa.X......X
        X.........X
        X........eX
        XXXXXXXXXXX
    """)
    scene.enemies["acquires"] = 0
    for _ in range(5):
        scene.order(EAST)
        scene.loop(8)
    assert 2.8 < scene.allies["x"][0] < 3  # the western face of the wall
    assert scene.allies["y"][0] == 3.5


def test_a_unit_slides_along_a_wall():
    scene = draw(
        """
        XXXXXXXXXXXXXXXXXXXXXXX
        X..........X..........X
        X..........X..........X
        X..........X..........X
        X..........X..........X
        X.........eX..........X
        X.....................X
        Xa....................X
        XXXXXXXXXXXXXXXXXXXXXXX
        """,
        enemy_goal=(20, 7),
    )
    scene.loop(8 * 8)
    assert 10.5 < scene.enemies["x"][0] < 11
    assert 5 < scene.enemies["y"][0] < 7.1


def test_nobody_slides_along_a_wall_into_somebody():
    pathing = np.ones((32, 32), bool)
    pathing[:2] = False
    scene = Scene([(2.7, 10.5)], [(2.08, 10)], pathing=pathing, enemy_goal=(0, 12))
    scene.enemies["acquires"] = 0
    for _ in range(10):
        scene.loop()
        gap = np.hypot(scene.enemies["x"] - scene.allies["x"], scene.enemies["y"] - scene.allies["y"])
        assert gap >= 0.75 - 0.01


def test_units_stand_in_each_others_way():
    scene = Scene([(10, 10)], [(12, 10)])
    scene.enemies["acquires"] = 0
    for _ in range(6):
        scene.order(EAST)
        scene.loop(8)
        gap = np.hypot(scene.enemies["x"] - scene.allies["x"], scene.enemies["y"] - scene.allies["y"])
        assert gap >= 0.75 - 0.01
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


# ------------------------------------------------------------------------------------------------ targets


def test_idle_agents_never_shoot_back():
    scene = Scene([(10, 10), (10, 11)], [(14, 10)])
    scene.loop(400)
    assert scene.allies["health"].tolist() == [0, 0]
    assert scene.enemies["health"].tolist() == [45]


def test_enemies_march_to_the_agents_spawn():
    scene = Scene([(3, 28)], [(23, 16), (23, 17), (24, 16.5)], enemy_goal=(9, 16))
    scene.loop(16 * 10)
    distance = np.hypot(scene.enemies["x"] - 9, scene.enemies["y"] - 16)
    assert distance.min() < 0.5
    assert distance.max() < 2
    assert scene.allies["health"][0] == 45


@pytest.mark.parametrize(("distance", "acquires"), [(WEAPON_REACH, True), (WEAPON_REACH + 0.01, False)])
def test_enemies_acquire_within_five_from_edge_to_edge(distance, acquires):
    scene = Scene([(10, 10)], [(10 + distance, 10)])
    scene.loop(20)
    assert (scene.allies["health"][0] < 45) == acquires
    assert scene.enemies["x"][0] == 10 + distance


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
def test_a_hit_from_out_of_scan_range_is_answered(enemy_goal):
    scene = Scene([(10, 10)], [(15.5, 10)], enemy_goal=enemy_goal)
    scene.enemies["acquires"] = 0
    scene.order(ATTACK)
    scene.loop(1)
    scene.enemies["x"] = 16.3  # still hit, but nobody is within five any more
    scene.enemies["acquires"] = 1
    scene.loop(1)
    assert scene.enemies["health"][0] == 39
    scene.order(STOP)
    scene.loop(20)
    assert scene.allies["health"][0] < 45


@pytest.mark.parametrize(("gap", "comes"), [(3.9, True), (4.1, False)])
def test_a_hurt_enemy_calls_idle_friends_for_help(gap, comes):
    scene = Scene([(10, 10)], [(14, 10), (14 + gap, 10)])
    scene.order(ATTACK)
    scene.loop(40)
    assert (scene.enemies["x"][1] < 14 + gap) == comes


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


# ------------------------------------------------------------------------------------------------ symmetry

ARMY = [(9.1, 14.2), (9.3, 15.4), (8.9, 16.1), (9.6, 17.3), (8.2, 15.7)]
OTHER_ARMY = [(22.7, 13.9), (23.4, 15.1), (22.9, 16.6), (23.8, 17.2), (24.3, 15.8)]


def melee(seed: int) -> Scene:
    """Two armies that both march on each other."""
    scene = Scene(ARMY, OTHER_ARMY, enemy_goal=(9, 16), seed=seed)
    scene.allies["acquires"] = 1
    scene.allies["order"], scene.allies["goal_x"], scene.allies["goal_y"] = dynamics.ATTACK_MOVE, 23, 16
    return scene


def renumber(scene: Scene, numbers: np.ndarray) -> None:
    """Gives unit `numbers[k]` the number k, wherever units are named. Teams follow from numbers."""
    battle = scene.battle
    units = battle.units[0, numbers].copy()
    units["team"] = battle.units[0]["team"]
    new_number = np.append(np.argsort(numbers), dynamics.NO_UNIT)  # NO_UNIT is -1 and stays
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


@pytest.mark.parametrize("seed", range(6))
def test_a_mirrored_battle_is_won_by_the_mirrored_side(seed):
    scene, mirrored = melee(seed), melee(seed)
    numbers = np.roll(np.arange(10), 5)  # swaps the teams
    renumber(mirrored, numbers)
    mirror(mirrored.battle.units[0])
    for _ in range(40):
        scene.loop(8)
        mirrored.loop(8)
        assert_alike(scene, mirrored, numbers, x="y", y="x")
    survivors = (scene.allies["health"] > 0).sum(), (scene.enemies["health"] > 0).sum()
    assert 0 in survivors and sum(survivors) > 0  # it was fought out


@pytest.mark.parametrize("seed", range(6))
def test_units_of_other_numbers_fight_the_same_battle(seed):
    scene, renumbered = melee(seed), melee(seed)
    rng = np.random.default_rng(seed)
    numbers = np.concatenate([rng.permutation(5), 5 + rng.permutation(5)])
    renumber(renumbered, numbers)
    for _ in range(40):
        scene.loop(8)
        renumbered.loop(8)
        assert_alike(scene, renumbered, numbers)
    assert (scene.battle.units["health"] == 0).any()
