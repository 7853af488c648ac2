"""What every agent model has, so that a controller can act on it and a learner train it."""

from pathlib import Path

import torch as th

from components.episode_buffer import EpisodeBatch, Episodes
from modules.network import Network

ALL = slice(None)


class AgentModel(Network):
    """A network over time that builds its own inputs, and features of it that a policy reads."""

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

    def save_models(self, path: str | Path) -> None:
        """Writes the model's files into the folder `path`."""
        raise NotImplementedError

    def load_models(self, path: str | Path) -> None:
        """Reads the files that `save_models` writes. Raises: UserError where one is missing or does not fit."""
        raise NotImplementedError
