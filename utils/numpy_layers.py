"""Layers of torch networks computed by NumPy, on the same memory.

When acting, networks see a few rows at a time. Then most of a torch layer's time goes into finding out what to do;
NumPy's products are several times as fast. A layer follows its weights as long as they are changed in place, as
optimisers and `load_state_dict` do.
"""

from collections.abc import Callable

import numpy as np
from torch import nn

Layer = Callable[[np.ndarray], np.ndarray]
Cell = Callable[[np.ndarray, np.ndarray], np.ndarray]


def numpy_layer(layer: nn.Module) -> Layer:
    """Rows [N, in] to [N, out]. Raises: TypeError for a layer that has no counterpart here."""
    if isinstance(layer, nn.Linear):
        return _linear(layer)
    if isinstance(layer, nn.LeakyReLU):
        slope = np.float32(layer.negative_slope)
        return lambda x: np.maximum(x, slope * x)
    if isinstance(layer, nn.Sequential):
        return _sequence([numpy_layer(part) for part in layer])
    raise TypeError(f"{type(layer).__name__} can't be computed by NumPy")


def numpy_gru_cell(cell: nn.GRUCell) -> Cell:
    """Inputs [N, in] and hidden states [N, H] to the next hidden states."""
    weight_x, weight_h = cell.weight_ih.detach().numpy().T, cell.weight_hh.detach().numpy().T
    bias_x, bias_h = cell.bias_ih.detach().numpy(), cell.bias_hh.detach().numpy()
    size = cell.hidden_size

    def step(x: np.ndarray, h: np.ndarray) -> np.ndarray:
        from_x, from_h = x @ weight_x, h @ weight_h
        from_x += bias_x
        from_h += bias_h
        gates = from_x[:, : 2 * size]
        gates += from_h[:, : 2 * size]
        _sigmoid(gates)
        new = from_h[:, 2 * size :]
        new *= gates[:, :size]
        new += from_x[:, 2 * size :]
        np.tanh(new, out=new)
        return new + gates[:, size:] * (h - new)

    return step


def relu(x: np.ndarray) -> np.ndarray:
    """In place."""
    return np.maximum(x, 0, out=x)


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    exp = np.exp(x - x.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def _sigmoid(x: np.ndarray) -> None:
    """In place, by way of tanh, which neither overflows nor is slow."""
    x *= 0.5
    np.tanh(x, out=x)
    x *= 0.5
    x += 0.5


def _linear(layer: nn.Linear) -> Layer:
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()

    def apply(x: np.ndarray) -> np.ndarray:
        y = x @ weight
        y += bias
        return y

    return apply


def _sequence(layers: list[Layer]) -> Layer:
    def apply(x: np.ndarray) -> np.ndarray:
        for layer in layers:
            x = layer(x)
        return x

    return apply
