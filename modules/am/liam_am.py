"""Local information agent modelling (LIAM; Papoudakis, Christianos and Albrecht, NeurIPS 2021): an embedding of the
agent's own trajectory from which the others' observations and actions can be rebuilt.
"""

from dataclasses import dataclass

import torch as th
from torch import nn

from components.episode_buffer import EpisodeBatch, Scheme
from modules.am.agent_model import Loss
from modules.am.trajectory_am import TrajectoryAM, both_alive
from modules.inputs import others
from utils.config import WIDE, key
from utils.dict2namedtuple import Args
from utils.transfer import StepIndex


class LIAMAM(TrajectoryAM):
    """The policy reads the embedding; the decoders are needed for learning only."""

    @dataclass(frozen=True)
    class Keys(TrajectoryAM.Keys):
        liam_embedding_dim: int = key(64, "size of the embedding that the policy reads", "units", low=1, high=WIDE)

    file = "liam_am.th"

    def __init__(self, scheme: Scheme, args: Args):
        super().__init__(args)
        self.output_size = args.liam_embedding_dim
        self.embedding = nn.Linear(args.am_hidden_dim, args.liam_embedding_dim)
        self.obs_decoder = self._decoder(args.obs_shape)
        self.action_decoder = self._decoder(args.n_actions)

    def _decoder(self, size: int) -> nn.Sequential:
        """Returns a network from the embedding to `size` numbers for each of the others."""
        hidden = self.args.am_hidden_dim
        return nn.Sequential(nn.Linear(self.output_size, hidden), nn.ReLU(), nn.Linear(hidden, self.n_others * size))

    def features(self, encoded: th.Tensor, is_drawn: bool = False, generator: th.Generator | None = None) -> th.Tensor:
        return self.embedding(encoded)

    def loss(self, batch: EpisodeBatch, encoded_t: th.Tensor, played: StepIndex) -> Loss:
        """Returns the MSE of the others' observations, a mean over features, plus the cross-entropy of their actions,
        both weighing 1 as in the paper, and what to log: see `TrajectoryAM.loss`.
        """
        counts = both_alive(batch, played).to(encoded_t.device)
        embedding_t = self.embedding(encoded_t)
        rebuilt = self.obs_decoder(embedding_t).unflatten(-1, (self.n_others, -1))
        obs = others(batch, batch["team_obs"], played).to(rebuilt.device)
        errors = (rebuilt - obs).masked_fill_(~counts.unsqueeze(-1), 0.0).flatten()
        reconstruction = errors.dot(errors) / (counts.sum().clamp(min=1) * obs.shape[-1])
        action_loss, accuracy = self._action_loss(self.action_decoder(embedding_t), batch, played, counts)
        loss = reconstruction + action_loss
        return loss, {
            "am_loss": loss,
            "liam_recon_loss": reconstruction,
            "liam_action_loss": action_loss,
            "am_action_accuracy": accuracy,
        }
