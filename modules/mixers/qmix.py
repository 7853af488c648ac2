"""QMIX's monotonic mixing network (Rashid et al. 2018). The plain sum is in `modules/mixers/vdn.py`."""

from dataclasses import dataclass

import torch as th
import torch.nn.functional as F
from torch import nn

from utils.config import K, key
from utils.dict2namedtuple import Args


class QMixer(nn.Module):
    """Q_tot = |w_2(s)| · ELU(|w_1(s)| · Q + b_1(s)) + V(s): rises with every agent's Q (equations 4, 5).

    The weights come from hypernetworks that read the state. `hypernet_layers` 1: linear; 2: one hidden layer.
    """

    @dataclass(frozen=True)
    class Keys:
        mixing_embed_dim: int = key(32, "width of the mixing network", "units", low=1, high=K)
        hypernet_layers: int = key(2, "layers of the networks that compute its weights", "layers", choices=(1, 2))
        hypernet_embed: int = key(64, "width of those networks", "units", low=1, high=K)

    def __init__(self, args: Args):
        super().__init__()
        self.n_agents = args.n_agents
        self.embed_dim = args.mixing_embed_dim
        state_size = args.state_shape

        if args.hypernet_layers not in (1, 2):
            raise ValueError(f"hypernet_layers is 1 or 2, not {args.hypernet_layers}")

        def hypernet(n_weights: int) -> nn.Module:
            if args.hypernet_layers == 1:
                return nn.Linear(state_size, n_weights)
            hidden = args.hypernet_embed
            return nn.Sequential(nn.Linear(state_size, hidden), nn.ReLU(), nn.Linear(hidden, n_weights))

        self.hyper_w_1, self.hyper_w_final = hypernet(self.embed_dim * self.n_agents), hypernet(self.embed_dim)
        self.hyper_b_1 = nn.Linear(state_size, self.embed_dim)
        self.V = nn.Sequential(nn.Linear(state_size, self.embed_dim), nn.ReLU(), nn.Linear(self.embed_dim, 1))

    def forward(self, agent_qs: th.Tensor, states: th.Tensor) -> th.Tensor:
        """Computes the team's Q-value [..., 1] from Q-values [..., a] and states [..., s]."""
        leading = agent_qs.shape[:-1]
        w_1 = self.hyper_w_1(states).abs().view(*leading, self.n_agents, self.embed_dim)
        # Sums of products, since batched matrix products are slow for matrices as small as these.
        hidden = F.elu((agent_qs.unsqueeze(-1) * w_1).sum(-2) + self.hyper_b_1(states))
        w_final = self.hyper_w_final(states).abs()
        return (hidden * w_final).sum(-1, keepdim=True) + self.V(states)
