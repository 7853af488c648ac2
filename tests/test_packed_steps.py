"""The rows of filled steps, and the GRU over such rows against one that goes episode by episode."""

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from components.packed_steps import PackedSteps
from modules.packed_gru import packed_gru


def filled_of(lengths: list[int], steps: int) -> th.Tensor:
    return (th.arange(steps) < th.tensor(lengths).unsqueeze(1)).unsqueeze(-1).to(th.uint8)


def test_rows_go_step_after_step_and_the_longest_episode_first():
    steps = PackedSteps(filled_of([1, 3, 2], 4))
    names = th.tensor([[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]])
    assert steps.pack(names).tolist() == [20, 30, 10, 21, 31, 22]
    assert steps.batch_sizes == [3, 2, 1]


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_unpacking_gives_the_steps_back_and_zeros_in_the_padding(lengths):
    filled = filled_of(lengths, 7)
    values = th.rand(len(lengths), 7, 2) + 1
    steps = PackedSteps(filled)
    assert th.equal(steps.unpack(steps.pack(values)), values * filled)


def test_seats_have_rows_of_their_own_for_as_long_as_they_live():
    steps = PackedSteps(th.tensor([[[1, 1], [1, 0], [1, 0]], [[0, 1], [0, 1], [0, 0]]], dtype=th.uint8))
    names = th.arange(12).view(2, 3, 2)
    assert steps.pack(names).tolist() == [[0], [7], [1], [2], [9], [4]] and steps.batch_sizes == [3, 2, 1]
    assert steps.unpack(steps.pack(names)).tolist() == [[[0, 1], [2, 0], [4, 0]], [[0, 7], [0, 9], [0, 0]]]


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_the_packed_gru_is_the_cell_episode_by_episode_in_values_and_gradients(lengths):
    th.manual_seed(0)
    cell = th.nn.GRUCell(3, 4)
    x = th.randn(len(lengths), 6, 3)
    weights_of_loss = th.randn(len(lengths), 6, 4)
    filled = filled_of(lengths, 6)
    steps = PackedSteps(filled)
    order = th.tensor(lengths).argsort(descending=True, stable=True)

    results = []
    for is_packed in (True, False):
        cell.zero_grad()
        x_leaf = x.clone().requires_grad_()
        h_0 = th.full((len(lengths), 4), 0.5).requires_grad_()
        if is_packed:
            hs = steps.unpack(packed_gru(steps.pack(x_leaf), h_0[order], cell, steps.batch_sizes))
        else:
            h, stacked = h_0, []
            for t in range(6):
                h = cell(x_leaf[:, t], h)
                stacked.append(h)
            hs = th.stack(stacked, 1) * filled
        (hs * weights_of_loss).sum().backward()
        results.append([hs, x_leaf.grad, h_0.grad, *(p.grad.clone() for p in cell.parameters())])
    for got, expected in zip(*results, strict=True):
        assert th.allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not th.cuda.is_available(), reason="compares with the GPU's own GRU")
def test_the_gpu_gives_the_same():
    steps = PackedSteps(filled_of([5, 2, 4], 6))
    cell, x = th.nn.GRUCell(3, 4), th.randn(11, 3)
    on_cpu = packed_gru(x, th.zeros(3, 4), cell, steps.batch_sizes)
    on_gpu = packed_gru(x.cuda(), th.zeros(3, 4).cuda(), cell.cuda(), steps.batch_sizes)
    assert th.allclose(on_gpu.cpu(), on_cpu, atol=1e-4)
