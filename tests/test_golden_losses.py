"""Losses worked out on paper: all weights of a network are zero, so that its biases alone say what it gives.

That losses follow the formulas for any weights is in the tests of the agent models and of the learners.
"""

from math import log

import pytest
import torch as th

from learners import REGISTRY as LEARNERS
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.omg_am import Gaussian
from tests.builders import make_batch, make_mac, make_omg_args, make_scheme
from tests.test_agent_models import encoded, loss_of, played_steps
from utils.rl_utils import gaussian_kl

TINY = {"n_agents": 2, "n_actions": 2, "obs_shape": 1, "episode_limit": 2, "gamma": 0.5, "omg_subgoal_dim": 1}
TINY |= {"obs_last_action": False, "obs_agent_id": False, "rnn_hidden_dim": 1}
UNSEEN = 1000.0  # what must not count


def tiny(**overrides):
    """Arguments, and two episodes of two agents: two steps that end, one that is cut off."""
    args = make_omg_args(**(TINY | {"omg_horizon": 2} | overrides))
    batch = make_batch(args, [2, 1], ended=[True, False])
    batch["avail_actions"][batch["filled"].squeeze(-1) > 0] = 1
    batch["obs"][:] = th.tensor([[[1, 2], [3, 4], [UNSEEN, UNSEEN]], [[0, 2], [UNSEEN, UNSEEN], [0, 0]]]).unsqueeze(-1)
    batch["actions"][0, :2] = th.tensor([[0, 0], [1, 0]]).unsqueeze(-1)
    batch["actions"][1, :1] = 1
    batch["reward"][0, :2, 0] = th.tensor([1.0, 3.0])
    batch["reward"][1, 0] = 0
    return args, batch


@th.no_grad()
def only_biases(module, **of_layers):
    """All parameters become zeros, but for these biases."""
    for parameter in module.parameters():
        parameter.zero_()
    for name, bias in of_layers.items():
        module.get_submodule(name).bias.copy_(th.as_tensor(bias, dtype=th.float32))


@pytest.mark.parametrize(
    ("q", "p", "kl"),
    [
        ((0, 1), (0, 1), 0),
        ((1, 1), (0, 1), 1 / 2),
        ((0, 4), (0, 1), (3 - log(4)) / 2),
        ((1, 1), (0, 4), (log(4) - 1 / 2) / 2),
        ((3, 4), (1, 2), (3 - log(2)) / 2),
    ],
)
def test_kl_between_gaussians_of_given_means_and_variances(q, p, kl):
    def gaussian(mean, variance):
        return th.tensor([mean, 0.0]), th.tensor([variance, 7.0]).log()  # the second dimension adds nothing

    assert gaussian_kl(*gaussian(*q), *gaussian(*p)).item() == pytest.approx(kl, abs=1e-6)


def test_the_priors_loss():
    args, _ = tiny(omg_vae_alpha=0.1)
    am = AGENT_MODELS["omg"](make_scheme(args)[0], args)
    only_biases(am.vae, **{"mu": [2], "decoder.1": [3]})
    # ((3 - 1)^2 + (3 - 5)^2) / 2 + 0.1 * KL(N(2, 1) || N(0, 1))
    assert am.prior_loss(th.tensor([[1.0], [5.0]])).item() == pytest.approx(4 + 0.1 * 2)


def test_the_posteriors_loss():
    args, batch = tiny(omg_cvae_alpha=0.2)
    am = AGENT_MODELS["omg"](make_scheme(args)[0], args)
    only_biases(am.cvae, **{"mu": [1], "decoder.1": [2]})
    outputs, trajectory = encoded(am, batch)
    played = played_steps(batch)
    subgoal = Gaussian.of(outputs).at(played)
    chosen = Gaussian(th.zeros(3, 2, 1), th.full((3, 2, 1), 4.0).log())
    loss, stats = am.loss(am.observations(batch)[played], subgoal, trajectory[played], subgoal.sample(), chosen)
    # the means over the played observations 1, 2, 3, 4, 0, 2 of (2 - o)^2
    assert stats["omg_recon_loss"].item() == pytest.approx((1 + 0 + 1 + 4 + 4 + 0) / 6)
    assert stats["omg_kl"].item() == pytest.approx((log(4) - 1 / 2) / 2)
    assert loss.item() == pytest.approx(10 / 6 + 0.2 * (log(4) - 1 / 2) / 2)


@pytest.mark.parametrize("agent_1_is_dead", [False, True])
def test_the_losses_of_predicted_actions_and_observations(agent_1_is_dead):
    """The first action is given 3/4. Played are 0, 0, 1, 0 and, where both are alive in the second episode, 1, 1."""
    expected = -(3 * log(3 / 4) + log(1 / 4)) / 4 if agent_1_is_dead else -(log(3 / 4) + log(1 / 4)) / 2
    args, batch = tiny(am_model="base")
    if agent_1_is_dead:
        batch["avail_actions"][1, :, 1, 1] = 0
    naive = AGENT_MODELS["base"](make_scheme(args)[0], args)
    only_biases(naive, head=[log(3), 0])
    loss, stats = loss_of(naive, batch)
    assert loss.item() == pytest.approx(expected)
    assert stats["am_action_accuracy"].item() == pytest.approx(3 / 4 if agent_1_is_dead else 1 / 2)

    liam = AGENT_MODELS["liam"](make_scheme(args)[0], args)
    only_biases(liam, **{"obs_decoder.2": [2], "action_decoder.2": [log(3), 0]})
    loss, stats = loss_of(liam, batch)
    assert stats["liam_recon_loss"].item() == pytest.approx(6 / 4 if agent_1_is_dead else 10 / 6)
    assert loss.item() == pytest.approx(expected + stats["liam_recon_loss"].item())


@pytest.mark.parametrize(("learner", "am_model"), [("q_learner_4am", "none"), ("omg_learner", "omg")])
def test_the_q_loss(learner, am_model, logger):
    """Q is 1 for the first action and 2 for the second, which is not available when the second episode is cut off."""
    args, batch = tiny(am_model=am_model)
    batch["avail_actions"][1, 1, :, 1] = 0
    made = LEARNERS[learner](make_mac(args), make_scheme(args)[0], logger, args)
    only_biases(made.mac.agent, fc2=[1, 2])
    only_biases(made.target_mac.agent, fc2=[1, 2])
    made.train(batch, 0, 0)
    # Targets: 1 + 0.5 * 2 = 2; 3, as it is the end; 0 + 0.5 * 1. Of both agents, Q is 1, 1; 2, 1; 2, 2.
    assert logger.values("q_taken_mean") == pytest.approx([9 / 6])
    assert logger.values("target_mean") == pytest.approx([(2 + 3 + 0.5) / 3])
    assert logger.values("loss") == pytest.approx([(1 + 1 + 1 + 4 + 2.25 + 2.25) / 6])


@pytest.mark.parametrize(
    ("mode", "share_of_k1", "picked"), [("optimistic", 3 / 4, [3, 5, 5, 4]), ("conservative", 1 / 2, [2, 2, 4, 4])]
)
def test_the_choice_of_k_where_a_state_is_worth_what_is_seen_in_it(mode, share_of_k1, picked, logger):
    """Seen are 1, 3, 2, 5, 4, and H = 2: candidates are 3 2, 2 5, 5 4, and at the end the last state twice."""
    args = make_omg_args(
        **(TINY | {"episode_limit": 4}), subgoal_mode=mode, omg_horizon=2, eta=1.0, eta_anneal_time=10**9
    )
    batch = make_batch(args, [4])
    batch["obs"][0, ..., 0] = th.tensor([1.0, 3, 2, 5, 4]).unsqueeze(1)
    batch["avail_actions"][:] = 1
    made = LEARNERS["omg_learner"](make_mac(args), make_scheme(args)[0], logger, args)
    with th.no_grad():
        pass_on(made.am.vae)
        only_biases(made.mac.agent)
        agent = made.mac.agent
        agent.fc1.weight[0, 1] = 0.1  # of (o_t, g)
        agent.rnn.weight_ih[2, 0] = 1  # the candidate for the hidden state
        agent.fc2.weight[:] = 2
    seen = []
    loss = made.am.loss
    made.am.loss = lambda **given: (seen.append(given["chosen"].mu), loss(**given))[1]
    made.train(batch, 0, 0)
    assert seen[0].squeeze(-1).tolist() == [value for value in picked for _ in range(2)]  # of both agents
    assert logger.values("subgoal_k1") == pytest.approx([share_of_k1])
    assert logger.values("subgoal_k2") == pytest.approx([1 - share_of_k1])


def pass_on(prior):
    """A prior whose mean is the (positive) observation itself."""
    only_biases(prior)
    for layer in (prior.encoder[0], prior.encoder[2], prior.mu):
        layer.weight[0, 0] = 1
