"""Inputs of networks besides observations, from a batch of episodes: last actions, agent ids, and the other agents.

A batch may hold whole teams or single seats of them; `EpisodeBatch` has both under the same names.
"""

from functools import cache

import torch as th
import torch.nn.functional as F

from components.episode_buffer import ALL, EpisodeBatch, Episodes
from components.packed_steps import PackedSteps
from utils.rl_utils import is_alive
from utils.transfer import StepIndex


@cache
def one_hot_rows(n: int, device: str | th.device) -> th.Tensor:
    """Returns all one-hot vectors of length n, [n, n]; the same tensor in every call, to be read only."""
    return th.eye(n, device=device)


def last_actions(
    actions: th.Tensor, n_actions: int, device: str | th.device, bs: Episodes = ALL, ts: slice = ALL
) -> th.Tensor:
    """Returns the one-hot actions before each of the steps `ts`, [b, T, agent, u], zeros at step 0.

    actions: indices [b, T, agent, 1] in whole episodes.
    """
    start, stop, _ = ts.indices(actions.shape[1])
    before = actions[bs, max(start - 1, 0) : stop - 1].squeeze(-1).to(device)
    one_hot = th.embedding(one_hot_rows(n_actions, device), before)  # without the checks of F.embedding
    return one_hot if start else F.pad(one_hot, (0, 0, 0, 0, 1, 0))


def agent_ids(batch: EpisodeBatch, n_agents: int, device: str | th.device, bs: Episodes = ALL) -> th.Tensor:
    """Returns the agents' one-hot ids in episodes `bs`, [b, 1, agent, n_agents], to be expanded over time."""
    rows = one_hot_rows(n_agents, device)
    ids = batch.cached(("ids", n_agents, device), (), lambda: th.embedding(rows, batch["seat"].to(device)).unsqueeze(1))
    return ids[bs]


def living(batch: EpisodeBatch, device: str | th.device) -> PackedSteps:
    """Returns which rows the steps of living agents become, one for each agent, for tensors on `device`.

    What a model infers of the dead is read by nobody who has a choice.
    """
    sources = ("avail_actions", "filled")
    return batch.cached(("living", device), sources, lambda: PackedSteps(lives_on_host(batch).to(th.uint8), device))


def lives_on_host(batch: EpisodeBatch) -> th.Tensor:
    """Returns who lives in which step, [b, T, agent] bool, in main memory; all do in the first, so that some do."""
    filled = batch.on_host("filled").bool()
    lives = is_alive(batch.on_host("avail_actions"), filled)
    lives[:, 0] |= filled[:, 0]
    return lives


def others(batch: EpisodeBatch, of_team: th.Tensor, index: StepIndex) -> th.Tensor:
    """Returns the values of all other agents at N steps, in the order of their seats: [N, agent, n - 1, ...].

    Args:
        of_team: the whole team's values, [b, T, n, ...].
        index: episodes and steps, [N] each.
    """
    rows = of_team[index]
    seats = batch["seat"].to(rows.device)[index[0]]  # [N, agent]
    of_seat = _other_seats(rows.shape[1], rows.device)[seats]  # [N, agent, n - 1]
    return rows[th.arange(len(rows), device=rows.device).view(-1, 1, 1), of_seat]


@cache
def _other_seats(n: int, device: th.device) -> th.Tensor:
    """Returns all seats but its own for each of n, [n, n - 1]."""
    return th.tensor([[j for j in range(n) if j != i] for i in range(n)], device=device).reshape(n, n - 1)
