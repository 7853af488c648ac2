"""Naive opponent modelling: predicting what every other agent does next."""

import torch as th
from torch import nn

from components.episode_buffer import EpisodeBatch, Scheme
from modules.am.agent_model import Loss
from modules.am.trajectory_am import TrajectoryAM, both_alive
from utils.dict2namedtuple import Args
from utils.transfer import StepIndex


class BaseAM(TrajectoryAM):
    """The policy reads the predicted distributions over all others' actions, [(n - 1) * u] in the order of seats."""

    file = "base_am.th"

    def __init__(self, scheme: Scheme, args: Args):
        super().__init__(args)
        self.output_size = self.n_others * args.n_actions
        self.head = nn.Linear(args.am_hidden_dim, self.output_size)

    def features(self, encoded: th.Tensor, is_drawn: bool = False, generator: th.Generator | None = None) -> th.Tensor:
        logits = self.head(encoded).unflatten(-1, (self.n_others, self.args.n_actions))
        # A softmax, and faster than F.softmax for as few numbers as these.
        return (logits - logits.logsumexp(-1, keepdim=True)).exp().flatten(-2)

    def loss(self, batch: EpisodeBatch, encoded_t: th.Tensor, played: StepIndex) -> Loss:
        """Returns the cross-entropy of the others' actions, and what to log: see `TrajectoryAM.loss`."""
        counts = both_alive(batch, played).to(encoded_t.device)
        loss, accuracy = self._action_loss(self.head(encoded_t), batch, played, counts)
        return loss, {"am_loss": loss, "am_action_accuracy": accuracy}
