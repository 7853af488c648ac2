"""A GRU over episodes of different lengths that computes nothing for their padding; used by `fast_paths.py`.

Rows are packed: step after step, and within a step the longest episodes first, so that the episodes that still run at
a step are the first rows of the step before. `batch_sizes[t]` is the number of rows of step t.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

from modules import gru_kernels as kernels


def packed_gru(x: th.Tensor, hidden_state: th.Tensor, cell: nn.GRUCell, batch_sizes: Sequence[int]) -> th.Tensor:
    """Returns hidden states [N, H] after each row of x [N, in], from `hidden_state` [batch_sizes[0], H], of a cell."""
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    if x.device.type == "cpu":
        return _PackedGRU.apply(x, hidden_state, *weights, list(batch_sizes))
    sizes = th.tensor(batch_sizes)
    return th.gru(x, sizes, hidden_state.unsqueeze(0).contiguous(), weights, True, 1, 0.0, cell.training, False)[0]


def gru_of_candidates(x: th.Tensor, hidden: th.Tensor, cell: nn.GRUCell) -> th.Tensor:
    """Returns a cell's hidden states [N, K, H] after each of the inputs x [N, K, in], from those before [N, H].

    Without gradients.
    """
    n_candidates = x.shape[1]
    if x.device.type != "cpu":
        return cell(x.flatten(0, 1), hidden.repeat_interleave(n_candidates, 0)).unflatten(0, x.shape[:2])
    bias_x, bias_m = biases(cell.bias_ih, cell.bias_hh)
    from_x = F.linear(x, cell.weight_ih, bias_x)
    from_h, hs = F.linear(hidden, cell.weight_hh), x.new_empty(*x.shape[:2], cell.hidden_size)
    h, rows_of_x, rows_of_hs = hidden.numpy(), from_x.flatten(0, 1).numpy(), hs.flatten(0, 1).numpy()
    kernels.gru_candidates(rows_of_x, from_h.numpy(), bias_m, h, rows_of_hs, n_candidates)
    return hs


class _PackedGRU(th.autograd.Function):
    """The recurrence on a CPU with its gradient written out: a product and a kernel of `gru_kernels.py` per step."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: th.Tensor,
        h_0: th.Tensor,
        w_ih: th.Tensor,
        w_hh: th.Tensor,
        b_ih: th.Tensor,
        b_hh: th.Tensor,
        batch_sizes: list[int],
    ) -> th.Tensor:
        size = w_hh.shape[1]
        bias_x, bias_m = biases(b_ih, b_hh)
        gates = th.addmm(bias_x, x, w_ih.t())
        m, hs = gates.new_empty(len(x), size), gates.new_empty(len(x), size)
        w_h, h, before = contiguous(w_hh.t()), contiguous(h_0), 0
        from_h = np.empty((len(h), len(w_hh)), np.float32)
        gates_, m_, hs_ = gates.numpy(), m.numpy(), hs.numpy()
        for stop, count in zip(accumulate(batch_sizes), batch_sizes, strict=True):
            np.matmul(h[before : before + count], w_h, out=from_h[:count])
            kernels.gru_step(gates_, from_h, bias_m, h, before, m_, hs_, stop - count, stop)
            h, before = hs_, stop - count
        ctx.save_for_backward(x, h_0, w_ih, w_hh, gates, m, hs)
        ctx.batch_sizes = batch_sizes
        return hs

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor | None, ...]:  # type: ignore[override]
        x, h_0, w_ih, w_hh, gates, m, hs = ctx.saved_tensors
        d_h, d_n, d_gates = grad.clone(memory_format=th.contiguous_format), th.empty_like(hs), th.empty_like(gates)
        w_h, stop, carry = contiguous(w_hh), len(hs), np.zeros((0, hs.shape[1]), np.float32)
        d_h_, gates_, m_, hs_, d_n_, d_gates_ = (rows.numpy() for rows in (d_h, gates, m, hs, d_n, d_gates))
        for count in reversed(ctx.batch_sizes):
            start = stop - count
            kernels.gru_step_back(d_h_, carry, gates_, m_, hs_, d_n_, d_gates_, start, stop)
            carry = np.matmul(d_gates_[start:stop], w_h)
            carry += d_h_[start:stop]
            stop = start

        starts = [h_0, *hs.split(ctx.batch_sizes)[:-1]]
        h_before = th.cat([rows[:count] for rows, count in zip(starts, ctx.batch_sizes, strict=True)])
        # Products with ones and these transposes are faster here than sums and the plain order.
        ones = x.new_ones(1, len(x))
        d_w_hh, d_b_hh = (h_before.t() @ d_gates).t(), (ones @ d_gates).squeeze(0)
        d_gates.chunk(3, 1)[2].copy_(d_n)  # x enters n where h enters m; the rest is the same
        d_w_ih, d_b_ih = (x.t() @ d_gates).t(), (ones @ d_gates).squeeze(0)
        d_x = d_gates @ w_ih if ctx.needs_input_grad[0] else None
        return d_x, th.from_numpy(carry), d_w_ih, d_w_hh, d_b_ih, d_b_hh, None


def biases(b_ih: th.Tensor, b_hh: th.Tensor) -> tuple[th.Tensor, np.ndarray]:
    """Returns what is added to W x, [3 H], with b_r and b_z of both kinds; and b_m [H], which kernels add to U h."""
    size = len(b_hh) // 3
    b_rz, b_m = b_hh.split([2 * size, size])
    return b_ih + F.pad(b_rz, (0, size)), contiguous(b_m)


def contiguous(tensor: th.Tensor) -> np.ndarray:
    """Returns the tensor's values as an array whose rows follow each other in memory."""
    return np.ascontiguousarray(tensor.detach().numpy())
