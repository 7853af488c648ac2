"""A frozen policy that plays the other side of an environment's episodes, and a pool of a run's own copies.

Environments hand it what is seen there (`EnemyPolicy` in envs/sc2/sim/enemies.py); they know nothing of networks.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch
from controllers.basic_controller import BasicMAC
from controllers.layout import EpisodeLayout
from utils.config import Key
from utils.dict2namedtuple import Args
from utils.files import fitted
from utils.weights import StateDict

EnemySource = Callable[[float], tuple[dict[str, Any], "EnemyPolicy"]]
"""Returns who plays an episode, and what its record says of it, for a number in [0, 1) that was drawn for it."""


class Seen(Protocol):
    """What is seen in B worlds at one step."""

    obs: np.ndarray  # [batch, agent, obs_shape]
    state: np.ndarray  # [batch, state_shape]
    avail_actions: np.ndarray  # [batch, agent, n_actions]


class EnemyPolicy:
    """A policy that acts without exploration in any of `n_worlds` worlds, each at a step of its own."""

    def __init__(self, mac: BasicMAC, layout: EpisodeLayout, n_worlds: int):
        """layout: that of the policy's own episodes (`layout.py`)."""
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


class SelfPlay:
    """The last `self_play_copies` copies of a policy that learns, one every `self_play_interval` environment steps.

    The newest one plays an episode with the chance `self_play_newest`, or else one of all, each as likely.
    """

    def __init__(self, mac: BasicMAC, layout: EpisodeLayout, n_worlds: int, args: Args):
        """mac: the policy, before it has a generator of random numbers."""
        self._template = copy.deepcopy(mac)
        self._template.action_selector.args = args._replace(test_greedy=True)
        self._layout, self._n_worlds, self._args = layout, n_worlds, args
        self.copies: list[tuple[int, EnemyPolicy]] = []  # (environment step, policy), the newest one last
        self.add(mac.state_dict(), 0)

    def add(self, weights: StateDict, t_env: int) -> None:
        """Adds a copy with these weights."""
        mac = copy.deepcopy(self._template)
        mac.load_state_dict(weights)
        self.copies.append((t_env, EnemyPolicy(mac, self._layout, self._n_worlds)))
        del self.copies[: -self._args.self_play_copies]  # those in the midst of an episode play it to its end

    def add_if_due(self, mac: BasicMAC, t_env: int) -> None:
        """Adds a copy of the policy as it is now, if the last one is old enough."""
        if t_env - self.copies[-1][0] >= self._args.self_play_interval:
            self.add(mac.state_dict(), t_env)

    def draw(self, number: float) -> tuple[dict[str, Any], EnemyPolicy]:
        """Returns who plays an episode, and the step of that copy for the episode's record."""
        newest = self._args.self_play_newest
        k = -1 if number < newest else int((number - newest) / (1 - newest) * len(self.copies))
        t_env, policy = self.copies[k]
        return {"enemy_t_env": t_env}, policy

    def state_dict(self) -> StateDict:
        return {
            "steps": [t_env for t_env, _ in self.copies],
            "weights": [policy.mac.state_dict() for _, policy in self.copies],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Raises: ValueError and the like where the state is of other networks, or of none."""
        state = fitted(state, {"steps": [Key(int, low=0).read], "weights": [dict]})
        copies = list(zip(state["steps"], state["weights"], strict=True))
        if not copies:
            raise ValueError("it holds no copies")
        self.copies = []
        for t_env, weights in copies:
            self.add(weights, t_env)
