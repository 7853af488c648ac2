"""Returns and divergences: golden numbers, special cases that must coincide, properties."""

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from components.transitions import make_transitions
from tests.builders import make_args, make_batch
from utils.rl_utils import best_value, build_td_lambda_targets, gaussian_kl

ARGS = make_args()


def column(*values: float) -> th.Tensor:
    return th.tensor(values).view(1, -1, 1)


def test_lambda_returns_by_hand():
    reward, discount, mask = column(1.0, 2.0, 3.0), column(0.5, 0.5, 0.0), th.ones(1, 3, 1)
    values = column(20.0, 30.0, 40.0)
    # G_2 = 3; G_1 = 2 + 0.5 (0.2 * 30 + 0.8 * 3) = 6.2; G_0 = 1 + 0.5 (0.2 * 20 + 0.8 * 6.2) = 5.48
    assert th.allclose(build_td_lambda_targets(reward, discount, mask, values, 0.8), column(5.48, 6.2, 3.0))


def test_lambda_returns_of_an_episode_that_was_cut_off_bootstrap_from_its_last_value():
    reward, discount, mask = column(1.0, 2.0, 9.0), column(0.5, 0.5, 0.5), column(1.0, 1.0, 0.0)
    values = column(20.0, 30.0, 1e9)
    # G_1 = 2 + 0.5 * 30 = 17; G_0 = 1 + 0.5 (0.2 * 20 + 0.8 * 17) = 9.8
    assert th.allclose(build_td_lambda_targets(reward, discount, mask, values, 0.8), column(9.8, 17.0, 0.0))


@pytest.fixture
def transitions():
    return make_transitions(make_batch(ARGS, [8, 5, 3], ended=[False, False, True]), 0.9)


def returns(transitions, values: th.Tensor, td_lambda: float) -> th.Tensor:
    """With values [b, T+1, n] of all steps."""
    given = transitions.reward, transitions.discount, transitions.mask, values[:, 1:]
    return build_td_lambda_targets(*given, td_lambda)


def test_lambda_0_is_the_one_step_target(transitions):
    values = th.randn(3, 9, 2)
    one_step = (transitions.reward + transitions.discount * values[:, 1:]) * transitions.mask
    assert th.allclose(returns(transitions, values, 0.0), one_step)


def test_lambda_1_is_the_discounted_sum_of_rewards_and_the_last_value(transitions):
    values = th.randn(3, 9, 2)
    got = returns(transitions, values, 1.0)
    for b, (length, ended) in enumerate([(8, False), (5, False), (3, True)]):
        powers = 0.9 ** th.arange(length)
        expected = (powers * transitions.reward[b, :length, 0]).sum() + (not ended) * 0.9**length * values[b, length]
        assert th.allclose(got[b, 0], expected)


@given(st.floats(0, 1), st.integers(1, 8), st.booleans(), st.floats(-1e6, 1e6))
def test_lambda_returns_never_read_padding(td_lambda, length, ended, noise):
    transitions = make_transitions(make_batch(ARGS, [length], [ended]), 0.9)
    values = th.linspace(-1, 1, 9).view(1, 9, 1)
    noisy = values.clone()
    noisy[:, length + 1 :] = noise
    assert th.equal(returns(transitions, values, td_lambda), returns(transitions, noisy, td_lambda))


def test_lambda_returns_refuse_values_of_the_wrong_length(transitions):
    with pytest.raises(ValueError, match="8 transitions need as many values, not 7"):
        returns(transitions, th.zeros(3, 8, 1), 0.5)


def test_best_value_is_the_targets_at_the_choosers_best_available_action():
    target_q, chooser_q = th.tensor([[1.0, 2.0, 3.0]] * 2), th.tensor([[9.0, 5.0, 6.0]] * 2)
    avail = th.tensor([[1, 1, 1], [0, 1, 1]], dtype=th.uint8)
    assert best_value(target_q, chooser_q, avail).tolist() == [1, 3]
    assert best_value(target_q, target_q, avail == 1).tolist() == [3, 3]


def test_gaussian_kl_is_torchs():
    mu_q, log_var_q, mu_p, log_var_p = th.randn(4, 5, 2, 3)
    q, p = (Independent(Normal(mu, (v / 2).exp()), 1) for mu, v in ((mu_q, log_var_q), (mu_p, log_var_p)))
    assert th.allclose(gaussian_kl(mu_q, log_var_q, mu_p, log_var_p), kl_divergence(q, p), rtol=1e-5)


def test_gaussian_kl_to_itself_is_zero_and_all_arguments_get_gradients():
    mu, log_var = th.randn(4, 3), th.randn(4, 3)
    assert th.allclose(gaussian_kl(mu, log_var, mu, log_var), th.zeros(4), atol=1e-6)
    arguments = [th.randn(4, 3, requires_grad=True) for _ in range(4)]
    gaussian_kl(*arguments).sum().backward()
    assert all(argument.grad.abs().sum() > 0 for argument in arguments)


def test_gaussian_kl_refuses_different_sizes():
    with pytest.raises(ValueError, match="same last dimension"):
        gaussian_kl(th.zeros(2, 3), th.zeros(2, 3), th.zeros(2, 1), th.zeros(2, 1))
