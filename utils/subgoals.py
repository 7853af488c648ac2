"""Choosing and judging subgoals in hindsight (OMG), as pure functions of steps and values.

The networks are in `modules/am/omg_am.py`, the learner that uses both in `learners/omg_learner.py`.
"""

import torch as th


def candidate_steps(n_states: th.Tensor, n_steps: int, horizon: int) -> th.Tensor:
    """Returns the steps t + 1 .. t + horizon of the candidates of every step t, [b, n_steps, horizon].

    n_states [b]: how many states each episode has; the last one repeats where none is left.
    """
    device = n_states.device
    ahead = th.arange(n_steps, device=device).unsqueeze(1) + th.arange(1, horizon + 1, device=device)
    return ahead.unsqueeze(0).minimum((n_states - 1).clamp(min=0).view(-1, 1, 1))


def choose_candidate(values: th.Tensor, mode: str | int | bool, generator: th.Generator | None = None) -> th.Tensor:
    """Returns which candidate of values [..., horizon] is the subgoal (equations 6 and 7): its index [...].

    mode: "optimistic" or True, the most valuable; "conservative" or False, the least; "random"; or k: always k ahead.
    """
    if mode is True or mode == "optimistic":
        return values.argmax(-1)
    if mode is False or mode == "conservative":
        return values.argmin(-1)
    if mode == "random":
        return th.randint(values.shape[-1], values.shape[:-1], device=values.device, generator=generator)
    return th.full(values.shape[:-1], int(mode) - 1, device=values.device)


def nearest_steps(decoded: th.Tensor, states: th.Tensor, filled: th.Tensor, acted: th.Tensor) -> th.Tensor:
    """Returns the step whose state is nearest (L2) to what each subgoal stands for, -1 where the agent did not act:
    [b, T, agent].

    decoded, states [b, T, agent, D]: the states that the subgoals stand for, and those of the episode.
    filled [b, T], acted [b, T, agent] bool: steps that have a state, and those in which agents acted.
    """
    distance = th.cdist(decoded.transpose(1, 2).contiguous(), states.transpose(1, 2).contiguous())
    nearest = distance.masked_fill(~filled[:, None, None], th.inf).argmin(-1)
    return nearest.transpose(1, 2).masked_fill(~acted, -1)


def mean_hit_ratio(nearest: th.Tensor, n_states: th.Tensor) -> th.Tensor:
    """Returns the mean `subgoal_hit_ratio` of nearest steps [b, T, agent] in episodes of n_states [b]."""
    rows = nearest.transpose(1, 2).flatten(0, 1)
    return subgoal_hit_ratio(rows, n_states.repeat_interleave(nearest.shape[2])).mean()


def subgoal_hit_ratio(nearest: th.Tensor, n_states: th.Tensor) -> th.Tensor:
    """Returns how many distinct future states the inferred subgoals stand for, over the episode's length: [rows].

    nearest [rows, T]: the step of the episode's state that is nearest to the decoded subgoal of step t, -1 to leave the
    step out; n_states [rows]. A subgoal hits when that state still lies ahead (Yu et al. 2024, appendix E).
    """
    steps = th.arange(nearest.shape[1], device=nearest.device)
    hits = nearest > steps
    # one column more for what does not hit, which is then left out
    ahead = th.where(hits, nearest, int(n_states.max()))
    is_hit = th.zeros(nearest.shape[0], int(n_states.max()) + 1, device=nearest.device).scatter_(1, ahead, 1.0)
    return is_hit[:, :-1].sum(1) / n_states


def active_units(mu: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """Returns in how many of the Z dimensions the means vary by more than they spread, over rows [N, ..., Z].

    That is where the standard deviation of mu exceeds sigma, the root of the mean variance.
    """
    return (_variance(mu) > _noise(log_var)).sum().float()


def signal_to_noise(mu: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """Returns the variance of the means over rows [N, ..., Z] over the mean variance, each summed over the Z."""
    return _variance(mu).sum() / _noise(log_var).sum().clamp(min=1e-8)


def skill(decoded: th.Tensor, present: th.Tensor, picked: th.Tensor) -> th.Tensor:
    """Returns 1 - |decoded - picked|^2 / |present - picked|^2, each summed over states [N, ..., D].

    1: the decoded subgoal is the state picked in hindsight; 0: it is as far from it as the present state is.
    """
    return 1 - (decoded - picked).square().sum() / (present - picked).square().sum().clamp(min=1e-8)


def q_sensitivity(q: th.Tensor, exchanged: th.Tensor, avail: th.Tensor) -> th.Tensor:
    """Returns how far Q-values move when subgoals are exchanged, over their spread across actions.

    That is the mean of |q - exchanged| over the mean standard deviation of q, both over the available actions and then
    over the rows [..., action] with several of them; 0 where there are none.
    """
    several = avail.sum(-1) > 1
    q, exchanged, avail = q[several], exchanged[several], avail[several].float()
    weights = avail / avail.sum(-1, keepdim=True)
    spread = ((q - (q * weights).sum(-1, keepdim=True)).square() * weights).sum(-1).sqrt()
    return ((q - exchanged).abs() * weights).sum() / spread.sum().clamp(min=1e-8)


def _variance(mu: th.Tensor) -> th.Tensor:
    """Returns the variance [Z] of means [..., Z] over all rows."""
    return mu.flatten(0, -2).var(0, unbiased=False)


def _noise(log_var: th.Tensor) -> th.Tensor:
    """Returns the mean variance [Z] of log-variances [..., Z] over all rows."""
    return log_var.flatten(0, -2).exp().mean(0)
