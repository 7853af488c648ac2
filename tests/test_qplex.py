"""QPLEX: any values of joint actions, and the best of them where every agent does what it holds best."""

import itertools

import numpy as np
import pytest
import torch as th
import torch.nn.functional as F

from learners import REGISTRY as LEARNERS
from modules.mixers.qplex import QPlexMixer
from tests.builders import RecordingLogger, make_args, make_mac, make_scheme, one_step_game


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_best_joint_action_is_that_of_the_agents_best_actions(layers):
    th.manual_seed(0)
    args = make_args(n_agents=2, n_actions=3, adv_hypernet_layers=layers)
    mixer, state, q = QPlexMixer(args), 10 * th.randn(20, 7), 10 * th.randn(20, 2, 3)
    values = []
    for joint in itertools.product(range(3), repeat=2):
        actions = th.tensor(joint).expand(20, 2)
        q_of_actions = q.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        values.append(mixer(q_of_actions, state, q.max(-1).values, F.one_hot(actions, 3).float()))
    best = th.cat(values, -1).argmax(-1)
    assert th.equal(best, 3 * q[:, 0].argmax(-1) + q[:, 1].argmax(-1))


def test_of_best_actions_the_value_is_the_sum_whose_gradient_reaches_the_agents():
    args = make_args(n_agents=2, n_actions=3)
    mixer, state, q = QPlexMixer(args), th.randn(4, 7), th.randn(4, 2, requires_grad=True)
    value = mixer(q, state, q.detach(), th.eye(3)[:2].expand(4, 2, 3))
    weights = mixer.hyper_w_final(state).abs()
    assert th.allclose(value, (weights * q + mixer.V(state)).sum(-1, keepdim=True))
    value.sum().backward()
    assert th.allclose(q.grad, weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "mixer", "is_learned"), [("qplex_learner", "qplex", True), ("q_learner", "qmix", False)]
)
def test_payoffs_that_no_monotonic_mixer_has_are_learned(learner, mixer, is_learned):
    """Which of two actions is better depends on what the other agent does."""
    small = dict(n_agents=2, n_actions=2, state_shape=1, obs_shape=1, episode_limit=1, mixer=mixer)
    args = make_args(**small, lr=0.005, optimizer="adam", learner_log_interval=0)
    th.manual_seed(0)
    logger, batch = RecordingLogger(), one_step_game(args, np.array([[3.0, 0], [0, 2]]))
    learner = LEARNERS[learner](make_mac(args), make_scheme(args)[0], logger, args)
    for update in range(200):
        learner.train(batch, t_env=update, episode_num=update)
    assert (logger.values("loss")[-1] < 0.02) == is_learned
