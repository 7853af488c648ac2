"""A GRU over episodes of different lengths that computes nothing for their padding; used by `fast_paths.py`.

Rows are packed: step after step, and within a step the longest episodes first, so that the episodes that still run at
a step are the first rows of the step before. `batch_sizes[t]` is the number of rows of step t.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from torch import nn


def packed_gru(x: th.Tensor, hidden_state: th.Tensor, cell: nn.GRUCell, batch_sizes: Sequence[int]) -> th.Tensor:
    """Returns hidden states [N, H] after each row of x [N, in], from `hidden_state` [batch_sizes[0], H], of a cell."""
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    if not x.is_cuda:
        return _PackedGRU.apply(x, hidden_state, *weights, list(batch_sizes))
    sizes = th.tensor(batch_sizes)
    return th.gru(x, sizes, hidden_state.unsqueeze(0).contiguous(), weights, True, 1, 0.0, cell.training, False)[0]


def tanh_(x: th.Tensor) -> th.Tensor:
    """Computes tanh in place, without a graph; on a CPU by NumPy, which is several times as fast as torch."""
    if x.device.type != "cpu":
        return x.tanh_()
    np.tanh(x.numpy(), out=x.numpy())
    return x


class _PackedGRU(th.autograd.Function):
    """The recurrence with its gradient written out: a few operations per step, in the cache.

    r, z = sigmoid(W_r x + U_r h + b_r), sigmoid(W_z x + U_z h + b_z);  m = U_n h + b_m
    n = tanh(W_n x + b_n + r * m);  h' = n + z * (h - n)
    """

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
        w_rz, w_n = w_hh[: 2 * size].t(), w_hh[2 * size :].t()
        b_rz, b_m = b_ih[: 2 * size] + b_hh[: 2 * size], b_hh[2 * size :]
        rz = th.addmm(b_rz, x, w_ih[: 2 * size].t())
        n = th.addmm(b_ih[2 * size :], x, w_ih[2 * size :].t())
        m, hs = th.empty_like(n), th.empty_like(n)
        h = h_0
        steps = zip(*(rows.split(batch_sizes) for rows in (rz, *rz.chunk(2, 1), n, m, hs)), strict=True)
        for rz_t, r_t, z_t, n_t, m_t, h_t in steps:
            h = h[: len(h_t)]
            rz_t.addmm_(h, w_rz).sigmoid_()
            th.addmm(b_m, h, w_n, out=m_t)
            tanh_(n_t.addcmul_(r_t, m_t))
            h = th.lerp(n_t, h, z_t, out=h_t)
        ctx.save_for_backward(x, h_0, w_ih, w_hh, rz, n, m, hs)
        ctx.batch_sizes = batch_sizes
        return hs

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor | None, ...]:  # type: ignore[override]
        x, h_0, w_ih, w_hh, rz, n, m, hs = ctx.saved_tensors
        w_ih, w_hh = w_ih.contiguous(), w_hh.contiguous()  # row after row, for products from this side
        d_n, d_h = th.empty_like(n), grad.clone()
        # One block for each row block of w_hh, as rows of one matrix: a single product takes them all back.
        d_gates = hs.new_empty(len(hs), len(w_hh))
        saved = (d_h, *rz.chunk(2, 1), n, m, hs, d_n, d_gates, *d_gates.chunk(3, 1))
        carry = hs.new_zeros(0, hs.shape[1])
        for d_h_t, r_t, z_t, n_t, m_t, h_t, d_n_t, d_gates_t, d_r_t, d_z_t, d_m_t in zip(
            *(reversed(rows.split(ctx.batch_sizes)) for rows in saved), strict=True
        ):
            d_h_t[: len(carry)] += carry
            kept = d_h_t * z_t
            d_new = d_h_t.sub_(kept)
            th.mul(h_t - n_t, d_new, out=d_z_t)  # h' - n = z * (h - n)
            th.addcmul(d_new, d_new * n_t, n_t, value=-1, out=d_n_t)
            by_r = th.mul(d_n_t, r_t, out=d_m_t) * m_t
            th.addcmul(by_r, by_r, r_t, value=-1, out=d_r_t)
            carry = kept.addmm_(d_gates_t, w_hh)

        starts = [h_0, *hs.split(ctx.batch_sizes)[:-1]]
        h_before = th.cat([rows[:count] for rows, count in zip(starts, ctx.batch_sizes, strict=True)])
        # Products with ones and these transposes are faster here than sums and the plain order.
        ones = x.new_ones(1, len(x))
        d_w_hh, d_b_hh = (h_before.t() @ d_gates).t(), (ones @ d_gates).squeeze(0)
        d_gates.chunk(3, 1)[2].copy_(d_n)  # x enters n where h enters m; the rest is the same
        d_w_ih, d_b_ih = (x.t() @ d_gates).t(), (ones @ d_gates).squeeze(0)
        d_x = d_gates @ w_ih if ctx.needs_input_grad[0] else None
        return d_x, carry, d_w_ih, d_w_hh, d_b_ih, d_b_hh, None
