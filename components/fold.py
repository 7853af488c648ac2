"""From episodes of whole teams to episodes of single seats, which is what a learner that owns some seats learns from.

`utils/seats.py` has what reads such batches.
"""

from types import SimpleNamespace

import torch as th

from components.episode_buffer import EpisodeBatch


def fold_learners(batch: EpisodeBatch) -> EpisodeBatch:
    """The rows of the seats that learn, `agent_idx` [b, m] of a batch of teams: b * m episodes of one agent."""
    seats = batch["agent_idx"]
    episodes = th.arange(batch.batch_size, device=seats.device).repeat_interleave(seats.shape[1])
    return fold_seats(batch, episodes, seats.flatten())


def fold_seats(batch: EpisodeBatch, episodes: th.Tensor, seats: th.Tensor) -> EpisodeBatch:
    """The rows of `seats` [k] in `episodes` [k] of a batch of teams, as k episodes of one agent.

    Fields of the group "agents" are cut to the seat, [k, T, 1, ...]; `seat` [k, 1] and the team's observations,
    actions and available actions come in addition; all others are repeated.
    """
    episodes, seats = episodes.to(batch.device), seats.to(batch.device)
    data = SimpleNamespace(transition_data={}, episode_data={})
    for key, value in batch.data.transition_data.items():
        is_of_agents = batch.scheme[key].get("group") == "agents"
        data.transition_data[key] = value[episodes, :, seats].unsqueeze(2) if is_of_agents else value[episodes]
    for key, value in batch.data.episode_data.items():
        data.episode_data[key] = value[episodes]
    scheme = dict(batch.scheme)
    for key in ("obs", "actions", "avail_actions"):
        data.transition_data[f"team_{key}"] = batch.data.transition_data[key][episodes]
        entry = batch.scheme[key]
        scheme[f"team_{key}"] = {"vshape": (batch.groups["agents"], *entry["vshape"]), "dtype": entry["dtype"]}
    data.episode_data["seat"] = seats.unsqueeze(1)
    scheme["seat"] = {"vshape": (1,), "dtype": th.long, "episode_const": True}
    groups = {**batch.groups, "agents": 1}
    return EpisodeBatch(scheme, groups, len(episodes), batch.max_seq_length, data, batch.preprocess, batch.device)
