"""The agents' network without memory; `rnn_agent.py` has the recurrent one."""

from collections.abc import Mapping

import torch as th

from modules.agents.rnn_agent import RNNAgent
from modules.mixers.qtran import QTranBase
from modules.network import Outputs
from utils.dict2namedtuple import Config


def needs_memory(config: Config, kinds: Mapping[str, type]) -> str:
    """Returns a sentence about a mixer that reads the hidden states which an agent does not have, or nothing."""
    if not issubclass(kinds.get("mixer", object), QTranBase):
        return ""
    return f"mixer={config['mixer']} reads hidden states, and agent={config['agent']} has none; take agent=rnn"


class FFAgent(RNNAgent):
    """RNNAgent, parameter for parameter, whose hidden state is zeros at every step: Q depends on the inputs alone."""

    conflict = staticmethod(needs_memory)

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        zeros = th.zeros_like(hidden_state)
        q, _ = super().forward(inputs, zeros)
        return q, zeros
