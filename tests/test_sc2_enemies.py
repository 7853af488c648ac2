"""Who plays the enemy's side: scripts, policies and draws; what they see and what their actions do."""

import numpy as np
import pytest

from envs.check import random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2 import game, resolve_engine
from envs.sc2.enemies import SCRIPTS, check_enemies, read_enemies
from envs.sc2.sim.env import BattleVectorEnv, Moment
from envs.sc2.sim.replay import SUFFIX, Replay
from envs.sc2.sim.smac import StarCraft2Env
from tests.scenes import ATTACK, EAST, NORTH, STOP, WEST, Scene, draw
from utils.errors import UserError

ALL_SCRIPTS = [f"script:{name}" for name in SCRIPTS]
MIXED = ["bot", "script:nearest", "script:kite"]


class Recorder:
    """A policy that does what it is told, and keeps what it has seen."""

    def __init__(self, *steps, sizes=None):
        self.steps, self.seen, self.begun = list(steps), [], []

    def begin(self, battles):
        self.begun.append(battles.tolist())

    def act(self, seen, battles):
        self.seen.append({name: array[battles].copy() for name, array in vars(seen).items()})
        step = self.steps.pop(0) if self.steps else [STOP] * seen.obs.shape[1]
        return np.tile(step, (len(battles), 1))


def battle_of(enemy, seeds=(1,), map_name="3m", policy=None, **env_args):
    battle = BattleVectorEnv(list(seeds), map_name=map_name, enemy=enemy, **env_args)
    if policy is not None:
        battle.seat_enemies({enemy: lambda number: ({}, policy)})
    return battle


def play(battle, n_steps=30, seed=0, n_episodes=1, worlds=None):
    """Random actions, drawn for each world alone; returns the bytes of the units of each world after each step."""
    n = battle.n_envs
    seen, outcomes = Observations.empty(n, battle.get_env_info()), Outcomes.empty(n, battle.info_keys)
    rngs = [np.random.default_rng((seed, number)) for number in (worlds or range(n))]
    history = []
    for _ in range(n_episodes):
        battle.reset(seen)
        for _ in range(n_steps):
            actions = [random_actions(seen.avail_actions[i : i + 1], rng)[0] for i, rng in enumerate(rngs)]
            battle.step(np.array(actions), seen, outcomes)
            history.append([units.tobytes() for units in battle.units])
    return history


@pytest.fixture
def folder(tmp_path):
    return f"policy:{tmp_path}"


# --- names


def test_enemies_are_read_from_a_name_or_a_list():
    assert read_enemies("script:kite") == ("script:kite",)
    assert check_enemies(["bot", "script:kite"], ["script:hold", "bot"]) == ("script:kite", "script:hold")
    assert check_enemies() == ()


def test_two_enemies_whose_statistics_would_have_one_name_are_refused(tmp_path):
    folders = [tmp_path / name for name in ("a.1", "a-1")]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(UserError, match="would have one name; rename a folder"):
        check_enemies([f"policy:{folder}" for folder in folders])


@pytest.mark.parametrize(
    ("enemy", "sentence"),
    [
        ("script:kit", "unknown script 'kit'; did you mean 'kite'?"),
        ("bots", "env_args.enemy=bots is no enemy; it must be bot, script:NAME, policy:FOLDER or self"),
        ("policy:nowhere/5000", "there is no such folder; give that of a checkpoint"),
        (["bot", "bot"], "env_args.enemy has bot twice"),
        ([], "env_args.enemy is an empty list"),
    ],
)
def test_a_mistake_in_an_enemys_name_is_one_sentence(enemy, sentence):
    with pytest.raises(UserError, match="\\A[^\n]*\\Z") as refusal:
        battle_of(enemy)
    assert sentence in str(refusal.value)


def test_a_policy_that_nobody_has_given_is_missed_at_the_first_reset(folder):
    battle = battle_of(folder)
    with pytest.raises(UserError, match=r"no policy has been given to play it"):
        battle.reset(Observations.empty(1, battle.get_env_info()))


def test_enemies_are_for_the_embedded_engine_only(monkeypatch):
    monkeypatch.setattr(game, "check", lambda **env_args: None)
    assert resolve_engine("auto", map_name="3m", enemy="bot") == "game"
    for engine in ("auto", "game"):
        with pytest.raises(UserError, match=r"enemy=script:kite is for the embedded engine only, and env_args"):
            resolve_engine(engine, map_name="3m", enemy="script:kite")
    assert resolve_engine("sim", map_name="3m", enemy="script:kite") == "sim"


def test_a_restarted_battle_keeps_its_policy(folder):
    env, policy = StarCraft2Env("3m", seed=1, enemy=folder), Recorder()
    env.battle.seat_enemies({folder: lambda number: ({}, policy)})
    env.full_restart()
    env.reset()
    assert policy.begun == [[0]]


# --- the bot, and who is drawn


def test_the_bot_is_the_default_and_nothing_changes_where_it_alone_is_named():
    default, named = BattleVectorEnv([1, 2], map_name="3m"), battle_of(["bot"], (1, 2))
    assert named.enemies is None
    assert play(default) == play(named)
    assert named.episode_notes() == [{"enemy": "bot"}] * 2


def test_a_battle_that_draws_the_bot_is_one_of_the_bot():
    mixed = battle_of(MIXED, range(8))
    mixed.reset(Observations.empty(8, mixed.get_env_info()))
    drawn = [notes["enemy"] for notes in mixed.episode_notes()]
    assert set(drawn) == set(MIXED)
    acquires = mixed.units["acquires"][:, mixed.map.n_agents :]
    np.testing.assert_array_equal(acquires, np.repeat(np.array(drawn)[:, None] == "bot", 3, axis=1))


def drawn_by(seeds, n_episodes=12, is_test=False, **env_args):
    battle = battle_of(MIXED, seeds, **env_args)
    battle.test_mode = is_test
    seen, drawn = Observations.empty(len(seeds), battle.get_env_info()), []
    for _ in range(n_episodes):
        battle.reset(seen)
        drawn.append([notes["enemy"] for notes in battle.episode_notes()])
    return np.array(drawn)


def test_enemies_are_drawn_for_each_episode_by_the_worlds_seed_alone():
    both, alone = drawn_by([3, 4]), drawn_by([4])
    assert set(both[:, 0]) == set(both[:, 1]) == set(MIXED)
    assert both[:, 1].tolist() == alone[:, 0].tolist()
    assert both[:, 0].tolist() != both[:, 1].tolist()


def test_in_tests_the_enemies_are_met_in_turn():
    drawn = drawn_by([1, 2], n_episodes=3, is_test=True)
    assert drawn.ravel().tolist() == MIXED * 2
    others = ["script:hold", "script:focus"]
    assert drawn_by([1, 2], 2, is_test=True, test_enemies=others).ravel().tolist() == others * 2
    assert not set(others) & set(drawn_by([1, 2], 2, test_enemies=others).ravel())


def test_episodes_that_follow_a_saved_state_are_the_same():
    battle, other = battle_of(MIXED, (1, 2)), battle_of(MIXED, (8, 9))
    battle.test_mode = other.test_mode = True
    play(battle, n_steps=5, n_episodes=2)
    other.load_state_dict(battle.state_dict())
    assert play(battle, n_episodes=3) == play(other, n_episodes=3)
    assert battle.episode_notes() == other.episode_notes()


# --- battles


@pytest.mark.parametrize("enemy", [*ALL_SCRIPTS, MIXED], ids=str)
@pytest.mark.parametrize("map_name", ["5m_vs_6m", "MMM"])
def test_a_battle_of_a_batch_equals_that_battle_alone(enemy, map_name):
    together = play(battle_of(enemy, (5, 6, 7), map_name))
    alone = play(battle_of(enemy, (6,), map_name), worlds=[1])
    assert [units[1] for units in together] == [units[0] for units in alone]


def test_scripts_play_different_battles():
    ends = {play(battle_of(name, map_name="8m"))[-1][0] for name in ["bot", *ALL_SCRIPTS]}
    assert len(ends) == 1 + len(ALL_SCRIPTS)


@pytest.mark.parametrize("enemy", ["script:kite", "script:focus"])
@pytest.mark.parametrize("map_name", ["MMM2", "2s_vs_1sc", "1c3s5z", "bane_vs_bane"])
def test_scripts_play_on_maps_of_all_kinds(enemy, map_name):
    play(battle_of(enemy, (1, 2), map_name), n_steps=40)


@pytest.mark.parametrize("enemy", ["bot", "script:kite", "script:spread"])
def test_a_replay_repeats_what_the_enemies_did(enemy, tmp_path):
    battle = battle_of([enemy, "script:hold"], (4, 5), "MMM")
    while not battle.episode_steps[0] or battle.episode_notes()[0]["enemy"] != enemy:
        play(battle, n_steps=20)
    Replay.of(battle).save(tmp_path / f"a{SUFFIX}")
    loaded = Replay.load(tmp_path / f"a{SUFFIX}")
    assert loaded.settings.get("enemy", "bot") == enemy
    *_, last = loaded.moments(every=3)
    assert last.units[0].tobytes() == battle.units[0].tobytes()


def test_a_replay_that_lacks_some_of_the_enemies_steps_is_refused():
    battle = battle_of("script:kite", (4,), "3m")
    play(battle, n_steps=6)
    whole = Replay.of(battle)
    with pytest.raises(UserError, match="engine with other rules"):
        list(whole._replace(enemy_actions=whole.enemy_actions[:3]).moments())


def test_a_replay_of_a_policys_battle_needs_no_policy(folder, tmp_path):
    policy = Recorder([EAST, STOP, NORTH], [WEST, ATTACK, STOP])
    battle = battle_of(folder, (4,), policy=policy)
    play(battle, n_steps=6)
    Replay.of(battle).save(tmp_path / f"a{SUFFIX}")
    *_, last = Replay.load(tmp_path / f"a{SUFFIX}").moments()
    assert last.units[0].tobytes() == battle.units[0].tobytes()


# --- what a policy sees, and what its actions do


def moment_of(map_name, seed, other=None):
    """Random places and healths for both sides; of `other`: the same, mirrored, with the sides exchanged."""
    battle = battle_of("bot", (0,), map_name)
    n, n_agents = len(battle.units[0]), battle.map.n_agents
    if other is None:
        rng = np.random.default_rng(seed)
        dead = rng.random(n) < 0.2
        x, y = rng.uniform(10, 22, n), rng.uniform(10, 22, n)
        health, shield = np.where(dead, 0, rng.uniform(5, 40, n)), rng.uniform(0, 40, n)
        return Moment(*(array[None] for array in (x, y, health, shield, np.zeros(n_agents))))
    order = np.roll(np.arange(n), -n_agents)
    x, y, health, shield = (array[:, order] for array in other[:4])
    return Moment(32 - x, y, health, shield, np.zeros((1, n_agents)))


@pytest.mark.parametrize("map_name", ["3m", "2s3z", "MMM", "1c3s5z"])
def test_a_policy_sees_what_an_agent_there_would_see(map_name, folder):
    options = {"obs_pathing_grid": True, "obs_terrain_height": True, "state_timestep_number": True}
    options |= {"rules": {"enemy_list": "created"}}
    policy = Recorder()
    battle = battle_of(folder, (1,), map_name, policy, **options)
    there = battle_of("bot", (1,), map_name, **options)
    seen, outcomes = Observations.empty(1, battle.get_env_info()), Outcomes.empty(1, battle.info_keys)
    battle.reset(seen)
    own = battle.enemies._own[0]
    n_agents = battle.map.n_agents
    moment = moment_of(map_name, seed=3)
    placed = Moment(*(array.copy() for array in moment))
    for name in ("x", "y", "health", "shield"):  # number i of the side stands where the moment has its enemy i
        getattr(placed, name)[0, own] = getattr(moment, name)[0, n_agents:]
    battle.set_moment(placed)
    there.reset(seen)
    theirs = there.units[0, n_agents:]
    theirs[:] = theirs[np.argsort(theirs["type"], kind="stable")]  # listed as agents are
    there.set_moment(moment_of(map_name, seed=3, other=moment))
    there._observe(np.ones(1, bool), seen)

    # energy and cooldowns are no part of a moment: both are fresh
    battle.units["cooldown"] = 0
    battle.step(first_available(battle), Observations.empty(1, battle.get_env_info()), outcomes)
    for name in ("obs", "avail_actions", "state"):
        np.testing.assert_allclose(policy.seen[0][name][0], getattr(seen, name)[0], atol=1e-6, err_msg=name)
    assert policy.seen[0]["obs"].any()


def first_available(battle):
    battle.obey_all()
    return np.where(battle.units["health"][:, : battle.map.n_agents] > 0, STOP, 0)


def test_its_own_last_actions_are_in_its_state(folder):
    policy = Recorder([STOP, NORTH, ATTACK])
    battle = battle_of(folder, policy=policy)
    play(battle, n_steps=2, n_episodes=2)
    n_actions = battle.layout.n_actions
    assert not policy.seen[0]["state"][0, -3 * n_actions :].any()
    last = policy.seen[1]["state"][0, -3 * n_actions :].reshape(3, n_actions)
    assert last.argmax(1).tolist() == [STOP, NORTH, ATTACK]
    assert not policy.seen[2]["state"][0, -3 * n_actions :].any()  # of the next episode


def test_its_actions_are_those_of_the_mirrored_world(folder):
    policy = Recorder([EAST, WEST, NORTH])
    scene = Scene([(5, 16), (5, 17), (5, 18)], [(20, 16), (21, 17), (22, 18)], enemy=folder, enemy_policy=policy)
    first, second, third = scene.battle.enemies._own[0]
    assert [first, second, third] == [5, 4, 3]  # the one that is farthest east is the first by x there
    before = scene.units.copy()
    scene.step(STOP, STOP, STOP)
    moved = [(units["x"], units["y"]) for units in scene.units]
    assert moved[first][0] < before[first]["x"] - 0.9 and moved[second][0] > before[second]["x"] + 0.9
    assert moved[third][1] > before[third]["y"] + 0.9


def test_its_attacks_name_the_agents_by_their_ids_and_its_medivacs_heal_its_own(folder):
    policy = Recorder([ATTACK + 1, ATTACK, ATTACK + 1])
    enemies = {"enemies": [(12, 16), (13, 18), (13, 17)], "enemy_type": ["Marine", "Marine", "Medivac"]}
    scene = Scene([(8, 16), (8, 18)], enemy=folder, enemy_policy=policy, enemy_health=[40, 45, 150], **enemies)
    own = scene.battle.enemies._own[0].tolist()
    assert own == [3, 2, 4]
    scene.step(STOP, STOP)
    assert scene.units["target"][own].tolist() == [1, 0, own[1]]
    assert scene.units["health"][2] > 40
    assert scene.battle.enemies.layout.n_actions == 6 + 3  # one for each that can be healed


def test_an_action_that_there_is_not_is_refused(folder):
    with pytest.raises(ValueError, match=r"gives action 9 of 9"):
        play(battle_of(folder, policy=Recorder([STOP, STOP, 9])), n_steps=1)


def test_policies_begin_episodes_in_the_battles_that_they_play(folder):
    policy = Recorder()
    battle = battle_of(folder, (1, 2, 3), policy=policy)
    seen = Observations.empty(3, battle.get_env_info())
    battle.reset(seen)
    battle.reset(seen, np.array([False, True, False]))
    assert policy.begun == [[0, 1, 2], [1]]


# --- scripts


def enemy_steps(scene, n_steps):
    for _ in range(n_steps):
        scene.step(*[STOP] * scene.battle.map.n_agents)
    return scene


def test_nearest_attacks_whoever_is_nearest():
    scene = enemy_steps(Scene([(10, 10), (10, 20)], [(14, 12), (14, 18)], enemy="script:nearest"), 1)
    assert scene.enemies["target"].tolist() == [0, 1]


def test_weakest_attacks_whoever_has_least_left_nearby():
    scene = Scene([(10, 15), (11, 17), (4, 4)], [(14, 15)], ally_health=[45, 20, 1], enemy="script:weakest")
    assert enemy_steps(scene, 1).enemies["target"].tolist() == [1]


def test_focus_stays_with_one_target_until_it_is_dead():
    scene = Scene([(10, 10), (10, 15), (10, 20)], [(14, 10), (14, 15), (14, 20)], enemy="script:focus")
    assert enemy_steps(scene, 1).enemies["target"].tolist() == [1, 1, 1]
    scene.units["health"][1] = 0
    (target,) = set(enemy_steps(scene, 1).enemies["target"].tolist())
    assert target in (0, 2)


def test_hold_stays_and_shoots_who_comes_into_range():
    scene = enemy_steps(Scene([(10, 10), (10, 20)], [(14, 10), (20, 20)], enemy="script:hold"), 2)
    assert scene.enemies["target"].tolist() == [0, -1]
    assert scene.enemies["x"].tolist() == [14, 20]


def test_kite_steps_back_while_its_weapon_cools_down():
    scene = Scene([(10, 15)], [(13, 15)], ally_type="Zealot", enemy_type="Stalker", enemy="script:kite")
    places = [enemy_steps(scene, 1).enemies["x"][0] for _ in range(8)]
    assert max(places) > 14 and scene.allies["shield"][0] < 50
    standing = Scene([(10, 15)], [(13, 15)], ally_type="Zealot", enemy_type="Stalker", enemy="script:nearest")
    assert enemy_steps(standing, 8).enemies["x"][0] == 13


def test_spread_goes_apart_before_it_fights():
    scene = enemy_steps(Scene([(3, 15)], [(25, 15), (25, 15.8)], enemy="script:spread"), 4)
    first, second = scene.enemies
    assert abs(first["y"] - second["y"]) > 2.5
    near = enemy_steps(Scene([(17, 15)], [(25, 15), (25, 15.8)], enemy="script:spread"), 4)
    assert near.enemies["target"].tolist() == [0, 0]


def test_steps_do_not_lead_into_walls():
    picture = """
    XXXXXXXXXX
    XX......XX
    XXz...SXXX
    XX......XX
    XXXXXXXXXX
    """
    scene = draw(picture, enemy="script:kite")
    for _ in range(12):
        enemy_steps(scene, 1)
        x, y = scene.enemies["x"][0], scene.enemies["y"][0]
        assert scene.battle.map.pathing[int(x), int(y)]


def test_medivacs_heal_and_follow_whatever_the_script():
    enemies = {"enemies": [(20, 15), (26, 15)], "enemy_type": ["Marine", "Medivac"]}
    scene = Scene([(3, 15)], enemy="script:hold", enemy_health=[20, 150], **enemies)
    enemy_steps(scene, 12)
    assert scene.enemies["health"][0] > 20 and scene.enemies["x"][1] < 25
