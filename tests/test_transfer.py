"""Batches on their way to a GPU, and updates there: one transfer, and nothing for which the host would have to wait.

The device "meta" stands in for a GPU: its tensors have no values, so that whatever asks for one fails.
"""

import pytest
import torch as th

from components.seats import seats_that_learn
from tests import test_learner_contract as contract
from tests.builders import make_batch, make_omg_args
from tests.test_learner_contract import CASES, OF_SEATS, a_users_learner, of_learners  # noqa: F401
from utils.transfer import step_index, to_device_together


def make_learner(name, **more):
    """A learner on "meta" that has logged and copies its targets at each update."""
    intervals = {"target_update_interval": 1, "critic_target_update_interval": 1, "learner_log_interval": 100}
    made = contract.make_learner(name, **({"device": "meta"} | intervals | more))
    made.log_stats_t = 0
    return made


def make_moved_batch():
    batch = make_batch(make_omg_args(), [8, 2, 5, 7], [True, False, True, False])
    batch.scheme["agent_idx"] = {"vshape": (1,), "dtype": th.long, "episode_const": True}
    batch.data.episode_data["agent_idx"] = th.tensor([[0], [2], [1], [0]])
    return batch.to("meta")


@of_learners(CASES)
def test_an_update_asks_the_device_for_no_value(name):
    learner = make_learner(name)
    learner.train(make_moved_batch(), t_env=1, episode_num=1)
    assert not learner.logger.stats


@of_learners(OF_SEATS)
def test_nor_does_one_from_single_seats(name):
    make_learner(name, n_seats=1).train(seats_that_learn(make_moved_batch()), t_env=1, episode_num=1)


def test_logging_does():
    """So that the tests above can fail."""
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        make_learner("qmix", learner_log_interval=0).train(make_moved_batch(), t_env=1, episode_num=1)


def test_fields_that_are_sent_together_arrive_as_they_were_in_one_piece_of_memory():
    fields = {
        "none": th.zeros(0, 4),
        "flags": th.tensor([[1, 0, 1]], dtype=th.uint8),
        "numbers": th.arange(6).view(2, 3),
        "of_a_slice": th.randn(4, 5)[:, 1:3],
    }
    arrived = to_device_together(fields, "cpu")
    assert list(arrived) == list(fields)
    for key, field in fields.items():
        assert arrived[key].dtype == field.dtype and th.equal(arrived[key], field), key
    assert len({value.untyped_storage().data_ptr() for value in arrived.values()}) == 1


def test_a_batch_that_is_moved_leaves_behind_what_the_host_has_to_know():
    args = make_omg_args()
    batch, moved = make_batch(args, [8, 2]), make_batch(args, [8, 2]).to("meta")
    for key in batch.scheme:
        assert moved[key].device.type == "meta" and moved[key].shape == batch[key].shape
        assert moved[key].dtype == batch[key].dtype
    assert th.equal(moved.on_host("filled"), batch["filled"])
    assert th.equal(moved.on_host("terminated"), batch["terminated"])


def test_where_a_mask_is_true_as_indices():
    mask = th.tensor([[True, False, True], [False, True, False]])
    values = th.arange(8).view(2, 4)  # one step more than the mask has
    assert values[step_index(mask, "cpu")].tolist() == values[:, :3][mask].tolist() == [0, 2, 5]
