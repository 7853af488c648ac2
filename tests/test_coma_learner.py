"""COMA against PyMARL's numbers, and at time limits; and its critic."""

import numpy as np
import pytest
import torch as th

from learners.coma_learner import COMALearner
from modules.critics.coma import COMACritic
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
)

LENGTHS, ENDED = [8, 5, 3], [False, False, True]
STATISTICS = (
    "critic_loss",
    "critic_grad_norm",
    "td_error_abs",
    "q_taken_mean",
    "target_mean",
    "advantage_mean",
    "coma_loss",
    "agent_grad_norm",
    "pi_max",
)


def coma_args(**overrides):
    policy = dict(agent_output_type="pi_logits", action_selector="multinomial", mask_before_softmax=False)
    return make_args(**(policy | overrides))


def make_learner(args, logger=None) -> COMALearner:
    return COMALearner(make_mac(args), make_scheme(args)[0], logger or RecordingLogger(), args)


def weights_of(learner: COMALearner) -> dict[str, th.Tensor]:
    return copied_weights(agent=learner.mac, critic=learner.critic)


@pytest.mark.parametrize("name", ["coma", "coma_masked"])
def test_twelve_updates_give_pymarls_weights_and_statistics(name, logger):
    args, batch, arrays = golden_case(name)
    learner = make_learner(args, logger)
    learner.mac.load_state_dict(golden_weights(arrays, "before/agent/"))
    for critic in (learner.critic, learner.target_critic):
        critic.load_state_dict(golden_weights(arrays, "before/critic/"))

    check_twelve_updates(learner, batch, arrays, weights_of)

    assert {f"stat/{stat}" for stat in STATISTICS} == {key for key in arrays if key.startswith("stat/")}
    for stat in STATISTICS:
        np.testing.assert_allclose(logger.values(stat), arrays[f"stat/{stat}"], rtol=1e-4, atol=1e-6, err_msg=stat)


@pytest.mark.parametrize(("ended", "target"), [(True, 1.0), (False, 1.0 + 0.5 * 4)])
def test_an_episode_that_was_cut_off_bootstraps_from_its_last_observation(ended, target, logger):
    """One step that pays 1, and a critic that gives every action the value 4."""
    args = coma_args(gamma=0.5)
    learner, batch = make_learner(args, logger), make_batch(args, [1], [ended])
    batch["reward"][:, 0] = 1
    for parameter in learner.target_critic.parameters():
        parameter.data.zero_()
    learner.target_critic.fc3.bias.data.fill_(4)
    learner.train(batch, t_env=0, episode_num=0)
    assert logger.values("target_mean") == [pytest.approx(target)]


def test_where_an_episode_was_cut_off_the_team_acts_by_its_policy():
    """The value there is that of available actions, not of action 0, which only fills the place in the batch."""
    args = coma_args(gamma=1.0)
    batch, targets = make_batch(args, [1, 8], [False, True]), []
    batch["avail_actions"][0, 1] = 0
    batch["avail_actions"][0, 1, :, 3] = 1
    batch["actions"][0, 1] = 0
    for bonus in (th.tensor([0.0, 0, 0, 9, 0]), th.tensor([9.0, 9, 9, 9, 9])):
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        for parameter in learner.target_critic.parameters():
            parameter.data.zero_()
        learner.target_critic.fc3.bias.data.copy_(bonus)
        learner.train(batch[0], t_env=0, episode_num=0)
        targets.append(logger.values("target_mean")[0])
    assert targets[0] == pytest.approx(batch["reward"][0, 0].item() + 9) == targets[1]


def test_an_ended_episode_may_leave_no_action_available(logger):
    args = coma_args()
    batch = make_batch(args, [4], [True])
    batch["avail_actions"][0, 4] = 0
    make_learner(args, logger).train(batch, t_env=0, episode_num=0)
    assert np.isfinite([logger.values(stat)[0] for stat in STATISTICS]).all()


# --- the critic


def test_a_critic_does_not_see_its_own_agents_action_but_all_others():
    critic = COMACritic(make_args())
    state, obs, last = th.randn(1, 7), th.randn(1, 3, 6), th.zeros(1, 3, 5)
    first, second = (th.nn.functional.one_hot(th.tensor([[2, action, 4]]), 5).float() for action in (0, 1))
    changed = critic(critic.build_inputs(state, obs, first, last)) - critic(
        critic.build_inputs(state, obs, second, last)
    )
    assert (changed != 0).any(-1).tolist() == [[True, False, True]]
    changed = critic.build_inputs(state, obs, first, first) != critic.build_inputs(state, obs, first, second)
    assert changed.any(-1).all()


@pytest.mark.parametrize("name", ["coma", "coma_masked"])
def test_parameters_have_pymarls_names_and_pymarls_weights_load(name):
    args, _, arrays = golden_case(name)
    weights = golden_weights(arrays, "before/critic/")
    critic = COMACritic(args)
    assert list(critic.state_dict()) == list(weights)
    critic.load_state_dict(weights)
