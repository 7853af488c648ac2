"""The maths that learners share, as pure functions over `[batch, time, ...]` tensors.

The aligned tensors that they take are made in `components/transitions.py`.
"""

import torch as th


def build_td_lambda_targets(
    reward: th.Tensor, discount: th.Tensor, mask: th.Tensor, value_tp1: th.Tensor, td_lambda: float
) -> th.Tensor:
    """Returns lambda-returns (Sutton and Barto 2018, equation 12.18) of each step, [b, T, n].

    G_t = r_t + discount_t * ((1 - lambda) * V_{t+1} + lambda * G_{t+1}),
    with G_{t+1} = V_{t+1} after an episode's last transition, and 0 outside the episode.

    Args:
        reward, discount, mask: [b, T, 1] as in `Transitions`, or a reward [b, T, n] for each of n agents.
        value_tp1: [b, T, n], V of the step after each.
        td_lambda: 0 for one-step targets, 1 for whole returns.
    """
    if not (reward.dim() == discount.dim() == mask.dim() == value_tp1.dim() == 3):
        raise ValueError("reward, discount, mask and value_tp1 must be [batch, time, n]")
    if value_tp1.shape[1] != reward.shape[1]:
        raise ValueError(f"{reward.shape[1]} transitions need as many values, not {value_tp1.shape[1]}")
    one_step = reward + th.where(discount > 0, discount * value_tp1, 0.0)
    if td_lambda == 0:
        return one_step.masked_fill(mask == 0, 0.0)
    in_episode = mask > 0
    goes_on = th.cat([in_episode[:, 1:], th.zeros_like(in_episode[:, :1])], dim=1)
    returns = th.zeros_like(one_step)
    return_tp1 = value_tp1[:, -1]
    for t in reversed(range(reward.shape[1])):
        # An episode that was cut off continues from its last value: what follows in the tensor is padding.
        return_tp1 = th.where(goes_on[:, t], return_tp1, value_tp1[:, t])
        mixed = (1 - td_lambda) * value_tp1[:, t] + td_lambda * return_tp1
        return_t = reward[:, t] + th.where(discount[:, t] > 0, discount[:, t] * mixed, 0.0)
        returns[:, t] = return_tp1 = th.where(in_episode[:, t], return_t, 0.0)
    return returns


def chosen(values: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """Returns the values of the actions that were taken, [...] from values [..., u] and action indices [...]."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def masked_mean(values: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """Returns the mean of values [b, T, n] where mask [b, T, 1] is 1; all others have no part in it, nor a gradient."""
    return values.masked_fill(mask == 0, 0.0).sum() / mask.expand_as(values).sum()


def best_available(values: th.Tensor, avail: th.Tensor) -> th.Tensor:
    """Returns the indices [...] of the highest of values [..., u] where `avail` [..., u] is not 0."""
    return values.masked_fill(avail == 0, -th.inf).argmax(-1)


def best_value(target_q: th.Tensor, chooser_q: th.Tensor, avail: th.Tensor) -> th.Tensor:
    """Returns the target's value of the available action that the chooser holds best, [...] from Q-values [..., u].

    With the live network as chooser this is double Q-learning (van Hasselt et al. 2016). 0 of `avail`: not available.
    """
    return chosen(target_q, best_available(chooser_q, avail))


def gaussian_kl(mu_q: th.Tensor, log_var_q: th.Tensor, mu_p: th.Tensor, log_var_p: th.Tensor) -> th.Tensor:
    """KL(q || p) of diagonal Gaussians [..., Z] as [...]: the sum over the last axis (Kingma and Welling 2014, app. B).

    1/2 * sum(log_var_p - log_var_q + (var_q + (mu_q - mu_p)^2) / var_p - 1)
    """
    if not (mu_q.shape[-1] == log_var_q.shape[-1] == mu_p.shape[-1] == log_var_p.shape[-1]):
        raise ValueError("the means and log-variances must have the same last dimension")
    quotient = (log_var_q.exp() + (mu_q - mu_p) ** 2) / log_var_p.exp()
    return 0.5 * (log_var_p - log_var_q + quotient - 1).sum(-1)
