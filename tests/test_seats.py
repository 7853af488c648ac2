"""Single seats cut out of teams: real batches of one agent, read by the same functions as whole teams."""

import pytest
import torch as th

from components.seats import cut_seats, every_seat
from modules.inputs import agent_ids, last_actions, others
from tests.builders import make_args, make_batch
from utils.transfer import step_index

ARGS = make_args()
N = ARGS.n_agents


@pytest.fixture
def batch():
    return make_batch(ARGS, [8, 3, 5])


@pytest.mark.parametrize("ts", [slice(None), slice(2, 4)])
def test_a_seat_holds_its_own_rows_and_those_of_its_team(batch, ts):
    episodes, seats = th.tensor([0, 0, 2]), th.tensor([1, 0, 2])
    cut = cut_seats(batch, episodes, seats, ts)
    assert cut.batch_size == 3 and cut.max_seq_length == len(range(9)[ts]) and cut.groups["agents"] == 1
    assert cut["seat"].tolist() == [[1], [0], [2]]
    for i, (b, a) in enumerate(zip(episodes, seats, strict=True)):
        for key in ("obs", "avail_actions", "actions", "actions_onehot"):
            assert th.equal(cut[key][i, :, 0], batch[key][b, ts, a]), key
        for key in ("state", "reward", "terminated", "filled"):
            assert th.equal(cut[key][i], batch[key][b, ts]), key
        for key in ("obs", "actions", "avail_actions"):
            assert th.equal(cut[f"team_{key}"][i], batch[key][b, ts]) and th.equal(batch[f"team_{key}"], batch[key])
    assert th.equal(cut.on_host("filled"), cut["filled"]) and th.equal(cut.on_host("terminated"), cut["terminated"])
    for key in cut.scheme:
        assert cut[1:, :1][key].shape == (cut[key][1:] if key == "seat" else cut[key][1:, :1]).shape, key


def test_ids_last_actions_and_the_others_are_the_same_from_seats_as_from_the_team(batch):
    seats = every_seat(batch)
    ids = agent_ids(batch, N, "cpu")
    assert th.equal(ids, th.eye(N).expand(3, 1, N, N))
    assert th.equal(agent_ids(seats, N, "cpu"), ids.transpose(1, 2).reshape(3 * N, 1, 1, N))
    of_team, of_seats = (last_actions(given["actions"], ARGS.n_actions, "cpu") for given in (batch, seats))
    assert th.equal(of_seats, of_team.transpose(1, 2).flatten(0, 1).unsqueeze(2))
    for key in ("team_obs", "team_actions"):
        mask = th.rand(batch[key].shape[:2])[:, :-1] < 0.7
        of_others = others(batch, batch[key], step_index(mask, "cpu"))
        assert of_others.shape == (int(mask.sum()), N, N - 1, batch[key].shape[-1])
        assert th.equal(of_others[:, 1], batch[key][:, :-1][mask][:, [0, 2]])
        in_seats = step_index(mask.repeat_interleave(N, 0), "cpu")
        seat_of_row = in_seats[0] % N
        rows = others(seats, seats[key], in_seats)
        assert th.equal(th.cat([rows[seat_of_row == seat] for seat in range(N)], 1), of_others)
