"""The elementwise half of a GRU step on a CPU, compiled: one pass over the rows where torch needs seven operations.

    r, z = sigmoid(W_r x + U_r h + b_r), sigmoid(W_z x + U_z h + b_z);  m = U_n h + b_m
    n = tanh(W_n x + b_n + r * m);  h' = n + z * (h - n)

`modules/packed_gru.py` and `modules/fast_paths.py` compute the products. Arrays are 32-bit floats; those named
`gates` and `from_...` hold three blocks of H columns: for r, for z and for n.
"""

from pathlib import Path

import numpy as np

from utils.jit import compiler, sources_stamp

compiled = compiler(sources_stamp(Path(__file__)))
F = np.float32

FLAT = F(9.0)
"""Beyond this tanh is 1 in 32 bits."""
# tanh(x) / x = P(x^2) / Q(x^2), fitted up to FLAT with the least largest relative error, 6e-8; in 32 bits it is within
# 4e-7 of tanh. Loops with it become vector instructions, which loops with the C library's tanh do not.
P0, P1, P2 = F(0.999999941), F(0.129192311), F(2.92076469e-3)
P3, P4, P5 = F(9.26744732e-6), F(-1.27805194e-8), F(1.82554413e-11)
Q1, Q2, Q3 = F(0.462525149), F(2.37631802e-2), F(2.28100597e-4)


@compiled(forceinline=True, fastmath={"contract"})
def tanh(x):
    """Returns tanh(x); NaN of NaN."""
    x = -FLAT if x < -FLAT else x
    x = FLAT if x > FLAT else x
    s = x * x
    p = P0 + s * (P1 + s * (P2 + s * (P3 + s * (P4 + s * P5))))
    q = F(1) + s * (Q1 + s * (Q2 + s * Q3))
    y = x * p / q
    y = F(-1) if y < F(-1) else y
    return F(1) if y > F(1) else y


@compiled(forceinline=True, fastmath={"contract"})
def sigmoid(x):
    return F(0.5) + F(0.5) * tanh(F(0.5) * x)


@compiled(fastmath={"contract"})
def gru_step(gates, from_h, bias_m, h, before, m, hs, start, stop):
    """Computes m and h' of the rows from `start` to `stop`; `gates`, what comes from x on entry, holds r, z and n then.

    gates [N, 3 H]: W x + b, with b_r and b_z of both kinds; from_h [rows, 3 H]: U h; bias_m [H];
    h: the states before, from row `before` on; m, hs [N, H].
    """
    # Row numbers that are arguments, and views of rows: with other forms of the same loops LLVM makes no vectors.
    size = hs.shape[1]
    for i in range(stop - start):
        g, u, h_i = gates[start + i], from_h[i], h[before + i]
        m_i, next_i = m[start + i], hs[start + i]
        for j in range(size):
            r, z = sigmoid(g[j] + u[j]), sigmoid(g[size + j] + u[size + j])
            m_ij = u[2 * size + j] + bias_m[j]
            n = tanh(g[2 * size + j] + r * m_ij)
            g[j], g[size + j], g[2 * size + j] = r, z, n
            m_i[j] = m_ij
            next_i[j] = n + z * (h_i[j] - n)


@compiled(fastmath={"contract"})
def gru_step_back(d_h, carry, gates, m, hs, d_n, d_gates, start, stop):
    """Computes the gradients of the rows from `start` to `stop`, before the products.

    `d_h` [N, H] is the gradient of h' on entry, but for `carry` [first rows, H], which the step after gives to its h;
    then it is what reaches h by z. gates, m, hs: as `gru_step` left them; d_n [N, H]: the gradient of n's argument;
    d_gates [N, 3 H]: of the arguments of r and z, and of m.
    """
    size = hs.shape[1]
    for i in range(stop - start):
        g, m_i, next_i, d_h_i = gates[start + i], m[start + i], hs[start + i], d_h[start + i]
        d_n_i, d_g = d_n[start + i], d_gates[start + i]
        if i < len(carry):
            carry_i = carry[i]
            for j in range(size):
                d_h_i[j] += carry_i[j]
        for j in range(size):
            r, z, n = g[j], g[size + j], g[2 * size + j]
            kept = d_h_i[j] * z
            d_new = d_h_i[j] - kept
            d_n_ij = d_new * (F(1) - n * n)
            d_g[j] = d_n_ij * m_i[j] * r * (F(1) - r)
            d_g[size + j] = (next_i[j] - n) * d_new  # h' - n = z * (h - n)
            d_g[2 * size + j] = d_n_ij * r
            d_n_i[j] = d_n_ij
            d_h_i[j] = kept


@compiled(fastmath={"contract"})
def gru_candidates(from_x, from_h, bias_m, h, h_next, n_candidates):
    """Computes h' of several inputs of each row: from_x, h_next [rows * n_candidates, ...], else as `gru_step`."""
    size = h.shape[1]
    for row in range(len(h)):
        u, h_i = from_h[row], h[row]
        for i in range(n_candidates):
            x, next_i = from_x[row * n_candidates + i], h_next[row * n_candidates + i]
            for j in range(size):
                r, z = sigmoid(x[j] + u[j]), sigmoid(x[size + j] + u[size + j])
                n = tanh(x[2 * size + j] + r * (u[2 * size + j] + bias_m[j]))
                next_i[j] = n + z * (h_i[j] - n)
