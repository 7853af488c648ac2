"""Faster code for some networks, which computes the same numbers.

Looked up by exact type: a subclass that changes a network never inherits what was written for the old one. One that
changes nothing of it says so: `FAST_PATHS[MyAgent] = FAST_PATHS[RNNAgent]`. `tests/test_fast_paths.py` holds every
entry equal to the plain form in `modules/unroll.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

from modules.agents.ff_agent import FFAgent
from modules.agents.mlp_agent import MLPAgent
from modules.agents.rnn_agent import RNNAgent
from modules.agents.rnn_norm_agent import RNNNormAgent
from modules.am.base_am import BaseAM
from modules.am.liam_am import LIAMAM
from modules.am.omg_am import OMGAM
from modules.am.trajectory_am import TrajectoryAM
from modules.critics.value import MLPCritic
from modules.network import Outputs
from modules.numpy_layers import Layer, numpy_gru_cell, numpy_layer, relu
from modules.packed_gru import gru_of_candidates, packed_gru

NumpyStep = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""`forward` of a network in NumPy: inputs [rows, in] and hidden states [rows, H] to outputs and hidden states."""
ROWS_AT_ONCE = {"cpu": 512, "cuda": 16384, "meta": 512}
"""Seats' steps, where each of them is computed with several features."""


class FastPaths(NamedTuple):
    """Faster forms of one class of networks; None: the plain form is used."""

    unroll: Callable[..., Outputs] | None = None
    """(network, rows [N, in] packed as in packed_gru.py, first hidden states, batch_sizes) to outputs and states."""
    numpy_step: Callable[..., NumpyStep] | None = None
    """Makes the network's NumpyStep, with the weights that the network has at that moment."""
    step_candidates: Callable[..., th.Tensor] | None = None
    """(network, inputs [N, in], features [M, Z], rows of features [N, K], hidden [N, H]) to outputs [N, K, out]."""


NO_FAST_PATHS = FastPaths()


def _rnn_unroll(agent: RNNAgent, rows: th.Tensor, hidden: th.Tensor, batch_sizes: Sequence[int]) -> Outputs:
    h = packed_gru(agent.encode(rows), hidden, agent.rnn, batch_sizes)
    return agent.head(h), h


def _rnn_numpy_step(agent: RNNAgent) -> NumpyStep:
    fc1, rnn, head = numpy_layer(agent.fc1), numpy_gru_cell(agent.rnn), _numpy_head(agent)

    def step(inputs: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = rnn(relu(fc1(inputs)), hidden)
        return head(h), h

    return step


def _numpy_head(agent: RNNAgent | MLPAgent) -> Layer:
    """Returns what computes Q [rows, action] from the last hidden layer, dueling or not."""
    fc2 = numpy_layer(agent.fc2)
    if agent.fc_v is None:
        return fc2
    fc_v = numpy_layer(agent.fc_v)

    def dueling(h: np.ndarray) -> np.ndarray:
        advantage = fc2(h)
        return fc_v(h) + advantage - advantage.mean(-1, keepdims=True)

    return dueling


def _rnn_step_candidates(
    agent: RNNAgent, inputs: th.Tensor, features: th.Tensor, chosen: th.Tensor, hidden: th.Tensor
) -> th.Tensor:
    """Products that depend on the inputs or the features alone are computed once for all pairs of the two."""
    w_inputs, w_features = agent.fc1.weight.split([inputs.shape[-1], features.shape[-1]], 1)
    all_from_inputs = F.linear(inputs, w_inputs, agent.fc1.bias).unsqueeze(-2)
    all_from_features = F.linear(features, w_features)
    # A few rows at a time: what is between inputs and Q-values is K times as large, and so stays in the cache.
    parts = (rows.split(ROWS_AT_ONCE[inputs.device.type]) for rows in (all_from_inputs, chosen, hidden))
    qs = []
    for from_inputs, of_rows, h in zip(*parts, strict=True):
        x = F.relu(from_inputs + all_from_features[of_rows], inplace=True)
        qs.append(agent.head(gru_of_candidates(x, h, agent.rnn)))
    return th.cat(qs)


def _mlp_numpy_step(agent: MLPAgent) -> NumpyStep:
    fc1, fc_h, head = numpy_layer(agent.fc1), numpy_layer(agent.fc_h), _numpy_head(agent)
    return lambda inputs, hidden: (head(relu(fc_h(relu(fc1(inputs))))), hidden)


def _trajectory_unroll(am: TrajectoryAM, rows: th.Tensor, hidden: th.Tensor, batch_sizes: Sequence[int]) -> Outputs:
    h = packed_gru(F.relu(am.fc(rows), inplace=True), hidden, am.rnn, batch_sizes)
    return h, h


def _trajectory_numpy_step(am: TrajectoryAM) -> NumpyStep:
    fc, rnn = numpy_layer(am.fc), numpy_gru_cell(am.rnn)

    def step(inputs: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = rnn(relu(fc(inputs)), hidden)
        return h, h

    return step


def _omg_unroll(am: OMGAM, rows: th.Tensor, hidden: th.Tensor, batch_sizes: Sequence[int]) -> Outputs:
    now, before = rows.tensor_split([am.input_size], -1)
    h = packed_gru(before, hidden, am.cond_rnn, batch_sizes)
    return am.infer(now, h), h


def _omg_numpy_step(am: OMGAM) -> NumpyStep:
    fc, cond_rnn = numpy_layer(am.fc), numpy_gru_cell(am.cond_rnn)
    if am.is_supervised:
        regress = numpy_layer(am.regressor.layers)
    else:
        encode, mu, log_var = (numpy_layer(part) for part in (am.cvae.encoder, am.cvae.mu, am.cvae.log_var))

    def step(inputs: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        now, before = inputs[:, : am.input_size], inputs[:, am.input_size :]
        h = cond_rnn(before, hidden)
        seen = np.concatenate([fc(now), h], -1)
        if am.is_supervised:
            mean = regress(seen)
            return np.concatenate([mean, np.full_like(mean, -np.inf)], -1), h
        encoded = encode(seen)
        return np.concatenate([mu(encoded), log_var(encoded)], -1), h

    return step


def _ff_unroll(
    agent: FFAgent | MLPAgent | MLPCritic, rows: th.Tensor, hidden: th.Tensor, batch_sizes: Sequence[int]
) -> Outputs:
    return agent(rows, hidden.new_zeros(len(rows), hidden.shape[-1]))


_TRAJECTORY = FastPaths(_trajectory_unroll, _trajectory_numpy_step)
FAST_PATHS: dict[type[nn.Module], FastPaths] = {
    RNNAgent: FastPaths(_rnn_unroll, _rnn_numpy_step, _rnn_step_candidates),
    RNNNormAgent: FastPaths(_rnn_unroll),
    FFAgent: FastPaths(_ff_unroll),
    MLPAgent: FastPaths(_ff_unroll, _mlp_numpy_step),
    MLPCritic: FastPaths(_ff_unroll),
    BaseAM: _TRAJECTORY,
    LIAMAM: _TRAJECTORY,
    OMGAM: FastPaths(_omg_unroll, _omg_numpy_step),
}
