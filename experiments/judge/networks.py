"""PyMARL's networks in NumPy, for policies that were trained elsewhere: the recurrent agent and QMIX's mixer.

`policies.py` plays them. They are read from `agent.th` and `mixer.th` as PyMARL's learners save them.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch as th

from utils.errors import UserError

AGENT_KEYS = (
    "fc1.weight", "fc1.bias", "rnn.weight_ih", "rnn.weight_hh", "rnn.bias_ih", "rnn.bias_hh", "fc2.weight", "fc2.bias",
)  # fmt: skip


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, as float32.

    Raises: UserError where the file is missing, or is no state dict.
    """
    try:
        weights = th.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: a policy is a folder with PyMARL's agent.th") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, BadZipFile) as mistake:
        raise UserError(f"{path} can't be read as PyTorch weights: copy it again") from mistake
    if not isinstance(weights, Mapping) or not all(isinstance(value, th.Tensor) for value in weights.values()):
        raise UserError(f"{path} holds no state dict: give the agent.th or mixer.th that PyMARL saved")
    return {name: value.float().numpy() for name, value in weights.items()}


class Agent(NamedTuple):
    """PyMARL's RNNAgent: fc1, ReLU, GRU cell, fc2."""

    fc1: np.ndarray  # [hidden, inputs]
    fc1_bias: np.ndarray
    to_gates: np.ndarray  # [3 * hidden, hidden]: reset, update, candidate
    from_hidden: np.ndarray  # [3 * hidden, hidden]
    to_gates_bias: np.ndarray
    from_hidden_bias: np.ndarray
    fc2: np.ndarray  # [actions, hidden]
    fc2_bias: np.ndarray

    @property
    def n_inputs(self) -> int:
        return self.fc1.shape[1]

    @property
    def n_hidden(self) -> int:
        return self.fc1.shape[0]

    @property
    def n_actions(self) -> int:
        return self.fc2.shape[0]

    def forward(self, inputs: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Utilities or logits [..., action] and the next hidden state, from inputs [..., input] and hidden."""
        x = np.maximum(inputs @ self.fc1.T + self.fc1_bias, 0)
        x_reset, x_update, x_candidate = np.split(x @ self.to_gates.T + self.to_gates_bias, 3, axis=-1)
        h_reset, h_update, h_candidate = np.split(hidden @ self.from_hidden.T + self.from_hidden_bias, 3, axis=-1)
        update = _sigmoid(x_update + h_update)
        candidate = np.tanh(x_candidate + _sigmoid(x_reset + h_reset) * h_candidate)
        hidden = (1 - update) * candidate + update * hidden
        return hidden @ self.fc2.T + self.fc2_bias, hidden


def read_agent(path: Path) -> Agent:
    """The agent of an agent.th.

    Raises: UserError where the weights are not those of PyMARL's recurrent agent.
    """
    weights = read_weights(path)
    if set(weights) != set(AGENT_KEYS):
        named = ", ".join(sorted(weights)) or "none"
        raise UserError(f"{path} is not PyMARL's recurrent agent (fc1, GRUCell rnn, fc2): its weights are {named}")
    agent = Agent(*(weights[key] for key in AGENT_KEYS))
    hidden = len(agent.fc1_bias)
    expected: dict[str, tuple[int | None, ...]] = {
        "fc1": (hidden, None), "to_gates": (3 * hidden, hidden), "to_gates_bias": (3 * hidden,),
        "from_hidden": (3 * hidden, hidden), "from_hidden_bias": (3 * hidden,), "fc2": (None, hidden),
        "fc2_bias": agent.fc2.shape[:1],
    }  # fmt: skip
    for name, shape in expected.items():
        if not _has_shape(getattr(agent, name), shape):
            found = getattr(agent, name).shape
            raise UserError(f"{path} fits no layout: {name} has the shape {found} beside {hidden} hidden units")
    return agent


class Mixer(NamedTuple):
    """QMIX's mixer (Rashid et al. 2018), each hypernetwork a list of (weight, bias), with ReLU between them."""

    w_1: list[tuple[np.ndarray, np.ndarray]]
    b_1: list[tuple[np.ndarray, np.ndarray]]
    w_final: list[tuple[np.ndarray, np.ndarray]]
    v: list[tuple[np.ndarray, np.ndarray]]

    @property
    def n_state(self) -> int:
        return self.w_1[0][0].shape[1]

    @property
    def n_agents(self) -> int:
        return self.w_1[-1][0].shape[0] // self.w_final[-1][0].shape[0]

    def forward(self, qs: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Q_tot [...] of utilities [..., agent] and states [..., feature]."""
        n_embed = self.w_final[-1][0].shape[0]
        w_1 = np.abs(_layers(self.w_1, state)).reshape(*qs.shape, n_embed)
        hidden = np.einsum("...a,...ae->...e", qs, w_1) + _layers(self.b_1, state)
        hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
        return (hidden * np.abs(_layers(self.w_final, state))).sum(-1) + _layers(self.v, state)[..., 0]


def read_mixer(path: Path) -> Mixer | None:
    """QMIX's mixer of a mixer.th, with hypernetworks of one or of two layers; None for the mixer of another algorithm.

    Raises: UserError where the file can't be read.
    """
    weights = read_weights(path)
    names = ("hyper_w_1", "hyper_b_1", "hyper_w_final", "V")
    parts = {name: sorted(key for key in weights if key.startswith(f"{name}.")) for name in names}
    if sum(map(len, parts.values())) != len(weights) or not all(parts.values()):
        return None
    layers = [  # a weight comes after its bias
        [(weights[key], weights[before]) for before, key in zip(keys[::2], keys[1::2])] for keys in parts.values()
    ]
    return Mixer(*layers) if _fit(layers) else None


def _fit(parts: list[list[tuple[np.ndarray, np.ndarray]]]) -> bool:
    """Whether the hypernetworks' layers fit each other."""
    n_state, n_embed = parts[0][0][0].shape[-1], parts[1][-1][0].shape[0]
    for layers, n_out in zip(parts, (n_embed, n_embed, n_embed, 1)):
        width = n_state
        for weight, bias in layers:
            if not _has_shape(weight, (None, width)) or not _has_shape(bias, weight.shape[:1]):
                return False
            width = weight.shape[0]
        if width % n_out or (layers is not parts[0] and width != n_out):
            return False
    return True


def _layers(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """The output of linear layers with ReLU between them."""
    for k, (weight, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if k else x) @ weight.T + bias
    return x


def _has_shape(array: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    return array.ndim == len(shape) and all(size in (None, found) for size, found in zip(shape, array.shape))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
