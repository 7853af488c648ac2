"""QPLEX's duplex dueling mixing network (Wang et al. 2021); `learners/qplex_learner.py` trains it.

Mixers that read the agents' values and the state alone are in `qmix.py` and `vdn.py`.
"""

from dataclasses import dataclass

import torch as th
from torch import nn

from utils.config import K, key
from utils.dict2namedtuple import Args

SMALLEST = 1e-10
"""What keeps weights above zero."""


class QPlexMixer(nn.Module):
    """Q_tot = sum_a V_a + lambda_a A_a of transformed values V_a and advantages A_a <= 0 (equations 8 to 11).

    A_a = w_a(s) (Q_a - max_u Q_a), V_a + A_a = w_a(s) Q_a + b_a(s), and w_a, lambda_a > 0, so that the best joint
    action is the one of which every agent's action is its best.
    """

    @dataclass(frozen=True)
    class Keys:
        hypernet_embed: int = key(64, "width of the networks of w and b", "units", low=1, high=K)
        num_kernel: int = key(4, "heads of the attention that gives lambda", "heads", low=1, high=K)
        adv_hypernet_layers: int = key(2, "layers of a head's networks", "layers", choices=(1, 2, 3))
        adv_hypernet_embed: int = key(64, "width of a head's networks", "units", low=1, high=K)

    def __init__(self, args: Args):
        super().__init__()
        n_agents, state_size = args.n_agents, args.state_shape
        self.hyper_w_final = _mlp(state_size, args.hypernet_embed, 2, n_agents)
        self.V = _mlp(state_size, args.hypernet_embed, 2, n_agents)
        self.si_weight = AdvantageWeights(args)

    def forward(
        self, agent_qs: th.Tensor, states: th.Tensor, best_qs: th.Tensor, actions_onehot: th.Tensor
    ) -> th.Tensor:
        """Values of the agents' actions [..., a] and states [..., s] to the team's value of that joint action [..., 1].

        `best_qs` [..., a] are the values of the agents' best actions, `actions_onehot` [..., a, u] the actions.
        """
        w = self.hyper_w_final(states).abs() + SMALLEST
        # lambda is learned on fixed advantages; these learn as parts of the sum of the agents' values.
        advantages = (w * (agent_qs - best_qs)).detach()
        sum_q = (w * agent_qs + self.V(states)).sum(-1, keepdim=True)
        return sum_q + ((self.si_weight(states, actions_onehot) - 1) * advantages).sum(-1, keepdim=True)


class AdvantageWeights(nn.Module):
    """lambda_a = sum over heads k of |key_k(s)| sigmoid(agent_ka(s)) sigmoid(action_ka(s, u)) (equation 11)."""

    def __init__(self, args: Args):
        super().__init__()
        n_agents, state_size = args.n_agents, args.state_shape
        n_layers, width = args.adv_hypernet_layers, args.adv_hypernet_embed

        def heads(input_size: int, output_size: int) -> nn.ModuleList:
            return nn.ModuleList(_mlp(input_size, width, n_layers, output_size) for _ in range(args.num_kernel))

        self.key_extractors = heads(state_size, 1)
        self.agents_extractors = heads(state_size, n_agents)
        self.action_extractors = heads(state_size + n_agents * args.n_actions, n_agents)

    def forward(self, states: th.Tensor, actions_onehot: th.Tensor) -> th.Tensor:
        """States [..., s] and actions [..., a, u] to positive weights [..., a]."""
        joint = th.cat([states, actions_onehot.flatten(-2)], -1)
        heads = zip(self.key_extractors, self.agents_extractors, self.action_extractors, strict=True)
        weights = [
            (key(states).abs() + SMALLEST) * agent(states).sigmoid() * action(joint).sigmoid()
            for key, agent, action in heads
        ]
        return th.stack(weights).sum(0)


def _mlp(input_size: int, width: int, n_layers: int, output_size: int) -> nn.Sequential:
    """`n_layers` linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for size in [input_size, *[width] * (n_layers - 1)][: n_layers - 1]:
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width if layers else input_size, output_size))
