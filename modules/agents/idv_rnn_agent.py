"""A recurrent network for each agent, all of them computed at once; `rnn_agent.py` has the one that agents share."""

from collections.abc import Mapping

import torch as th
import torch.nn.functional as F

from modules.agents.rnn_agent import RNNAgent
from modules.network import Outputs
from utils.dict2namedtuple import Args, Config


class IdvRNNAgent(RNNAgent):
    """RNNAgent without sharing: each of its parameters has the agents as a further, first dimension."""

    @staticmethod
    def conflict(config: Config, kinds: Mapping[str, type]) -> str:
        if not config["population"]:
            return ""
        name = config["name"]
        return f"{name} has a network for each agent, which a population can't deal out; take {name}.agent=rnn"

    def __init__(self, input_shape: int, args: Args):
        super().__init__(input_shape, args)
        self.n_agents = args.n_agents
        others = [RNNAgent(input_shape, args) for _ in range(self.n_agents - 1)]
        for name, parameter in self.named_parameters():
            parameter.data = th.stack([parameter.data, *(other.get_parameter(name).data for other in others)])

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        """Computes one step; the rows are whole teams, [episode * agent, ...]."""
        x = F.relu(_linear(self._by_agent(inputs), self.fc1.weight, self.fc1.bias))
        h = self._by_agent(hidden_state)
        from_x = _linear(x, self.rnn.weight_ih, self.rnn.bias_ih)
        from_h = _linear(h, self.rnn.weight_hh, self.rnn.bias_hh)
        r_x, z_x, n_x = from_x.chunk(3, -1)
        r_h, z_h, n_h = from_h.chunk(3, -1)
        new = th.tanh(n_x + th.sigmoid(r_x + r_h) * n_h)
        h = th.lerp(new, h, th.sigmoid(z_x + z_h))
        return self.head(h).transpose(0, 1).flatten(0, 1), h.transpose(0, 1).flatten(0, 1)

    def head(self, h: th.Tensor) -> th.Tensor:
        """Computes values [agent, rows, action] from hidden states [agent, rows, H]."""
        advantage = _linear(h, self.fc2.weight, self.fc2.bias)
        if self.fc_v is None:
            return advantage
        return _linear(h, self.fc_v.weight, self.fc_v.bias) + advantage - advantage.mean(-1, keepdim=True)

    def _by_agent(self, rows: th.Tensor) -> th.Tensor:
        """Returns rows [episode * agent, features] as [agent, episode, features]."""
        return rows.unflatten(0, (-1, self.n_agents)).transpose(0, 1)


def _linear(x: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    """Computes a linear layer for each agent: x [agent, rows, in], weight [agent, out, in], bias [agent, out]."""
    return th.baddbmm(bias.unsqueeze(1), x, weight.mT)
