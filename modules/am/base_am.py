"""Naive opponent modelling: predicting what every other agent does next."""

from typing import Any

import torch as th
from torch import nn

from modules.am.trajectory_am import TrajectoryAM, both_alive
from utils.numpy_layers import Layer, numpy_layer, softmax
from utils.transfer import Where


class BaseAM(TrajectoryAM):
    """The policy reads the predicted distributions over all others' actions, [(n - 1) * u] in the order of seats."""

    file = "base_am.th"

    def __init__(self, scheme: dict, args: Any):
        super().__init__(args)
        self.output_size = self.n_others * args.n_actions
        self.head = nn.Linear(args.am_hidden_dim, self.output_size)

    def features(self, encoded: th.Tensor) -> th.Tensor:
        logits = self.head(encoded).unflatten(-1, (self.n_others, self.args.n_actions))
        # A softmax, and faster than F.softmax for as few numbers as these.
        return (logits - logits.logsumexp(-1, keepdim=True)).exp().flatten(-2)

    def features_in_numpy(self) -> Layer:
        head, shape = numpy_layer(self.head), (-1, self.n_others, self.args.n_actions)
        return lambda encoded: softmax(head(encoded).reshape(shape)).reshape(len(encoded), -1)

    def loss(self, ep_batch: Any, encoded_t: th.Tensor, played: Where) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """The cross-entropy of the others' actions: see `TrajectoryAM.loss`."""
        counts = both_alive(ep_batch, played).to(encoded_t.device)
        loss, accuracy = self._action_loss(self.head(encoded_t), ep_batch, played, counts)
        return loss, {"am_loss": loss, "am_action_accuracy": accuracy}
