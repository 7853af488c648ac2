"""No agent model: the policy acts on its own observations alone."""

from pathlib import Path
from typing import Any

import torch as th
from torch import nn

from modules.am.trajectory_am import NumpyInference
from utils.transfer import Where


class NoneAM(nn.Module):
    """Gives features of width zero, and learns and saves nothing."""

    output_size = 0

    def __init__(self, scheme: dict, args: Any):
        super().__init__()
        self.args = args

    def init_hidden(self, batch_size: int, n_agents: int) -> th.Tensor:
        return th.zeros(batch_size, n_agents, 0, device=self.args.device)

    def infer(
        self, ep_batch: Any, t: int, hidden_state: th.Tensor, bs: Any = slice(None), test_mode: bool = False
    ) -> tuple[th.Tensor, th.Tensor]:
        return hidden_state, hidden_state

    def in_numpy(self) -> NumpyInference:
        return lambda seen, hidden_state, test_mode: (hidden_state, hidden_state)

    def unroll(self, ep_batch: Any, steps: Any) -> th.Tensor:
        return self.encode(ep_batch, steps)

    def encode(self, ep_batch: Any, steps: Any) -> th.Tensor:
        return self.init_hidden(len(steps.index), ep_batch["obs"].shape[2])

    def features(self, encoded: th.Tensor) -> th.Tensor:
        return encoded

    def loss(self, ep_batch: Any, encoded_t: th.Tensor, played: Where) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        return encoded_t.sum(), {}

    def save_models(self, path: str | Path) -> None:
        """There is nothing to save."""

    def load_models(self, path: str | Path) -> None:
        """There is nothing to load."""
