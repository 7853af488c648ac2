"""COMA's central critic (Foerster et al. 2018, section 4 and figure 1c), with PyMARL's parameter names.

`learners/coma_learner.py` trains it.
"""

import torch as th
import torch.nn.functional as F
from torch import nn

from utils.dict2namedtuple import Args


class COMACritic(nn.Module):
    """Q(s, (u_-a, .)) for each agent a: the values of all its actions, given what the others do in this step."""

    agent_ids: th.Tensor  # [a, a], one-hot
    others: th.Tensor  # [a, a * u], 0 at each agent's own action

    def __init__(self, args: Args):
        super().__init__()
        n_agents, n_actions = args.n_agents, args.n_actions
        input_size = args.state_shape + args.obs_shape + 2 * n_agents * n_actions + n_agents
        self.fc1 = nn.Linear(input_size, 128)
        self.fc2 = nn.Linear(128, 128)
        self.fc3 = nn.Linear(128, n_actions)
        self.register_buffer("agent_ids", th.eye(n_agents), persistent=False)
        self.register_buffer("others", (1 - th.eye(n_agents)).repeat_interleave(n_actions, dim=1), persistent=False)

    def build_inputs(self, state: th.Tensor, obs: th.Tensor, actions: th.Tensor, last_actions: th.Tensor) -> th.Tensor:
        """State, own observation, the others' actions, all last actions and own id in one step: [b, a, in].

        `state` [b, s], `obs` [b, a, o]; one-hot `actions` and `last_actions` [b, a, u] (zeros at an episode's start).
        """
        batch_size, n_agents, _ = obs.shape
        parts = [
            state.unsqueeze(1).expand(-1, n_agents, -1),
            obs,
            actions.flatten(1).unsqueeze(1) * self.others,
            last_actions.flatten(1).unsqueeze(1).expand(-1, n_agents, -1),
            self.agent_ids.expand(batch_size, -1, -1),
        ]
        return th.cat(parts, dim=-1)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """Computes Q-values [..., a, u] of inputs [..., a, in]."""
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(inputs)))))
