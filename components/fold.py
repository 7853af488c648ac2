"""From episodes of whole teams to episodes of single seats, which is what a learner that owns some seats learns from.

`utils/seats.py` has what reads such batches.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch
from utils.transfer import sent

OF_TEAM = "team_"
SEAT = {"vshape": (1,), "dtype": th.long, "episode_const": True}


def fold_learners(batch: EpisodeBatch) -> "FoldedBatch":
    """The rows of the seats that learn, `agent_idx` [b, m] of a batch of teams: b * m episodes of one agent."""
    seats = batch["agent_idx"]
    episodes = th.arange(batch.batch_size).repeat_interleave(seats.shape[1])
    return FoldedBatch(batch, episodes, seats.flatten())


class FoldedBatch(EpisodeBatch):
    """The rows of `seats` [k] in `episodes` [k] and steps `ts` of a batch of teams, as k episodes of one agent.

    Fields of the group "agents" are cut to the seat, [k, T, 1, ...]; `seat` [k, 1] and the team's observations,
    actions and available actions come in addition; all others are repeated. Nothing is cut out before it is read.
    `episodes` are in main memory.
    """

    def __init__(self, batch: EpisodeBatch, episodes: th.Tensor, seats: th.Tensor, ts: slice = slice(None)):
        self._team, self._ts = batch, ts
        self._episodes_on_host = episodes
        self._episodes, self._seats = sent(episodes, batch.device), seats.to(batch.device)
        scheme = {**batch.scheme, "seat": SEAT}
        for key in ("obs", "actions", "avail_actions"):
            entry = batch.scheme[key]
            scheme[OF_TEAM + key] = {"vshape": (batch.groups["agents"], *entry["vshape"]), "dtype": entry["dtype"]}
        data = SimpleNamespace(transition_data={}, episode_data={})
        n_steps = len(range(*ts.indices(batch.max_seq_length)))
        groups = {**batch.groups, "agents": 1}
        super().__init__(scheme, groups, len(episodes), n_steps, data, batch.preprocess, batch.device)

    def __getitem__(self, item: Any) -> th.Tensor:
        """A field by name."""
        if not isinstance(item, str):
            raise TypeError(f"a folded batch gives fields by name, not {item!r}; slice the field")
        return self._field(item)

    def array(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            self._arrays[key] = self._cut(key, self._team.array, self._episodes.numpy(), self._seats.numpy())
        return self._arrays[key]

    def on_host(self, key: str) -> th.Tensor:
        """A field that is none of a seat's."""
        return self._team.on_host(key)[:, self._ts][self._episodes_on_host]

    def _field(self, key: str) -> th.Tensor:
        data = self.data.transition_data
        if key not in data and key not in self._derived:
            data[key] = self._cut(key, self._team.__getitem__, self._episodes, self._seats)
        return super()._field(key)

    def _cut(self, key: str, read: Callable[[str], Any], episodes: Any, seats: Any) -> Any:
        """A field out of what `read` gives of the team, tensor or array, by indices of the same kind."""
        if key == "seat":
            return seats[:, None]
        values = read(key.removeprefix(OF_TEAM))
        if self.scheme[key].get("episode_const", False):
            return values[episodes]
        values = values[:, self._ts]
        return values[episodes, :, seats][:, :, None] if self.scheme[key].get("group") == "agents" else values[episodes]
