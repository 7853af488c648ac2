"""Episode batches and the replay buffer."""

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from components import episode_buffer, step_rows
from components.episode_buffer import EpisodeBatch, ReplayBuffer
from components.step_rows import DeviceRows, NoRoom
from tests.builders import empty_batch, make_args, make_batch, make_scheme
from utils.errors import UserError

ARGS = make_args()


def make_buffer(buffer_size: int, device: str = "cpu", folder: Path = Path("."), args=ARGS) -> ReplayBuffer:
    """On the device "moved" steps are kept as on a GPU, but in main memory."""
    sizes = buffer_size, args.episode_limit + 1
    scheme, groups, preprocess = make_scheme(args)
    with pytest.MonkeyPatch.context() as patch:
        if device == "moved":
            patch.setattr(episode_buffer, "MemoryRows", lambda layout, most_rows: DeviceRows(layout, most_rows, "cpu"))
            device = "cpu"
        return ReplayBuffer(scheme, groups, *sizes, preprocess=preprocess, device=device, folder=folder)


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


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nothing_is_taken_before_it_is_filled():
    args = make_args(obs_shape=20_000, episode_limit=100)
    before = resident_bytes()
    buffer = make_buffer(160, args=args)
    assert buffer.bytes_per_step * 160 * 101 > 3e9 and resident_bytes() - before < 10e6
    batch = make_batch(args, [100])
    for n_episodes in (1, 2, 4):
        before, had = resident_bytes(), buffer.nbytes
        for _ in range(n_episodes):
            buffer.insert_episode_batch(batch)
        grown = buffer.nbytes - had
        assert grown == n_episodes * 101 * buffer.bytes_per_step
        assert grown - 8e6 < resident_bytes() - before < 1.1 * grown + 8e6


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


def as_in_order(batch: EpisodeBatch) -> EpisodeBatch:
    """By the number of the episode, which stands in its rewards."""
    return batch[batch["reward"][:, 0, 0].argsort()]


@pytest.mark.parametrize("device", ["cpu", "disk", "moved"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_long_random_history_keeps_the_newest_episodes(tmp_path_factory, device, data):
    buffer_size = data.draw(st.integers(1, 6))
    buffer = make_buffer(buffer_size, device, tmp_path_factory.getbasetemp())
    lengths, number, most_steps = [], 0, 0
    for inserted in data.draw(st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=4), min_size=1, max_size=8)):
        batch = make_batch(ARGS, inserted, seed=number)
        batch["reward"][:] = batch["filled"] * th.arange(number, number + len(inserted)).view(-1, 1, 1)
        number += len(inserted)
        buffer.insert_episode_batch(batch)
        for length in inserted:
            lengths = (lengths + [length])[-buffer_size:]
            most_steps = max(most_steps, sum(lengths) + len(lengths))
        assert buffer.episodes_in_buffer == len(lengths)
        assert buffer._rows.n_rows - 1 == most_steps  # what was left is used again
        sample = as_in_order(buffer.sample(len(lengths), rng=np.random.default_rng(0)))
        assert sample["reward"][:, 0, 0].tolist() == list(range(number - len(lengths), number))
        assert sample["filled"].sum(1).flatten().tolist() == [length + 1 for length in lengths]
        assert (sample["obs"].abs().sum((2, 3)) > 0).long().equal(sample["filled"].squeeze(-1).long())
        newest = min(len(inserted), buffer_size)
        for key, value in batch[-newest:, : sample.max_seq_length].data.transition_data.items():
            assert th.equal(sample[key][-newest:, : value.shape[1]], value), key


# --- where it is


def filled_buffer(buffer_size=4, device="cpu", folder=Path("."), lengths=(2, 8, 4, 1, 6, 3)) -> ReplayBuffer:
    """Of more episodes than it keeps, so that its steps do not lie in order."""
    buffer = make_buffer(buffer_size, device, folder)
    for number, length in enumerate(lengths):
        buffer.insert_episode_batch(numbered_episode(number, length))
    return buffer


@pytest.mark.parametrize(("saved_on", "restored_on"), [("cpu", "disk"), ("disk", "moved"), ("moved", "cpu")])
def test_a_saved_buffer_goes_on_anywhere(tmp_path, saved_on, restored_on):
    buffer, restored = filled_buffer(4, saved_on, tmp_path), make_buffer(4, restored_on, tmp_path)
    th.save(buffer.state_dict(), tmp_path / "buffer.th")
    restored.load_state_dict(th.load(tmp_path / "buffer.th", mmap=True))
    for number in range(6, 9):
        for one in (buffer, restored):
            one.insert_episode_batch(numbered_episode(number, number))
        samples = [one.sample(4, rng=np.random.default_rng(number)) for one in (buffer, restored)]
        for key in samples[0].data.transition_data:
            assert th.equal(*(sample[key] for sample in samples)), key
    first, second = buffer.state_dict(), restored.state_dict()
    assert first["lengths"] == second["lengths"] and th.equal(first["rows"], second["rows"])
    assert all(th.equal(value, second["fields"][key]) for key, value in first["fields"].items())


def test_saving_copies_nothing_and_saves_what_was_taken_only():
    buffer = filled_buffer()
    state = buffer.state_dict()
    assert state["fields"]["obs"].untyped_storage().nbytes() == state["fields"]["obs"].nbytes
    first_row = state["rows"][0]
    buffer._rows.write("obs", np.array([first_row + 1]), np.full((1, ARGS.n_agents, ARGS.obs_shape), 9, np.float32))
    assert (state["fields"]["obs"][first_row] == 9).all()


def test_what_was_saved_in_order_and_without_rows_can_be_read():
    buffer, restored = filled_buffer(6), make_buffer(6)
    state = buffer.state_dict()
    del state["rows"]
    restored.load_state_dict(state)
    samples = [one.sample(6, rng=np.random.default_rng(0))["obs"] for one in (buffer, restored)]
    assert th.equal(*samples)
    restored.load_state_dict({"lengths": [], "fields": {}})
    assert restored.episodes_in_buffer == restored.nbytes == 0


def test_a_smaller_buffer_takes_the_newest_episodes_and_no_more_room():
    smaller = make_buffer(2)
    smaller.load_state_dict(filled_buffer(4).state_dict())
    assert numbers_in(smaller) == {4, 5} and smaller._rows.n_rows - 1 == 7 + 4
    smaller.insert_episode_batch(numbered_episode(6))
    assert numbers_in(smaller) == {5, 6}


def test_files_have_no_names_that_could_collide_or_stay(tmp_path):
    first, second = (filled_buffer(4, "disk", tmp_path / "new", lengths) for lengths in ((2, 3), (4, 5, 6)))
    assert list((tmp_path / "new").iterdir()) == []
    assert numbers_in(first) == {0, 1} and numbers_in(second) == {0, 1, 2}


def test_where_the_system_promises_no_room_on_a_disk_it_is_written(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    monkeypatch.setattr(step_rows, "ZEROS", 100)
    buffer = filled_buffer(40, "disk", tmp_path, lengths=(8,) * 40)
    taken = sum(512 * os.fstat(file.fileno()).st_blocks for file in buffer._rows._files)
    assert taken >= buffer._rows.n_rows * buffer._rows.bytes_per_row and numbers_in(buffer) == set(range(40))


def full_disk(descriptor, start, length):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("device", "module", "name", "fake", "words"),
    [
        ("cpu", step_rows, "free_memory", lambda: 100, "kB of main memory, .* lower buffer_size or set buffer_device"),
        ("disk", os, "posix_fallocate", full_disk, "of the disk of .* lower buffer_size or give a local_results_path"),
    ],
)
def test_no_room_is_an_error_and_what_there_is_stays(tmp_path, monkeypatch, device, module, name, fake, words):
    buffer, restored = make_buffer(4, device, tmp_path), make_buffer(4)
    buffer.insert_episode_batch(make_batch(ARGS, [2] * 4))
    monkeypatch.setattr(module, name, fake)
    with pytest.raises(NoRoom, match=words):
        for _ in range(4):
            buffer.insert_episode_batch(make_batch(ARGS, [8]))
    assert buffer.episodes_in_buffer > 0
    monkeypatch.undo()
    restored.load_state_dict(buffer.state_dict())
    n_episodes = restored.episodes_in_buffer
    for one in (buffer, restored):
        one.insert_episode_batch(make_batch(ARGS, [8] * (4 - n_episodes)))
    samples = [one.sample(4, rng=np.random.default_rng(0))["obs"] for one in (buffer, restored)]
    assert th.equal(*samples) and samples[0].shape[1] == 9


@pytest.mark.parametrize(("free_share", "level"), [(0.05, None), (0.5, "WARNING"), (1.5, "INFO")])
def test_the_size_is_told_before_it_is_needed(monkeypatch, caplog, free_share, level):
    caplog.set_level(logging.INFO)
    buffer = make_buffer(1000)
    most = 1000 * 9 * buffer.bytes_per_step
    monkeypatch.setattr(step_rows, "free_memory", lambda: int(free_share * most))
    if level is None:
        with pytest.raises(UserError, match=r"does not fit.* buffer_size \(up to 50 fits.* or set buffer_device=disk"):
            buffer.log_size(logging.getLogger())
        return
    buffer.log_size(logging.getLogger())
    (record,) = caplog.records
    assert record.levelname == level and f"{buffer.bytes_per_step} bytes per step" in record.message
    assert "buffer_size=1000 episodes of 9 steps" in record.message
