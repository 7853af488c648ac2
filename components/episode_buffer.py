"""Episodes as tensors `[batch, time, agent, feature]`: `EpisodeBatch` to work on, `ReplayBuffer` to keep.

A scheme names the fields: `vshape`, `dtype` (float32 if left out), `group` (a leading dimension, such as "agents"),
`episode_const` (one entry per episode instead of one per step) and `store_dtype` (what the replay buffer keeps).
What a learner reads is cut from a batch in `components/transitions.py`.
"""

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th
from torch.nn.utils.rnn import pad_sequence

FILLED = {"vshape": (1,), "dtype": th.uint8}


def _complete_scheme(scheme: dict, preprocess: dict) -> dict:
    """The scheme with tuples for shapes, a dtype everywhere, `filled`, and the fields that `preprocess` derives."""
    if "filled" in scheme and scheme["filled"] != FILLED:
        raise ValueError("the scheme may not define 'filled': the batch keeps it")
    complete = {}
    for key, entry in {**scheme, "filled": FILLED}.items():
        vshape = entry["vshape"]
        vshape = (vshape,) if isinstance(vshape, int) else tuple(vshape)
        complete[key] = {"dtype": th.float32, **entry, "vshape": vshape}
    for source, (derived, transforms) in preprocess.items():
        vshape, dtype = complete[source]["vshape"], complete[source]["dtype"]
        for transform in transforms:
            vshape, dtype = transform.infer_output_info(vshape, dtype)
        shared = {name: complete[source][name] for name in ("group", "episode_const") if name in complete[source]}
        complete[derived] = {"vshape": vshape, "dtype": dtype, **shared}
    return complete


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


class EpisodeBatch:
    """Episodes of one length, padded with zeros; `filled` [batch, time, 1] is 1 where a step was written.

    `preprocess` is `{source: (derived, [Transform, ...])}`; derived fields are computed on read and never stored.
    Slices of a batch are views of it. `data` is for such views: fields that exist already.
    """

    def __init__(
        self,
        scheme: dict,
        groups: dict[str, int],
        batch_size: int,
        max_seq_length: int,
        data: SimpleNamespace | None = None,
        preprocess: dict | None = None,
        device: str | th.device = "cpu",
    ):
        self.preprocess = preprocess or {}
        self.groups = groups
        self.batch_size = batch_size
        self.max_seq_length = max_seq_length
        self.device = device
        self._arrays: dict[str, np.ndarray] = {}
        self._derived = {derived: (source, steps) for source, (derived, steps) in self.preprocess.items()}
        if data is not None:
            self.scheme, self.data = scheme, data
        else:
            self.scheme = _complete_scheme(scheme, self.preprocess)
            self.data = self._zeros()

    def _zeros(self) -> SimpleNamespace:
        data = SimpleNamespace(transition_data={}, episode_data={})
        for key, entry in self.scheme.items():
            if key in self._derived:
                continue
            group = entry.get("group")
            if group is not None and group not in self.groups:
                raise ValueError(f"field {key!r} belongs to group {group!r}; the groups are {sorted(self.groups)}")
            shape = entry["vshape"] if group is None else (self.groups[group], *entry["vshape"])
            if entry.get("episode_const", False):
                shape, fields = (self.batch_size, *shape), data.episode_data
            else:
                shape, fields = (self.batch_size, self.max_seq_length, *shape), data.transition_data
            fields[key] = th.zeros(shape, dtype=entry["dtype"], device=self.device)
        return data

    def update(
        self, data: dict[str, Any], *, bs: Any = slice(None), ts: Any = slice(None), mark_filled: bool = True
    ) -> None:
        """Writes `data` into episodes `bs` and steps `ts` (an int or a slice) and marks the steps as filled.

        Raises:
            KeyError: a field that the scheme does not store.
            ValueError: a shape that is not the field's, ones aside.
        """
        bs, ts = self._slices(bs, ts)
        for key, value in data.items():
            if key in self.data.transition_data:
                target = self.data.transition_data[key]
                where: tuple = (bs, ts)
                if mark_filled:
                    self.data.transition_data["filled"][where] = 1
                    mark_filled = False
            elif key in self.data.episode_data:
                target = self.data.episode_data[key]
                where = (bs,)
            else:
                stored = sorted(self.data.transition_data | self.data.episode_data)
                raise KeyError(f"{key!r} is not a stored field of this batch; the fields are {stored}")
            value = value if isinstance(value, th.Tensor) else th.as_tensor(np.asarray(value))
            destination = target[where]
            if _without_ones(value.shape) != _without_ones(destination.shape):
                given, wanted = tuple(value.shape), tuple(destination.shape)
                raise ValueError(f"field {key!r} was given shape {given}, but its place in the batch is {wanted}")
            target[where] = value.to(target.device, target.dtype).reshape(destination.shape)

    def __getitem__(self, item: Any) -> Any:
        """A field by name, a batch of several fields by their names, or a batch of some episodes (and steps)."""
        if isinstance(item, str):
            return self._field(item)
        if isinstance(item, tuple) and all(isinstance(name, str) for name in item):
            return self._with_fields(item)
        bs, ts = self._slices(*item) if isinstance(item, tuple) else self._slices(item, slice(None))
        transition_data = {key: value[bs, ts] for key, value in self.data.transition_data.items()}
        episode_data = {key: value[bs] for key, value in self.data.episode_data.items()}
        batch_size = len(th.arange(self.batch_size)[bs])
        steps = len(range(*ts.indices(self.max_seq_length)))
        data = SimpleNamespace(transition_data=transition_data, episode_data=episode_data)
        return EpisodeBatch(self.scheme, self.groups, batch_size, steps, data, self.preprocess, self.device)

    def array(self, key: str) -> np.ndarray:
        """A field by name as a NumPy array on the same memory; only on a CPU."""
        if key not in self._arrays:
            self._arrays[key] = self._field(key).numpy()
        return self._arrays[key]

    def _field(self, key: str) -> th.Tensor:
        if key in self.data.transition_data:
            return self.data.transition_data[key]
        if key in self.data.episode_data:
            return self.data.episode_data[key]
        if key in self._derived:
            source, transforms = self._derived[key]
            value = self._field(source)
            for transform in transforms:
                value = transform.transform(value)
            return value
        raise KeyError(f"{key!r} is not a field of this batch; the fields are {sorted(self.scheme)}")

    def _with_fields(self, keys: tuple[str, ...]) -> "EpisodeBatch":
        data = SimpleNamespace(transition_data={}, episode_data={})
        for key in keys:
            value = self._field(key)
            is_const = self.scheme[key].get("episode_const", False)
            (data.episode_data if is_const else data.transition_data)[key] = value
        scheme = {key: self.scheme[key] for key in keys}
        return EpisodeBatch(scheme, self.groups, self.batch_size, self.max_seq_length, data, None, self.device)

    @staticmethod
    def _slices(bs: Any, ts: Any) -> tuple[Any, slice]:
        """Integers become slices of length one, so that no dimension is lost; steps must be contiguous."""
        if isinstance(bs, int | np.integer):
            bs = slice(int(bs), int(bs) + 1 or None)
        if isinstance(ts, int | np.integer):
            ts = slice(int(ts), int(ts) + 1 or None)
        if not isinstance(ts, slice):
            raise IndexError(f"steps are picked by an integer or a slice, not by {type(ts).__name__}")
        return bs, ts

    def max_t_filled(self) -> int:
        """The number of steps of the longest episode, its last observation included."""
        return int(self.data.transition_data["filled"].sum(1).max())

    def to(self, device: str | th.device) -> "EpisodeBatch":
        """Moves every field to `device`, in place."""
        # Copies towards the host must not be asynchronous: it would read them before they are there.
        non_blocking = th.device(device).type == "cuda"
        for fields in (self.data.transition_data, self.data.episode_data):
            for key, value in fields.items():
                fields[key] = value.to(device, non_blocking=non_blocking)
        self.device = device
        self._arrays.clear()
        return self

    def __repr__(self) -> str:
        fields = sorted(self.scheme)
        return f"EpisodeBatch(batch_size={self.batch_size}, max_seq_length={self.max_seq_length}, fields={fields})"


class ReplayBuffer:
    """The last `buffer_size` episodes, each kept at its own length, so that memory follows what was played.

    Sampling pads with zeros and gives an `EpisodeBatch` as long as the longest episode drawn.
    """

    def __init__(
        self,
        scheme: dict,
        groups: dict[str, int],
        buffer_size: int,
        max_seq_length: int,
        preprocess: dict | None = None,
        device: str | th.device = "cpu",
    ):
        self.preprocess = preprocess or {}
        self.scheme = _complete_scheme(scheme, self.preprocess)
        self.groups = groups
        self.buffer_size = buffer_size
        self.max_seq_length = max_seq_length
        self.device = device
        self._episodes: deque[dict[str, th.Tensor]] = deque(maxlen=buffer_size)

    @property
    def episodes_in_buffer(self) -> int:
        return len(self._episodes)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(value.nbytes for episode in self._episodes for value in episode.values())

    def insert_episode_batch(self, ep_batch: EpisodeBatch) -> None:
        """Copies every episode of the batch, cut to its filled steps; the oldest episodes make room."""
        lengths = ep_batch["filled"].sum(1).flatten().tolist()
        if 0 in lengths:
            raise ValueError(f"episode {lengths.index(0)} of the batch has no filled step")
        for b, length in enumerate(lengths):
            episode = {key: value[b, :length] for key, value in ep_batch.data.transition_data.items()}
            episode |= {key: value[b] for key, value in ep_batch.data.episode_data.items()}
            self._episodes.append({key: self._compact(key, value) for key, value in episode.items()})

    def _compact(self, key: str, value: th.Tensor) -> th.Tensor:
        stored = value.to(self.device, self._store_dtype(key), copy=True)
        if not stored.is_floating_point() and stored.dtype != value.dtype and not th.equal(stored.to(value), value):
            raise ValueError(f"field {key!r} has values that do not fit into its store_dtype {stored.dtype}")
        return stored

    def _store_dtype(self, key: str) -> th.dtype:
        return self.scheme[key].get("store_dtype", self.scheme[key]["dtype"])

    def can_sample(self, batch_size: int) -> bool:
        return self.episodes_in_buffer >= batch_size

    def sample(self, batch_size: int, *, rng: np.random.Generator) -> EpisodeBatch:
        """`batch_size` different episodes, all equally likely."""
        if not self.can_sample(batch_size):
            raise ValueError(f"{batch_size} episodes were asked for, {self.episodes_in_buffer} are in the buffer")
        return self._batch(rng.choice(self.episodes_in_buffer, batch_size, replace=False))

    def _batch(self, indices: np.ndarray) -> EpisodeBatch:
        episodes = [self._episodes[i] for i in indices]
        data = SimpleNamespace(transition_data={}, episode_data={})
        for key in episodes[0]:
            values = [episode[key] for episode in episodes]
            if self._is_const(key):
                data.episode_data[key] = th.stack(values).to(self.scheme[key]["dtype"])
            else:
                data.transition_data[key] = pad_sequence(values, batch_first=True).to(self.scheme[key]["dtype"])
        steps = data.transition_data["filled"].shape[1]
        return EpisodeBatch(self.scheme, self.groups, len(episodes), steps, data, self.preprocess, self.device)

    def state_dict(self) -> dict[str, Any]:
        """The stored episodes, oldest first: their lengths, and for each field all steps of all in one tensor."""
        fields: dict[str, th.Tensor] = {}
        for key in self._episodes[0] if self._episodes else ():
            join = th.stack if self._is_const(key) else th.cat
            fields[key] = join([episode[key] for episode in self._episodes])
        return {"lengths": [len(episode["filled"]) for episode in self._episodes], "fields": fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        columns = {}
        for key, value in state["fields"].items():
            parts = value.to(self.device).split(1 if self._is_const(key) else state["lengths"])
            # Copies, since a view would keep the steps of all episodes in memory.
            columns[key] = [part[0].clone() if self._is_const(key) else part.clone() for part in parts]
        episodes = [{key: column[i] for key, column in columns.items()} for i in range(len(state["lengths"]))]
        self._episodes = deque(episodes, maxlen=self.buffer_size)

    def _is_const(self, key: str) -> bool:
        return self.scheme[key].get("episode_const", False)

    def __repr__(self) -> str:
        return f"ReplayBuffer({self.episodes_in_buffer} of {self.buffer_size} episodes, {self.nbytes / 1e6:.0f} MB)"
