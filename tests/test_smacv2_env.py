"""SMACv2 on the embedded engine: teams and places of every battle, the enemies' orders, both versions, replays."""

import inspect
import json

import numpy as np
import pytest

from config.layers import merge
from envs import REGISTRY
from envs.check import check_env, check_vector_env, random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.film import save_replay
from envs.sc2.sim.records import ATTACK, IDLE, NO_UNIT
from envs.sc2.sim.replay import Replay
from envs.sc2.sim.smacv2 import dynamics
from envs.sc2.sim.smacv2.capabilities import Draws, Places, Teams
from envs.sc2.sim.smacv2.env import BattleVectorEnv
from envs.sc2.sim.smacv2.races import API_NAMES, MAP_NAMES, SCENARIOS, standard_config
from envs.sc2.sim.smacv2.smacv2 import StarCraft2Env
from envs.sc2.v2 import SMACv2Env
from envs.vector import SerialVectorEnv
from utils.errors import UserError

STANDARD = {"obs_own_pos": True, "use_unit_ranges": True}
SMACV2_DEFAULTS = {
    "obs_own_pos": False, "obs_starcraft": True, "conic_fov": False, "num_fov_actions": 12, "use_unit_ranges": False,
    "min_attack_range": 2, "kill_unit_step_mul": 2, "fully_observable": False, "prob_obs_enemy": 1.0,
    "action_mask": True, "step_mul": 8, "move_amount": 2, "difficulty": "7", "reward_death_value": 10,
    "reward_win": 200, "reward_scale_rate": 20, "state_last_action": True,
}  # fmt: skip
SIZES = {  # scenario: actions, observation, state; and with a cone of 12 directions
    "terran_5_vs_5": (11, 82, 120, 23, 84, 190),
    "zerg_5_vs_5": (11, 82, 120, 23, 84, 190),
    "terran_10_vs_10": (16, 162, 290, 28, 164, 430),
    "zerg_10_vs_11": (17, 170, 306, 29, 172, 446),
    "terran_20_vs_20": (26, 322, 780, 38, 324, 1060),
    "zerg_20_vs_23": (29, 346, 858, 41, 348, 1138),
    "protoss_5_vs_5": (11, 92, 130, 23, 94, 200),
    "protoss_10_vs_10": (16, 182, 310, 28, 184, 450),
    "protoss_10_vs_11": (17, 191, 327, 29, 193, 467),
    "protoss_20_vs_20": (26, 362, 820, 38, 364, 1100),
    "protoss_20_vs_23": (29, 389, 901, 41, 391, 1181),
}
UNIFORM = {"dist_type": "per_agent_uniform", "observe": True}
EVERYTHING = {
    **standard_config("terran_5_vs_5"),
    "attack": {**UNIFORM, "lower_bound": [0.2], "upper_bound": [0.9]},
    "health": {**UNIFORM, "lower_bound": [0.1], "upper_bound": [0.4]},
    "enemy_mask": {"dist_type": "mask", "mask_probability": 0.5},
}
OTHERS = [
    {"version": "head", "conic_fov": True, "prob_obs_enemy": 0.5, "action_mask": False},
    {"map_name": "10gen_terran", "capability_config": EVERYTHING, "version": "head", "obs_last_action": True},
    {
        "map_name": "protoss_10_vs_11",
        "obs_pathing_grid": True,
        "obs_terrain_height": True,
        "state_timestep_number": True,
    },
    {"map_name": "zerg_5_vs_5", "obs_starcraft": False, "obs_timestep_number": True},
]


class Duel:
    """One battle whose teams and places a test gives; nothing has moved yet."""

    def __init__(self, allies, enemies, map_name="10gen_terran", attack=None, health=None, **options):
        """allies and enemies: (type, x, y) of each."""
        race = map_name.removeprefix("10gen_")
        config = {**standard_config(f"{race}_5_vs_5"), "n_units": len(allies), "n_enemies": len(enemies)}
        for key, value in (("attack", attack), ("health", health)):
            config |= {key: {**UNIFORM, "lower_bound": [0.0], "upper_bound": [1.0]}} if value is not None else {}
        rules = {"enemy_list": "created", "spawn_age_loops": 0}
        self.env = StarCraft2Env(map_name, seed=0, capability_config=config, rules=rules, **STANDARD, **options)
        self.battle = self.env.battle
        teams = Teams([unit[0] for unit in allies], [unit[0] for unit in enemies])
        places = Places(*(np.array([unit[1:] for unit in side], float) for side in (allies, enemies)))
        drawn = [None if value is None else np.full(len(allies), float(value)) for value in (attack, health)]
        self.battle._draw = lambda seed: Draws(teams, places, *drawn, None)
        self.env.reset()
        self.battle.phases[:] = 0

    @property
    def units(self):
        return self.battle.units[0]

    def loop(self, n_loops=1):
        self.battle._play(np.ones(1, bool), n_loops)

    def target_of(self, k):
        """(order, target) of enemy k."""
        unit = self.units[self.env.n_agents + k]
        return int(unit["order"]), int(unit["target"])


# ------------------------------------------------------------------------------------------------ interface


def test_the_defaults_are_smacv2s():
    ours = {name: one.default for name, one in inspect.signature(BattleVectorEnv).parameters.items()}
    assert {name: ours[name] for name in SMACV2_DEFAULTS} == SMACV2_DEFAULTS


def test_the_keys_give_every_argument_its_constructors_default():
    parameters = inspect.signature(BattleVectorEnv).parameters
    env_args = merge("iql", "sc2v2", [])["env_args"]
    for name in ("rules", "capability_config", "engine", "seed"):
        env_args.pop(name)
    own = {"obs_own_pos": True, "use_unit_ranges": True}  # config/envs/sc2v2.yaml: those of all standard scenarios
    assert env_args == {name: parameters[name].default for name in env_args} | own


@pytest.mark.parametrize("scenario", SIZES)
def test_sizes_of_the_standard_scenarios(scenario):
    sizes = []
    for conic_fov in (False, True):
        info = BattleVectorEnv([0], scenario, conic_fov=conic_fov, **STANDARD).get_env_info()
        sizes += [info["n_actions"], info["obs_shape"], info["state_shape"]]
        assert (info["cap_shape"], info["episode_limit"]) == (3, 200)
    assert tuple(sizes) == SIZES[scenario]


def test_there_are_fifteen_scenarios_on_three_maps():
    assert len(SCENARIOS) == 15 and len(MAP_NAMES) == 18
    assert SCENARIOS["zerg_10_vs_11"] == ("10gen_zerg", 10, 11)


@pytest.mark.parametrize("env_args", OTHERS)
def test_every_kind_of_environment_keeps_the_contract(env_args):
    def make_env():
        return REGISTRY["sc2v2"](seed=1, **env_args)

    def make_vector():
        return REGISTRY["sc2v2"].vector([1, 2, 3], **env_args)

    check_env(make_env(), n_episodes=2, make_env=make_env, refuses_unavailable=True)
    check_vector_env(make_vector(), n_episodes=2, make_env=make_vector)


def test_the_methods_that_smac_lacks():
    duel = Duel(
        [("marine", 10, 10), ("medivac", 12, 10)], [("marauder", 14, 10)], conic_fov=True, num_fov_actions=4, attack=0.3
    )
    env = duel.env
    assert (env.n_actions_no_attack, env.n_fov_actions, env.conic_fov) == (10, 4, True)
    assert env.get_cap_size() == 4 and env.get_capabilities().tolist() == pytest.approx([0.3, 1, 0, 0, 0.3, 0, 0, 1])
    assert env.get_capabilities_agent(1).tolist() == pytest.approx([0.3, 0, 0, 1])
    assert len(env.get_obs_feature_names()) == env.get_obs_size()
    assert len(env.get_state_feature_names()) == env.get_state_size()
    assert [env.unit_sight_range(i) for i in (0, 1)] == [9, 11] and [env.unit_shoot_range(i) for i in (0, 1)] == [5, 4]
    assert env.get_unit_types() == [1974, 1975, 51]  # marine and medivac among the agents' nine types; marauder
    assert {i: unit.unit_type for i, unit in env.agents.items()} == {0: 1974, 1: 1975}
    assert env.unit_max_cooldown(env.agents[1]) == 200 and env.unit_max_cooldown(env.enemies[0]) == 15
    parts = env.get_state_dict()
    joined = np.concatenate([parts["allies"].ravel(), parts["enemies"].ravel(), parts["last_action"].ravel()])
    np.testing.assert_array_equal(joined, env.get_state())
    assert env.get_true_avail_agent_actions(0) == env.get_avail_agent_actions(0)


# ------------------------------------------------------------------------------------------------ teams, places


def test_battles_of_one_batch_have_teams_and_places_of_their_own():
    env = BattleVectorEnv(range(8), "protoss_10_vs_11")
    env.reset(Observations.empty(8, env.get_env_info()))
    assert len({tuple(row) for row in env.teams.tolist()}) == 8
    assert len({tuple(row) for row in env.points[:, -1].tolist()}) > 4
    first = env.teams.copy()
    env.reset(Observations.empty(8, env.get_env_info()))
    assert not np.array_equal(first, env.teams)


@pytest.mark.parametrize("map_name", ["terran_5_vs_5", "zerg_10_vs_11"])
def test_a_battle_of_a_batch_equals_that_battle_alone(map_name):
    seeds, env_args = [4, 5, 6], {"map_name": map_name, "version": "head", "prob_obs_enemy": 0.5, "conic_fov": True}
    in_turn = SerialVectorEnv([StarCraft2Env(seed=seed, continuing_episode=True, **env_args) for seed in seeds])
    together = StarCraft2Env.vector(seeds, **env_args)
    envs = (in_turn, together)
    seen = [Observations.empty(3, together.get_env_info()) for _ in envs]
    outcomes = [Outcomes.empty(3, together.info_keys) for _ in envs]
    rng = np.random.default_rng(0)
    for env, observations in zip(envs, seen):
        env.reset(observations)
    n_ended = 0
    for _ in range(100):
        actions = random_actions(seen[0].avail_actions, rng)
        for env, observations, outcome in zip(envs, seen, outcomes):
            env.step(actions, observations, outcome)
        for array, other in zip((*seen[0], *outcomes[0][:3]), (*seen[1], *outcomes[1][:3])):
            np.testing.assert_array_equal(array, other)
        over = outcomes[0].terminated | outcomes[0].truncated
        n_ended += over.sum()
        for env, observations in zip(envs, seen):
            env.reset(observations, over)
    assert n_ended > 3


@pytest.mark.parametrize("map_name", ["terran_20_vs_23", "protoss_20_vs_23", "zerg_20_vs_23"])
def test_units_are_created_on_the_ground_near_their_points_and_beside_each_other(map_name):
    env = BattleVectorEnv(range(16), map_name, rules={"spawn_age_loops": 0, "enemy_list": "created"})
    env.reset(Observations.empty(16, env.get_env_info()))
    units = env.units
    for axis in "xy":
        assert (units[axis] >= 2).all() and (units[axis] <= 30).all()
    for b in range(16):
        flies = np.array([env.map.type_names[index] == "Medivac" for index in units["type"][b]])
        for who in (flies, ~flies):
            own = units[b][who]
            gap = np.hypot(own["x"][:, None] - own["x"], own["y"][:, None] - own["y"])
            gap -= own["radius"][:, None] + own["radius"]
            assert gap[np.triu_indices(len(own), 1)].min(initial=1) > -0.13
    enemies, points = units[:, 20:], env.points[:, 20:].clip(2, 30)
    away = np.hypot(enemies["x"] - points[..., 0], enemies["y"] - points[..., 1])
    assert np.median(away) < 2 and away.max() < 12


def test_agents_are_numbered_by_type_and_place_and_enemies_as_they_are_listed():
    allies = [("medivac", 9, 9), ("marine", 12, 9), ("marine", 6, 12), ("marauder", 20, 9), ("marine", 6, 9)]
    duel = Duel(allies, [("medivac", 25, 25), ("marauder", 25, 20)])
    names = [duel.env.battle.map.type_names[index] for index in duel.units["type"]]
    assert names == ["Marauder", "Marine", "Marine", "Marine", "Medivac", "Medivac", "Marauder"]
    assert duel.units["x"].tolist() == [20, 6, 6, 12, 9, 25, 25]
    assert duel.units["y"].tolist() == [9, 9, 12, 9, 9, 25, 20]


def test_all_that_is_drawn_depends_on_the_seed_alone():
    def history(seed):
        env = StarCraft2Env("terran_5_vs_5", seed=seed, version="head", prob_obs_enemy=0.5)
        np.random.seed(seed)
        return [np.concatenate(env.reset()[0]) for _ in range(3)]

    np.testing.assert_array_equal(history(3), history(3))
    assert not np.array_equal(history(3), history(4))


# ------------------------------------------------------------------------------------------------ enemies


def test_an_idle_enemy_is_sent_to_the_closest_agent_every_eight_loops():
    duel = Duel([("marine", 5, 5), ("marine", 5, 20)], [("marauder", 25, 18)])
    duel.loop(dynamics.ORDER_PERIOD - 1)
    assert duel.target_of(0) == (IDLE, NO_UNIT)
    duel.loop()
    assert duel.target_of(0) == (ATTACK, 1)


def test_an_ordered_enemy_follows_its_target_past_others_until_it_is_dead_and_then_is_sent_to_the_next():
    duel = Duel([("marine", 4, 5), ("marine", 12, 25)], [("marauder", 25, 7)])
    duel.loop(8)
    assert duel.target_of(0) == (ATTACK, 0)
    duel.units["x"][1], duel.units["y"][1] = 22, 7
    duel.loop(24)
    assert duel.target_of(0) == (ATTACK, 0)
    duel.units["x"][1], duel.units["y"][1] = 12, 25
    duel.units["health"][0] = 0
    duel.loop(1)
    assert duel.target_of(0) == (IDLE, NO_UNIT)
    duel.loop(7)
    assert duel.target_of(0) == (ATTACK, 1)


def test_who_can_not_reach_the_closest_agent_and_medivacs_stay():
    duel = Duel([("medivac", 15, 10), ("marine", 3, 3)], [("marauder", 25, 10), ("medivac", 25, 12)])
    places = duel.units["x"][2:].copy()
    duel.loop(40)
    assert duel.target_of(0) == duel.target_of(1) == (IDLE, NO_UNIT)
    assert duel.units["x"][2:].tolist() == places.tolist()


def test_an_idle_enemy_fights_whom_it_finds_itself():
    duel = Duel([("medivac", 20, 10), ("marine", 22, 14)], [("marauder", 24, 10)])
    duel.loop(16)
    assert duel.target_of(0) == (IDLE, 0)  # the marine comes first: agents are numbered by type
    duel.loop(100)
    assert duel.units["health"][0] < 45


def test_the_phase_of_the_orders_is_drawn():
    env = BattleVectorEnv(range(64))
    env.reset(Observations.empty(64, env.get_env_info()))
    assert set(env.phases.tolist()) == set(range(8))


# ------------------------------------------------------------------------------------------------ actions, rewards


def test_a_turn_changes_where_an_agent_looks_and_leaves_its_order():
    duel = Duel([("marine", 10, 10)], [("marauder", 14.5, 10)], conic_fov=True, num_fov_actions=4)
    north, attack, turn_north = 2, 10, 7
    assert duel.env.get_avail_agent_actions(0)[attack] == 1
    duel.env.step([north])
    goal = duel.units["goal_y"][0]
    duel.env.step([turn_north])
    assert duel.battle.episode.direction[0, 0].tolist() == pytest.approx([0, 1])
    assert duel.units["goal_y"][0] == goal
    assert duel.env.get_avail_agent_actions(0)[attack] == 0


@pytest.mark.parametrize(("chance", "shoots"), [(1.0, True), (0.0, False)])
def test_an_attack_is_carried_out_by_chance(chance, shoots):
    duel = Duel([("marine", 10, 10)], [("marauder", 14, 10)], attack=chance)
    duel.env.step([6])
    assert (duel.units["order"][0] == ATTACK) == shoots


def test_agents_die_below_their_level_of_health():
    duel = Duel([("marine", 5, 5), ("marine", 5, 9)], [("marauder", 28, 28)], health=0.5)
    duel.units["health"][0] = 22
    assert duel.env.step([1, 1])[2]["dead_allies"] == 1
    assert duel.units["health"][:2].tolist() == [0, 45]


def test_a_target_out_of_reach_can_be_named_without_the_mask_and_nothing_is_sent():
    duel = Duel([("marine", 5, 10)], [("marauder", 25, 10)], version="head", action_mask=False)
    assert duel.env.get_avail_agent_actions(0)[6] == 1 and duel.env.get_true_avail_agent_actions(0)[6] == 0
    duel.env.step([6])
    assert duel.units["order"][0] == IDLE


@pytest.mark.parametrize("rest", [False, True])
def test_the_heuristic_attacks_the_nearest_and_names_its_target_behind_the_turns(rest):
    options = {"conic_fov": True, "num_fov_actions": 4, "heuristic_ai": True, "heuristic_rest": rest}
    duel = Duel([("marine", 10, 10)], [("marauder", 25, 25), ("marauder", 13, 10)], **options)
    actions = [1]
    duel.env.step(actions)
    assert actions == [6 + 4 + 1]
    assert (duel.units["order"][0], duel.units["target"][0]) == (ATTACK, 2)


def test_rewards_never_count_what_enemies_regain_as_a_gain():
    """SMAC takes the absolute value, SMACv2 does not."""
    duel = Duel([("stalker", 5, 5)], [("stalker", 28, 28)], map_name="10gen_protoss")
    duel.units["shield"][1] = 20
    duel.battle._previous[0, 1] = 100
    assert duel.env.step([1])[0] == 0
    for _ in range(5):
        assert duel.env.step([1])[0] == 0
    assert duel.units["shield"][1] > 20


@pytest.mark.slow
def test_threads_change_nothing():
    seen, envs = [], [BattleVectorEnv(range(8), "zerg_5_vs_5", version="head", n_threads=n) for n in (1, 2)]
    for env in envs:
        seen.append(Observations.empty(8, env.get_env_info()))
        outcomes, rng = Outcomes.empty(8, env.info_keys), np.random.default_rng(0)
        env.reset(seen[-1])
        for _ in range(30):
            env.step(random_actions(seen[-1].avail_actions, rng), seen[-1], outcomes)
            env.reset(seen[-1], outcomes.terminated | outcomes.truncated)
    assert envs[1]._goes_parallel(np.ones(8, bool)) and not envs[0]._goes_parallel(np.ones(8, bool))
    np.testing.assert_array_equal(envs[0].units, envs[1].units)
    assert all(map(np.array_equal, *seen)) and seen[0].obs.any()


def test_the_first_enemies_fix_what_rewards_are_divided_by():
    env = BattleVectorEnv([0])
    seen, outcomes = Observations.empty(1, env.get_env_info()), Outcomes.empty(1, env.info_keys)
    worth = {"Marine": 45, "Marauder": 125, "Medivac": 150}

    def worth_of_enemies():
        return sum(worth[env.map.type_names[index]] for index in env.teams[0, 5:])

    env.reset(seen)
    expected = worth_of_enemies()
    assert env.max_reward[0] == expected and env._divisors[0] == (expected + 250) / 20
    env.reset(seen)  # before an episode has ended
    expected += worth_of_enemies()
    assert env.max_reward[0] == expected
    env.units["health"][0, :5] = 0
    env.step(np.ones((1, 5), int) * env._avail_actions[..., 1], seen, outcomes)
    assert outcomes.terminated[0]
    env.reset(seen)
    assert env.max_reward[0] == expected
    other = BattleVectorEnv([1])
    other.load_state_dict(json.loads(json.dumps(env.state_dict())))
    assert other.max_reward[0] == expected


def test_a_game_that_is_launched_anew_keeps_what_rewards_are_divided_by():
    env = StarCraft2Env(seed=0)
    first = env.reset()[1]
    before = env.battle.max_reward.copy()
    env.full_restart()
    assert env.battle.max_reward == before > 0
    np.testing.assert_array_equal(env.reset()[1], first)


# ------------------------------------------------------------------------------------------------ versions


def test_only_in_the_later_version_an_enemy_that_nobody_has_told_of_blanks_those_before_it():
    allies, enemies = [("marine", 10, 10), ("marine", 10, 12)], [("marauder", 15, 10), ("marine", 29, 29)]
    shown = {
        version: [bool(obs[4:12].any()) for obs in Duel(allies, enemies, version=version).env.get_obs()]
        for version in ("before_epo", "head")
    }
    assert shown == {"before_epo": [True, True], "head": [False, False]}


def test_records_say_which_version_it_is():
    assert StarCraft2Env(seed=0).get_env_info()["smacv2_version"] == "before_epo"
    assert SMACv2Env.describe(version="head")["smacv2_version"].startswith("head: 577ab5a")


# ------------------------------------------------------------------------------------------------ replays


@pytest.mark.slow
@pytest.mark.parametrize("env_args", [{"map_name": "zerg_5_vs_5"}, {**OTHERS[1]}])
def test_a_replay_plays_the_battle_again(env_args, tmp_path):
    env = StarCraft2Env(seed=1, replay_dir=str(tmp_path), **env_args)
    rng = np.random.default_rng(0)
    for _ in range(2):
        env.reset()
        terminated = False
        while not terminated:
            terminated = env.step(random_actions(np.array(env.get_avail_actions()), rng).tolist())[1]
    replay, film = save_replay(env.battle)
    assert film.read_bytes()[:3] == b"GIF" and env_args["map_name"] in film.name
    *_, last = Replay.load(replay).moments()
    for name in ("x", "y", "health", "type"):
        np.testing.assert_array_equal(last.units[name], env.battle.units[name])


def test_a_picture_shows_what_the_agents_look_at():
    duel = Duel([("marine", 10, 10), ("marine", 12, 20)], [("marauder", 25, 10)], conic_fov=True, num_fov_actions=4)
    before = duel.env.render("rgb_array")
    (first, second) = duel.battle.cones(0)
    assert (first.unit, first.reach, first.direction) == (0, 9, 0) and first.half_angle == pytest.approx(np.pi / 4)
    duel.env.step([7, 1])
    assert duel.battle.cones(0)[0].direction == pytest.approx(np.pi / 2)
    assert not np.array_equal(before, duel.env.render("rgb_array"))
    assert BattleVectorEnv([0]).cones(0) == []


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("env_args", "says"),
    [
        ({"map_name": "terran_5_v_5"}, "did you mean 'terran_5_vs_5'?"),
        ({"map_name": "10gen_zerg"}, "needs env_args.capability_config"),
        ({"capability_config": EVERYTHING}, "has its own capability_config; leave yours out, or take map_name=10gen"),
        ({"conic_fov": True, "num_fov_actions": 0}, "needs actions to turn the cone"),
        ({"obs_instead_of_state": True}, "SMACv2 has no env_args.obs_instead_of_state"),
        ({"obs_starcraft": False}, "leaves only the time to observe"),
        ({"prob_obs_enemy": 0.0}, "add env_args.version=head"),
        ({"action_mask": False}, "add env_args.version=head"),
        ({"version": "heda"}, "did you mean 'head'?"),
        (
            {"map_name": "10gen_terran", "capability_config": EVERYTHING, "kill_unit_step_mul": 9},
            "more game loops than a step has; give at most step_mul=8",
        ),
        (
            {"map_name": "10gen_terran", "capability_config": EVERYTHING, "reward_only_positive": False},
            "needs env_args.reward_only_positive=True",
        ),
        ({"engine": "game"}, "SMACv2 is played on the embedded engine"),
    ],
)
def test_arguments_that_can_not_be_are_refused_in_one_sentence(env_args, says):
    with pytest.raises(UserError) as error:
        REGISTRY["sc2v2"](seed=0, **env_args)
    assert says in str(error.value)


def test_a_step_may_be_shorter_than_the_killing_of_a_unit_takes_where_none_is_killed():
    REGISTRY["sc2v2"](seed=0, step_mul=1).close()


def test_enemy_types_are_named_as_smacv2_names_them():
    assert [API_NAMES[name] for name in ("Marine", "Zergling", "Colossus")] == ["marine", "zergling", "colossus"]


@pytest.mark.parametrize(
    ("scenario", "ids"),
    [
        ("terran_5_vs_5", {1973, 1974, 1975}),
        ("protoss_5_vs_5", {1971, 1976, 1977}),
        ("zerg_5_vs_5", {1970, 1972, 1978}),
    ],
)
def test_the_agents_types_have_the_ids_of_smacv2s_map(scenario, ids):
    env = StarCraft2Env(scenario, seed=1)
    seen = set()
    for _ in range(20):
        env.reset()
        seen |= {unit.unit_type for unit in env.agents.values()}
    assert seen == ids
