"""From episodes of whole teams to episodes of single seats, which is what a learner that owns some seats learns from.

`utils/seats.py` has what reads such batches.
"""

from types import SimpleNamespace
from typing import Any

import torch as th

from components.episode_buffer import EpisodeBatch

OF_TEAM = "team_"
SEAT = {"vshape": (1,), "dtype": th.long, "episode_const": True}


def fold_learners(batch: EpisodeBatch) -> "FoldedBatch":
    """The rows of the seats that learn, `agent_idx` [b, m] of a batch of teams: b * m episodes of one agent."""
    seats = batch["agent_idx"]
    episodes = th.arange(batch.batch_size, device=seats.device).repeat_interleave(seats.shape[1])
    return FoldedBatch(batch, episodes, seats.flatten())


class FoldedBatch(EpisodeBatch):
    """The rows of `seats` [k] in `episodes` [k] and steps `ts` of a batch of teams, as k episodes of one agent.

    Fields of the group "agents" are cut to the seat, [k, T, 1, ...]; `seat` [k, 1] and the team's observations,
    actions and available actions come in addition; all others are repeated. Nothing is cut out before it is read.
    """

    def __init__(self, batch: EpisodeBatch, episodes: th.Tensor, seats: th.Tensor, ts: slice = slice(None)):
        self._team, self._ts = batch, ts
        self._episodes, self._seats = episodes.to(batch.device), seats.to(batch.device)
        scheme = {**batch.scheme, "seat": SEAT}
        for key in ("obs", "actions", "avail_actions"):
            entry = batch.scheme[key]
            scheme[OF_TEAM + key] = {"vshape": (batch.groups["agents"], *entry["vshape"]), "dtype": entry["dtype"]}
        data = SimpleNamespace(transition_data={}, episode_data={"seat": self._seats.unsqueeze(1)})
        n_steps = len(range(*ts.indices(batch.max_seq_length)))
        groups = {**batch.groups, "agents": 1}
        super().__init__(scheme, groups, len(episodes), n_steps, data, batch.preprocess, batch.device)

    def __getitem__(self, item: Any) -> th.Tensor:
        """A field by name."""
        if not isinstance(item, str):
            raise TypeError(f"a folded batch gives fields by name, not {item!r}; slice the field")
        return self._field(item)

    def _field(self, key: str) -> th.Tensor:
        stored, of_episodes = self._team.data.transition_data, self._team.data.episode_data
        if key in of_episodes:
            return of_episodes[key][self._episodes]
        cut = self.data.transition_data
        if key in stored and key not in cut:
            is_of_agents = self.scheme[key].get("group") == "agents"
            rows = stored[key][:, self._ts]
            cut[key] = rows[self._episodes, :, self._seats].unsqueeze(2) if is_of_agents else rows[self._episodes]
        elif key.startswith(OF_TEAM) and key not in cut:
            cut[key] = stored[key.removeprefix(OF_TEAM)][:, self._ts][self._episodes]
        return super()._field(key)
