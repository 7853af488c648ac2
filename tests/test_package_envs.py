"""Foraging and predator-prey: the contract, rewards, what ends an episode, seeds, mistakes."""

import subprocess
import sys

import numpy as np
import pytest

import main
from config.layers import merge
from envs import REGISTRY
from envs.check import check_env, check_vector_env
from envs.foraging import ForagingEnv
from envs.multiagentenv import Observations, Outcomes
from envs.predator_prey import PredatorPreyEnv, flee

NONE, LOAD = 0, 5
NAMES = ("lbforaging", "simple_tag")
WORLDS = [
    ("lbforaging", {}),
    ("lbforaging", {"players": 3, "field_size": 6, "max_num_food": 1, "sight": 2, "force_coop": False, "penalty": 0.1}),
    ("lbforaging", {"max_food_level": 2, "observe_agent_levels": False, "normalize_reward": False}),
    ("simple_tag", {}),
    ("simple_tag", {"num_good": 2, "num_obstacles": 0, "max_cycles": 10, "terminate_on_success": True}),
    ("lbforaging", {"common_reward": False}),
    ("simple_tag", {"common_reward": False}),
]


@pytest.mark.parametrize(("name", "env_args"), WORLDS)
def test_the_contract_holds(name, env_args):
    world = REGISTRY[name]
    check_env(world(seed=1, **env_args), make_env=lambda: world(seed=1, **env_args))


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_worlds_together_holds(name):
    world = REGISTRY[name]
    check_vector_env(world.vector([1, 2]), n_episodes=1, make_env=lambda: world.vector([1, 2]))


@pytest.mark.parametrize(
    ("name", "env_args"), [("lbforaging", {"players": 8, "field_size": 5}), ("simple_tag", {"max_cycles": 5})]
)
def test_an_episode_depends_on_the_seed_and_its_number_only(name, env_args):
    def starts(seed, action):
        env = REGISTRY[name](seed=seed, **env_args)
        for _ in range(4):
            yield env.reset()[1]
            while not env.step([action] * env.n_agents)[1]:
                pass

    first = np.stack(list(starts(1, action=NONE)))
    assert np.array_equal(first, np.stack(list(starts(1, action=2))))
    assert not np.isclose(first[0], np.stack([*first[1:], *starts(2, NONE)])).all(-1).any()


def outcomes_of_one_step(env_class, draw, **env_args):
    """What the generic vector makes of one step of agents that do as `draw(env)` says, in a world that it arranged."""
    worlds = env_class.vector([1], **env_args)
    seen = Observations.empty(1, worlds.get_env_info())
    outcomes = Outcomes.empty(1, worlds.info_keys, worlds.get_env_info())
    worlds.reset(seen)
    actions = draw(worlds.envs[0])
    worlds.step(np.array([actions]), seen, outcomes)
    return outcomes


# --- foraging


def two_beside_food(env, more_food=False, actions=(LOAD, LOAD)):
    """Players of levels 1 and 2 left and right of food of level 3; perhaps more food of level 1 in a corner."""
    world = env._env
    world.field[:] = 0
    world.field[3, 3] = 3
    world.field[6, 6] = int(more_food)
    for player, column, level in zip(world.players, (2, 4), (1, 2), strict=True):
        player.setup((3, column), level, world.field_size)
    world._food_spawned = env._food_levels = 3.0 + more_food
    world._gen_valid_moves()
    return actions


@pytest.mark.parametrize("max_episode_steps", [50, 1])
def test_all_food_loaded_is_an_end_even_at_the_last_step(max_episode_steps):
    outcomes = outcomes_of_one_step(ForagingEnv, two_beside_food, max_episode_steps=max_episode_steps)
    assert outcomes.terminated[0] and not outcomes.truncated[0]
    assert outcomes.reward[0] == pytest.approx(1) and outcomes.info["food_loaded"][0] == 1


def test_the_time_limit_cuts_foraging_off():
    outcomes = outcomes_of_one_step(ForagingEnv, lambda env: two_beside_food(env, more_food=True), max_episode_steps=1)
    assert outcomes.truncated[0] and not outcomes.terminated[0]
    assert outcomes.reward[0] == outcomes.info["food_loaded"][0] == pytest.approx(3 / 4)


def test_the_teams_reward_is_the_sum_of_the_players():
    outcomes = outcomes_of_one_step(ForagingEnv, two_beside_food, normalize_reward=False)
    assert outcomes.reward[0] == 1 * 3 + 2 * 3  # level of the player times level of the food


def test_each_player_has_its_own_reward():
    own = {"normalize_reward": False, "common_reward": False}
    assert outcomes_of_one_step(ForagingEnv, two_beside_food, **own).reward.tolist() == [[1 * 3, 2 * 3]]
    own = {"penalty": 0.25, "common_reward": False}
    outcomes = outcomes_of_one_step(ForagingEnv, lambda env: two_beside_food(env, actions=(NONE, LOAD)), **own)
    assert outcomes.reward.tolist() == [[0, -0.25]]


def test_one_alone_can_not_lift_it_and_may_be_penalised():
    outcomes = outcomes_of_one_step(ForagingEnv, lambda env: two_beside_food(env, actions=(LOAD, NONE)), penalty=0.25)
    assert outcomes.reward[0] == -0.25 and outcomes.info["food_loaded"][0] == 0
    assert not outcomes.terminated[0] and not outcomes.truncated[0]


def test_players_see_what_lies_within_their_sight():
    env = ForagingEnv(seed=1, max_num_food=1, sight=2)
    env.reset()
    two_beside_food(env)
    env.step([NONE, NONE])
    food, itself, other = np.split(env.get_obs_agent(0), 3)
    assert food.tolist() == [2, 3, 3] and itself.tolist() == [2, 2, 1] and other.tolist() == [2, 4, 2]
    env._env.players[1].position = (7, 7)
    env.step([NONE, NONE])
    assert env.get_obs_agent(0)[6:].tolist() == [-1, -1, 0]


# --- predator and prey


def touching(n_touching):
    """Stands the prey in the middle with so many of the predators beside it."""

    def draw(env):
        *predators, prey = env._env.world.agents
        prey.state.p_pos = np.zeros(2)
        for i, predator in enumerate(predators):
            angle = 2 * np.pi * i / len(predators)
            predator.state.p_pos = (0.11 if i < n_touching else 0.8) * np.array([np.cos(angle), np.sin(angle)])
        for landmark, x in zip(env._env.world.landmarks, (-0.9, 0.9), strict=True):
            landmark.state.p_pos = np.array([x, -0.9])
        return [NONE] * env.n_agents

    return draw


@pytest.mark.parametrize("n_touching", [0, 1, 3])
def test_every_touch_pays_ten_once(n_touching):
    outcomes = outcomes_of_one_step(PredatorPreyEnv, touching(n_touching))
    assert outcomes.reward[0] == 10 * n_touching and outcomes.info["caught"][0] == (n_touching > 0)
    assert not outcomes.terminated[0] and not outcomes.truncated[0]


@pytest.mark.parametrize("n_touching", [0, 1, 2])
def test_each_predator_is_paid_for_its_own_touches(n_touching):
    outcomes = outcomes_of_one_step(PredatorPreyEnv, touching(n_touching), common_reward=False)
    assert outcomes.reward.tolist() == [[10.0 * (i < n_touching) for i in range(3)]]


def test_the_predators_rewards_add_up_to_the_teams():
    team, each = (PredatorPreyEnv(seed=3, num_good=2, common_reward=common) for common in (True, False))
    for env in (team, each):
        env.reset()
    for _ in range(20):
        actions = [chase(obs, team) for obs in team.get_obs()]
        assert team.step(actions)[0] == sum(each.step(actions)[0])


@pytest.mark.parametrize(
    ("n_touching", "terminate_on_success", "terminated"), [(1, True, True), (0, True, False), (1, False, False)]
)
def test_the_limit_cuts_off_and_success_ends_even_at_the_last_step(n_touching, terminate_on_success, terminated):
    outcomes = outcomes_of_one_step(
        PredatorPreyEnv, touching(n_touching), max_cycles=1, terminate_on_success=terminate_on_success
    )
    assert outcomes.terminated[0] == terminated and outcomes.truncated[0] != terminated


def test_the_prey_flees_and_keeps_within_bounds():
    here, still = np.zeros(2), np.zeros(2)
    assert flee(here, still, np.array([[-0.3, 0.0]])) == 2  # right
    assert flee(here, still, np.array([[-0.9, 0.0], [0.0, 0.3]])) == 3  # down, from the nearest
    assert flee(np.array([0.95, 0.0]), still, np.array([[0.6, 0.1]])) == 3  # along the wall, not through it
    assert flee(np.array([1.4, 0.0]), still, np.array([[0.2, 0.0]])) == 1  # back in


def chase(obs, env):
    """Straight at the prey, along the longer axis."""
    towards = obs[-4:-2] - 0.2 * obs[:2]
    axis = int(np.abs(towards).argmax())
    return 1 + 2 * axis + int(towards[axis] > 0)


def test_hunting_pays_and_the_prey_stays_near():
    returns = {}
    for name in ("hunt", "stand"):
        env, returns[name] = PredatorPreyEnv(seed=3), 0.0
        for _ in range(10):
            env.reset()
            over = False
            while not over:
                actions = [chase(obs, env) if name == "hunt" else NONE for obs in env.get_obs()]
                reward, over, _ = env.step(actions)
                returns[name] += reward
                assert np.abs(env._env.world.agents[-1].state.p_pos).max() < 1.5
    assert returns["hunt"] > 100 > 20 >= returns["stand"]


def test_predators_can_be_drawn_without_a_window():
    env = PredatorPreyEnv(seed=1)
    env.reset()
    picture = env.render(mode="rgb_array")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and len(np.unique(picture)) > 2


# --- settings


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_are_the_constructors_arguments_and_their_defaults(name):
    env_args = merge("iql", name, [])["env_args"]
    assert env_args == vars(REGISTRY[name].Keys())
    seen = [REGISTRY[name](**given).reset()[1] for given in ({"seed": 1}, {**env_args, "seed": 1})]
    assert np.array_equal(*seen)
    with pytest.raises(TypeError, match="plaiers"):
        REGISTRY[name](plaiers=2)


def test_both_files_of_sc2_have_the_same_arguments():
    sc2, beta = (merge("iql", name, []) for name in ("sc2", "sc2_beta"))
    assert beta["env_args"] == sc2["env_args"] and beta.keys() == sc2.keys()


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("lbforaging", "lbforaging.foraging.environment", "lbforaging"), ("simple_tag", "mpe2.simple_tag_v3", "mpe2")],
)
def test_a_missing_package_is_one_sentence_and_nothing_on_disk(name, module, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert main.main(["--config=iql", f"--env-config={name}", f"--local_results_path={tmp_path}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and f"package {package}" in message
    assert "pip install -r requirements-envs.txt" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["min_player_level=3"], "min_player_level=3 is above max_player_level=2; lower it"),
        (["min_food_level=3", "max_food_level=2"], "min_food_level=3 is above max_food_level=2; lower it"),
        (
            ["min_food_level=3", "force_coop=False"],
            "min_food_level=3 is above 2, the least that the players may lift",
        ),
    ],
)
def test_levels_that_contradict_each_other_are_a_mistake(settings, sentence, tmp_path, capsys):
    params = [f"--local_results_path={tmp_path}", *(f"--env_args.{setting}" for setting in settings)]
    assert main.main(["--config=iql", "--env-config=lbforaging", *params]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_an_algorithm_sets_for_another_environment_is_left_out(capsys):
    config = main.read_settings(*["--config=coma", "--env-config=simple_tag"])
    assert "state_last_action" not in config["env_args"]
    assert main.main(["--config=coma", "--env-config=simple_tag", "--env_args.state_last_action=True"]) == 2
    assert "it belongs to" in capsys.readouterr().err


def test_worlds_are_made_in_silence_and_without_torch():
    code = (
        "import sys\nfrom envs import REGISTRY\n"
        f"for name in {NAMES}:\n    REGISTRY[name](seed=1).reset()\n"
        "assert 'torch' not in sys.modules\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=main.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0 and finished.stdout == finished.stderr == "", finished.stderr
