"""What the compiled half of a GRU step computes beside NumPy. That of whole recurrences is in test_packed_steps.py."""

import numpy as np
import pytest

from modules import gru_kernels

X = np.concatenate([np.linspace(-30, 30, 6001), [1e-30, -1e-30, 1e30, -np.inf, np.inf]]).astype(np.float32)


@gru_kernels.compiled
def of_each(x, tanh, sigmoid):
    for i in range(len(x)):
        tanh[i], sigmoid[i] = gru_kernels.tanh(x[i]), gru_kernels.sigmoid(x[i])


def both(x):
    tanh, sigmoid = np.empty_like(x), np.empty_like(x)
    of_each(x, tanh, sigmoid)
    return tanh, sigmoid


def test_tanh_and_sigmoid_are_those_of_numpy_and_stay_within_their_bounds():
    tanh, sigmoid = both(X)
    assert np.abs(tanh - np.tanh(X.astype(np.float64))).max() < 4e-7 and np.abs(tanh).max() == 1
    with np.errstate(over="ignore"):
        assert np.abs(sigmoid - 1 / (1 + np.exp(-X.astype(np.float64)))).max() < 4e-7
    assert sigmoid.min() >= 0 and sigmoid.max() <= 1


def test_what_is_no_number_stays_none():
    """So that a diverged network is noticed by its loss."""
    assert all(np.isnan(result).all() for result in both(np.array([np.nan], np.float32)))


@pytest.mark.parametrize("size", [3, 8, 64])
def test_candidates_are_steps_of_their_own(size):
    rng = np.random.default_rng(0)
    from_x, h, from_h = (rng.standard_normal(shape, np.float32) for shape in [(15, 3 * size), (5, size), (5, 3 * size)])
    bias_m, together = rng.standard_normal(size, np.float32), np.empty((15, size), np.float32)
    gru_kernels.gru_candidates(from_x, from_h, bias_m, h, together, 3)
    m, alone = np.empty((5, size), np.float32), np.empty((5, size), np.float32)
    for k in range(3):
        gru_kernels.gru_step(from_x[k::3].copy(), from_h, bias_m, h, 0, m, alone, 0, 5)
        assert np.array_equal(together[k::3], alone)
