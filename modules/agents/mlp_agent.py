"""The agents' network of two hidden layers, without memory; `rnn_agent.py` has the recurrent one."""

import torch as th
import torch.nn.functional as F
from torch import nn

from modules.agents.ff_agent import needs_memory
from modules.agents.rnn_agent import RNNAgent, dueling
from modules.network import Network, Outputs
from utils.dict2namedtuple import Args


class MLPAgent(Network):
    """fc1 (`rnn_hidden_dim` units), ReLU, fc_h (half as many), ReLU, fc2; `dueling` as in RNNAgent.

    With 64 units it is the network of D3QN in Yu et al. 2024. Its hidden state is zeros at every step.
    """

    Keys = RNNAgent.Keys

    conflict = staticmethod(needs_memory)

    def __init__(self, input_shape: int, args: Args):
        super().__init__()
        width = args.rnn_hidden_dim
        self.fc1, self.fc_h = nn.Linear(input_shape, width), nn.Linear(width, max(width // 2, 1))
        self.fc2 = nn.Linear(self.fc_h.out_features, args.n_actions)
        self.fc_v = nn.Linear(self.fc_h.out_features, 1) if args.dueling else None

    def init_hidden(self) -> th.Tensor:
        return self.fc1.weight.new_zeros(1, self.fc1.out_features)

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        h = F.relu(self.fc_h(F.relu(self.fc1(inputs))))
        return dueling(self.fc2(h), None if self.fc_v is None else self.fc_v(h)), th.zeros_like(hidden_state)
