"""Who plays the enemy's side in SMACv2: scripts in battles of all kinds; what a policy there sees, does and suffers."""

import numpy as np
import pytest
import torch as th

import main
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.enemies import SCRIPTS
from envs.sc2.sim import records
from envs.sc2.sim.replay import SUFFIX, Replay
from envs.sc2.sim.smacv2 import features
from envs.sc2.sim.smacv2.capabilities import Draws, Places, Teams
from envs.sc2.sim.smacv2.env import BattleVectorEnv
from envs.sc2.sim.smacv2.races import API_NAMES, standard_config
from run import Run
from tests.builders import RecordingLogger
from tests.test_sc2_enemies import ALL_SCRIPTS, Recorder, play
from utils.errors import UserError

STOP, EAST, WEST, ATTACK = 1, 4, 5, 6
MIXED = ["bot", "script:nearest", "script:kite"]
UNIFORM = {"dist_type": "per_agent_uniform", "observe": True}
EVERYTHING = {
    "attack": {**UNIFORM, "lower_bound": [0.2], "upper_bound": [0.9]},
    "health": {**UNIFORM, "lower_bound": [0.1], "upper_bound": [0.4]},
    "enemy_mask": {"dist_type": "mask", "mask_probability": 0.5},
}
RULES = {"enemy_list": "created", "spawn_age_loops": 0}


def config_of(race="terran", n_units=5, n_enemies=5, **more):
    return {**standard_config(f"{race}_5_vs_5"), "n_units": n_units, "n_enemies": n_enemies, **more}


def battle_of(enemy, seeds=(1,), map_name="terran_5_vs_5", policy=None, **env_args):
    battle = BattleVectorEnv(list(seeds), map_name, enemy=enemy, **env_args)
    if policy is not None:
        battle.seat_enemies({enemy: lambda number: ({}, policy)})
    return battle


@pytest.fixture
def folder(tmp_path):
    return f"policy:{tmp_path}"


# --- battles


@pytest.mark.parametrize(
    ("enemy", "map_name", "env_args"),
    [
        *((name, "terran_5_vs_5", {}) for name in ALL_SCRIPTS),
        (MIXED, "protoss_10_vs_11", {"version": "head", "prob_obs_enemy": 0.5}),
        (MIXED, "zerg_5_vs_5", {"conic_fov": True}),
        ("script:focus", "10gen_terran", {"capability_config": config_of(**EVERYTHING)}),
    ],
)
def test_a_battle_of_a_batch_equals_that_battle_alone(enemy, map_name, env_args):
    together = play(battle_of(enemy, (5, 6, 7), map_name, **env_args), n_episodes=2)
    alone = play(battle_of(enemy, (6,), map_name, **env_args), n_episodes=2, worlds=[1])
    assert [units[1] for units in together] == [units[0] for units in alone]


@pytest.mark.parametrize("map_name", ["terran_5_vs_5", "protoss_5_vs_5", "zerg_5_vs_5"])
def test_scripts_play_different_battles(map_name):
    ends = {play(battle_of(name, map_name=map_name), 20)[-1][0] for name in ["bot", *ALL_SCRIPTS]}
    assert len(ends) == 1 + len(SCRIPTS)


@pytest.mark.parametrize(("enemy", "order"), [("bot", records.ATTACK), ("script:hold", records.IDLE)])
def test_the_maps_script_orders_only_the_enemies_that_the_bot_plays(enemy, order):
    battle = duel([("marine", 4, 10)], [("marine", 28, 10), ("marauder", 28, 14)], enemy=enemy)
    assert after(battle, 3)["order"].tolist() == [records.IDLE, order, order]


def test_the_agents_see_the_same_whoever_plays_the_enemies():
    infos = [battle_of(enemy, conic_fov=True).get_env_info() for enemy in ("bot", "script:kite")]
    assert infos[0] == infos[1]


# --- what a policy sees


def duel(allies, enemies, race="terran", enemy="bot", policy=None, numbers=(None, None, None), **options):
    """A battle whose teams and places are given, (type, x, y) of each; it has begun, and nothing has moved."""
    sizes = {"n_units": len(allies), "n_enemies": len(enemies)}
    more = {key: EVERYTHING[key] for key, drawn in zip(EVERYTHING, numbers) if drawn is not None}
    config = config_of(race, **sizes, **more)
    battle = battle_of(
        enemy, (0,), f"10gen_{race}", policy, capability_config=config, rules=RULES, use_unit_ranges=True, **options
    )
    teams = Teams([unit[0] for unit in allies], [unit[0] for unit in enemies])
    places = Places(*(np.array([unit[1:] for unit in side], float) for side in (allies, enemies)))
    battle._draw = lambda seed: Draws(teams, places, *numbers)
    battle.reset(Observations.empty(1, battle.get_env_info()))
    return battle


TEAMS = {
    "terran": (["marauder", "marine", "marine", "medivac"], ["medivac", "marine", "marauder", "marauder"]),
    "protoss": (["stalker", "zealot", "colossus", "zealot"], ["zealot", "colossus", "stalker"]),
    "zerg": (["zergling", "baneling", "hydralisk"], ["hydralisk", "hydralisk", "baneling", "zergling"]),
}
VIEWS = [
    {},
    {"conic_fov": True, "num_fov_actions": 6},
    {"version": "head", "prob_obs_enemy": 0.5},
    {"version": "head", "prob_obs_enemy": 0.0, "action_mask": False, "conic_fov": True},
    {"obs_pathing_grid": True, "obs_terrain_height": True, "state_timestep_number": True, "obs_last_action": True},
]


@pytest.mark.parametrize("race", TEAMS)
@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("has_numbers", [False, True])
def test_a_policy_sees_what_an_agent_there_would_see(race, view, has_numbers, folder):
    rng = np.random.default_rng(3)
    sides = [[(name, *rng.uniform(8, 24, 2).round(2)) for name in side] for side in TEAMS[race]]
    sizes = [len(side) for side in sides]
    drawn = [(rng.random(n), rng.random(n) / 2, rng.integers(0, 2, (n, m))) for n, m in (sizes, sizes[::-1])]
    numbers = drawn if has_numbers else [(None,) * 3] * 2
    view = {"obs_own_pos": True, **view}

    policy = Recorder()
    battle = duel(*sides, race, folder, policy, numbers[0], **view)
    here = battle.enemies
    own, random = here._own[0], here.episode.random.copy()
    names = [API_NAMES[battle.map.type_names[index]] for index in battle.units["type"][0]]
    units = list(zip(names, (32 - battle.units["x"][0]).tolist(), battle.units["y"][0].tolist()))
    theirs = [units[k] for k in own], units[: sizes[0]]
    there = duel(*theirs, race, numbers=numbers[1], **view)
    places = [unit[1:] for side in theirs for unit in side]
    np.testing.assert_array_equal(np.stack([there.units["x"][0], there.units["y"][0]], -1), places)
    if has_numbers:
        for name, values in zip(("attack", "health", "enemy_mask"), drawn[1]):
            getattr(here.episode, name)[0] = values
    there.episode.random[:] = random
    features.begin(np.ones(1, bool), there.episode)

    seen, everybody = Observations.empty(1, there.get_env_info()), np.ones(1, bool)
    outcomes, ignored = Outcomes.empty(1, battle.info_keys), Observations.empty(1, battle.get_env_info())
    for step in range(12):
        if step:
            features.forget(there.units, everybody, there.layout, there.episode)
        for _ in range(2 if step == 0 and there.switches.blanks else 1):
            there._observe(everybody, seen)
        avail = seen.avail_actions[0]
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in avail])
        policy.steps = [actions]
        battle.obey_all()
        alive = battle.units["health"][:, : sizes[0]] > 0
        battle.step(np.where(alive, rng.integers(1, 6, sizes[0]), 0), ignored, outcomes)
        for name in ("obs", "avail_actions", "state"):
            np.testing.assert_allclose(policy.seen[step][name][0], getattr(seen, name)[0], atol=1e-5, err_msg=name)
        there._give_orders(actions[None], everybody)
        there.last_actions[:] = actions
        there.episode_steps[:] = battle.episode_steps
        order = [*own, *range(sizes[0])]
        for name in ("x", "y", "health", "shield", "energy", "cooldown"):
            there.units[name][0] = battle.units[name][0, order]
        there.units["x"] = 32 - there.units["x"]
    assert policy.seen[0]["obs"].any(axis=2).all()


def test_its_capabilities_are_drawn_for_each_episode_by_the_worlds_seed_alone(folder):
    env_args = {"map_name": "10gen_terran", "capability_config": config_of(**EVERYTHING)}

    def drawn(seeds):
        battle = battle_of(folder, seeds, policy=Recorder(), **env_args)
        found = []
        for _ in range(2):
            battle.reset(Observations.empty(len(seeds), battle.get_env_info()))
            episode = battle.enemies.episode
            found.append([array.copy() for array in (*episode[1:4], episode.random)])
        return found

    both, alone = drawn([3, 4]), drawn([4])
    for arrays, others in zip(both, alone):
        assert all(np.array_equal(array[1], other[0]) for array, other in zip(arrays, others))
    attack, health, mask, random = both[0]
    assert len({*random.tolist(), *both[1][3].tolist()}) == 4
    assert (attack >= 0.2).all() and (attack <= 0.9).all() and len(np.unique(attack)) == 10
    assert (health >= 0.1).all() and (health <= 0.4).all()
    assert set(mask.ravel().tolist()) == {0, 1} and not np.array_equal(both[0][0], both[1][0])


# --- what its actions do


def after(battle, n_steps=1, actions=STOP):
    seen, outcomes = Observations.empty(1, battle.get_env_info()), Outcomes.empty(1, battle.info_keys)
    for _ in range(n_steps):
        battle.step(np.full((1, battle.map.n_agents), actions), seen, outcomes)
    return battle.units[0]


def test_it_turns_its_cone_and_keeps_its_order(folder):
    turn_south, attack = 6 + 3, 6 + 4
    policy = Recorder([EAST], [turn_south], [attack])
    sides = [("marine", 16, 10)], [("marine", 20, 10)]
    battle = duel(*sides, "terran", folder, policy, conic_fov=True, num_fov_actions=4)
    after(battle)
    goal = battle.units["goal_x"][0, 1]
    assert goal == 18  # east, as that side sees the map, is west
    after(battle)
    assert battle.enemies.episode.direction[0, 0].tolist() == pytest.approx([0, -1])
    assert battle.units["goal_x"][0, 1] == goal
    assert after(battle)["target"][1] == -1  # nobody is in the cone
    assert [seen["avail_actions"][0, 0, attack] for seen in policy.seen] == [1, 1, 0]


@pytest.mark.parametrize(("chance", "target"), [(1.0, 0), (0.0, -1)])
def test_its_attacks_are_carried_out_by_its_own_chance(chance, target, folder):
    sides = [("marine", 16, 10)], [("marine", 20, 10)]
    battle = duel(*sides, "terran", folder, Recorder([ATTACK]), (np.ones(1), None, None))
    battle.enemies.episode.attack[:] = chance
    assert after(battle)["target"][1] == target


def test_its_units_die_below_their_own_level_of_health_and_a_replay_repeats_it(folder, tmp_path):
    sides = [("marine", 16, 10), ("marine", 16, 12)], [("marine", 26, 10), ("marine", 26, 12)]
    battle = duel(*sides, "terran", folder, Recorder(), (None, np.zeros(2), None))
    battle.enemies.episode.health[:] = [0.9, 0.5]  # of the side's units, the southern one first
    battle.units["health"][0, 2:] = 30
    assert after(battle)["health"].tolist() == [45, 45, 0, 30]
    battle.enemies.episode.health[:] = 0
    assert after(battle)["health"].tolist() == [45, 45, 0, 30]

    config = {"map_name": "10gen_terran", "capability_config": config_of(**EVERYTHING)}
    battle = battle_of(["script:nearest", folder], (4,), **config)
    attacks = Recorder()
    attacks.act = lambda seen, battles: attacking(seen.avail_actions[battles])
    battle.seat_enemies({folder: lambda number: ({}, attacks)})
    while battle.episode_notes()[0]["enemy"] != folder:
        battle.reset(Observations.empty(1, battle.get_env_info()))
    n_killed = 0
    kill = battle.enemies.kill

    def watched(units, worlds):
        nonlocal n_killed
        before = (units["health"] > 0).sum()
        kill(units, worlds)
        n_killed += before - (units["health"] > 0).sum()

    battle.enemies.kill = watched
    fight(battle)
    assert n_killed > 0
    Replay.of(battle).save(tmp_path / f"a{SUFFIX}")
    *_, last = Replay.load(tmp_path / f"a{SUFFIX}").moments()
    assert last.units[0].tobytes() == battle.units[0].tobytes()


def attacking(avail):
    """The last action that is available, if it is an attack, or else to the east."""
    last = avail.shape[2] - 1 - avail[..., ::-1].argmax(2)
    return np.where((last <= WEST) & (avail[..., EAST] > 0), EAST, last)


def fight(battle, n_steps=80):
    seen, outcomes = Observations.empty(1, battle.get_env_info()), Outcomes.empty(1, battle.info_keys)
    for _ in range(n_steps):
        battle.step(attacking(battle._avail_actions), seen, outcomes)
        if outcomes.terminated[0]:
            return


@pytest.mark.parametrize("enemy", ["script:spread", "bot"])
def test_a_replay_repeats_what_the_enemies_did(enemy, tmp_path):
    battle = battle_of([enemy, "script:hold"], (4,), "protoss_5_vs_5", conic_fov=True)
    while not battle.episode_steps[0] or battle.episode_notes()[0]["enemy"] != enemy:
        play(battle, n_steps=20)
    Replay.of(battle).save(tmp_path / f"a{SUFFIX}")
    *_, last = Replay.load(tmp_path / f"a{SUFFIX}").moments()
    assert last.units[0].tobytes() == battle.units[0].tobytes()


# --- whole runs

SMALL = ["--rnn_hidden_dim=8", "--seed=1", "--use_tensorboard=False", "--test_nepisode=2", "--test_interval=1000000"]
SMALL += ["--use_cuda=False", "--batch_size=2", "--buffer_size=4", "--mixing_embed_dim=4", "--hypernet_embed=4"]


def settings(*params):
    return main.settings("--config=qmix", "--env-config=sc2v2", *SMALL, *params)


def test_a_policy_with_a_cone_plays_itself_and_its_copies(tmp_path):
    cone = ["--env_args.conic_fov=True", "--env_args.version=head"]
    logger = RecordingLogger()
    logger.state_dict = lambda: {}
    with Run(settings(*cone, "--env_args.enemy=self", "--self_play_interval=60"), logger) as run:
        run.train(100)
        assert len(run.self_play.copies) > 1
        run.save(tmp_path / "own")
    others = [*cone, f"--env_args.test_enemies=[policy:{tmp_path / 'own'}, script:kite]"]
    logger = RecordingLogger()
    with Run(settings(*others), logger) as run:
        run.evaluate()
    assert [episode["enemy"] for episode in logger.test_episodes] == [f"policy:{tmp_path / 'own'}", "script:kite"]


@pytest.mark.slow
def test_a_resumed_run_is_the_run_that_was_never_interrupted(tmp_path):
    own = ["--env_args.enemy=[bot, script:kite, self]", "--self_play_interval=60", "--test_interval=60"]
    own += ["--env_args.version=head", "--env_args.prob_obs_enemy=0.5", "--test_nepisode=3"]

    def met_by(t_max, state=None):
        logger = RecordingLogger()
        logger.state_dict, logger.load_state_dict = dict, lambda state: None
        with Run(settings(*own), logger) as run:
            if state is not None:
                run.load(state)
            run.train(t_max)
            run.save(tmp_path / str(t_max))
            weights = run.mac.state_dict()
        return [(one["enemy"], one["return"]) for one in logger.test_episodes], weights

    whole, weights = met_by(300)
    met_by(150)
    rest, again = met_by(300, tmp_path / "150")
    assert rest == whole[-len(rest) :] and len(rest) >= 3
    assert all(th.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (["--env_args.enemy=script:kit"], "unknown script 'kit'; did you mean 'kite'?"),
        (["--env_args.test_enemies=[bot, boot]"], "env_args.test_enemies=boot is no enemy"),
        (["--env_args.enemy=policy:nowhere"], "env_args.enemy=policy:nowhere: there is no such folder"),
        (["--env_args.test_enemies=[bot, self]", "--test_nepisode=1"], "is fewer than the 2 env_args"),
        (
            ["--env_args.enemy=self", "--env_args.map_name=zerg_10_vs_11"],
            "take a map of two equal armies, such as 3m, MMM or terran_5_vs_5",
        ),
    ],
)
def test_a_mistake_is_one_sentence(params, sentence, tmp_path, capsys):
    args = ["--config=qmix", "--env-config=sc2v2", *SMALL, *params, f"--local_results_path={tmp_path}"]
    assert main.main(args) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and sentence in message
    assert not list(tmp_path.glob("models/*/*"))


def test_a_policy_without_a_cone_is_refused_where_there_is_one(tmp_path):
    logger = RecordingLogger()
    logger.state_dict = lambda: {}
    with Run(settings(), logger) as run:
        run.train(1)
        run.save(tmp_path)
    with pytest.raises(UserError, match=r"n_actions=11, but the enemy's side here has 23; give a policy"):
        Run(settings("--env_args.conic_fov=True", f"--env_args.enemy=policy:{tmp_path}"), RecordingLogger())
