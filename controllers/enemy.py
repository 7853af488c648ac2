"""A frozen policy that plays the other side of an environment's episodes, and a pool of a run's own copies.

Environments hand it what is seen there (`EnemyPolicy` in envs/sc2/sim/enemies.py); they know nothing of networks.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch, Preprocess, Scheme
from controllers.basic_controller import BasicMAC

Layout = tuple[Scheme, dict[str, int], Preprocess]
EnemySource = Callable[[float], tuple[dict[str, Any], "EnemyPolicy"]]
"""Returns who plays an episode, and what its record says of it, for a number in [0, 1) that was drawn for it."""


class Seen(Protocol):
    """What is seen in B worlds at one step."""

    obs: np.ndarray  # [batch, agent, obs_shape]
    state: np.ndarray  # [batch, state_shape]
    avail_actions: np.ndarray  # [batch, agent, n_actions]


class EnemyPolicy:
    """A policy that acts without exploration in any of `n_worlds` worlds, each at a step of its own."""

    def __init__(self, mac: BasicMAC, layout: Layout, n_worlds: int):
        """layout: that of the policy's own episodes (`run.episode_layout`)."""
        self.mac = mac
        for network in mac.networks().values():
            network.requires_grad_(False).eval()
        scheme, groups, preprocess = layout
        # The last step is all that a policy reads of the past, in column 0; the rest is in its hidden state.
        self._batch = EpisodeBatch(scheme, groups, n_worlds, 2, preprocess=preprocess)
        self._is_first = np.ones(n_worlds, bool)
        mac.init_hidden(n_worlds)

    def as_source(self) -> EnemySource:
        """Returns the source that has this policy play every episode."""
        return lambda number: ({}, self)

    def begin(self, worlds: np.ndarray) -> None:
        """Begins new episodes in these worlds."""
        if len(worlds):
            self.mac.restart(worlds)
        self._is_first[worlds] = True

    @th.no_grad()
    def act(self, seen: Seen, worlds: np.ndarray) -> np.ndarray:
        """Returns actions [len(worlds), agent] in these worlds, for what is seen in their rows."""
        actions = np.zeros((len(worlds), self.mac.n_agents), np.int64)
        for step in (0, 1):
            chosen = self._is_first[worlds] == (step == 0)
            rows = worlds[chosen]
            if len(rows):
                for name in ("obs", "state", "avail_actions"):
                    self._batch.data.transition_data[name].numpy()[rows, step] = getattr(seen, name)[rows]
                self._batch.data.transition_data["filled"].numpy()[rows, step] = 1
                own = self.mac.select_actions(self._batch, step, t_env=0, bs=rows, test_mode=True).cpu().numpy()
                actions[chosen] = own
                if step:
                    for field in self._batch.data.transition_data.values():
                        field.numpy()[rows, 0] = field.numpy()[rows, 1]
                self._batch.data.transition_data["actions"].numpy()[rows, 0, :, 0] = own
        self._is_first[worlds] = False
        return actions
