"""The recurrent network with layer normalisation; `rnn_agent.py` has the one without."""

import torch as th
import torch.nn.functional as F
from torch import nn

from modules.agents.rnn_agent import RNNAgent
from utils.dict2namedtuple import Args


class RNNNormAgent(RNNAgent):
    """fc1, LayerNorm, ReLU, GRUCell, fc2: keeps Q-learning stable without target networks (Gallici et al. 2024)."""

    def __init__(self, input_shape: int, args: Args):
        super().__init__(input_shape, args)
        self.norm = nn.LayerNorm(args.rnn_hidden_dim)

    def encode(self, inputs: th.Tensor) -> th.Tensor:
        return F.relu(self.norm(self.fc1(inputs)), inplace=True)
