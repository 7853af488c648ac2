"""Episode batches and the replay buffer."""

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from components.episode_buffer import EpisodeBatch, ReplayBuffer
from tests.builders import empty_batch, make_args, make_batch, make_scheme

ARGS = make_args()


def make_buffer(buffer_size: int) -> ReplayBuffer:
    scheme, groups, preprocess = make_scheme(ARGS)
    return ReplayBuffer(scheme, groups, buffer_size, ARGS.episode_limit + 1, preprocess=preprocess)


def numbered_episode(number: int, length: int = 3) -> EpisodeBatch:
    batch = make_batch(ARGS, [length], seed=number)
    batch["reward"][:] = number
    return batch


def numbers_in(buffer: ReplayBuffer) -> set[int]:
    batch = buffer.sample(buffer.episodes_in_buffer, rng=np.random.default_rng(0))
    return {int(number) for number in batch["reward"][:, 0, 0]}


def test_update_writes_the_named_steps_and_marks_them_filled():
    batch = empty_batch(ARGS, 3)
    obs = np.arange(2 * ARGS.n_agents * ARGS.obs_shape).reshape(2, ARGS.n_agents, ARGS.obs_shape)
    batch.update({"obs": obs}, bs=[0, 2], ts=4)
    assert th.equal(batch["obs"][[0, 2], 4], th.from_numpy(obs).float())
    assert batch["obs"][1].abs().sum() == 0
    assert batch["filled"].squeeze(-1).nonzero().tolist() == [[0, 4], [2, 4]]
    assert batch["filled"].dtype == th.uint8


def test_update_without_mark_filled_leaves_filled_alone():
    batch = empty_batch(ARGS, 1)
    batch.update({"reward": [[1.0]]}, ts=0, mark_filled=False)
    assert batch["filled"].sum() == 0 and batch["reward"][0, 0, 0] == 1


def test_slices_of_update_are_keyword_only():
    with pytest.raises(TypeError):
        empty_batch(ARGS, 1).update({"reward": [[1.0]]}, slice(None), 0)


def test_a_wrong_shape_names_both_shapes():
    with pytest.raises(ValueError, match=r"'obs' was given shape \(2, 3, 9\).*\(2, 1, 3, 6\)"):
        empty_batch(ARGS, 2).update({"obs": np.zeros((2, 3, 9))}, ts=0)


@pytest.mark.parametrize("access", [lambda b: b["rewards"], lambda b: b.update({"rewards": [[0.0]]}, ts=0)])
def test_an_unknown_field_names_the_known_ones(access):
    with pytest.raises(KeyError, match="'rewards' is not a .*'reward'"):
        access(empty_batch(ARGS, 1))


def test_an_unknown_group_names_the_known_ones():
    with pytest.raises(ValueError, match=r"group 'enemies'; the groups are \['agents'\]"):
        EpisodeBatch({"x": {"vshape": 1, "group": "enemies"}}, {"agents": 2}, 1, 1)


def test_derived_fields_are_computed_and_not_stored():
    batch = make_batch(ARGS, [4, 8])
    one_hot = batch["actions_onehot"]
    assert one_hot.shape == (2, 9, ARGS.n_agents, ARGS.n_actions) and one_hot.dtype == th.float32
    assert th.equal(one_hot.argmax(-1, keepdim=True), batch["actions"])
    assert th.equal(one_hot.sum(-1), th.ones_like(one_hot[..., 0]))
    assert "actions_onehot" not in batch.data.transition_data
    assert batch.scheme["actions_onehot"]["vshape"] == (ARGS.n_actions,)
    assert th.equal(batch[1:, 2:5]["actions_onehot"], one_hot[1:, 2:5])
    assert th.equal(batch["actions_onehot", "reward"]["actions_onehot"], one_hot)


@pytest.mark.parametrize(
    "item, batch_size, steps",
    [
        (1, 1, 9),
        (-1, 1, 9),
        ([0, 2], 2, 9),
        (th.tensor([2, 1]), 2, 9),
        (slice(1, None), 2, 9),
        ((slice(None), slice(0, 4)), 3, 4),
        ((slice(None), -1), 3, 1),
        (([1], 3), 1, 1),
    ],
)
def test_slicing_cuts_every_field(item, batch_size, steps):
    batch = make_batch(ARGS, [8, 5, 3])
    part = batch[item]
    assert (part.batch_size, part.max_seq_length) == (batch_size, steps)
    for key in batch.data.transition_data:
        assert part[key].shape[:2] == (batch_size, steps), key


def test_slices_are_views_and_steps_must_be_contiguous():
    batch = make_batch(ARGS, [8, 5])
    batch[1:, 2]["reward"].fill_(7)
    assert batch["reward"][1, 2] == 7
    with pytest.raises(IndexError, match="not by list"):
        batch[:, [0, 3]]


def test_a_batch_of_named_fields_has_these_only():
    part = make_batch(ARGS, [8])["obs", "reward"]
    assert set(part.data.transition_data) == {"obs", "reward"}
    with pytest.raises(KeyError):
        part["state"]


def test_max_t_filled_counts_the_final_observation():
    assert make_batch(ARGS, [3, 6, 2]).max_t_filled() == 7


def test_episode_constants_have_no_time():
    batch = EpisodeBatch({"seat": {"vshape": (1,), "episode_const": True, "dtype": th.long}}, {}, 3, 5)
    batch.update({"seat": [[4]]}, bs=1)
    assert batch["seat"].tolist() == [[0], [4], [0]]
    assert batch[1]["seat"].tolist() == [[4]]
    assert batch.data.episode_data.keys() == {"seat"}


def test_to_moves_every_field_in_place():
    batch = make_batch(ARGS, [3])
    assert batch.to("meta") is batch
    assert {value.device.type for value in batch.data.transition_data.values()} == {"meta"}


# --- replay buffer


def test_a_sample_is_what_was_inserted():
    batch = make_batch(ARGS, [8, 3, 5], ended=[False, True, True])
    buffer = make_buffer(10)
    buffer.insert_episode_batch(batch)
    sample = buffer.sample(3, rng=np.random.default_rng(0))
    order = [batch["state"][:, 0].tolist().index(state) for state in sample["state"][:, 0].tolist()]
    assert sorted(order) == [0, 1, 2]
    for key, value in batch.data.transition_data.items():
        assert th.equal(sample[key], value[order]), key
        assert sample[key].dtype == value.dtype, key
    assert th.equal(sample["actions_onehot"].argmax(-1, keepdim=True), sample["actions"])


def test_a_sample_is_as_long_as_its_longest_episode():
    buffer = make_buffer(10)
    buffer.insert_episode_batch(make_batch(ARGS, [2, 4]))
    sample = buffer.sample(2, rng=np.random.default_rng(0))
    assert sample.max_seq_length == sample["obs"].shape[1] == sample.max_t_filled() == 5
    assert sorted(sample["filled"].sum(1).flatten().tolist()) == [3, 5]


def test_the_buffer_copies_since_runners_reuse_their_batch():
    buffer, batch = make_buffer(2), make_batch(ARGS, [3])
    buffer.insert_episode_batch(batch)
    kept = buffer.sample(1, rng=np.random.default_rng(0))["obs"]
    batch["obs"].fill_(9)
    assert th.equal(buffer.sample(1, rng=np.random.default_rng(0))["obs"], kept)


def test_the_oldest_episode_makes_room():
    buffer = make_buffer(3)
    for number in range(5):
        buffer.insert_episode_batch(numbered_episode(number))
        assert numbers_in(buffer) == set(range(max(0, number - 2), number + 1))
    assert buffer.episodes_in_buffer == buffer.buffer_size == 3


def test_sampling_has_no_repeats_reaches_everything_and_obeys_its_generator():
    buffer = make_buffer(6)
    for number in range(6):
        buffer.insert_episode_batch(numbered_episode(number))
    rng, counts = np.random.default_rng(0), np.zeros(6)
    for _ in range(300):
        numbers = buffer.sample(2, rng=rng)["reward"][:, 0, 0].long().tolist()
        assert len(set(numbers)) == 2
        counts[numbers] += 1
    assert counts.min() > 60 and counts.max() < 140
    first, again, other = (buffer.sample(4, rng=np.random.default_rng(seed))["obs"] for seed in (1, 1, 2))
    assert th.equal(first, again) and not th.equal(first, other)


def test_too_few_episodes_cannot_be_sampled():
    buffer = make_buffer(6)
    buffer.insert_episode_batch(numbered_episode(0))
    assert buffer.can_sample(1) and not buffer.can_sample(2)
    with pytest.raises(ValueError, match="2 episodes were asked for, 1 are in the buffer"):
        buffer.sample(2, rng=np.random.default_rng(0))


def test_memory_is_what_was_filled():
    buffer = make_buffer(1000)
    assert buffer.nbytes == 0
    per_step = 4 * ARGS.state_shape + 4 + 1 + 1 + ARGS.n_agents * (4 * ARGS.obs_shape + 2 + ARGS.n_actions)
    buffer.insert_episode_batch(make_batch(ARGS, [2]))
    assert buffer.nbytes == 3 * per_step
    buffer.insert_episode_batch(make_batch(ARGS, [8]))
    assert buffer.nbytes == (3 + 9) * per_step
    buffer.load_state_dict(buffer.state_dict())
    for episode in buffer._episodes:  # no episode holds on to the memory of a larger batch
        assert all(value.untyped_storage().nbytes() == value.nbytes for value in episode.values())


def test_integers_that_do_not_fit_are_refused():
    scheme = {"x": {"vshape": (1,), "dtype": th.long, "store_dtype": th.int16}}
    batch, buffer = EpisodeBatch(scheme, {}, 1, 1), ReplayBuffer(scheme, {}, 2, 1)
    batch.update({"x": [[40000]]}, ts=0)
    with pytest.raises(ValueError, match="'x' has values that do not fit"):
        buffer.insert_episode_batch(batch)


def test_an_empty_episode_is_refused():
    with pytest.raises(ValueError, match="episode 1 .* no filled step"):
        batch = make_batch(ARGS, [3, 3])
        batch["filled"][1] = 0
        make_buffer(2).insert_episode_batch(batch)


def test_a_restored_buffer_gives_the_same_samples():
    buffer, restored = make_buffer(4), make_buffer(4)
    buffer.insert_episode_batch(make_batch(ARGS, [2, 8, 4, 4, 1]))
    restored.load_state_dict(buffer.state_dict())
    for key in ("obs", "actions", "filled"):
        samples = [b.sample(3, rng=np.random.default_rng(5))[key] for b in (buffer, restored)]
        assert th.equal(*samples)


def test_episode_constants_are_kept():
    scheme = {"seat": {"vshape": (1,), "episode_const": True, "dtype": th.long}, "x": {"vshape": 2}}
    batch, buffer = EpisodeBatch(scheme, {}, 2, 3), ReplayBuffer(scheme, {}, 4, 3)
    batch.update({"seat": [[4], [5]], "x": np.ones((2, 2, 2))}, ts=slice(0, 2))
    buffer.insert_episode_batch(batch)
    assert sorted(buffer.sample(2, rng=np.random.default_rng(0))["seat"].flatten().tolist()) == [4, 5]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_long_random_history_keeps_the_newest_episodes(data):
    buffer_size = data.draw(st.integers(1, 6))
    buffer, lengths = make_buffer(buffer_size), []
    for inserted in data.draw(st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=4), min_size=1, max_size=8)):
        buffer.insert_episode_batch(make_batch(ARGS, inserted))
        lengths = (lengths + inserted)[-buffer_size:]
        assert buffer.episodes_in_buffer == len(lengths)
        sample = buffer.sample(len(lengths), rng=np.random.default_rng(len(lengths)))
        assert sorted(sample["filled"].sum(1).flatten().tolist()) == sorted(length + 1 for length in lengths)
        assert (sample["obs"].abs().sum((2, 3)) > 0).long().equal(sample["filled"].squeeze(-1).long())
