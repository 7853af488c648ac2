"""What every agent model has, so that a controller can act on it and a learner train it."""

from pathlib import Path

import torch as th
from torch import nn

from components.episode_buffer import ALL, EpisodeBatch, Episodes
from modules.network import Network
from utils.dict2namedtuple import Args
from utils.errors import UserError
from utils.weights import load_into

Loss = tuple[th.Tensor, dict[str, th.Tensor]]
"""A loss, and what to log by name."""
FEATURES = "am_features"
"""The field of a batch for what the policy reads of its model, where that has been computed: [b, T, agent, ...]."""


def check_others(args: Args) -> None:
    """Raises: UserError where there are no other agents to model."""
    if args.n_agents == 1:
        raise UserError(f"am_model={args.am_model} models the other agents, but there is one agent; play with more")


class AgentModel(Network):
    """A network over time that builds its own inputs, and features of it that a policy reads."""

    args: Args
    output_size: int
    """The width of the features."""

    def build_inputs(self, batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        """Returns the inputs [b, T, agent, in] of episodes `bs` and steps `ts`, of which acting sees one."""
        raise NotImplementedError

    def draws(self, test_mode: bool = False) -> bool:
        """Returns whether the policy acts on draws of what the model infers, rather than on the means."""
        return not test_mode

    def features(self, outputs: th.Tensor, is_drawn: bool = False, generator: th.Generator | None = None) -> th.Tensor:
        """Returns what the policy reads, [..., output_size], from outputs [..., out].

        Where the model infers a distribution, that is a draw of it if `is_drawn`, else its mean.
        """
        raise NotImplementedError

    def files(self) -> dict[str, nn.Module]:
        """Returns the modules whose weights are saved, by the names of their files."""
        return {f"{name}.th": module for name, module in self.named_children()}

    def save_models(self, path: str | Path) -> None:
        """Writes the model's `files` into the folder `path`."""
        for name, module in self.files().items():
            th.save(module.state_dict(), Path(path) / name)

    def load_models(self, path: str | Path) -> None:
        """Reads the model's `files`. Raises: UserError where one is missing or does not fit."""
        for name, module in self.files().items():
            load_into(module, Path(path) / name, self.args.device)
