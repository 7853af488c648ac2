"""How a batch lines up into transitions: what counts, what is discounted."""

import torch as th
from hypothesis import given
from hypothesis import strategies as st

from components.transitions import make_transitions
from tests.builders import golden_case, make_args, make_batch

ARGS = make_args()


def test_shapes_and_alignment():
    batch = make_batch(ARGS, [8, 4])
    transitions = make_transitions(batch, 0.9)
    shapes = {name: tuple(value.shape) for name, value in transitions._asdict().items() if name != "played"}
    assert shapes == {
        "obs": (2, 9, 3, 6),
        "avail": (2, 9, 3, 5),
        "state": (2, 9, 7),
        "actions": (2, 8, 3),
        "reward": (2, 8, 1),
        "discount": (2, 8, 1),
        "mask": (2, 8, 1),
    }
    assert transitions.avail.dtype == th.bool and transitions.actions.dtype == th.long
    assert transitions.mask.dtype == th.float32
    assert th.equal(transitions.reward[:, 3], batch["reward"][:, 3])
    assert th.equal(transitions.reward[transitions.played], transitions.reward[transitions.mask > 0].unsqueeze(-1))


def test_an_episode_that_ended_counts_its_last_step_and_does_not_bootstrap_there():
    transitions = make_transitions(make_batch(ARGS, [4], ended=[True]), 0.9)
    assert transitions.mask.flatten().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert th.allclose(transitions.discount.flatten()[:5], th.tensor([0.9, 0.9, 0.9, 0.0, 0.9]))


def test_an_episode_cut_off_at_full_length_bootstraps_from_its_final_observation():
    transitions = make_transitions(make_batch(ARGS, [8], ended=[False]), 0.9)
    assert transitions.mask.flatten().tolist() == [1] * 8
    assert th.allclose(transitions.discount, th.tensor(0.9))


def test_an_episode_cut_off_early_does_not_train_its_final_observation_as_a_transition():
    transitions = make_transitions(make_batch(ARGS, [4], ended=[False]), 0.9)
    assert transitions.mask.flatten().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert th.allclose(transitions.discount.flatten()[:4], th.tensor(0.9))


def test_an_end_counts_without_a_final_observation():
    batch = make_batch(ARGS, [4], ended=[True])
    batch["filled"][0, 4] = 0
    assert make_transitions(batch, 0.9).mask.sum() == 4


def test_nothing_counts_after_an_end_however_many_steps_are_filled():
    batch = make_batch(ARGS, [8], ended=[False])
    batch["terminated"][0, 2] = 1
    assert make_transitions(batch, 0.9).mask.flatten().tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_the_mask_is_pymarls():
    _, batch, arrays = golden_case("iql")
    mask = arrays["filled"][:, :-1].astype(float)
    mask[:, 1:] *= 1 - arrays["terminated"][:, :-2]
    assert th.equal(make_transitions(batch, 0.99).mask, th.from_numpy(mask).float())


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=4))
def test_every_transition_that_was_played_counts_once(episodes):
    lengths, ended = zip(*episodes, strict=True)
    transitions = make_transitions(make_batch(ARGS, list(lengths), list(ended)), 0.5)
    assert transitions.mask.sum((1, 2)).tolist() == list(lengths)
    assert ((transitions.discount == 0) & (transitions.mask == 1)).sum((1, 2)).tolist() == [int(end) for end in ended]
