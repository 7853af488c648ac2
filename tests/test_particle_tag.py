"""Predators and prey that are all agents: physics, sights and pay are those of the package mpe2, whatever happens."""

import numpy as np
import pytest

from envs.check import check_env, check_vector_env
from envs.multiagentenv import Observations, Outcomes
from envs.particle_tag import ParticleTag, TagKeys, TagWorlds

SIZES = [{}, {"num_good": 2, "num_adversaries": 2}, {"num_obstacles": 0}]
ONE = np.array([0])


@pytest.mark.parametrize("common_reward", [True, False])
@pytest.mark.parametrize("env_args", SIZES)
def test_the_contracts_hold(env_args, common_reward):
    def world():
        return ParticleTag(common_reward=common_reward, seed=1, **env_args)

    def worlds():
        return ParticleTag.vector([1, 2], common_reward=common_reward, **env_args)

    check_env(world(), make_env=world)
    check_vector_env(worlds(), make_env=worlds, refuses_unavailable=False)


@pytest.mark.parametrize("env_args", SIZES)
def test_it_moves_sees_and_pays_as_the_package_does(env_args):
    simple_tag = pytest.importorskip("mpe2.simple_tag_v3")
    package = simple_tag.raw_env(max_cycles=200, **{"num_obstacles": 2, **env_args})
    package.reset(seed=1)
    own = TagWorlds(1, TagKeys(**env_args))
    rng = np.random.default_rng(0)
    n = own.n_agents
    touched = outside = False
    for start in range(4):
        # Close together, so that all push each other; the last start is at the edge.
        places = rng.uniform(-0.2, 0.2, own.places[0].shape) + (start == 3)
        for entity, place in zip(package.world.entities, places, strict=True):
            entity.state.p_pos = place.copy()
        for agent in package.world.agents:
            agent.state.p_vel = np.zeros(2)
        own.places[0], own.speeds[0] = places, 0
        for _ in range(25):
            actions = rng.integers(5, size=n)
            for action in actions:
                package.step(int(action))
            rewards = own.step(ONE, actions[None])[0]
            np.testing.assert_allclose(own.places[0, :n], [agent.state.p_pos for agent in package.world.agents])
            np.testing.assert_allclose(own.speeds[0], [agent.state.p_vel for agent in package.world.agents])
            for i, name in enumerate(package.possible_agents):
                seen = package.observe(name)
                np.testing.assert_allclose(own.observe(ONE)[0, i, : len(seen)], seen, atol=1e-6)
                assert not own.observe(ONE)[0, i, len(seen) :].any()
                assert rewards[i] == pytest.approx(package.rewards[name])
            touched |= rewards[0] > 0
            outside |= rewards[-1] % 10 != 0
    assert touched and outside


def test_worlds_played_together_go_as_each_does_alone():
    together, alone = ParticleTag.vector([3, 4], common_reward=False), ParticleTag(seed=4, common_reward=False)
    info = together.get_env_info()
    seen, outcomes = Observations.empty(2, info), Outcomes.empty(2, together.info_keys, info)
    rng = np.random.default_rng(0)
    together.reset(seen)
    alone.reset()  # its constructor has drawn one episode, as that of the other has
    for t in range(25):
        assert np.array_equal(seen.obs[1], alone.get_obs()) and np.array_equal(seen.state[1], alone.get_state())
        actions = rng.integers(5, size=(2, 4))
        together.step(actions, seen, outcomes)
        rewards, over, details = alone.step(actions[1])
        assert outcomes.reward[1] == pytest.approx(rewards) and outcomes.truncated[1] == over == (t == 24)
        assert outcomes.info["caught"][1] == details["caught"]


def test_the_teams_reward_is_the_sum():
    team, each = (ParticleTag(seed=3, common_reward=common) for common in (True, False))
    for _ in range(20):
        assert team.step([1, 2, 3, 4])[0] == pytest.approx(sum(each.step([1, 2, 3, 4])[0]))
