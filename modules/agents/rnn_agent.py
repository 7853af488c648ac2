"""The recurrent Q-network (or policy) of one agent, with PyMARL's parameter names.

A controller (`controllers/basic_controller.py`) builds its inputs and keeps the hidden states.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

from modules.agents.packed_gru import packed_gru
from utils.numpy_layers import numpy_gru_cell, numpy_layer, relu

NumpyStep = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class RNNAgent(nn.Module):
    """fc1, ReLU, GRUCell, fc2. `dueling` adds a state value: Q = V + A - mean(A) (Wang et al. 2016, equation 9)."""

    def __init__(self, input_shape: int, args: Any):
        super().__init__()
        self.fc1 = nn.Linear(input_shape, args.rnn_hidden_dim)
        self.rnn = nn.GRUCell(args.rnn_hidden_dim, args.rnn_hidden_dim)
        self.fc2 = nn.Linear(args.rnn_hidden_dim, args.n_actions)
        self.fc_v = nn.Linear(args.rnn_hidden_dim, 1) if args.dueling else None
        # Column after column in memory: products with few rows, as when acting, are about twice as fast on a CPU.
        for weight in (self.fc1.weight, self.rnn.weight_ih, self.rnn.weight_hh, self.fc2.weight):
            weight.data = weight.data.t().contiguous().t()

    def init_hidden(self) -> th.Tensor:
        """Zeros [1, H], on the device of the weights."""
        return self.fc1.weight.new_zeros(1, self.rnn.hidden_size)

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """One step: inputs [..., in] and hidden state [..., H] to Q-values [..., A] and the next hidden state."""
        x = F.relu(self.fc1(inputs), inplace=True).flatten(0, -2)
        h = self.rnn(x, hidden_state.reshape(x.shape[0], -1)).view(*inputs.shape[:-1], -1)
        return self.head(h), h

    def in_numpy(self) -> NumpyStep:
        """`forward` over rows, inputs [N, in] and hidden states [N, H], with the present weights, on the CPU."""
        fc1, rnn, fc2 = numpy_layer(self.fc1), numpy_gru_cell(self.rnn), numpy_layer(self.fc2)
        fc_v = None if self.fc_v is None else numpy_layer(self.fc_v)

        def step(inputs: np.ndarray, hidden_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            h = rnn(relu(fc1(inputs)), hidden_state)
            advantage = fc2(h)
            return advantage if fc_v is None else fc_v(h) + advantage - advantage.mean(-1, keepdims=True), h

        return step

    def unroll(self, inputs: th.Tensor, hidden_state: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """All steps at once: inputs [rows, T, in], hidden state [rows, H] (or None) to [rows, T, A], [rows, T, H]."""
        rows, steps, _ = inputs.shape
        q, h = self.unroll_packed(inputs.transpose(0, 1).flatten(0, 1), [rows] * steps, hidden_state)
        return q.view(steps, rows, -1).transpose(0, 1), h.view(steps, rows, -1).transpose(0, 1)

    def unroll_packed(
        self, rows: th.Tensor, batch_sizes: Sequence[int], hidden_state: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """The same for rows [N, in] that are packed as in `packed_gru.py`: [N, A], [N, H]."""
        if hidden_state is None:
            hidden_state = self.init_hidden().expand(batch_sizes[0], -1)
        x = F.relu(self.fc1(rows), inplace=True)
        h = packed_gru(x, hidden_state, self.rnn, batch_sizes)
        return self.head(h), h

    def unroll_reference(self, inputs: th.Tensor, hidden_state: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """What `unroll` must equal: `forward`, step by step."""
        h = self.init_hidden().expand(inputs.shape[0], -1) if hidden_state is None else hidden_state
        qs, hs = [], []
        for t in range(inputs.shape[1]):
            q, h = self.forward(inputs[:, t], h)
            qs.append(q)
            hs.append(h)
        return th.stack(qs, dim=1), th.stack(hs, dim=1)

    def head(self, h: th.Tensor) -> th.Tensor:
        advantage = self.fc2(h)
        if self.fc_v is None:
            return advantage
        return self.fc_v(h) + advantage - advantage.mean(-1, keepdim=True)
