"""What a network over time is: a state before the first step, and one step. `modules/unroll.py` does the rest."""

import torch as th
from torch import nn

Outputs = tuple[th.Tensor, th.Tensor]
"""What a step computes: outputs and next hidden states."""


class Network(nn.Module):
    """Agents' networks and agent models; any module with these two methods will do, such as PyMARL's agents."""

    def init_hidden(self) -> th.Tensor:
        """Returns the hidden state before the first step: [1, H], on the device of the weights."""
        raise NotImplementedError

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        """Computes one step: inputs [rows, in], hidden_state [rows, H] to outputs [rows, out], next state [rows, H].

        The rows are the agents of the episodes, the agents of one episode one after the other.
        """
        raise NotImplementedError
