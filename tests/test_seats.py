"""Folded batches: single seats as episodes of their own, read by the same functions as whole teams."""

import pytest
import torch as th
from components.fold import FoldedBatch
from utils.seats import others, seat_ids, team

from tests.builders import make_args, make_batch
from utils.transfer import where

ARGS = make_args()


@pytest.fixture
def batch():
    return make_batch(ARGS, [8, 3, 5])


def test_a_fold_holds_the_rows_of_the_seat(batch):
    episodes, seats = th.tensor([0, 0, 2]), th.tensor([1, 0, 2])
    folded = FoldedBatch(batch, episodes, seats)
    assert folded.batch_size == 3
    for i, (b, a) in enumerate(zip(episodes, seats, strict=True)):
        for key in ("obs", "avail_actions", "actions", "actions_onehot"):
            assert th.equal(folded[key][i, :, 0], batch[key][b, :, a]), key
        for key in ("state", "reward", "terminated", "filled"):
            assert th.equal(folded[key][i], batch[key][b]), key
    assert folded["seat"].tolist() == [[1], [0], [2]]


def test_ids_the_team_and_the_others_are_the_same_from_a_fold_as_from_the_team(batch):
    n = ARGS.n_agents
    episodes, seats = th.arange(3).repeat_interleave(n), th.arange(n).repeat(3)
    folded = FoldedBatch(batch, episodes, seats)
    ids = seat_ids(batch, n, "cpu").expand(3, 1, n, n)
    assert th.equal(seat_ids(folded, n, "cpu"), ids.transpose(1, 2).reshape(3 * n, 1, 1, n))
    for key in ("obs", "actions"):
        assert th.equal(team(folded, key), batch[key].repeat_interleave(n, 0))
        mask = th.rand(batch[key].shape[:2])[:, :-1] < 0.7
        of_others = others(batch, team(batch, key), where(mask, "cpu"))
        assert of_others.shape == (int(mask.sum()), n, n - 1, batch[key].shape[-1])
        assert th.equal(of_others[:, 1], batch[key][:, :-1][mask][:, [0, 2]])
        in_folded = where(mask.repeat_interleave(n, 0), "cpu")
        seat_of_row = in_folded[0] % n
        of_folded = others(folded, team(folded, key), in_folded)
        assert th.equal(th.cat([of_folded[seat_of_row == seat] for seat in range(n)], 1), of_others)
