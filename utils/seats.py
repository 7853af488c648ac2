"""Whose rows a batch holds: those of whole teams, or "folded", those of single seats, each as an episode of its own.

A folded batch (components/fold.py) has one agent per episode, `seat` [b, 1] says which it was, and `team_obs`,
`team_actions` and `team_avail_actions` [b, T, n, ...] hold what the whole team saw, did and could do. These functions
read both kinds of batch, so that networks need not tell them apart. The size of the agent dimension is that of the
tensors, never `args.n_agents`.
"""

from typing import Any

import torch as th

from utils.inputs import one_hot_rows


def seat_ids(ep_batch: Any, n_agents: int, device: str | th.device, bs: Any = slice(None)) -> th.Tensor:
    """The agents' one-hot ids in episodes `bs`, [b, 1, agent, n_agents] to be expanded over time; b is 1 for teams."""
    ids = one_hot_rows(n_agents, device)
    return ids[ep_batch["seat"][bs].to(device)].unsqueeze(1) if "seat" in ep_batch.scheme else ids[None, None]


def team(ep_batch: Any, key: str) -> th.Tensor:
    """What the whole team saw ("obs"), did ("actions") or could do ("avail_actions"): [b, T, n, ...]."""
    return ep_batch[f"team_{key}"] if "seat" in ep_batch.scheme else ep_batch[key]


def others(ep_batch: Any, key: str) -> th.Tensor:
    """The same of all others of each agent, in the order of their seats: [b, T, agent, n - 1, ...]."""
    values = team(ep_batch, key)
    n = values.shape[2]
    of_seat = th.tensor([[j for j in range(n) if j != i] for i in range(n)], device=values.device).reshape(n, n - 1)
    if "seat" not in ep_batch.scheme:
        return values[:, :, of_seat]
    index = of_seat[ep_batch["seat"].to(values.device)]  # [b, 1, n - 1]
    episodes = th.arange(len(values), device=values.device)[:, None, None]
    return values[episodes, :, index].movedim(3, 1)
