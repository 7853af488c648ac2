"""Plays a fixed number of steps in each world, over the ends of episodes: what a learner without a replay buffer may
ask for (`collect_steps`). Whole episodes are played by `episode_runner.py`.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch
from components.pieces import with_what_comes_before

if TYPE_CHECKING:
    from runners.episode_runner import EpisodeRunner


class Piece(NamedTuple):
    """Consecutive steps of one world: columns `start` to `stop` of a line, of which the last is only seen."""

    world: int
    start: int
    stop: int
    last_seen: dict[str, np.ndarray] | None  # what was seen in `stop`, if a new episode has overwritten it


class StepCollector:
    """Worlds that go on from one collection to the next; an episode that ends is followed by another at once.

    A line [world, n_steps + 2] holds a collection, behind the step that came before it. Its pieces, each of one
    episode, become the rows of a batch.
    """

    def __init__(self, runner: "EpisodeRunner", n_steps: int):
        self.runner, self.n_steps, self.n_worlds = runner, n_steps, runner.batch_size
        self.line = runner.new_batch(n_steps + 2)
        self.is_first = np.ones(self.n_worlds, bool)  # whether a world stands at the first step of an episode
        self.returns = np.zeros((self.n_worlds, runner.outcomes.reward.reshape(self.n_worlds, -1).shape[1]))
        self.lengths = np.zeros(self.n_worlds, int)
        everywhere = np.ones(self.n_worlds, bool)
        runner.team.reset(self.line, everywhere)
        runner.env.reset(runner._observations(self._fields(), 1), everywhere)
        self.first_hidden = runner.team.hidden_states()[:1]
        self.is_new = True

    def _fields(self) -> dict[str, np.ndarray]:
        return {key: value.numpy() for key, value in self.line.data.transition_data.items()}

    def collect(self) -> EpisodeBatch:
        """Plays `n_steps` in each world; returns the pieces, each with what comes before it (components/pieces.py)."""
        runner, fields, team = self.runner, self._fields(), self.runner.team
        if not self.is_new:
            for values in fields.values():
                values[:, :2] = values[:, -2:]
            team.renew()
        self.is_new = False
        begun = self.is_first.copy()
        hidden = team.hidden_states()
        pieces: list[Piece] = []
        start = np.ones(self.n_worlds, int)
        rewards = runner.outcomes.reward.reshape(self.n_worlds, -1)
        for t in range(1, self.n_steps + 1):
            self._act(fields, t)
            runner.env.step(fields["actions"][:, t, :, 0], runner._observations(fields, t + 1), runner.outcomes, None)
            over, cut_off, lost = runner.outcomes.terminated, runner.outcomes.truncated, runner.outcomes.lost
            fields["reward"][:, t] = rewards
            fields["terminated"][:, t, 0] = over if runner.bootstraps_timeouts else over | cut_off
            self.returns += rewards
            self.lengths += 1
            self.is_first = over | cut_off | lost
            if self.is_first.any():
                for world in np.flatnonzero(self.is_first & ~lost).tolist():
                    seen = {name: fields[name][world, t + 1].copy() for name in runner.seen}
                    pieces.append(Piece(world, start[world], t + 1, seen))
                self._end_episodes(fields, t + 1, lost)
                start[self.is_first] = t + 1
        pieces += [Piece(w, start[w], self.n_steps + 1, None) for w in range(self.n_worlds) if start[w] <= self.n_steps]
        runner.t_env += self.n_steps * self.n_worlds
        return self._batch(fields, pieces, hidden, begun)

    def _act(self, fields: dict[str, np.ndarray], t: int) -> None:
        """Has the team act; at the first step of an episode no last action is read."""
        team, t_env = self.runner.team, self.runner.t_env
        for rows, first, at in ((self.is_first, t, 0), (~self.is_first, t - 1, 1)):
            if rows.any():
                bs = slice(None) if rows.all() else np.flatnonzero(rows)
                actions = team.select_actions(self.line[:, first : t + 1], at, t_env, bs=bs)
                fields["actions"][bs, t, :, 0] = actions.cpu().numpy()

    def _end_episodes(self, fields: dict[str, np.ndarray], t: int, lost: np.ndarray) -> None:
        """Counts the episodes that are over, and begins others, whose first step is t, in their worlds."""
        runner, rows = self.runner, self.is_first & ~lost
        if rows.any():
            own = self.returns[rows]
            info = {key: values[rows] for key, values in runner.outcomes.info.items()}
            runner.train_stats.add(own.sum(1), own[:, : runner.train_stats.n_agents], self.lengths[rows], info)
        runner.n_ended += int(rows.sum())
        runner.count_dropped(int(lost.sum()))
        runner.env.reset(runner._observations(fields, t), self.is_first)
        runner.team.restart(np.flatnonzero(self.is_first))
        self.returns[self.is_first] = self.lengths[self.is_first] = 0

    def _batch(
        self, fields: dict[str, np.ndarray], pieces: list[Piece], hidden: th.Tensor, begun: np.ndarray
    ) -> EpisodeBatch:
        """Returns the pieces as rows; `hidden` and `begun` are of each world before this collection."""
        worlds, start, stop = (np.array(numbers) for numbers in zip(*(piece[:3] for piece in pieces), strict=True))
        lengths = stop - start  # of transitions
        columns = np.minimum(start[:, None] + np.arange(lengths.max() + 1), self.n_steps + 1)
        batch = self.runner.new_batch(lengths.max() + 1, len(pieces))
        is_seen = np.arange(lengths.max() + 1) <= lengths[:, None]
        is_acted = np.arange(lengths.max() + 1) < lengths[:, None]
        for key, value in batch.data.transition_data.items():
            counts = is_seen if key in self.runner.seen else is_acted
            if key == "filled":
                value[..., 0] = th.from_numpy(is_seen)
                continue
            rows = value.numpy()
            rows[counts] = fields[key][worlds[:, None], columns][counts]
        for i, piece in enumerate(pieces):
            for name, seen in (piece.last_seen or {}).items():
                batch.data.transition_data[name].numpy()[i, lengths[i]] = seen
        goes_on = th.from_numpy((start == 1) & ~begun[worlds])
        before = th.from_numpy(fields["actions"][worlds, 0, :, 0])
        return with_what_comes_before(batch, hidden[worlds], self.first_hidden, before, goes_on)
