"""The contract check itself: it passes worlds that keep the rules and names the rule that is broken."""

import numpy as np
import pytest

from envs.check import check_env, check_vector_env
from envs.multiagentenv import MultiAgentEnv
from envs.vector import SerialVectorEnv
from tests.games import EndlessGame, MatrixGame, MemoryGame, RandomGame, TwoStepGame


@pytest.mark.parametrize("game", [MatrixGame, TwoStepGame, MemoryGame, EndlessGame, RandomGame])
def test_sound_worlds_pass(game):
    refuses = game is RandomGame
    check_env(game(seed=1), make_env=lambda: game(seed=1), refuses_unavailable=refuses)
    check_vector_env(game.vector([1, 2, 3]), make_env=lambda: game.vector([1, 2, 3]), refuses_unavailable=refuses)


class WrongObsSize(RandomGame):
    def get_obs_size(self):
        return self.n_places + 1


class NotFinite(RandomGame):
    def get_state(self):
        return super().get_state() * np.inf


class NobodyMayAct(RandomGame):
    def get_avail_actions(self):
        return [[0] * self.n_actions] * self.n_agents


class HalfAvailable(RandomGame):
    def get_avail_actions(self):
        return (0.5 * np.array(super().get_avail_actions())).tolist()


class NeverOver(RandomGame):
    def play(self, actions):
        return super().play(actions)[0], False


class IntegerReward(RandomGame):
    def play(self, actions):
        return 1, super().play(actions)[1]


class InfoLacksKey(RandomGame):
    def info(self):
        return {}


class GrowingLimit(RandomGame):
    def play(self, actions):
        self.episode_limit += 1
        return super().play(actions)


class TakesAnything(RandomGame):
    def play(self, actions):
        return 0.0, self.t + 1 >= self.length


class WithoutSeed(RandomGame):
    def __init__(self, seed=None):
        super().__init__(seed=None)


class ForgetsItsState(RandomGame):
    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize(
    ("game", "says"),
    [
        (WrongObsSize, r"obs is \(3, 5\) and not \(3, 6\), as declared"),
        (NotFinite, "not finite"),
        (NobodyMayAct, "an agent has no available action"),
        (HalfAvailable, "neither 0 nor 1"),
        (NeverOver, "went on beyond 7 steps"),
        (IntegerReward, "the reward 1 is no finite float"),
        (InfoLacksKey, "info lacks 'battle_won'"),
        (GrowingLimit, "get_env_info"),
        (TakesAnything, "was not refused"),
        (WithoutSeed, "of one seed did not play alike"),
        (ForgetsItsState, "did not go on from its state_dict"),
    ],
)
def test_a_broken_rule_is_named(game: type[MultiAgentEnv], says: str):
    with pytest.raises(AssertionError, match=says):
        check_env(game(seed=1), make_env=lambda: game(seed=1), refuses_unavailable=True)


class WritesEverywhere(SerialVectorEnv):
    def step(self, actions, observations, outcomes, worlds=None):
        super().step(actions, observations, outcomes, worlds)
        observations.obs[~worlds] += 1


class EndsTwice(SerialVectorEnv):
    def step(self, actions, observations, outcomes, worlds=None):
        super().step(actions, observations, outcomes, worlds)
        outcomes.truncated[worlds] |= outcomes.terminated[worlds]


class StepsBeforeItRefuses(SerialVectorEnv):
    def step(self, actions, observations, outcomes, worlds=None):
        outcomes.reward[worlds] += 1
        super().step(actions, observations, outcomes, worlds)


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (WritesEverywhere, "outside the mask were written"),
        (EndsTwice, "both terminated and truncated"),
        (StepsBeforeItRefuses, "a refused action changed"),
    ],
)
def test_a_broken_rule_of_vectors_is_named(vector, says):
    with pytest.raises(AssertionError, match=says):
        check_vector_env(vector([RandomGame(seed=seed) for seed in range(4)]))
