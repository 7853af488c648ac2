"""QTRAN's learner and networks against PyMARL's numbers, and on the game of its paper."""

import numpy as np
import pytest
import torch as th

from learners.qtran_learner import QTranLearner
from modules.mixers.qtran import QTranBase
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
)

LENGTHS, ENDED = [8, 5, 3], [False, False, True]
STATS = (
    "loss",
    "td_loss",
    "opt_loss",
    "nopt_loss",
    "grad_norm",
    "td_error_abs",
    "td_targets",
    "td_chosen_qs",
    "v_mean",
    "agent_indiv_qs",
)


def qtran_args(**overrides):
    return make_args(mixer="qtran_base", **overrides)


def make_learner(args, logger=None) -> QTranLearner:
    return QTranLearner(make_mac(args), make_scheme(args)[0], logger or RecordingLogger(), args)


def weights_of(learner: QTranLearner) -> dict[str, th.Tensor]:
    return copied_weights(agent=learner.mac, mixer=learner.mixer)


def test_twelve_updates_give_pymarls_weights_and_statistics(logger):
    args, batch, arrays = golden_case("qtran")
    learner = make_learner(args, logger)
    for mac in (learner.mac, learner.target_mac):
        mac.load_state_dict(golden_weights(arrays, "before/agent/"))
    for mixer in (learner.mixer, learner.target_mixer):
        mixer.load_state_dict(golden_weights(arrays, "before/mixer/"))

    check_twelve_updates(learner, batch, arrays, weights_of)

    assert {key.removeprefix("stat/") for key in arrays if key.startswith("stat/")} == set(STATS) == set(logger.stats)
    ours = {stat: np.array(logger.values(stat)) for stat in STATS}
    for stat in STATS:
        if stat not in ("td_targets", "td_chosen_qs", "v_mean"):
            np.testing.assert_allclose(ours[stat], arrays[f"stat/{stat}"], rtol=1e-4, atol=1e-7)
    # PyMARL logs the mean error as td_targets, and sums padding into td_chosen_qs and v_mean: not to be copied.
    mean_error = ours["td_chosen_qs"] - ours["td_targets"]
    np.testing.assert_allclose(mean_error, arrays["stat/td_targets"], rtol=1e-4, atol=1e-6)


def test_parameters_have_pymarls_names_and_the_big_networks_a_layer_more():
    args, _, arrays = golden_case("qtran")
    assert list(QTranBase(args).state_dict()) == list(golden_weights(arrays, "before/mixer/"))
    small, big = (set(QTranBase(qtran_args(network_size=size)).state_dict()) for size in ("small", "big"))
    assert big - small == {f"{part}.6.{kind}" for part in "QV" for kind in ("weight", "bias")} and small < big


def test_the_joint_value_does_not_depend_on_which_agent_is_which():
    mixer = QTranBase(qtran_args())
    states, hidden, actions = th.randn(4, 6, 7), th.randn(4, 6, 3, 16), th.randn(4, 6, 3, 5)
    joint_q = mixer(states, hidden, actions)
    assert joint_q.shape == mixer.state_value(states).shape == (4, 6, 1)
    order = [2, 0, 1]
    assert th.allclose(mixer(states, hidden[:, :, order], actions[:, :, order]), joint_q, atol=1e-6)
    assert not th.allclose(mixer(states, hidden, actions[:, :, order]), joint_q, atol=1e-3)


def test_means_are_over_played_steps_and_agents(logger):
    """With no weights but the last biases, every value is known."""
    learner = make_learner(qtran_args(gamma=0.5), logger)
    for network in (learner.mac.agent, learner.target_mac.agent, learner.mixer, learner.target_mixer):
        for parameter in network.parameters():
            parameter.data.zero_()
    learner.mac.agent.fc2.bias.data.fill_(2)
    learner.mixer.Q[-1].bias.data.fill_(10)
    learner.mixer.V[-1].bias.data.fill_(3)
    learner.target_mixer.Q[-1].bias.data.fill_(8)
    batch = make_batch(learner.args, LENGTHS, [False] * 3)
    batch["reward"][:] = 1
    learner.train(batch, t_env=0, episode_num=0)
    expected = {
        "td_chosen_qs": 10,
        "v_mean": 3,
        "agent_indiv_qs": 2,
        "td_targets": 1 + 0.5 * 8,
        "td_error_abs": 5,
        "td_loss": 25,
        "opt_loss": (3 * 2 - 10 + 3) ** 2,
        "nopt_loss": (3 * 2 - 10 + 3) ** 2,
        "loss": 25 + 1 + 0.1,
    }
    assert {stat: logger.values(stat)[0] for stat in expected} == pytest.approx(expected)


@pytest.mark.parametrize("is_over", [True, False])
def test_a_time_limit_bootstraps_and_an_end_does_not(is_over):
    """A single transition without reward: its target is zero, or gamma times the target networks' value of 5."""
    args, logger = qtran_args(gamma=0.5), RecordingLogger()
    learner = make_learner(args, logger)
    with th.no_grad():
        learner.target_mixer.Q[-1].weight.zero_()
        learner.target_mixer.Q[-1].bias.fill_(5)
    batch = make_batch(args, [1], [is_over])
    batch["reward"][:] = 0
    learner.train(batch, t_env=0, episode_num=0)
    assert logger.values("td_targets") == [0 if is_over else 2.5]


@pytest.mark.parametrize("double_q", [True, False])
def test_an_unavailable_action_is_never_held_best(double_q):
    """With action 0 alone available, raising the others' values changes neither the targets nor the first loss."""
    args = qtran_args(double_q=double_q)
    batch = make_batch(args, [4, 4], [False, True])
    batch["avail_actions"][:] = 0
    batch["avail_actions"][..., 0] = 1
    results = []
    for bonus in (0.0, 100.0):
        th.manual_seed(1)
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        for mac in (learner.mac, learner.target_mac):
            with th.no_grad():
                mac.agent.fc2.bias[1:] += bonus
        learner.train(batch, t_env=0, episode_num=0)
        results.append((logger.values("td_targets"), logger.values("opt_loss")))
    assert results[0] == results[1]


@pytest.mark.parametrize(("double_q", "chosen"), [(True, 0), (False, 1)])
def test_double_q_lets_the_live_agents_choose_for_the_target(double_q, chosen):
    """The live agents hold action 0 best, the target's action 1."""
    learner, actions_tp1 = make_learner(qtran_args(double_q=double_q)), []
    batch = make_batch(learner.args, LENGTHS)
    batch["avail_actions"][:] = 1
    learner.target_mixer.register_forward_pre_hook(lambda _, inputs: actions_tp1.append(inputs[2].argmax(-1)))
    with th.no_grad():
        learner.mac.agent.fc2.bias[0] += 100
        learner.target_mac.agent.fc2.bias[1] += 100
    learner.train(batch, t_env=0, episode_num=0)
    assert len(actions_tp1) == 1 and (actions_tp1[0][batch["filled"].squeeze(-1) > 0] == chosen).all()


@pytest.mark.parametrize(("switched_off", "is_trained"), [({"opt_loss": 0, "nopt_min_loss": 0}, False), ({}, True)])
def test_the_agents_head_and_the_state_value_learn_from_the_sum_alone(switched_off, is_trained):
    learner = make_learner(qtran_args(**switched_off))
    before = weights_of(learner)
    learner.train(make_batch(learner.args, LENGTHS, ENDED), t_env=0, episode_num=0)
    after = weights_of(learner)
    for key in ("agent/fc2.weight", "mixer/V.0.weight"):
        assert th.equal(before[key], after[key]) != is_trained, key
    assert not th.equal(before["agent/fc1.weight"], after["agent/fc1.weight"])


@pytest.mark.slow
def test_the_matrix_game_of_the_paper_is_solved(logger):
    """Table 1 of the paper: no monotonic mix can tell that the first actions together are best."""
    payoff = np.array([[8.0, -12, -12], [-12, 0, 0], [-12, 0, 0]])
    args = qtran_args(
        n_agents=2, n_actions=3, state_shape=1, obs_shape=1, episode_limit=1, mixing_embed_dim=32, lr=0.003
    )
    th.manual_seed(0)
    batch, learner = one_step_game(args, payoff), make_learner(args, logger)
    for update in range(450):
        if update == 400:
            learner.optimiser.param_groups[0]["lr"] /= 10  # at the first rate single updates overshoot
        learner.train(batch, t_env=update, episode_num=update)
    learner.mac.init_hidden(1)
    assert learner.mac.select_actions(batch, 0, 0, bs=slice(0, 1), test_mode=True).tolist() == [[0, 0]]
    assert logger.values("td_error_abs")[-1] < 0.5 and logger.values("opt_loss")[-1] < 0.5
