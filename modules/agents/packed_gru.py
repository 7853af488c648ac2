"""A GRU over episodes of different lengths that computes nothing for their padding; used by `rnn_agent.py`.

Rows are packed: step after step, and within a step the longest episodes first, so that the episodes that still run at
a step are the first rows of the step before. `batch_sizes[t]` is the number of rows of step t.
"""

from collections.abc import Sequence
from typing import Any

import torch as th
from torch import nn


def packed_gru(x: th.Tensor, hidden_state: th.Tensor, cell: nn.GRUCell, batch_sizes: Sequence[int]) -> th.Tensor:
    """The hidden states [N, H] after each row of x [N, in], from hidden states [batch_sizes[0], H], by cell's weights."""
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    if not x.is_cuda:
        return _PackedGRU.apply(x, hidden_state, *weights, list(batch_sizes))
    sizes = th.tensor(batch_sizes)
    return th.gru(x, sizes, hidden_state.unsqueeze(0).contiguous(), weights, True, 1, 0.0, cell.training, False)[0]


class _PackedGRU(th.autograd.Function):
    """The recurrence with its gradient written out: a third of the small operations that autograd would run per step.

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
        rz = x @ w_ih[: 2 * size].t()
        n = th.addmm(b_ih[2 * size :], x, w_ih[2 * size :].t())
        m, hs = th.empty_like(n), th.empty_like(n)
        h = h_0
        steps = zip(*(rows.split(batch_sizes) for rows in (rz, n, m, hs)), strict=True)
        for rz_t, n_t, m_t, h_t in steps:
            h = h[: len(h_t)]
            rz_t.addmm_(h, w_rz).add_(b_rz).sigmoid_()
            r_t, z_t = rz_t.chunk(2, dim=1)
            th.mm(h, w_n, out=m_t).add_(b_m)
            n_t.addcmul_(r_t, m_t).tanh_()
            h = th.lerp(n_t, h, z_t, out=h_t)
        ctx.save_for_backward(x, h_0, w_ih, w_hh, rz, n, m, hs)
        ctx.batch_sizes = batch_sizes
        return hs

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor | None, ...]:  # type: ignore[override]
        x, h_0, w_ih, w_hh, rz, n, m, hs = ctx.saved_tensors
        size = w_hh.shape[1]
        r, z = rz.chunk(2, dim=1)
        # d h' / d (what goes into n, m, z and r) for all steps at once, so that a step only multiplies by its d h'.
        by_z = 1 - z
        by_n = th.addcmul(by_z, by_z * n, n, value=-1)
        gates = hs.new_empty(len(hs), 3, size)
        by_m = th.mul(by_n, r, out=gates[:, 2])
        th.mul(hs - n, by_z, out=gates[:, 1])
        by_r = by_m * m
        th.addcmul(by_r, by_r, r, value=-1, out=gates[:, 0])

        d_h = grad.clone()
        carry = grad.new_zeros(0, size)
        steps = zip(*(reversed(rows.split(ctx.batch_sizes)) for rows in (d_h, gates, z)), strict=True)
        for d_h_t, gates_t, z_t in steps:
            d_h_t[: len(carry)] += carry
            gates_t *= d_h_t.unsqueeze(1)
            carry = th.addmm(d_h_t * z_t, gates_t.flatten(1), w_hh)

        starts = [h_0, *hs.split(ctx.batch_sizes)[:-1]]
        h_before = th.cat([rows[:count] for rows, count in zip(starts, ctx.batch_sizes, strict=True)])
        d_gates = gates.flatten(1)
        d_w_hh, d_b_hh = d_gates.t() @ h_before, d_gates.sum(0)
        # x enters n where h enters m: only that third differs.
        th.mul(d_h, by_n, out=gates[:, 2])
        d_x = d_gates @ w_ih if ctx.needs_input_grad[0] else None
        return d_x, carry, d_gates.t() @ x, d_w_hh, d_gates.sum(0), d_b_hh, None
