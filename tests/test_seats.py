"""Folded batches: single seats as episodes of their own, read by the same functions as whole teams."""

import pytest
import torch as th

from components.fold import FoldedBatch
from tests.builders import make_args, make_batch
from utils.seats import others, seat_ids, team

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
        of_team = others(batch, key)
        assert of_team.shape == (*batch[key].shape[:3], n - 1, batch[key].shape[-1])
        assert th.equal(others(folded, key), of_team.transpose(1, 2).flatten(0, 1).unsqueeze(2))
    assert th.equal(others(batch, "obs")[:, :, 1], batch["obs"][:, :, [0, 2]])
