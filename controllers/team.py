"""Who plays in which seat of a team, and what of its episodes the policy that learns learns from.

Here one policy plays all seats; `population_controller.py` has teams of several. Runners act through a team.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from components.episode_buffer import ALL, EpisodeBatch, Episodes
from controllers.basic_controller import BasicMAC


class Team:
    """A team whose seats are all played by one policy, `mac`, which learns from whole episodes."""

    def __init__(self, mac: BasicMAC):
        self.mac = mac

    def reset(self, batch: EpisodeBatch, worlds: np.ndarray) -> None:
        """Prepares for the first step of the episodes in the mask [batch] bool; the others are over."""
        self.mac.init_hidden(batch.batch_size)

    def restart(self, worlds: np.ndarray) -> None:
        """Prepares for the first step of new episodes in these worlds; the other worlds' go on."""
        self.mac.restart(worlds)

    def renew(self) -> None:
        """Acts by the present weights from here on; all episodes go on."""
        self.mac.renew()

    def hidden_states(self) -> th.Tensor:
        """Returns the policy's hidden states before the next step, [batch, agent, H], in main memory."""
        assert self.mac.hidden_states is not None, "call reset first"
        return self.mac.hidden_states.cpu()

    @th.no_grad()
    def select_actions(
        self, batch: EpisodeBatch, t_ep: int, t_env: int, bs: Episodes = ALL, test_mode: bool = False
    ) -> th.Tensor:
        """Returns actions [b, agent] at step `t_ep` of episodes `bs`."""
        return self.mac.select_actions(batch, t_ep, t_env, bs, test_mode)

    def use_generators(self, acting: th.Generator, dealing: th.Generator) -> None:
        """Sets the generators of random numbers when acting, and when seats are dealt."""
        self.mac.use_generator(acting)

    @property
    def epsilon(self) -> float:
        """The share of random actions of the policy that learns."""
        return self.mac.action_selector.epsilon

    def seats_of(self, world: int) -> tuple[list[int], list[str]]:
        """Returns the seats of the policy that learns in a world's episode, and who plays each of the other seats."""
        return list(range(self.mac.n_agents)), []

    def experience(self, batch: EpisodeBatch) -> EpisodeBatch:
        """Returns the episodes to learn from, of a batch of the team's episodes."""
        return batch

    def folders(self, path: Path) -> dict[Path, BasicMAC]:
        """Returns the policies whose weights a checkpoint in `path` holds, by their folders."""
        return {path: self.mac}

    def save_models(self, path: Path, learner: Any) -> None:
        """Writes the policies' files into their `folders`; of the one that learns, all that its learner saves."""
        for folder, mac in self.folders(path).items():
            folder.mkdir(exist_ok=True)
            (learner if mac is self.mac else mac).save_models(folder)

    def load_models(self, path: Path, learner: Any = None) -> None:
        """Reads what `save_models` wrote; without a `learner` the weights alone.

        Raises: UserError where a file is missing or does not fit.
        """
        for folder, mac in self.folders(path).items():
            (learner if learner is not None and mac is self.mac else mac).load_models(folder)

    def start_from(self, path: Path) -> None:
        """Reads the weights that a run starts from. Raises: UserError where a file is missing or does not fit."""
        self.load_models(path)
