"""SMAC's own environment over the stand-in of `sc2_server/` against the embedded engine's, step by step.

Both play the same battles, since the stand-in plays on the engine: what is compared are observations, states, actions,
rewards and ends, which SMAC computes from the game's messages. Where SMAC is not installed nothing can be compared;
SC2_ALL_MAPS=1 compares on all maps.
"""

import json
import os
import signal

import numpy as np
import pytest

import main
from envs.check import check_env
from envs.sc2.game import StarCraft2Env as Game
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.smac import StarCraft2Env
from tests.sc2_server.install import BUILD_4_6_2, BUILD_4_10_0, install

smac = pytest.importorskip("smac.env", reason="SMAC is not installed (requirements-sc2.txt)", exc_type=ImportError)

MAPS = MAP_NAMES if os.environ.get("SC2_ALL_MAPS") else ("3m", "MMM")
N_ACTIONS_NO_ATTACK, EAST = 6, 4
TOLERANCE = 1e-5
"""Messages are in single precision, the engine counts in double."""
ALL_OPTIONS = {
    "obs_last_action": True, "obs_pathing_grid": True, "obs_terrain_height": True, "obs_timestep_number": True,
    "state_timestep_number": True, "reward_only_positive": False, "reward_defeat": -7, "reward_scale_rate": 13,
    "continuing_episode": True, "move_amount": 3, "step_mul": 5,
}  # fmt: skip
LEAST_OPTIONS = {
    "obs_all_health": False, "obs_own_health": False, "obs_instead_of_state": True, "reward_sparse": True,
    "reward_scale": False,
}  # fmt: skip


@pytest.fixture
def game(tmp_path, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(install(tmp_path / "game", builds=(BUILD_4_6_2, BUILD_4_10_0))))


@pytest.fixture
def same_signal_handler_after():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def choose(avail_actions, rng):
    """Mostly a target; without one, to the enemies in the east; else anything."""
    chosen = []
    for available in map(np.flatnonzero, avail_actions):
        targets = available[available >= N_ACTIONS_NO_ATTACK]
        if rng.random() < 0.7 and (len(targets) or EAST in available):
            chosen.append(int(rng.choice(targets)) if len(targets) else EAST)
        else:
            chosen.append(int(rng.choice(available)))
    return chosen


def assert_seen_alike(theirs, ours):
    assert theirs.get_avail_actions() == ours.get_avail_actions()
    np.testing.assert_allclose(theirs.get_obs(), ours.get_obs(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(theirs.get_state(), ours.get_state(), rtol=0, atol=TOLERANCE)
    assert np.array_equal(theirs.get_visibility_matrix(), ours.get_visibility_matrix())


def assert_alike(map_name, n_episodes, **options):
    rng = np.random.default_rng(5)
    theirs = smac.StarCraft2Env(map_name=map_name, seed=11, **options)
    ours = StarCraft2Env(map_name, seed=11, **options)
    try:
        for _ in range(n_episodes):
            theirs.reset()
            ours.reset()
            forgotten = int(ours.obs_timestep_number)  # SMAC counts one column of that option, and observes two
            own = ours.get_env_info() | {"obs_shape": ours.get_obs_size() - forgotten}
            assert own.pop("engine_version") and theirs.get_env_info() == own
            assert np.array_equal(theirs.pathing_grid, ours.pathing_grid)
            np.testing.assert_allclose(theirs.terrain_height, ours.terrain_height)
            assert list(theirs.get_unit_types()) == ours.get_unit_types()
            assert_seen_alike(theirs, ours)
            over = False
            while not over:
                actions = choose(ours.get_avail_actions(), rng)
                reward, over, info = theirs.step(list(actions))
                our_reward, our_over, our_info = ours.step(list(actions))
                assert abs(reward - our_reward) < TOLERANCE
                assert (over, info) == (our_over, our_info)
                assert_seen_alike(theirs, ours)
            assert theirs.get_stats() == ours.get_stats()
    finally:
        theirs.close()
        ours.close()
    return ours.get_stats()


@pytest.mark.parametrize("map_name", MAPS)
def test_smac_sees_in_the_stand_in_what_the_engine_shows(game, map_name):
    assert_alike(map_name, n_episodes=2)


@pytest.mark.parametrize("map_name", MAPS if len(MAPS) == len(MAP_NAMES) else ("3m",))
@pytest.mark.parametrize("options", [ALL_OPTIONS, LEAST_OPTIONS], ids=["all", "least"])
def test_and_under_every_option(game, map_name, options):
    assert_alike(map_name, n_episodes=1, game_version="4.6.2", **options)


def test_and_when_the_built_in_controller_acts_and_wins(game):
    stats = assert_alike("2s3z", n_episodes=2, heuristic_ai=True, heuristic_rest=True)
    assert stats["battles_won"] > 0


@pytest.mark.skipif(len(MAPS) < len(MAP_NAMES), reason="SC2_ALL_MAPS is not set")
@pytest.mark.parametrize("map_name", [name for name in MAP_NAMES if name in ("3m", "MMM", "MMM2", "1c3s5z")])
def test_and_when_it_acts_beyond_what_agents_can(game, map_name):
    assert_alike(map_name, n_episodes=2, heuristic_ai=True)


# ------------------------------------------------------------------------------------------------ our side of SMAC


def test_the_game_keeps_the_contract_of_environments(game):
    check_env(Game(map_name="3m", seed=3, obs_timestep_number=True), n_episodes=2)


def test_an_episode_in_which_the_game_crashes_is_played_anew(game, monkeypatch):
    monkeypatch.setenv("SC2_STANDIN_FAULT", "crash@4")
    env = Game(map_name="3m", seed=3)
    ours = StarCraft2Env("3m", seed=3)
    for lost in (True, False):
        env.reset()
        ours.reset()
        assert_seen_alike(env, ours)
        for n_steps in range(1, 6):
            stop = [1] * env.n_agents
            reward, over, info = env.step(stop)
            assert info.get("lost", False) == over == (lost and n_steps == 4)
            if over:
                break
            assert ours.step(stop)[0] == pytest.approx(reward)
        ours.full_restart()
    assert env.get_stats()["restarts"] == 1
    env.close()


def test_a_run_on_the_game_completes_and_records_it(game, tmp_path, same_signal_handler_after):
    settings = ("env_args.engine=game", "env_args.map_name=3m", "t_max=100", "batch_size=2", "test_nepisode=1")
    params = ("seed=3", "save_replay=True", "use_tensorboard=False", f"local_results_path={tmp_path}")
    assert main.main(["--config=qmix", "--env-config=sc2_beta", "with", *settings, *params]) == 0
    records = tmp_path / "sacred" / "1"
    assert json.loads((records / "run.json").read_text())["status"] == "COMPLETED"
    resolved = json.loads((records / "config.json").read_text())["resolved"]
    assert resolved["engine"] == "game" and resolved["game"]["version"] == "4.10.0"
    (replay,) = tmp_path.glob("replays/qmix_3m_game_*/3m_*.SC2Replay")
    assert b"3m" in replay.read_bytes()
