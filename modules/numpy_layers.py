"""Layers of torch networks computed by NumPy, with the weights that they have when they are made.

When acting, networks see a few rows at a time. Then most of a torch layer's time goes into finding out what to do;
NumPy is several times as fast. From MANY_ROWS on torch computes them here, too.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

MANY_ROWS = 128

Layer = Callable[[np.ndarray], np.ndarray]
Cell = Callable[[np.ndarray, np.ndarray], np.ndarray]


def numpy_layer(layer: nn.Module) -> Layer:
    """Returns the layer as a function of rows [N, in]. Raises: TypeError for one that has no counterpart here."""
    if isinstance(layer, nn.Linear):
        return _linear(layer)
    if isinstance(layer, nn.LeakyReLU):
        slope = np.float32(layer.negative_slope)
        return lambda x: np.maximum(x, slope * x)
    if isinstance(layer, nn.Sequential):
        layers = [numpy_layer(part) for part in layer]
        return lambda x: reduce(lambda y, part: part(y), layers, x)
    raise TypeError(f"{type(layer).__name__} can't be computed by NumPy")


def numpy_gru_cell(cell: nn.GRUCell) -> Cell:
    """Returns the cell as a function of inputs [N, in] and hidden states [N, H]."""
    tensors = [p.detach() for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)]
    size = cell.hidden_size
    # Both gates are sigmoids, (1 + tanh(x / 2)) / 2: their weights are halved here.
    halved = np.repeat([[0.5], [0.5], [1.0]], size, axis=0).astype(np.float32)
    weight_x, weight_h, bias_x, bias_h = (p.numpy().reshape(3 * size, -1) * halved for p in tensors)
    weight_x, weight_h = np.ascontiguousarray(weight_x.T), np.ascontiguousarray(weight_h.T)
    bias_m = bias_h[2 * size :, 0].copy()
    bias_h[2 * size :] = 0
    bias = (bias_x + bias_h)[:, 0]

    def step(x: np.ndarray, h: np.ndarray) -> np.ndarray:
        if len(x) >= MANY_ROWS:
            return th.gru_cell(th.from_numpy(x), th.from_numpy(h), *tensors).numpy()
        from_x, from_h = x @ weight_x, h @ weight_h
        from_x += bias
        gates, new = from_x[:, : 2 * size], from_h[:, 2 * size :]
        gates += from_h[:, : 2 * size]
        np.tanh(gates, out=gates)
        gates *= 0.5
        gates += 0.5
        new += bias_m
        new *= gates[:, :size]
        new += from_x[:, 2 * size :]
        np.tanh(new, out=new)
        return new + gates[:, size:] * (h - new)

    return step


def relu(x: np.ndarray) -> np.ndarray:
    """Computes max(x, 0) in place."""
    return np.maximum(x, 0, out=x)


def _linear(layer: nn.Linear) -> Layer:
    tensors = layer.weight.detach(), layer.bias.detach()
    weight, bias = tensors[0].numpy().T, tensors[1].numpy()

    def apply(x: np.ndarray) -> np.ndarray:
        if len(x) >= MANY_ROWS:
            return F.linear(th.from_numpy(x), *tensors).numpy()
        y = x @ weight
        y += bias
        return y

    return apply
