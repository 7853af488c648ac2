"""The Q-learner (IQL, VDN, QMIX) against PyMARL's numbers, and on a small game."""

import numpy as np
import pytest
import torch as th

from learners.q_learner import QLearner
from tests.builders import (
    RecordingLogger,
    check_twelve_updates,
    copied_weights,
    golden_case,
    golden_weights,
    make_args,
    make_batch,
    make_mac,
    make_scheme,
    one_step_game,
    same,
)

MIXERS = [None, "vdn", "qmix"]
LENGTHS, ENDED = [8, 5, 3], [False, False, True]


def make_learner(args, logger=None) -> QLearner:
    return QLearner(make_mac(args), make_scheme(args)[0], logger or RecordingLogger(), args)


def weights_of(learner: QLearner) -> dict[str, th.Tensor]:
    return copied_weights(agent=learner.mac, **({} if learner.mixer is None else {"mixer": learner.mixer}))


@pytest.mark.parametrize("name", ["iql", "iql_single_q", "vdn", "qmix", "qmix_1layer", "qmix_clip"])
def test_twelve_updates_give_pymarls_weights_and_statistics(name, logger):
    args, batch, arrays = golden_case(name)
    learner = make_learner(args, logger)
    for mac in (learner.mac, learner.target_mac):
        mac.load_state_dict(golden_weights(arrays, "before/agent/"))
    if args.mixer is not None:
        for mixer in (learner.mixer, learner.target_mixer):
            mixer.load_state_dict(golden_weights(arrays, "before/mixer/"))

    check_twelve_updates(learner, batch, arrays, weights_of)

    for stat in ("loss", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean"):
        # PyMARL divides IQL's means by the number of agents twice.
        factor = args.n_agents if args.mixer is None and stat in ("q_taken_mean", "target_mean") else 1
        np.testing.assert_allclose(logger.values(stat), factor * arrays[f"stat/{stat}"], rtol=1e-4, atol=1e-7)


def test_an_unavailable_action_is_never_the_target():
    """With everything but action 0 unavailable after the first step, raising the others' values changes no target."""
    args = make_args(gamma=0.9)
    batch = make_batch(args, [4, 4], ended=[False, False])
    batch["avail_actions"][:, 1:] = 0
    batch["avail_actions"][:, 1:, :, 0] = 1
    targets = []
    for bonus in (0.0, 100.0):
        th.manual_seed(1)
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        for mac in (learner.mac, learner.target_mac):
            with th.no_grad():
                mac.agent.fc2.bias[1:] += bonus
        learner.train(batch, t_env=0, episode_num=0)
        targets.append(logger.values("target_mean"))
    assert targets[0] == pytest.approx(targets[1])


def test_targets_are_updated_every_interval_of_episodes():
    args = make_args(mixer="qmix", target_update_interval=10)
    learner, batch = make_learner(args), make_batch(make_args(), LENGTHS)
    first = weights_of(learner)
    for episode_num, is_updated in [(4, False), (9, False), (11, True), (19, False), (21, True)]:
        learner.train(batch, t_env=0, episode_num=episode_num)
        live = weights_of(learner)
        target = {f"agent/{key}": value for key, value in learner.target_mac.state_dict().items()}
        target |= {f"mixer/{key}": value for key, value in learner.target_mixer.state_dict().items()}
        assert same(live, target) == is_updated, episode_num
        assert same(first, target) == (episode_num < 11)


def test_means_of_iql_are_means_over_agents(logger):
    """With no weights but a bias of 2, every agent's Q-value is 2."""
    learner = make_learner(make_args(), logger)
    for parameter in learner.mac.parameters():
        parameter.data.zero_()
    learner.mac.agent.fc2.bias.data.fill_(2)
    learner.train(make_batch(make_args(), LENGTHS, ENDED), t_env=0, episode_num=0)
    assert logger.values("q_taken_mean") == [pytest.approx(2)]


# --- learning


@pytest.mark.slow
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_matrix_game_is_solved(mixer, logger):
    """An additive game; VDN and QMIX also learn the payoffs themselves, which independent learners cannot."""
    payoff = np.array([1.0, 3.0, 2.0])[:, None] + np.array([0.0, -1.0, 4.0])[None, :]
    args = make_args(
        n_agents=2,
        n_actions=3,
        state_shape=1,
        obs_shape=1,
        episode_limit=1,
        mixer=mixer,
        lr=0.005,
        learner_log_interval=0,
    )
    batch, learner = one_step_game(args, payoff), make_learner(args, logger)
    for update in range(400):
        learner.train(batch, t_env=update, episode_num=update)
    learner.mac.init_hidden(1)
    assert learner.mac.select_actions(batch, 0, 0, bs=slice(0, 1), test_mode=True).tolist() == [[1, 2]]
    loss = logger.values("loss")[-1]
    assert loss < 0.05 if mixer else loss > 1
