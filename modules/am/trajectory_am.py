"""What the models of the others' actions share (`base_am.py`, `liam_am.py`): a GRU over the agent's own trajectory,
and which of the others count.
"""

from dataclasses import dataclass

import torch as th
import torch.nn.functional as F
from torch import nn

from components.episode_buffer import ALL, EpisodeBatch, Episodes
from modules.am.agent_model import AgentModel, Loss, check_others
from modules.inputs import agent_ids, last_actions, others
from modules.network import Outputs
from utils.config import WIDE, key
from utils.dict2namedtuple import Args
from utils.rl_utils import is_alive
from utils.transfer import StepIndex


class TrajectoryAM(AgentModel):
    """Encodes (o_t, last action, agent id) by fc, ReLU and GRUCell; what the policy reads is `features` of that.

    It learns from the observations and actions of all others, which it does not see while acting. `file` is where its
    weights are saved.

    Raises: UserError where there are no others.
    """

    @dataclass(frozen=True)
    class Keys:
        am_hidden_dim: int = key(64, "size of the opponent model's hidden state", "units", low=1, high=WIDE)

    file: str

    def __init__(self, args: Args):
        super().__init__()
        check_others(args)
        self.args = args
        self.n_others = args.n_agents - 1
        self.fc = nn.Linear(args.obs_shape + args.n_actions + args.n_agents, args.am_hidden_dim)
        self.rnn = nn.GRUCell(args.am_hidden_dim, args.am_hidden_dim)

    def init_hidden(self) -> th.Tensor:
        """Returns zeros [1, H]."""
        return self.fc.weight.new_zeros(1, self.rnn.hidden_size)

    def build_inputs(self, batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        """Returns (o_t, last action, agent id) of episodes `bs` and steps `ts`: [b, T, agent, in]."""
        device = self.args.device
        obs = batch["obs"][bs, ts].to(device)
        ids = agent_ids(batch, self.args.n_agents, device, bs).expand(*obs.shape[:2], -1, -1)
        return th.cat([obs, last_actions(batch["actions"], self.args.n_actions, device, bs, ts), ids], -1)

    def forward(self, inputs: th.Tensor, hidden: th.Tensor) -> Outputs:
        """Computes one step: inputs [rows, in], hidden states [rows, H] to encoded trajectories [rows, H], twice."""
        h = self.rnn(F.relu(self.fc(inputs)), hidden)
        return h, h

    def features(self, encoded: th.Tensor, is_drawn: bool = False, generator: th.Generator | None = None) -> th.Tensor:
        """Returns what the policy reads, [..., output_size], from encoded trajectories [..., H]; nothing is drawn."""
        raise NotImplementedError

    def loss(self, batch: EpisodeBatch, encoded_t: th.Tensor, played: StepIndex) -> Loss:
        """Returns the loss and what to log, over the `played` steps, from their encoded trajectories [N, agent, H].

        Means over steps and pairs of agents that are both alive.
        """
        raise NotImplementedError

    def files(self) -> dict[str, nn.Module]:
        return {self.file: self}

    def _action_loss(
        self, logits: th.Tensor, batch: EpisodeBatch, played: StepIndex, counts: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """Returns the cross-entropy of all others' actions, and the share of actions that were the most likely ones.

        logits [N, agent, (n - 1) * u]; `counts` [N, agent, n - 1] is true for the pairs that count.
        """
        logits = logits.unflatten(-1, (self.n_others, self.args.n_actions))
        actions = others(batch, batch["team_actions"], played).to(logits.device)
        n_pairs = counts.sum().clamp(min=1)
        is_right = ((logits.detach().argmax(-1) == actions.squeeze(-1)) & counts).sum() / n_pairs
        # Several times as fast as F.cross_entropy, whose log_softmax is slow for as few numbers as these.
        surprise = logits.logsumexp(-1) - logits.gather(-1, actions).squeeze(-1)
        return surprise.masked_fill(~counts, 0.0).sum() / n_pairs, is_right


def both_alive(batch: EpisodeBatch, played: StepIndex) -> th.Tensor:
    """Returns whether an agent and each of the others are alive in the `played` steps: [N, agent, n - 1]."""
    filled = batch["filled"].bool()
    own = is_alive(batch["avail_actions"], filled)[played]
    return own.unsqueeze(-1) & others(batch, is_alive(batch["team_avail_actions"], filled), played)
