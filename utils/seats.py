"""Whose rows a batch holds: those of whole teams, or "folded", those of single seats, each as an episode of its own.

A folded batch (components/fold.py) has one agent per episode, `seat` [b, 1] says which it was, and `team_obs`,
`team_actions` and `team_avail_actions` [b, T, n, ...] hold what the whole team saw, did and could do. These functions
read both kinds of batch, so that networks need not tell them apart. The size of the agent dimension is that of the
tensors, never `args.n_agents`.
"""

from functools import cache
from typing import Any

import torch as th

from utils.inputs import one_hot_rows
from utils.transfer import Where


def seat_ids(ep_batch: Any, n_agents: int, device: str | th.device, bs: Any = slice(None)) -> th.Tensor:
    """The agents' one-hot ids in episodes `bs`, [b, 1, agent, n_agents] to be expanded over time; b is 1 for teams."""
    ids = one_hot_rows(n_agents, device)
    return ids[ep_batch["seat"][bs].to(device)].unsqueeze(1) if "seat" in ep_batch.scheme else ids[None, None]


def team(ep_batch: Any, key: str) -> th.Tensor:
    """What the whole team saw ("obs"), did ("actions") or could do ("avail_actions"): [b, T, n, ...]."""
    return ep_batch[f"team_{key}"] if "seat" in ep_batch.scheme else ep_batch[key]


def others(ep_batch: Any, of_team: th.Tensor, where: Where) -> th.Tensor:
    """Of the team's values [b, T, n, ...] those of all others of each agent, in the order of their seats.

    Only `where` the indices of episodes and steps point, as rows [N, agent, n - 1, ...].
    """
    rows = of_team[where]
    of_seat = _other_seats(rows.shape[1], rows.device)
    if "seat" not in ep_batch.scheme:
        return rows.index_select(1, of_seat.flatten()).unflatten(1, of_seat.shape)
    seats = ep_batch["seat"].to(rows.device)[where[0], 0]
    return rows[th.arange(len(rows), device=rows.device).unsqueeze(1), of_seat[seats]].unsqueeze(1)


@cache
def _other_seats(n: int, device: th.device) -> th.Tensor:
    """All seats but its own for each of n, [n, n - 1]."""
    return th.tensor([[j for j in range(n) if j != i] for i in range(n)], device=device).reshape(n, n - 1)
