"""Pieces of episodes, as batches of their own; each begins with the hidden state and the actions that come before."""

from types import SimpleNamespace
from typing import NamedTuple

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from utils.transfer import to_device

HIDDEN_BEFORE, ACTIONS_BEFORE = "hidden_before", "actions_before"
"""Fields of a batch of pieces, one entry each: the network's hidden state [agent, H] before the first step, and the
one-hot actions [agent, u] of the step before that, zeros where the piece begins an episode."""


class Pieces(NamedTuple):
    """Which steps of which episodes each piece has."""

    episodes: th.Tensor  # [piece]
    steps: th.Tensor  # [piece, length]
    filled: th.Tensor  # [piece, length] bool

    def to(self, device: str | th.device) -> "Pieces":
        """Returns the same from main memory on `device`."""
        return Pieces(*(to_device(index, device) for index in self))

    def take(self, values: th.Tensor) -> th.Tensor:
        """Returns values [b, T, ...] of the pieces' steps, [piece, length, ...]; in the padding any of them."""
        return values[self.episodes.unsqueeze(1), self.steps]

    def at_start(self, values: th.Tensor) -> th.Tensor:
        """Returns values [b, T, ...] of the pieces' first steps, [piece, ...]."""
        return values[self.episodes, self.steps[:, 0]]


def cut_into_pieces(played: th.Tensor, length: int) -> Pieces:
    """Cuts the steps that count, `played` [b, T] bool, into pieces of at most so many steps; all in main memory."""
    starts = th.arange(0, played.shape[1], length)
    episodes, number = played[:, starts].nonzero(as_tuple=True)
    steps = starts[number].unsqueeze(1) + th.arange(length)
    inside = steps.clamp(max=played.shape[1] - 1)
    filled = played[episodes.unsqueeze(1), inside] & (steps == inside)
    return Pieces(episodes, inside, filled)


def batch_of_pieces(batch: EpisodeBatch, pieces: Pieces, hidden: th.Tensor, last_actions: th.Tensor) -> EpisodeBatch:
    """Returns the pieces, which are in main memory, as a batch, with a step of padding behind each.

    hidden [b, T, agent, H] and last_actions [b, T, agent, u] are those before each step of the whole episodes.
    """
    on_host = {key: _padded(pieces.take(field)) for key, field in batch.steps_on_host().items()}
    on_host["filled"] = _padded(pieces.filled.to(th.uint8)).unsqueeze(-1)
    pieces = pieces.to(batch.device)
    fields = {key: _padded(pieces.take(value)) for key, value in batch.data.transition_data.items()}
    fields["filled"] = _padded(pieces.filled.to(th.uint8)).unsqueeze(-1)
    n_pieces, n_steps = fields["filled"].shape[:2]
    once = {key: value[pieces.episodes] for key, value in batch.data.episode_data.items()}
    data = SimpleNamespace(transition_data=fields, episode_data=once)
    cut = EpisodeBatch(batch.scheme, batch.groups, n_pieces, n_steps, data, batch.preprocess, batch.device)
    cut = _with_const(cut, {HIDDEN_BEFORE: pieces.at_start(hidden), ACTIONS_BEFORE: pieces.at_start(last_actions)})
    cut.keep_on_host(on_host)
    return cut


def with_what_comes_before(
    batch: EpisodeBatch, hidden: th.Tensor, first_hidden: th.Tensor, actions: th.Tensor, goes_on: th.Tensor
) -> EpisodeBatch:
    """Returns a batch of pieces with what came before each: hidden states [piece, agent, H] and actions [piece, agent].

    Those that do not go on, `goes_on` [piece] bool, begin an episode: with `first_hidden`, and without actions.
    """
    goes_on = goes_on.view(-1, 1, 1)
    one_hot = F.one_hot(actions, batch.scheme["avail_actions"]["vshape"][0]).float()
    before = {HIDDEN_BEFORE: th.where(goes_on, hidden, first_hidden), ACTIONS_BEFORE: one_hot * goes_on}
    return _with_const(batch, before)


def _with_const(batch: EpisodeBatch, values: dict[str, th.Tensor]) -> EpisodeBatch:
    """Returns the batch with fields [piece, agent, ...] of one entry each."""
    new = {
        key: {"vshape": tuple(value.shape[2:]), "group": "agents", "dtype": value.dtype, "episode_const": True}
        for key, value in values.items()
    }
    data = SimpleNamespace(
        transition_data=batch.data.transition_data, episode_data={**batch.data.episode_data, **values}
    )
    sizes = (batch.groups, batch.batch_size, batch.max_seq_length)
    return EpisodeBatch({**batch.scheme, **new}, *sizes, data, batch.preprocess, batch.device)


def _padded(values: th.Tensor) -> th.Tensor:
    """Returns values [piece, length, ...] with one step of zeros more."""
    return F.pad(values, (*(0, 0) * (values.dim() - 2), 0, 1))
