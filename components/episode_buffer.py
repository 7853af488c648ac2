"""Episodes as tensors `[batch, time, agent, feature]`: `EpisodeBatch` to work on, `ReplayBuffer` to keep.

A scheme names the fields: `vshape`, `dtype` (float32 if left out), `group` (a leading dimension, such as "agents"),
`episode_const` (one entry per episode instead of one per step), `store_dtype` (what the replay buffer keeps) and
`below` (a bound of whole numbers from 0 on, which holds for what is read from a file).
What a learner reads is cut from a batch in `components/transitions.py`.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from logging import Logger
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch as th
from numpy.typing import ArrayLike

from components.packed_steps import PackedSteps
from components.step_rows import DeviceRows, DiskRows, MemoryRows
from components.transforms import Transform
from utils.config import Key
from utils.errors import UserError
from utils.files import fitted
from utils.memory import format_bytes
from utils.transfer import to_device_together
from utils.weights import StateDict

HARDLY_SHORTER = 0.1
"""A buffer of which not even this share fits is refused: episodes are rarely shorter, as a share of their limit."""
ON_HOST = ("filled", "terminated", "avail_actions", "agent_idx")
"""Fields by which the host knows how much there is to compute, without asking a GPU."""
Field = dict[str, Any]
Scheme = dict[str, Field]
FILLED: Field = {"vshape": (1,), "dtype": th.uint8, "below": 2}
ALL = slice(None)
OF_TEAM = "team_"
Preprocess = dict[str, tuple[str, list[Transform]]]
"""(the name of the field that is derived, by which transforms) under the name of its source."""
Made = TypeVar("Made")
Episodes = slice | int | Sequence[int] | np.ndarray | th.Tensor
"""What picks some episodes of a batch."""


def _complete_scheme(scheme: Scheme, preprocess: Preprocess) -> Scheme:
    """Returns the scheme with tuples for shapes, dtypes, `filled`, and the fields that `preprocess` derives."""
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
        entry = complete[source]
        shared: Field = {name: entry[name] for name in ("group", "episode_const") if name in entry}
        complete[derived] = {"vshape": vshape, "dtype": dtype, **shared}
    return complete


def _shape_of(key: str, entry: Field, groups: dict[str, int]) -> tuple[int, ...]:
    """Returns the shape of a field in one step, or in the episode if it has one entry per episode."""
    group = entry.get("group")
    if group is not None and group not in groups:
        raise ValueError(f"field {key!r} belongs to group {group!r}; the groups are {sorted(groups)}")
    return entry["vshape"] if group is None else (groups[group], *entry["vshape"])


def _numpy_dtype(dtype: th.dtype) -> np.dtype:
    return th.empty(0, dtype=dtype).numpy().dtype


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


class EpisodeBatch:
    """Episodes of one length, padded with zeros; `filled` [batch, time, 1] is 1 where a step was written.

    `preprocess` is `{source: (derived, [Transform, ...])}`; derived fields are computed on read and never stored.
    Slices of a batch are views of it. `data` is for such views: fields that exist already.

    `seat` [batch, agent] says which agents of the team the batch has, and `team_<field>` what the whole team saw or
    did: in a batch of whole teams all of them and the field itself; where only some seats were cut out of a team
    (components/seats.py), what was stored with them.
    """

    def __init__(
        self,
        scheme: Scheme,
        groups: dict[str, int],
        batch_size: int,
        max_seq_length: int,
        data: SimpleNamespace | None = None,
        preprocess: Preprocess | None = None,
        device: str | th.device = "cpu",
    ):
        self.preprocess = preprocess or {}
        self.groups = groups
        self.batch_size = batch_size
        self.max_seq_length = max_seq_length
        self.device = device
        self._cache: dict[Hashable, tuple[list[int], Any]] = {}
        self._host_fields: dict[str, th.Tensor] = {}  # in main memory
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
            shape = _shape_of(key, entry, self.groups)
            if entry.get("episode_const", False):
                shape, fields = (self.batch_size, *shape), data.episode_data
            else:
                shape, fields = (self.batch_size, self.max_seq_length, *shape), data.transition_data
            # NumPy's zeros: torch would write them, also to the steps that no episode reaches.
            fields[key] = th.from_numpy(np.zeros(shape, _numpy_dtype(entry["dtype"]))).to(self.device)
        return data

    def update(
        self, data: Mapping[str, ArrayLike], *, bs: Episodes = ALL, ts: slice | int = ALL, mark_filled: bool = True
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
        """Returns a field by name, a batch of several fields by name, or a batch of some episodes (and steps)."""
        if isinstance(item, str):
            return self._field(item)
        if isinstance(item, tuple) and all(isinstance(name, str) for name in item):
            return self._with_fields(item)
        bs, ts = self._slices(*item) if isinstance(item, tuple) else self._slices(item, ALL)
        transition_data = {key: value[bs, ts] for key, value in self.data.transition_data.items()}
        episode_data = {key: value[bs] for key, value in self.data.episode_data.items()}
        batch_size = len(th.arange(self.batch_size)[bs])
        steps = len(range(*ts.indices(self.max_seq_length)))
        data = SimpleNamespace(transition_data=transition_data, episode_data=episode_data)
        return EpisodeBatch(self.scheme, self.groups, batch_size, steps, data, self.preprocess, self.device)

    def with_field(self, key: str, value: th.Tensor) -> "EpisodeBatch":
        """Returns this batch with one field more, or another one under the same name: [batch, time, agent, ...]."""
        entry = {"vshape": tuple(value.shape[3:]), "group": "agents", "dtype": value.dtype}
        data = SimpleNamespace(
            transition_data={**self.data.transition_data, key: value}, episode_data=self.data.episode_data
        )
        sizes = (self.groups, self.batch_size, self.max_seq_length)
        other = EpisodeBatch({**self.scheme, key: entry}, *sizes, data, self.preprocess, self.device)
        other._host_fields, other._cache = self._host_fields, self._cache
        return other

    def cached(self, key: Hashable, sources: Sequence[str], make: Callable[[], Made]) -> Made:
        """Returns what `make` returns; calls it again under the same key only after one of `sources` has changed."""
        versions = [self._field(source)._version for source in sources]
        if key not in self._cache or self._cache[key][0] != versions:
            self._cache[key] = versions, make()
        return self._cache[key][1]

    def steps(self, device: str | th.device, start: int = 0) -> PackedSteps:
        """Returns which rows the filled steps from `start` on become, for tensors on `device`."""
        return self.cached(
            ("steps", device, start), ("filled",), lambda: PackedSteps(self.on_host("filled")[:, start:], device)
        )

    def on_host(self, key: str) -> th.Tensor:
        """Returns a field by name in main memory. Those of ON_HOST stay there when a batch is moved."""
        return self._host_fields[key] if key in self._host_fields else self._field(key).cpu()

    def steps_on_host(self) -> dict[str, th.Tensor]:
        """Returns those fields of ON_HOST, in main memory, that have an entry for each step."""
        return {key: self.on_host(key) for key in ON_HOST if key in self.data.transition_data}

    def keep_on_host(self, fields: dict[str, th.Tensor] | None = None) -> None:
        """Copies the fields of ON_HOST to main memory, unless given: now, rather than in the middle of an update."""
        self._host_fields = fields or {key: self._field(key).cpu() for key in ON_HOST if key in self.scheme}

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
        if key == "seat":
            return th.arange(self.groups["agents"], device=self.device).expand(self.batch_size, -1)
        if key.startswith(OF_TEAM):
            return self._field(key.removeprefix(OF_TEAM))
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
    def _slices(bs: Episodes, ts: slice | int) -> tuple[Any, slice]:
        """Integers become slices of length one, so that no dimension is lost; steps must be contiguous."""
        if isinstance(bs, int | np.integer):
            bs = slice(int(bs), int(bs) + 1 or None)
        if isinstance(ts, int | np.integer):
            ts = slice(int(ts), int(ts) + 1 or None)
        if not isinstance(ts, slice):
            raise IndexError(f"steps are picked by an integer or a slice, not by {type(ts).__name__}")
        return bs, ts

    def max_t_filled(self) -> int:
        """Returns the number of steps of the longest episode, its last observation included."""
        return int(self.data.transition_data["filled"].sum(1).max())

    def to(self, device: str | th.device) -> "EpisodeBatch":
        """Moves every field to `device`, in place. From main memory that is one transfer, which the host lets go on."""
        kinds = (self.data.transition_data, self.data.episode_data)
        if th.device(self.device).type == "cpu" != th.device(device).type:
            self.keep_on_host()
            moved = to_device_together({key: value for fields in kinds for key, value in fields.items()}, device)
        else:
            self._host_fields = {}
            moved = {key: value.to(device) for fields in kinds for key, value in fields.items()}
        for fields in kinds:
            fields.update((key, moved[key]) for key in fields)
        self.device = device
        self._cache.clear()
        return self

    def __repr__(self) -> str:
        fields = sorted(self.scheme)
        return f"EpisodeBatch(batch_size={self.batch_size}, max_seq_length={self.max_seq_length}, fields={fields})"


def _arrays(fields: dict[str, th.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    return ((key, value.cpu().numpy()) for key, value in fields.items())


class _Episode(NamedTuple):
    """Where an episode is kept: the rows of its steps, and the fields that it has once."""

    rows: np.ndarray
    const: dict[str, np.ndarray]


class ReplayBuffer:
    """The last `buffer_size` episodes, each at its own length, so that memory follows what was played.

    `device` is "cpu", "disk" (files in `folder`, as long as the process lives) or a GPU. Rows that an episode leaves
    are the first to be used again. Sampling pads with zeros, that is with row 0, and returns an `EpisodeBatch` as long
    as the longest episode drawn, in main memory or on the GPU.
    """

    def __init__(
        self,
        scheme: Scheme,
        groups: dict[str, int],
        buffer_size: int,
        max_seq_length: int,
        preprocess: Preprocess | None = None,
        device: str | th.device = "cpu",
        folder: str | Path = ".",
    ):
        self.preprocess = preprocess or {}
        self.scheme = _complete_scheme(scheme, self.preprocess)
        self.groups = groups
        self.buffer_size = buffer_size
        self.max_seq_length = max_seq_length
        self.device = "cpu" if device == "disk" else device
        derived = {name for name, _ in self.preprocess.values()}
        stored = {
            key: (_shape_of(key, entry, groups), _numpy_dtype(entry.get("store_dtype") or entry["dtype"]))
            for key, entry in self.scheme.items()
            if key not in derived
        }
        self._stored = stored
        self._const_fields = [key for key in stored if self.scheme[key].get("episode_const", False)]
        layout = {key: entry for key, entry in stored.items() if key not in self._const_fields}
        most_rows = 1 + buffer_size * max_seq_length
        if device == "disk":
            self._rows: MemoryRows = DiskRows(layout, most_rows, folder)
        elif th.device(device).type == "cpu":
            self._rows = MemoryRows(layout, most_rows)
        else:
            self._rows = DeviceRows(layout, most_rows, device)
        self._step_fields = list(layout)
        self._free = np.empty(0, np.int64)  # rows, in the order in which they were left
        self._episodes: deque[_Episode] = deque()

    @property
    def episodes_in_buffer(self) -> int:
        return len(self._episodes)

    @property
    def nbytes(self) -> int:
        """Bytes of all steps that are stored."""
        return self.bytes_per_step * sum(len(episode.rows) for episode in self._episodes)

    @property
    def bytes_per_step(self) -> int:
        return self._rows.bytes_per_row

    def insert_episode_batch(self, ep_batch: EpisodeBatch) -> None:
        """Copies every episode of the batch, cut to its filled steps; the oldest episodes make room.

        Raises: NoRoom where there is no memory for as many steps.
        """
        lengths = ep_batch["filled"].sum(1).flatten().tolist()
        if 0 in lengths:
            raise ValueError(f"episode {lengths.index(0)} of the batch has no filled step")
        data, longest = ep_batch.data, max(lengths)
        steps = {key: self._compact(key, value[:, :longest]) for key, value in _arrays(data.transition_data)}
        const = {key: self._compact(key, value) for key, value in _arrays(data.episode_data)}
        for b, length in enumerate(lengths):
            if len(self._episodes) == self.buffer_size:
                self._free = np.concatenate([self._free, self._episodes.popleft().rows])
            rows = self._take_rows(length)
            for key, value in steps.items():
                self._rows.write(key, rows, value[b, :length])
            self._episodes.append(_Episode(rows, {key: value[b].copy() for key, value in const.items()}))

    def _take_rows(self, n: int) -> np.ndarray:
        rows = np.concatenate([self._free[:n], self._rows.take(max(n - len(self._free), 0))])
        self._free = self._free[n:]
        return rows

    def _compact(self, key: str, value: np.ndarray) -> np.ndarray:
        stored = value.astype(self._stored[key][1], copy=False)
        if stored is not value and stored.dtype.kind != "f" and not np.array_equal(stored, value):
            raise ValueError(f"field {key!r} has values that do not fit into its store_dtype {stored.dtype}")
        return stored

    def can_sample(self, batch_size: int) -> bool:
        return self.episodes_in_buffer >= batch_size

    def sample(self, batch_size: int, *, rng: np.random.Generator) -> EpisodeBatch:
        """Returns `batch_size` different episodes, all equally likely."""
        if not self.can_sample(batch_size):
            raise ValueError(f"{batch_size} episodes were asked for, {self.episodes_in_buffer} are in the buffer")
        return self._batch(rng.choice(self.episodes_in_buffer, batch_size, replace=False))

    def _batch(self, indices: np.ndarray) -> EpisodeBatch:
        episodes = [self._episodes[i] for i in indices]
        rows = np.zeros((len(episodes), max(len(episode.rows) for episode in episodes)), np.int64)
        for b, episode in enumerate(episodes):
            rows[b, : len(episode.rows)] = episode.rows
        data = SimpleNamespace(
            transition_data={key: self._rows.read(key, rows) for key in self._step_fields},
            episode_data=self._const_of(episodes),
        )
        for fields in (data.transition_data, data.episode_data):
            for key, value in fields.items():
                fields[key] = value.to(self.device, self.scheme[key]["dtype"])
        batch = EpisodeBatch(self.scheme, self.groups, *rows.shape, data, self.preprocess, self.device)
        batch.keep_on_host()
        return batch

    def _const_of(self, episodes: Sequence[_Episode]) -> dict[str, th.Tensor]:
        if not episodes:
            return {}
        return {key: th.from_numpy(np.stack([ep.const[key] for ep in episodes])) for key in self._const_fields}

    def state_dict(self) -> StateDict:
        """Returns the stored episodes, oldest first, without a copy; to be saved before the next one is inserted.

        `lengths` of the episodes, `rows` of the steps one episode after the other and then those that are free, counted
        from 0, and for each field all rows, or one entry per episode.
        """
        rows = np.concatenate([*(episode.rows for episode in self._episodes), self._free])
        fields = {key: self._rows.view(key) for key in self._step_fields} | self._const_of(self._episodes)
        return {
            "lengths": [len(episode.rows) for episode in self._episodes],
            "rows": th.from_numpy(rows - 1),
            "fields": fields,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Takes the last `buffer_size` episodes of a `state_dict`; `rows` may be missing if they are in order.

        Raises:
            NoRoom: there is no memory for as many steps.
            ValueError: the state is not of this buffer's layout, and nothing of it has been taken.
        """
        lengths, rows = self._checked(state)
        n_dropped = max(len(lengths) - self.buffer_size, 0)
        kept = rows[sum(lengths[:n_dropped]) : sum(lengths)]
        lengths = lengths[n_dropped:]
        if n_dropped:
            rows = np.arange(len(kept))
        self._rows.clear()
        taken = self._rows.take(len(rows))
        const: dict[str, np.ndarray] = {}
        for key, value in _arrays(state["fields"]):
            if key in self._const_fields:
                const[key] = value[n_dropped:].copy()
            else:
                self._rows.write(key, taken, value[kept] if n_dropped else value)
        *parts, self._free = np.split(taken[rows], np.cumsum(lengths))
        self._episodes = deque(_Episode(part, {key: const[key][i] for key in const}) for i, part in enumerate(parts))

    def _checked(self, state: StateDict) -> tuple[list[int], np.ndarray]:
        """Returns lengths and rows of a state that is as `state_dict` writes it. Raises: ValueError."""
        length = Key(int, low=1, high=self.max_seq_length).read
        fitted(state, {"lengths": [length], "fields": {str: th.Tensor}})
        lengths, fields = state["lengths"], state["fields"]
        fitted(fields, dict.fromkeys(self._stored if lengths else (), object), "fields")
        if unknown := fields.keys() - self._stored.keys():
            raise ValueError(f"it has a field '{min(unknown, key=str)}', which this run has not")
        rows = fitted(state.get("rows", th.arange(sum(lengths))), th.Tensor, "rows").numpy()
        are_numbers = rows.ndim == 1 and rows.dtype.kind == "i" and np.array_equal(np.sort(rows), np.arange(len(rows)))
        if not are_numbers or len(rows) < sum(lengths):
            raise ValueError("'rows' are not the numbers of its steps")
        for key, value in _arrays(fields):
            shape, dtype = self._stored[key]
            shape = (len(lengths if key in self._const_fields else rows), *shape)
            if (value.shape, value.dtype) != (shape, dtype):
                raise ValueError(f"'fields.{key}' is {value.dtype} {value.shape}, not {dtype} {shape}")
            limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            low, high = (0, self.scheme[key]["below"] - 1) if "below" in self.scheme[key] else (limits.min, limits.max)
            if value.size and not (low <= value.min() and value.max() <= high):
                raise ValueError(f"'fields.{key}' is not from {low} to {high} everywhere")
        return lengths, rows

    def log_size(self, log: Logger) -> None:
        """Logs how much the buffer takes and how much is free; as a warning if it may not fit.

        Raises: UserError where it can hardly fit.
        """
        free, place, remedy = self._rows.free_bytes() + self.nbytes, self._rows.place, self._rows.remedy
        per_episode = self.bytes_per_step * self.max_seq_length
        most = per_episode * self.buffer_size
        size = (
            f"{self.bytes_per_step:,} bytes per step, at most {format_bytes(most)} for buffer_size={self.buffer_size} "
            f"episodes of {self.max_seq_length} steps; {format_bytes(free)} of {place} are free for it"
        )
        if most * HARDLY_SHORTER > free:
            raise UserError(
                f"the replay buffer does not fit: it takes {size}; lower buffer_size (up to {free // per_episode} fits "
                f"at any length of episodes), or {remedy}"
            )
        if most > free:
            log.warning(
                f"The replay buffer may not fit: it takes {size}. It grows with what is played; without room for more, "
                f"the run saves its models and stops. To be safe, lower buffer_size or {remedy}"
            )
        else:
            log.info(f"The replay buffer takes {size}")

    def __repr__(self) -> str:
        return f"ReplayBuffer({self.episodes_in_buffer} of {self.buffer_size} episodes, {format_bytes(self.nbytes)})"
