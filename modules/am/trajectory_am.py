"""What the models of the others' actions share (`base_am.py`, `liam_am.py`): a GRU over the agent's own trajectory,
and who is there to be modelled. Its helpers for trajectories serve `omg_am.py`, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

from modules.agents.packed_gru import packed_gru
from utils.errors import UserError
from utils.inputs import StepInputs, last_actions
from utils.numpy_layers import Layer, numpy_gru_cell, numpy_layer, relu
from utils.seats import others, seat_ids, team
from utils.transfer import Where
from utils.weights import load_into

NumpyInference = Callable[[StepInputs, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]
"""`infer` in NumPy: what is seen at one step, hidden states [N, ...] and `test_mode` to features and hidden states."""


class TrajectoryAM(nn.Module):
    """Reads (o_t, last action, agent id) through fc, ReLU and GRUCell; what the policy reads is `features` of that.

    It learns from the observations and actions of all others, which it does not see while acting. `file` is where its
    weights are saved.

    Raises:
        UserError: there are no others.
    """

    file: str

    def __init__(self, args: Any):
        super().__init__()
        if args.n_agents == 1:
            raise UserError(f"am_model={args.am_model} models the other agents, but there is one agent; play with more")
        self.args = args
        self.n_others = args.n_agents - 1
        self.fc = nn.Linear(args.obs_shape + args.n_actions + args.n_agents, args.am_hidden_dim)
        self.rnn = nn.GRUCell(args.am_hidden_dim, args.am_hidden_dim)

    def features(self, encoded: th.Tensor) -> th.Tensor:
        """What the policy reads, [..., output_size], from the encoded trajectory [..., H]."""
        raise NotImplementedError

    def features_in_numpy(self) -> Layer:
        """The same of NumPy rows."""
        raise NotImplementedError

    def loss(self, ep_batch: Any, encoded_t: th.Tensor, played: Where) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """The loss, and what to log, over the `played` steps, from their encoded trajectories [N, agent, H].

        Means over steps and pairs of agents that are both alive.
        """
        raise NotImplementedError

    def init_hidden(self, batch_size: int, n_agents: int) -> th.Tensor:
        """Zeros [batch, agent, H]."""
        return self.fc.weight.new_zeros(batch_size, n_agents, self.args.am_hidden_dim)

    def infer(
        self, ep_batch: Any, t: int, hidden_state: th.Tensor, bs: Any = slice(None), test_mode: bool = False
    ) -> tuple[th.Tensor, th.Tensor]:
        """Features [b, agent, output_size] at step t and the next hidden state; nothing is left to chance."""
        x = F.relu(self.fc(self._inputs(ep_batch, bs, slice(t, t + 1))))
        encoded = self.rnn(x.flatten(0, 2), hidden_state.flatten(0, 1)).view_as(hidden_state)
        return self.features(encoded), encoded

    def in_numpy(self) -> NumpyInference:
        """`infer` on what is seen at one step, rows [N, ...], with the present weights, on the CPU."""
        fc, rnn, features = numpy_layer(self.fc), numpy_gru_cell(self.rnn), self.features_in_numpy()

        def infer(seen: StepInputs, hidden_state: np.ndarray, test_mode: bool) -> tuple[np.ndarray, np.ndarray]:
            inputs = np.concatenate([seen.obs, seen.last_actions, seen.ids], -1)
            encoded = rnn(relu(fc(inputs)), hidden_state)
            return features(encoded), encoded

        return infer

    def unroll(self, ep_batch: Any, steps: Any) -> th.Tensor:
        """Features [N, agent, output_size] in the filled `PackedSteps` of whole episodes."""
        return self.features(self.encode(ep_batch, steps))

    def encode(self, ep_batch: Any, steps: Any) -> th.Tensor:
        """The encoded trajectories [N, agent, H] in the filled `PackedSteps` of whole episodes."""
        x = F.relu(self.fc(steps.pack(self._inputs(ep_batch))), inplace=True)
        return unroll_packed(x, self.init_hidden(steps.batch_sizes[0], x.shape[1]), self.rnn, steps)

    def save_models(self, path: str | Path) -> None:
        """Writes `file` into the folder `path`."""
        th.save(self.state_dict(), Path(path) / self.file)

    def load_models(self, path: str | Path) -> None:
        """Reads it from the folder `path`."""
        load_into(self, Path(path) / self.file, self.args.device)

    def _inputs(self, ep_batch: Any, bs: Any = slice(None), ts: slice = slice(None)) -> th.Tensor:
        """(o_t, last action, agent id), [b, T, agent, in]."""
        obs = ep_batch["obs"][bs, ts].to(self.args.device)
        before = last_actions(ep_batch["actions"], self.args.n_actions, self.args.device, bs, ts)
        ids = seat_ids(ep_batch, self.args.n_agents, obs.device, bs).expand(*obs.shape[:2], -1, -1)
        return th.cat([obs, before, ids], -1)

    def _action_loss(
        self, logits: th.Tensor, ep_batch: Any, played: Where, counts: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """The cross-entropy of all others' actions, and the share of actions that were the most likely ones.

        logits [N, agent, (n - 1) * u]; `counts` [N, agent, n - 1] is true for the pairs that count.
        """
        logits = logits.unflatten(-1, (self.n_others, self.args.n_actions))
        actions = others(ep_batch, team(ep_batch, "actions"), played).to(logits.device)
        n_pairs = counts.sum().clamp(min=1)
        is_right = ((logits.detach().argmax(-1) == actions.squeeze(-1)) & counts).sum() / n_pairs
        # Several times as fast as F.cross_entropy, whose log_softmax is slow for as few numbers as these.
        surprise = logits.logsumexp(-1) - logits.gather(-1, actions).squeeze(-1)
        return surprise.masked_fill(~counts, 0.0).sum() / n_pairs, is_right


def both_alive(ep_batch: Any, played: Where) -> th.Tensor:
    """Whether an agent and each of the others are alive in the `played` steps: [N, agent, n - 1]."""
    filled = ep_batch["filled"].bool()
    own = _is_alive(ep_batch["avail_actions"], filled)[played]
    return own.unsqueeze(-1) & others(ep_batch, _is_alive(team(ep_batch, "avail_actions"), filled), played)


def _is_alive(avail_actions: th.Tensor, filled: th.Tensor) -> th.Tensor:
    """Whether there is still a choice, at this or a later step: the dead have a single action left. [b, T, agent]."""
    has_choice = (avail_actions.sum(-1) > 1) & filled
    return has_choice.flip(1).cumsum(1).flip(1) > 0


def unroll_packed(x: th.Tensor, hidden_state: th.Tensor, cell: nn.GRUCell, steps: Any) -> th.Tensor:
    """Hidden states [N, agent, H] after the inputs x [N, agent, in] of `PackedSteps`, from [b, agent, H] on."""
    n_agents = x.shape[1]
    batch_sizes = [count * n_agents for count in steps.batch_sizes]
    return packed_gru(x.flatten(0, 1), hidden_state.flatten(0, 1), cell, batch_sizes).unflatten(0, (-1, n_agents))
