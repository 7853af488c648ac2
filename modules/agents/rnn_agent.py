"""The recurrent Q-network (or policy) of one agent, with PyMARL's parameter names.

What a network is, is in `modules/network.py`.
"""

from dataclasses import dataclass

import torch as th
import torch.nn.functional as F
from torch import nn

from modules.network import Network, Outputs
from utils.config import key
from utils.dict2namedtuple import Args


class RNNAgent(Network):
    """fc1, ReLU, GRUCell, fc2. `dueling` adds a state value: Q = V + A - mean(A) (Wang et al. 2016, equation 9)."""

    @dataclass(frozen=True)
    class Keys:
        dueling: bool = key(False, "split Q into a value and advantages")

    def __init__(self, input_shape: int, args: Args):
        super().__init__()
        self.fc1 = nn.Linear(input_shape, args.rnn_hidden_dim)
        self.rnn = nn.GRUCell(args.rnn_hidden_dim, args.rnn_hidden_dim)
        self.fc2 = nn.Linear(args.rnn_hidden_dim, args.n_actions)
        self.fc_v = nn.Linear(args.rnn_hidden_dim, 1) if args.dueling else None
        # Column after column in memory: products with few rows, as when acting, are about twice as fast on a CPU.
        for weight in (self.fc1.weight, self.rnn.weight_ih, self.rnn.weight_hh, self.fc2.weight):
            weight.data = weight.data.t().contiguous().t()

    def init_hidden(self) -> th.Tensor:
        return self.fc1.weight.new_zeros(1, self.rnn.hidden_size)

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        h = self.rnn(self.encode(inputs), hidden_state)
        return self.head(h), h

    def encode(self, inputs: th.Tensor) -> th.Tensor:
        """Computes what the GRU reads [..., H] from inputs [..., in]."""
        return F.relu(self.fc1(inputs), inplace=True)

    def head(self, h: th.Tensor) -> th.Tensor:
        """Computes values [..., action] from hidden states [..., H]."""
        return dueling(self.fc2(h), None if self.fc_v is None else self.fc_v(h))


def dueling(advantage: th.Tensor, value: th.Tensor | None) -> th.Tensor:
    """Returns Q [..., action] = V + A - mean(A) from A [..., action] and V [..., 1] (Wang et al. 2016, equation 9).

    Without a value it is `advantage`.
    """
    return advantage if value is None else value + advantage - advantage.mean(-1, keepdim=True)
