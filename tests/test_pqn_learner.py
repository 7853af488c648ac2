"""PQN: its targets worked out by hand; what it learns is in `test_learning.py`."""

import pytest
import torch as th

from learners.pqn_learner import PQNLearner
from tests.builders import RecordingLogger, make_args, make_batch, make_mac, make_scheme


def made(**overrides):
    args = make_args(**(dict(agent="rnn_norm", optimizer="radam", gamma=0.5) | overrides))
    th.manual_seed(0)
    return PQNLearner(make_mac(args), make_scheme(args)[0], RecordingLogger(), args)


@pytest.mark.parametrize(
    ("td_lambda", "targets"),
    # values are 2, so for an end after rewards of 1: 1, 1 + 0.5 ((1 - lambda) 2 + lambda G); and where it is cut off
    [(0.0, [2, 2, 1, 2, 2]), (0.5, [1.9375, 1.75, 1, 2, 2]), (1.0, [1.75, 1.5, 1, 2, 2])],
)
def test_targets_mix_rewards_to_come_with_the_best_values(td_lambda, targets):
    learner = made(td_lambda=td_lambda, epochs=1)
    for parameter in learner.mac.parameters():
        parameter.data.zero_()
    learner.mac.agent.fc2.bias.data[:] = th.tensor([2.0, 1, 0, -1, 9])
    batch = make_batch(learner.args, [3, 2], [True, False])
    batch["reward"][:] = 1
    batch["avail_actions"][..., :] = th.tensor([1, 1, 1, 1, 0])
    batch["actions"][:] = 1
    learner.train(batch, 0, 0)
    assert learner.logger.values("target_mean") == [pytest.approx(sum(targets) / 5)]
    assert learner.logger.values("loss") == [pytest.approx(sum((target - 1) ** 2 for target in targets) / 5)]


def test_targets_stay_as_they_were_before_the_first_update():
    seen = []
    for epochs in (1, 3):
        learner = made(td_lambda=0.5, epochs=epochs, mixer="vdn", lr=0.1)
        learner.train(make_batch(learner.args, [8, 5, 3]), 0, 0)
        seen.append((learner.logger.values("target_mean"), learner.logger.values("q_taken_mean")))
    (first_target, first_q), (later_target, later_q) = seen
    assert first_target == later_target and first_q != later_q


def test_a_layer_normalised_network_does_not_see_the_scale_of_what_it_reads():
    learner = made(obs_last_action=False, obs_agent_id=False)
    batch = make_batch(learner.args, [8, 5])
    learner.mac.agent.fc1.bias.data.zero_()
    before = learner.mac.unroll(batch)
    batch["obs"][:] *= 1000
    assert th.allclose(learner.mac.unroll(batch), before, atol=1e-3)
