"""SMAC's own environment over the stand-in of `sc2_server/` against the embedded engine's, step by step.

Both play the same battles, since the stand-in plays on the engine: what is compared are observations, states, actions,
rewards and ends, which SMAC computes from the game's messages. Where SMAC is not installed nothing can be compared;
SC2_ALL_MAPS=1 compares on all maps.
"""

import os

import numpy as np
import pytest

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


@pytest.fixture
def game(tmp_path, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(install(tmp_path / "game", builds=(BUILD_4_6_2, BUILD_4_10_0))))


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
            assert theirs.get_env_info() == ours.get_env_info() | {"obs_shape": ours.get_obs_size() - forgotten}
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
    return ours.get_stats()


@pytest.mark.parametrize("map_name", MAPS)
def test_smac_sees_in_the_stand_in_what_the_engine_shows(game, map_name):
    assert_alike(map_name, n_episodes=2)


@pytest.mark.parametrize("map_name", MAPS if "8m" in MAPS else ("3m",))
def test_and_under_every_option(game, map_name):
    assert_alike(map_name, n_episodes=1, game_version="4.6.2", **ALL_OPTIONS)


@pytest.mark.parametrize("rest", [True, False])
def test_and_when_the_built_in_controller_acts(game, rest):
    stats = assert_alike("MMM", n_episodes=2, heuristic_ai=True, heuristic_rest=rest)
    assert stats["battles_won"] > 0
