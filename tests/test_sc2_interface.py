"""The rest of SMAC's interface: what `StarCraft2Env` tells about units, ground, sizes and the state in parts, by hand
and against what the same environment writes into observations, states and available actions."""

import inspect
from unittest.mock import patch

import numpy as np
import pytest

from envs.sc2.sim import env as sim
from envs.sc2.sim.maps import map_data
from envs.sc2.sim.smac import Direction, Point, StarCraft2Env
from tests.scenes import EAST, NORTH, STOP

MIXED = ("3m", "MMM", "2s3z", "1c3s5z", "bane_vs_bane", "2c_vs_64zg", "corridor")
SMAC_DEFAULTS = {
    "map_name": "8m", "step_mul": 8, "move_amount": 2, "difficulty": "7", "game_version": None, "seed": None,
    "continuing_episode": False, "obs_all_health": True, "obs_own_health": True, "obs_last_action": False,
    "obs_pathing_grid": False, "obs_terrain_height": False, "obs_instead_of_state": False,
    "obs_timestep_number": False, "state_last_action": True, "state_timestep_number": False, "reward_sparse": False,
    "reward_only_positive": True, "reward_death_value": 10, "reward_win": 200, "reward_defeat": 0,
    "reward_negative_scale": 0.5, "reward_scale": True, "reward_scale_rate": 20, "replay_dir": "",
    "replay_prefix": "", "window_size_x": 1920, "window_size_y": 1200, "heuristic_ai": False,
    "heuristic_rest": False, "debug": False,
}  # fmt: skip


def make(map_name="3m", **options):
    """A battle at its very start, on any map: nothing here has to be played."""
    with patch.object(sim, "MAP_NAMES", tuple(map_data())):
        env = StarCraft2Env(map_name, seed=1, rules={"spawn_age_loops": 0, "enemy_list": "created"}, **options)
        env.reset()
        return env


def look(env):
    """Has observations, state and available actions written anew after units were changed."""
    env.battle._observe(np.ones(1, bool), env._seen)


def scatter(env, seed=0):
    """Puts all units anywhere on the map or its very edge, wounded, some of them dead."""
    rng, units = np.random.default_rng(seed), env.battle.units[0]
    units["x"], units["y"] = rng.uniform(0, (env.map_x, env.map_y), (len(units), 2)).T
    units["health"] = units["health_max"] * rng.uniform(0.1, 1, len(units)) * (rng.random(len(units)) < 0.8)
    units["shield"] *= rng.uniform(0, 1, len(units))
    units["cooldown"], units["energy"] = rng.uniform(0, 30, len(units)), rng.uniform(0, 200, len(units))
    look(env)


def type_ids(units):
    return {i: unit.unit_type for i, unit in units.items()}


# ------------------------------------------------------------------------------------------------ construction


def test_the_arguments_and_their_defaults_are_smacs():
    ours = {
        name: parameter.default
        for constructor in (StarCraft2Env, sim.BattleVectorEnv)
        for name, parameter in inspect.signature(constructor).parameters.items()
    }
    assert {name: ours[name] for name in SMAC_DEFAULTS} == SMAC_DEFAULTS
    StarCraft2Env(**SMAC_DEFAULTS | {"map_name": "3m"})


def test_the_map_may_come_first():
    assert StarCraft2Env("3m").map_name == "3m"


def test_attributes_are_smacs():
    env = make("2s3z", obs_timestep_number=True, state_last_action=False)
    assert (env.map_name, env.map_type, env.episode_limit) == ("2s3z", "stalkers_and_zealots", 120)
    assert (env.n_agents, env.n_enemies, env.n_actions, env.n_actions_no_attack, env.n_actions_move) == (5, 5, 11, 6, 4)
    assert (env.unit_type_bits, env.shield_bits_ally, env.shield_bits_enemy) == (2, 1, 1)
    assert (env.map_x, env.map_y, env.max_distance_x, env.max_distance_y) == (32, 32, 28, 28)
    assert (env.obs_all_health, env.obs_own_health, env.obs_timestep_number, env.state_last_action) == (1, 1, 1, 0)
    assert make("3m", obs_own_health=False).obs_own_health  # obs_all_health has it with it
    assert make("2m_vs_1z").shield_bits_enemy == 1 and make("2m_vs_1z").shield_bits_ally == 0


def test_the_grids_are_indexed_x_y_and_are_the_callers():
    env = make("3m")
    assert env.pathing_grid.shape == env.terrain_height.shape == (32, 32)
    inside = np.zeros((32, 32), bool)
    inside[2:30, 7:25] = True
    assert np.array_equal(env.pathing_grid, inside)
    assert env.terrain_height[2, 7] == 191 / 255 and env.terrain_height[2, 6] == 127 / 255
    env.pathing_grid[:] = False
    assert make("3m").pathing_grid.any()


# ------------------------------------------------------------------------------------------------ units


def test_the_agents_of_mmm_have_types_of_their_own_and_enemies_the_games():
    env = make("MMM")
    assert type_ids(env.agents) == {0: 2000, 1: 2000, **dict.fromkeys(range(2, 9), 2001), 9: 2002}
    assert type_ids(env.enemies) == {**dict.fromkeys(range(7), 48), 7: 51, 8: 51, 9: 54}
    assert env.get_unit_types() == [*type_ids(env.agents).values(), *type_ids(env.enemies).values()]
    assert env.min_unit_type == 2000


@pytest.mark.parametrize(
    ("map_name", "ids", "enemy_ids"),
    [
        ("1c3s5z", [2000] + [2001] * 3 + [2002] * 5, {4, 74, 73}),
        ("bane_vs_bane", [2000] * 4 + [2001] * 20, {9, 105}),
        ("2s_vs_1sc", [2000] * 2, {98}),
        ("6h_vs_8z", [2000] * 6, {73}),
    ],
)
def test_type_ids_follow_the_order_of_agents(map_name, ids, enemy_ids):
    env = make(map_name)
    assert list(type_ids(env.agents).values()) == ids
    assert set(type_ids(env.enemies).values()) == enemy_ids


def test_a_unit_has_the_fields_of_the_games_interface():
    env = make("MMM")
    unit = env.get_unit_by_id(9)
    assert unit == env.agents[9]
    assert (unit.tag, unit.unit_type, unit.health, unit.health_max, unit.energy) == (10, 2002, 150, 150, 50)
    assert (unit.shield, unit.shield_max, unit.weapon_cooldown) == (0, 0, 0)
    record = env.battle.units[0, 9]
    assert unit.pos == Point(record["x"], record["y"]) and unit.pos.x == record["x"]
    stalker = make("2s3z").get_unit_by_id(0)
    assert (stalker.health, stalker.health_max, stalker.shield, stalker.shield_max) == (80, 80, 80, 80)
    assert len({unit.tag for unit in (*env.agents.values(), *env.enemies.values())}) == 20
    with pytest.raises(KeyError):
        env.get_unit_by_id(10)


def test_a_unit_stays_as_it_was_when_asked_for():
    env = make()
    before = env.get_unit_by_id(0)
    where = before.pos
    env.step([NORTH, STOP, STOP])
    assert before.pos == where != env.get_unit_by_id(0).pos
    env.battle.units[0, 0]["health"] = 0
    dead = env.get_unit_by_id(0)
    assert dead.health == 0 and dead.health_max == 45 and before.health == 45


@pytest.mark.parametrize(
    ("map_name", "cooldowns"),
    [
        ("MMM", {0: 25, 2: 15, 9: 200}),
        ("2s3z", {0: 35, 2: 22}),
        ("1c3s5z", {0: 24}),
        ("bane_vs_bane", {0: 1, 4: 11}),
        ("6h_vs_8z", {0: 10}),
    ],
)
def test_the_longest_cooldowns_are_of_agents_only(map_name, cooldowns):
    env = make(map_name)
    assert {i: env.unit_max_cooldown(env.agents[i]) for i in cooldowns} == cooldowns
    assert {env.unit_max_cooldown(unit) for unit in env.enemies.values()} == {15}


@pytest.mark.parametrize(
    ("map_name", "agents", "enemies"),
    [
        ("2s3z", [80] * 2 + [50] * 3, {80, 50}),
        ("1c3s5z", [150] + [80] * 3 + [50] * 5, {150, 80, 50}),
        ("2m_vs_1z", [None] * 2, {50}),
        ("MMM", [None] * 10, {None}),
    ],
)
def test_the_fullest_shields(map_name, agents, enemies):
    env = make(map_name)
    assert [env.unit_max_shield(unit) for unit in env.agents.values()] == agents
    assert {env.unit_max_shield(unit) for unit in env.enemies.values()} == enemies


def test_ranges_are_the_same_for_all_types():
    env = make("bane_vs_bane")
    assert {env.unit_shoot_range(i) for i in range(24)} == {6}
    assert {env.unit_sight_range(i) for i in range(24)} == {9}


def test_ranges_are_those_of_availability_and_sight():
    env = make()
    units = env.battle.units[0]
    units["x"], units["y"] = [10, 2, 2, 10 + env.unit_shoot_range(0), 10, 10], [16, 8, 8, 16, 16 + 6.001, 16 + 9]
    look(env)
    assert env.get_avail_agent_actions(0)[6:] == [1, 0, 0]
    enemy_distances = env.get_obs_agent(0)[4:19].reshape(3, 5)[:, 1]
    assert enemy_distances == pytest.approx([6 / env.unit_sight_range(0), 6.001 / 9, 0])


# ------------------------------------------------------------------------------------------------ ground


def at(env, x, y):
    return env.get_unit_by_id(0)._replace(pos=Point(x, y))


def test_the_bounds():
    env = make("corridor")
    assert (env.map_x, env.map_y) == np.shape(env.pathing_grid)
    assert env.check_bounds(0, 0) and env.check_bounds(env.map_x - 1, env.map_y - 1)
    for point in ((-1, 0), (0, -1), (env.map_x, 0), (0, env.map_y)):
        assert not env.check_bounds(*point)


def test_where_a_unit_in_the_corner_can_move():
    env = make()
    moves = {direction.name: env.can_move(at(env, 2.5, 7.5), direction) for direction in Direction}
    assert moves == {"NORTH": True, "SOUTH": False, "EAST": True, "WEST": False}
    assert env.can_move(at(env, 28.9, 23.9), Direction.EAST) and not env.can_move(at(env, 29.0, 24.0), Direction.EAST)
    assert env.can_move(at(env, 28.9, 23.9), Direction.NORTH) and not env.can_move(at(env, 29.0, 24.0), 0)
    with pytest.raises(ValueError, match="4"):
        env.can_move(at(env, 10, 10), 4)


def test_coordinates_are_cut_off_towards_zero():
    env = make()
    env.pathing_grid[0, 16] = True
    assert env.can_move(at(env, 0.4, 16), Direction.WEST)  # -0.6 becomes cell 0
    assert not env.can_move(at(env, 0.4, 16)._replace(pos=Point(-0.5, 16)), Direction.WEST)


def test_how_far_ahead_is_half_the_move_amount():
    env = make(move_amount=4)
    assert env.can_move(at(env, 4.0, 16), Direction.WEST) and not env.can_move(at(env, 3.9, 16), Direction.WEST)


def test_the_surrounding_points_and_what_is_there():
    env = make()
    unit = at(env, 2.9, 7.9)
    points = [(2, 11), (2, 3), (6, 7), (-2, 7), (4, 9), (0, 5), (4, 5), (0, 9)]
    assert env.get_surrounding_points(unit) == points
    assert env.get_surrounding_points(unit, include_self=True) == [*points, (2, 7)]
    assert env.get_surrounding_pathing(unit) == [True, False, True, True, True, False, False, False]
    low, void = 191 / 255, 127 / 255
    assert env.get_surrounding_height(unit) == [low, void, low, 1, low, void, void, low, low]


def test_heights_of_a_map_with_cliffs():
    env = make("2c_vs_64zg")
    assert len(np.unique(env.terrain_height[env.pathing_grid])) > 1
    x, y = np.argwhere(env.terrain_height == env.terrain_height.max())[0]
    assert env.get_surrounding_height(at(env, x + 0.5, y + 0.5))[-1] == env.terrain_height.max() > 0.8


@pytest.mark.parametrize("map_name", MIXED)
def test_ground_agrees_with_observations_and_available_actions(map_name):
    env = make(map_name, obs_pathing_grid=True, obs_terrain_height=True)
    for seed in range(3):
        scatter(env, seed)
        for i, unit in env.agents.items():
            if unit.health == 0:
                assert not env.get_obs_agent(i).any() and env.get_avail_agent_actions(i)[:2] == [1, 0]
                continue
            moves = [env.can_move(unit, direction) for direction in Direction]
            surroundings = [*env.get_surrounding_pathing(unit), *env.get_surrounding_height(unit)]
            assert env.get_avail_agent_actions(i)[2:6] == moves
            np.testing.assert_allclose(env.get_obs_agent(i)[:21], [*moves, *surroundings], rtol=1e-6)


# ------------------------------------------------------------------------------------------------ the state in parts


@pytest.mark.parametrize("map_name", MIXED)
@pytest.mark.parametrize("options", [{}, {"state_timestep_number": True}, {"state_last_action": False}])
def test_the_parts_make_up_the_state(map_name, options):
    env = make(map_name, **options)
    env.battle.last_actions[0] = np.arange(env.n_agents) % env.n_actions
    env.battle.episode_steps[0] = 7
    scatter(env)
    parts = env.get_state_dict()
    assert list(parts) == [
        "allies", "enemies", *["last_action"] * env.state_last_action, *["timestep"] * env.state_timestep_number
    ]  # fmt: skip
    assert parts["allies"].shape == (env.n_agents, env.get_ally_num_attributes())
    assert parts["enemies"].shape == (env.n_enemies, env.get_enemy_num_attributes())
    joined = np.concatenate([np.ravel(part) for part in parts.values()])
    np.testing.assert_array_equal(joined.astype(np.float32), env.get_state())


def test_the_parts_after_steps():
    env = make(state_timestep_number=True)
    assert not env.last_action.any() and env.get_state_dict()["timestep"] == 0
    env.step([NORTH, EAST, STOP])
    parts = env.get_state_dict()
    assert np.array_equal(parts["last_action"], np.eye(9)[[NORTH, EAST, STOP]])
    assert np.array_equal(parts["last_action"], env.last_action)
    assert parts["timestep"] == 1 / 60


def test_the_parts_are_there_where_the_observations_are_the_state():
    env = make("2s3z", obs_instead_of_state=True)
    plain = make("2s3z")
    scatter(env)
    scatter(plain)
    before = env.get_state()
    parts, expected = env.get_state_dict(), plain.get_state_dict()
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        np.testing.assert_array_equal(part, expected[name])
    np.testing.assert_array_equal(env.get_state(), before)
    np.testing.assert_array_equal(before, np.concatenate(env.get_obs()))


@pytest.mark.parametrize("map_name", MIXED)
def test_units_agree_with_the_state(map_name):
    env = make(map_name)
    scatter(env)
    parts, info = env.get_state_dict(), env.get_env_info()

    def position(unit):
        return (unit.pos.x - env.map_x / 2) / env.max_distance_x, (unit.pos.y - env.map_y / 2) / env.max_distance_y

    for i, unit in env.agents.items():
        heals = map_name == "MMM" and i == 9
        expected = [
            unit.health / unit.health_max,
            (unit.energy if heals else unit.weapon_cooldown) / env.unit_max_cooldown(unit),
            *position(unit),
        ]
        if "shield" in info["agent_features"]:
            expected.append(unit.shield / env.unit_max_shield(unit))
        if env.unit_type_bits:
            expected += np.eye(env.unit_type_bits)[unit.unit_type - env.min_unit_type].tolist()
        np.testing.assert_allclose(parts["allies"][i], np.array(expected) * (unit.health > 0), rtol=1e-6)
    for k, unit in env.enemies.items():
        expected = [unit.health / unit.health_max, *position(unit)]
        if "shield" in info["enemy_features"]:
            expected.append(unit.shield / env.unit_max_shield(unit))
        seen = parts["enemies"][k, : len(expected)]
        np.testing.assert_allclose(seen, np.array(expected) * (unit.health > 0), rtol=1e-6)


# ------------------------------------------------------------------------------------------------ sizes, counts


@pytest.mark.parametrize(
    ("map_name", "options", "move", "enemy", "ally", "own", "state"),
    [
        ("3m", {}, 4, (3, 5), (2, 5), 1, (4, 3)),
        ("MMM", {}, 4, (10, 8), (9, 8), 4, (7, 6)),
        ("2s3z", {}, 4, (5, 8), (4, 8), 4, (7, 6)),
        ("2m_vs_1z", {}, 4, (1, 6), (1, 5), 1, (4, 4)),
        ("3m", {"obs_pathing_grid": True}, 12, (3, 5), (2, 5), 1, (4, 3)),
        ("3m", {"obs_terrain_height": True, "obs_last_action": True}, 13, (3, 5), (2, 14), 1, (4, 3)),
        ("2s3z", {"obs_all_health": False}, 4, (5, 6), (4, 6), 4, (7, 6)),
        ("2s3z", {"obs_all_health": False, "obs_own_health": False}, 4, (5, 6), (4, 6), 2, (7, 6)),
        ("3m", {"obs_timestep_number": True}, 4, (3, 5), (2, 5), 3, (4, 3)),
    ],
)
def test_the_sizes_of_the_parts(map_name, options, move, enemy, ally, own, state):
    env = make(map_name, **options)
    assert env.get_obs_move_feats_size() == move
    assert env.get_obs_enemy_feats_size() == enemy
    assert env.get_obs_ally_feats_size() == ally
    assert env.get_obs_own_feats_size() == own
    assert env.get_obs_size() == len(env.get_obs_agent(0)) == move + np.prod(enemy) + np.prod(ally) + own
    assert (env.get_ally_num_attributes(), env.get_enemy_num_attributes()) == state
    info = env.get_env_info()
    assert (len(info["agent_features"]), len(info["enemy_features"])) == state


def test_one_agents_view_is_its_row_of_the_teams():
    env = make("2s3z")
    for i in range(env.n_agents):
        assert np.array_equal(env.get_obs_agent(i), env.get_obs()[i])
        assert env.get_avail_agent_actions(i) == env.get_avail_actions()[i]


def test_a_full_restart_begins_with_the_seed_again_and_keeps_the_counts():
    def play(env):
        env.reset()
        for _ in range(12):
            if env.step([int(np.argmax(avail)) for avail in env.get_avail_actions()])[1]:
                break
        return env.battle.units.copy()

    env = StarCraft2Env("3m", seed=3)
    first, second = play(env), play(env)
    assert not np.array_equal(first, second)
    env.reset()
    env.battle.units["health"][0, 3:] = 0
    env.step([STOP] * 3)
    env.full_restart()
    assert np.array_equal(play(env), first)
    assert (env.battles_won, env.battles_game, env.timeouts, env.force_restarts) == (1, 1, 0, 1)
    stats = env.get_stats()
    assert (stats["battles_won"], stats["battles_game"], stats["timeouts"], stats["restarts"]) == (1, 1, 0, 1)


def test_closing_twice_does_no_harm():
    env = make()
    env.close()
    env.close()
