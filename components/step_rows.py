"""Rows of several fields, one row per environment step: in main memory, in files on a disk, or on a GPU.

`components/episode_buffer.py` says which rows make an episode. Memory is taken as rows are: none lies idle but a small
share, and in main memory and on a disk nothing is moved when there are more.
"""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from shutil import disk_usage
from typing import IO

import numpy as np
import torch as th

from utils.errors import UserError
from utils.memory import format_bytes, free_memory

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype]]
GROWTH = 1 / 8
"""Room for rows is got in pieces of this share of what there is."""
ZEROS = 1 << 20
"""Bytes that are written at a time where room on a disk is taken by writing."""


class NoRoom(UserError):
    """There is no room for another row."""


class MemoryRows:
    """Rows in main memory. Row 0 holds zeros and is never given away.

    The `layout` has the shape and the dtype of each field in a row. `most_rows` is how many can ever be needed.

    Raises: NoRoom where the system refuses.
    """

    place = "main memory"
    remedy = "set buffer_device=disk"

    def __init__(self, layout: Layout, most_rows: int):
        self.bytes_per_row = sum(prod(shape) * dtype.itemsize for shape, dtype in layout.values())
        self.most_rows = most_rows
        self.n_rows = 1  # those that were ever taken, and row 0
        self._room = 0
        try:
            self._allocate(layout)
        except (MemoryError, OSError) as error:
            raise NoRoom(f"no replay buffer in {self.place}: {error}; lower buffer_size or {self.remedy}") from error

    def _allocate(self, layout: Layout) -> None:
        # Arrays for all rows that can come. An operating system takes memory for their pages when they are written to;
        # NumPy leaves zeros to it, torch would write them. It refuses to promise more than it has: that is cut off.
        self.most_rows = min(self.most_rows, 1 + self.free_bytes() // self.bytes_per_row)
        self._arrays = {key: self._zeros((self.most_rows, *shape), dtype) for key, (shape, dtype) in layout.items()}

    def _zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    def free_bytes(self) -> int:
        """Returns bytes that are left for more rows."""
        return free_memory()

    def take(self, n: int) -> np.ndarray:
        """Returns the numbers of n rows that were never taken before. Raises: NoRoom where so many do not fit."""
        if self.n_rows + n > self._room:
            with suppress(OSError, th.OutOfMemoryError):
                self._grow(min(max(self.n_rows + n, int(self._room * (1 + GROWTH))), self.most_rows))
        if self.n_rows + n > self._room:
            raise NoRoom(
                f"the replay buffer takes {format_bytes(self.n_rows * self.bytes_per_row)} of {self.place}, which has "
                f"no room for more; lower buffer_size or {self.remedy}, and go on from the last saved model"
            )
        self.n_rows += n
        return np.arange(self.n_rows - n, self.n_rows)

    def clear(self) -> None:
        """Forgets all rows but row 0; their memory stays."""
        self.n_rows = 1

    def _grow(self, room: int) -> None:
        """Makes sure that there is memory for so many rows. Without that check the system would kill the process."""
        if (room - self._room) * self.bytes_per_row <= self.free_bytes():
            self._room = room

    def write(self, key: str, rows: np.ndarray, values: np.ndarray) -> None:
        """Writes values [row, ...] of a field."""
        self._arrays[key][rows] = values

    def read(self, key: str, rows: np.ndarray) -> th.Tensor:
        """Returns a copy of the rows of a field, in the shape of `rows`, which may be of any shape."""
        return th.from_numpy(self._arrays[key].take(rows, axis=0))

    def view(self, key: str) -> th.Tensor:
        """Returns all rows of a field that were ever taken, in main memory; a view of them unless they are on a GPU."""
        return th.from_numpy(self._arrays[key][1 : self.n_rows])


class DiskRows(MemoryRows):
    """Rows in files without a name in `folder`: they go when the process does, however it ends.

    What is read and written stays in main memory as well while there is room.
    """

    def __init__(self, layout: Layout, most_rows: int, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.place = f"the disk of {self.folder}"
        self.remedy = "give a local_results_path on a larger disk"
        self._files: list[IO[bytes]] = []
        super().__init__(layout, most_rows)

    def _zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        self._files.append(tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115  # open until the end
        return np.memmap(self._files[-1], dtype, "w+", shape=shape)

    def free_bytes(self) -> int:
        return disk_usage(self.folder).free

    def _grow(self, room: int) -> None:
        # A page that finds the disk full when it is written would end the process: the disk has to promise it before.
        for file, array in zip(self._files, self._arrays.values(), strict=True):
            per_row = array[:1].nbytes
            _reserve(file, self._room * per_row, (room - self._room) * per_row)
        self._room = room


def _reserve(file: IO[bytes], start: int, n_bytes: int) -> None:
    """Takes room on the disk for bytes of a file that have not been written yet. Raises: OSError where it is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), start, n_bytes)
        return
    file.seek(start)  # on macOS room is taken by what is written
    for written in range(0, n_bytes, ZEROS):
        file.write(bytes(min(ZEROS, n_bytes - written)))
    file.flush()


class DeviceRows(MemoryRows):
    """Rows on a GPU. For more room each field is moved, so that the largest is there twice for a moment."""

    def __init__(self, layout: Layout, most_rows: int, device: str | th.device):
        self.device = th.device(device)
        self.place = f"the memory of {device}"
        self.remedy = "set buffer_device=cpu or disk"
        super().__init__(layout, most_rows)

    def _allocate(self, layout: Layout) -> None:
        self._tensors = {key: self._on_device(np.zeros((1, *shape), dtype)) for key, (shape, dtype) in layout.items()}

    def free_bytes(self) -> int:
        return th.cuda.mem_get_info(self.device)[0]

    def _grow(self, room: int) -> None:
        for key, smaller in self._tensors.items():
            self._tensors[key] = smaller.new_empty((room, *smaller.shape[1:]))
            self._tensors[key][: self.n_rows] = smaller[: self.n_rows]
        self._room = room

    def write(self, key: str, rows: np.ndarray, values: np.ndarray) -> None:
        self._tensors[key].index_copy_(0, self._on_device(rows), self._on_device(values))

    def read(self, key: str, rows: np.ndarray) -> th.Tensor:
        return self._tensors[key].index_select(0, self._on_device(rows).flatten()).unflatten(0, rows.shape)

    def _on_device(self, array: np.ndarray) -> th.Tensor:
        return th.from_numpy(array).to(self.device)

    def view(self, key: str) -> th.Tensor:
        return self._tensors[key][1 : self.n_rows].cpu()
