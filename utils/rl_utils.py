"""The maths that learners share, as pure functions over `[batch, time, ...]` tensors.

The aligned tensors that they take are made in `components/transitions.py`.
"""

import torch as th
import torch.nn.functional as F


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
    in_episode = mask > 0
    # After an episode's last transition, also where it was cut off, V takes the place of the next return.
    weight = th.where(F.pad(in_episode[:, 1:], (0, 0, 0, 1)), td_lambda, 0.0)
    value_part = reward + th.where(discount > 0, discount * (1 - weight) * value_tp1, 0.0)
    value_part = value_part.where(in_episode, 0.0)
    if td_lambda == 0:
        return value_part
    return_tp1, returns = th.zeros_like(value_tp1[:, 0]), []
    for value_part_t, factor_t in zip(reversed(value_part.unbind(1)), reversed((discount * weight).unbind(1))):
        return_tp1 = value_part_t + factor_t * return_tp1
        returns.append(return_tp1)
    return th.stack(returns[::-1], 1)


def n_step_returns(
    reward: th.Tensor, discount: th.Tensor, mask: th.Tensor, value_tp1: th.Tensor, n_steps: int
) -> th.Tensor:
    """Returns the n-step return of each step, [b, T, n] (Sutton and Barto 2018, equation 7.1).

    G_t = r_t + discount_t * V_{t+1} with n = 1, and else r_t + discount_t * G'_{t+1}, where G' has a step less; V_{t+1}
    stands for G'_{t+1} after an episode's last transition. 0 outside the episode.

    Args:
        reward, discount, mask, value_tp1: as for `build_td_lambda_targets`.
        n_steps: rewards in a return, at least 1.
    """
    goes_on = F.pad(mask[:, 1:] > 0, (0, 0, 0, 1))
    return_tp1 = returns = value_tp1
    for _ in range(n_steps):
        returns = reward + th.where(discount > 0, discount * return_tp1, 0.0)
        return_tp1 = th.where(goes_on, F.pad(returns[:, 1:], (0, 0, 0, 1)), value_tp1)
    return returns.masked_fill(mask == 0, 0.0)


def clipped_surrogate(log_ratio: th.Tensor, advantage: th.Tensor, eps_clip: float) -> th.Tensor:
    """Returns PPO's objective, to be maximised (Schulman et al. 2017, equation 7), elementwise.

    min(ratio * A, clip(ratio, 1 - eps, 1 + eps) * A), ratio = exp(log_ratio) = pi(u) / pi_old(u)
    """
    ratio = log_ratio.exp()
    return th.minimum(ratio * advantage, ratio.clamp(1 - eps_clip, 1 + eps_clip) * advantage)


def value_errors(
    value: th.Tensor, target: th.Tensor, old_value: th.Tensor, eps_clip: float | None, huber_delta: float | None
) -> th.Tensor:
    """Returns the errors of values by which a critic learns, elementwise (Yu et al. 2022, appendix A).

    max(l(V - G), l(V_old + clip(V - V_old, -eps, eps) - G)), or l(V - G) without `eps_clip`; l(x) = x^2, or Huber's
    loss with `huber_delta`: x^2 / 2 up to there, then linear.
    """

    def error(predicted: th.Tensor) -> th.Tensor:
        if huber_delta is None:
            return (predicted - target) ** 2
        return F.huber_loss(predicted, target, reduction="none", delta=huber_delta)

    if eps_clip is None:
        return error(value)
    return th.maximum(error(value), error(old_value + (value - old_value).clamp(-eps_clip, eps_clip)))


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


def is_alive(avail_actions: th.Tensor, filled: th.Tensor) -> th.Tensor:
    """Whether there is still a choice, at this or a later step: the dead have a single action left. [b, T, agent].

    From avail_actions [b, T, agent, u] and filled [b, T, 1] bool.
    """
    has_choice = (avail_actions.sum(-1) > 1) & filled
    return has_choice.flip(1).cumsum(1).flip(1) > 0
