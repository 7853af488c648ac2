"""The unrestricted mixer of weighted QMIX (Rashid et al. 2020); the monotonic one is in `modules/mixers/qmix.py`."""

from dataclasses import dataclass

import torch as th
from torch import nn

from utils.config import K, key
from utils.dict2namedtuple import Args


class QMixerCentral(nn.Module):
    """Q*(s, u) = MLP(s, Q) + V(s): any function of the agents' chosen values and the state."""

    @dataclass(frozen=True)
    class Keys:
        central_mixing_embed_dim: int = key(256, "width of the unrestricted mixing network", "units", low=1, high=K)

    def __init__(self, args: Args):
        super().__init__()
        width, n_inputs = args.central_mixing_embed_dim, args.n_agents + args.state_shape
        self.net = nn.Sequential(
            nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1),
        )  # fmt: skip
        self.V = nn.Sequential(nn.Linear(args.state_shape, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, agent_qs: th.Tensor, states: th.Tensor) -> th.Tensor:
        """Q-values [..., agent] and states [..., s] to the team's Q-value [..., 1]."""
        return self.net(th.cat([states, agent_qs], -1)) + self.V(states)
