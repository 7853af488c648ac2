"""What networks read besides observations: last actions, and one-hot rows that are looked up rather than made.

`StepInputs` has what they read at one step of acting, for networks that NumPy computes (numpy_layers.py).
"""

from functools import cache, cached_property
from typing import Any

import numpy as np
import torch as th
import torch.nn.functional as F


@cache
def one_hot_rows(n: int, device: str | th.device) -> th.Tensor:
    """All one-hot vectors of length n, [n, n]; the same tensor in every call, to be read only."""
    return th.eye(n, device=device)


@cache
def one_hot_array(n: int) -> np.ndarray:
    """The same for NumPy."""
    return np.eye(n, dtype=np.float32)


def last_actions(
    actions: th.Tensor, n_actions: int, device: str | th.device, bs: Any = slice(None), ts: slice = slice(None)
) -> th.Tensor:
    """From actions [b, T, agent, 1] those before each of the steps `ts`, one-hot [b, T, agent, u], zeros at step 0."""
    start, stop, _ = ts.indices(actions.shape[1])
    before = actions[bs, max(start - 1, 0) : stop - 1].squeeze(-1).to(device)
    one_hot = F.embedding(before, one_hot_rows(n_actions, device))
    return one_hot if start else F.pad(one_hot, (0, 0, 0, 0, 1, 0))


class StepInputs:
    """What the agents of episodes `bs` see at step `t`, as NumPy rows [b * agent, ...]."""

    def __init__(self, ep_batch: Any, t: int, bs: Any, args: Any):
        self._batch, self._t, self._bs, self._args = ep_batch, t, bs, args

    @cached_property
    def obs(self) -> np.ndarray:
        return self._rows("obs", self._t)

    @cached_property
    def last_obs(self) -> np.ndarray:
        """Zeros at step 0."""
        return self._rows("obs", self._t - 1) if self._t else np.zeros_like(self.obs)

    @cached_property
    def state(self) -> np.ndarray:
        """The same for all agents of an episode."""
        return self._repeated("state", self._t)

    @cached_property
    def last_state(self) -> np.ndarray:
        return self._repeated("state", self._t - 1) if self._t else np.zeros_like(self.state)

    @cached_property
    def last_actions(self) -> np.ndarray:
        """One-hot, zeros at step 0."""
        return self._one_hot(self._rows("actions", self._t - 1)[:, 0]) if self._t else self._no_actions

    @cached_property
    def team_last_actions(self) -> np.ndarray:
        """The same of the whole team, [b * agent, n * u], to each of its agents."""
        n = self._args.n_agents
        if not self._t:
            return np.tile(self._no_actions, n)
        key = "team_actions" if "seat" in self._batch.scheme else "actions"
        actions = self._array(key)[self._bs, self._t - 1, :, 0]
        one_hot = self._one_hot(actions).reshape(len(actions), -1)
        return one_hot.repeat(len(self.obs) // len(actions), axis=0)

    @cached_property
    def ids(self) -> np.ndarray:
        """One-hot seats."""
        rows = one_hot_array(self._args.n_agents)
        if "seat" in self._batch.scheme:
            return rows[self._array("seat")[self._bs, 0]]
        return np.tile(rows, (len(self.obs) // len(rows), 1))

    @property
    def _no_actions(self) -> np.ndarray:
        return np.zeros((len(self.obs), self._args.n_actions), np.float32)

    def _array(self, key: str) -> np.ndarray:
        return self._batch.array(key)

    def _rows(self, key: str, t: int) -> np.ndarray:
        values = self._array(key)[self._bs, t]
        return values.reshape(-1, values.shape[-1])

    def _repeated(self, key: str, t: int) -> np.ndarray:
        values = self._rows(key, t)
        return values.repeat(len(self.obs) // len(values), axis=0)

    def _one_hot(self, actions: np.ndarray) -> np.ndarray:
        return one_hot_array(self._args.n_actions)[actions]
