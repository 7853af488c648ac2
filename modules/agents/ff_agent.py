"""The agents' network without memory; `rnn_agent.py` has the recurrent one."""

import torch as th

from modules.agents.rnn_agent import RNNAgent
from modules.network import Outputs


class FFAgent(RNNAgent):
    """RNNAgent, parameter for parameter, whose hidden state is zeros at every step: Q depends on the inputs alone."""

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        zeros = th.zeros_like(hidden_state)
        q, _ = super().forward(inputs, zeros)
        return q, zeros
