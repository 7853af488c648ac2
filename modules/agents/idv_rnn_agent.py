"""A recurrent network for each agent, all of them computed at once; `rnn_agent.py` has the one that agents share."""

from collections.abc import Sequence
from typing import Any

import torch as th
import torch.nn.functional as F

from modules.agents.rnn_agent import RNNAgent


class IdvRNNAgent(RNNAgent):
    """As RNNAgent, but its parameters have the agents as a further, first dimension, and nothing is shared.

    Rows are whole teams: of the dimensions before the last, flattened, the agents run fastest.
    """

    def __init__(self, input_shape: int, args: Any):
        super().__init__(input_shape, args)
        self.n_agents = args.n_agents
        others = [RNNAgent(input_shape, args) for _ in range(self.n_agents - 1)]
        for name, parameter in self.named_parameters():
            parameter.data = th.stack([parameter.data, *(other.get_parameter(name).data for other in others)])

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """One step: inputs [..., agent, in] and hidden state [..., agent, H] to Q-values [..., A] and the next one."""
        h = self._cell(self._from_inputs(inputs), self._by_agent(hidden_state))
        q, h = self._by_row(self.head(h)), self._by_row(h)
        return q.view(*inputs.shape[:-1], -1), h.view(*inputs.shape[:-1], -1)

    in_numpy = None  # type: ignore[assignment]  # acts by torch

    def unroll_packed(
        self, rows: th.Tensor, batch_sizes: Sequence[int], hidden_state: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        if hidden_state is None:
            hidden_state = self.init_hidden().expand(batch_sizes[0], -1)
        h, hs = self._by_agent(hidden_state), []
        for from_x_t in self._from_inputs(rows).split([count // self.n_agents for count in batch_sizes], 1):
            h = self._cell(from_x_t, h[:, : from_x_t.shape[1]])
            hs.append(h)
        h = th.cat(hs, 1)
        return self._by_row(self.head(h)), self._by_row(h)

    def head(self, h: th.Tensor) -> th.Tensor:
        """[agent, rows, H] to [agent, rows, A]."""
        advantage = _products(h, self.fc2.weight, self.fc2.bias)
        if self.fc_v is None:
            return advantage
        return _products(h, self.fc_v.weight, self.fc_v.bias) + advantage - advantage.mean(-1, keepdim=True)

    def _from_inputs(self, inputs: th.Tensor) -> th.Tensor:
        """What the inputs [..., in] bring to the GRU's gates, [agent, rows, 3H]."""
        x = F.relu(_products(self._by_agent(inputs), self.fc1.weight, self.fc1.bias))
        return _products(x, self.rnn.weight_ih, self.rnn.bias_ih)

    def _cell(self, from_x: th.Tensor, h: th.Tensor) -> th.Tensor:
        """The GRU's next hidden state [agent, rows, H], with the formulas of `packed_gru.py`."""
        from_h = _products(h, self.rnn.weight_hh, self.rnn.bias_hh)
        rz_size = 2 * h.shape[-1]
        r, z = th.sigmoid(from_x[..., :rz_size] + from_h[..., :rz_size]).chunk(2, -1)
        new = th.tanh(from_x[..., rz_size:] + r * from_h[..., rz_size:])
        return th.lerp(new, h, z)

    def _by_agent(self, rows: th.Tensor) -> th.Tensor:
        """[..., features] to [agent, rows, features]."""
        return rows.reshape(-1, self.n_agents, rows.shape[-1]).transpose(0, 1)

    def _by_row(self, by_agent: th.Tensor) -> th.Tensor:
        return by_agent.transpose(0, 1).flatten(0, 1)


def _products(x: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    """A linear layer for each agent: x [agent, rows, in], weight [agent, out, in], bias [agent, out]."""
    return th.baddbmm(bias.unsqueeze(1), x, weight.mT)
