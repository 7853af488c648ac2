"""QTRAN-base's joint action value and state value (Son et al. 2019).

Mixers of the agents' values are in `qmix.py` and `vdn.py`; the learner is `learners/qtran_learner.py`.
"""

from dataclasses import dataclass

import torch as th
from torch import nn

from utils.config import K, key
from utils.dict2namedtuple import Args


class QTranBase(nn.Module):
    """Q(s, u) from the state and all agents' hidden states and actions, and V(s) in PyMARL's form.

    Q(s, u) = Q(s, sum over agents of e(h_a, u_a)). `network_size` "big" has one hidden layer more than "small".
    """

    @dataclass(frozen=True)
    class Keys:
        mixing_embed_dim: int = key(64, "width of the networks of both values", "units", low=1, high=K)
        network_size: str = key("small", "hidden layers: small (two), or big (three)", choices=("small", "big"))
        qtran_arch: str = key("qtran_paper", "Q reads state, hidden states and actions", choices=("qtran_paper",))

    def __init__(self, args: Args):
        super().__init__()
        encoding_size = args.rnn_hidden_dim + args.n_actions
        hidden_layers = {"small": 2, "big": 3}[args.network_size]
        self.Q = _mlp(args.state_shape + encoding_size, args.mixing_embed_dim, hidden_layers)
        self.V = _mlp(args.state_shape, args.mixing_embed_dim, hidden_layers)
        self.action_encoding = nn.Sequential(
            nn.Linear(encoding_size, encoding_size), nn.ReLU(), nn.Linear(encoding_size, encoding_size)
        )

    def forward(self, states: th.Tensor, hidden_states: th.Tensor, actions_onehot: th.Tensor) -> th.Tensor:
        """Computes the joint Q [..., 1] of states [..., s], hidden states [..., a, H] and actions [..., a, u]."""
        encodings = self.action_encoding(th.cat([hidden_states, actions_onehot], -1))
        return self.Q(th.cat([states, encodings.sum(-2)], -1))

    def state_value(self, states: th.Tensor) -> th.Tensor:
        """Computes V [..., 1] of states [..., s]."""
        return self.V(states)


def _mlp(input_size: int, width: int, hidden_layers: int) -> nn.Sequential:
    """`hidden_layers` layers of `width` units with ReLU, and one output."""
    layers: list[nn.Module] = []
    for size in [input_size] + [width] * (hidden_layers - 1):
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))
