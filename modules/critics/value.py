"""Critics of states: V of what an agent, or the whole team, observes. `learners/ppo_learner.py` trains them.

Any network of agents can be one (`VALUES` in `modules/critics`); the one without memory is here.
"""

from dataclasses import dataclass
from typing import Any

import torch as th
import torch.nn.functional as F
from torch import nn

from components.episode_buffer import EpisodeBatch
from modules.am.agent_model import FEATURES
from modules.inputs import agent_ids, last_actions
from modules.network import Network, Outputs
from utils.dict2namedtuple import Args
from utils.rl_utils import is_alive

READS = ("obs", "state", "state_obs", "state_team")
"""What a critic may read: the own observation, the state, both, or the state and all agents' observations."""


class MLPCritic(Network):
    """Three layers with ReLU between them, as wide as the agents' network; no memory."""

    def __init__(self, input_shape: int, args: Args):
        super().__init__()
        width = args.rnn_hidden_dim
        self.fc1, self.fc2 = nn.Linear(input_shape, width), nn.Linear(width, width)
        self.fc3 = nn.Linear(width, 1)

    def init_hidden(self) -> th.Tensor:
        """Returns a hidden state that is neither read nor changed."""
        return self.fc1.weight.new_zeros(1, 1)

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> Outputs:
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(inputs))))), hidden_state


@dataclass(frozen=True)
class OneOutput:
    """Arguments of a network of agents that is to have one output: all as in `args` but for that."""

    args: Args
    n_actions: int = 1
    dueling: bool = False

    def __getattr__(self, key: str) -> Any:
        return getattr(self.args, key)


def value_input_size(args: Args) -> int:
    """Returns the width of what `value_inputs` returns, without a model's features."""
    of_reads = {
        "obs": args.obs_shape,
        "state": args.state_shape,
        "state_obs": args.state_shape + args.obs_shape,
        "state_team": args.state_shape + args.n_agents * args.obs_shape,
    }
    n_last = args.n_actions * (1 if args.critic_reads == "obs" else args.n_agents)
    return of_reads[args.critic_reads] + (n_last if args.obs_last_action else 0) + args.n_agents


def value_inputs(batch: EpisodeBatch, args: Args) -> th.Tensor:
    """Returns what `critic_reads` says, last actions with `obs_last_action`, the agent's id, and what its model infers,
    if the batch has that (FEATURES): [b, T, agent, in].

    The last actions are the agent's own beside its own observation alone, else the whole team's. Zeros stand in place
    of all but the id in padding, and with `death_masking` for the dead.
    """
    obs = batch["obs"].to(args.device)
    n_agents = obs.shape[2]

    def of_team(field: th.Tensor) -> th.Tensor:
        return field.unsqueeze(2).expand(-1, -1, n_agents, -1)

    parts = [] if args.critic_reads == "obs" else [of_team(batch["state"].to(args.device))]
    if args.critic_reads in ("obs", "state_obs"):
        parts.append(obs)
    if args.critic_reads == "state_team":
        parts.append(of_team(batch["team_obs"].to(args.device).flatten(2)))
    if args.obs_last_action:
        is_own = args.critic_reads == "obs"
        last = last_actions(batch["actions" if is_own else "team_actions"], args.n_actions, args.device)
        parts.append(last if is_own else of_team(last.flatten(2)))
    filled = batch["filled"].bool()
    counts = is_alive(batch["avail_actions"], filled) if args.death_masking else filled.expand(*obs.shape[:3])
    is_blank = ~counts.unsqueeze(-1).to(args.device)
    ids = agent_ids(batch, args.n_agents, args.device).expand(*obs.shape[:2], -1, -1)
    inferred = [batch[FEATURES].masked_fill(is_blank, 0.0)] if FEATURES in batch.scheme else []
    return th.cat([th.cat(parts, -1).masked_fill(is_blank, 0.0), ids, *inferred], -1)
