"""The files of a run's records: replaced whole, or grown by whole lines, and written later where there is no room now.
Sacred's files are made in utils/file_records.py, curves in utils/curves.py; both write through `RecordFiles`.
"""

import csv
import io
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from utils.errors import UserError
from utils.files import Json, parse_json, read_bytes, reason

Row = dict[str, str]

MOST_BYTES = 2**32  # of a file that has grown line by line
METRIC = {"key": str, "value": float}  # the layout of a line of metrics.jsonl, as far as it is read

RETRY_SECONDS = 1.0  # from one try to write what is late to the next
WAIT_SECONDS = 15.0  # how long the end of a run waits for room


def write_whole(path: Path, content: bytes) -> None:
    """Writes or replaces a file such that, however it ends, the old content or the new one is there, and all of it.

    Raises: OSError where it can't be written; nothing has changed then.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append_whole(path: Path, content: bytes) -> None:
    """Lets a file grow by all of the content or, after an error, by nothing.

    Raises: OSError where it can't be written.
    """
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        except OSError:
            file.truncate(end)
            raise


class RecordFiles:
    """Writes the files of one folder. Where the disk does not take them, it says so once, keeps them and tries again.

    `problem` is what the disk answered last, or None. Threads may share the object.
    """

    def __init__(self, folder: Path) -> None:
        from utils.logging import LOGGER_NAME  # here: it imports this module

        self.folder = folder
        self.problem: OSError | None = None
        self._log = logging.getLogger(LOGGER_NAME)
        self._lock = threading.Lock()
        self.forget()

    def replace(self, name: str, content: bytes) -> None:
        """Replaces a file's content by this."""
        with self._lock:
            self._to_replace[name] = content
            self._write()

    def append(self, name: str, content: bytes) -> None:
        """Lets a file grow by this content; a file that is not there begins with it."""
        with self._lock:
            self._to_append.setdefault(name, bytearray()).extend(content)
            self._write()

    def finish(self) -> None:
        """Writes what is late, waits for room for WAIT_SECONDS, and says which files remain incomplete."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with self._lock:
                self._next_try = 0.0
                self._write()
            if self.problem is None:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(RETRY_SECONDS)
        names = ", ".join(sorted(self._to_replace.keys() | self._to_append.keys()))
        self._log.error(f"{self.problem.strerror}: in {self.folder} the end of {names} is lost")

    def forget(self) -> None:
        """Drops what is late."""
        self._to_replace: dict[str, bytes] = {}
        self._to_append: dict[str, bytearray] = {}
        self._next_try = 0.0
        self.problem = None

    def _write(self) -> None:
        if time.monotonic() < self._next_try:
            return
        problem = None
        late: tuple[tuple[dict, Callable[[Path, bytes], None]], ...]
        late = (self._to_replace, write_whole), (self._to_append, append_whole)
        for contents, write in late:
            for name in list(contents):
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    write(self.folder / name, bytes(contents[name]))
                    del contents[name]
                except OSError as error:
                    problem = error
        if problem and not self.problem:
            self._log.warning(
                f"{problem.strerror}: {self.folder}; the run goes on, and its files follow when they can be written"
            )
        elif self.problem and not problem:
            self._log.info(f"The disk takes files again: {self.folder} has what it missed")
        self.problem = problem
        self._next_try = time.monotonic() + RETRY_SECONDS if problem else 0.0


@cache
def files_of(folder: Path) -> RecordFiles:
    """Returns the one writer of a folder, for all who record there."""
    return RecordFiles(folder)


class JsonLines:
    """A file that grows by one JSON object per line. Each is written at once and survives a killed run."""

    def __init__(self, path: Path) -> None:
        self._files, self._name = files_of(path.parent), path.name
        self._files.append(self._name, b"")

    def append(self, entry: Json) -> None:
        """Writes one line; as in Sacred's files, numbers that are not finite stand there as NaN and Infinity."""
        self._files.append(self._name, f"{json.dumps(entry)}\n".encode())

    def close(self) -> None:
        """Tries once more to write what is late."""
        self._files.append(self._name, b"")


def read_json_lines(path: Path, layout: object = dict) -> Iterator[Json]:
    """Yields the entries of a file that `JsonLines` wrote; a last line that a crash has torn is left out.

    Raises: UserError where the file can't be read, or another line is none of the `layout` (see utils/files.py).
    """
    for number, line in enumerate(read_bytes(path, MOST_BYTES).splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            yield parse_json(line, layout, f"{path}, line {number},", "record", "take the line out, or restore it")


def read_csv(path: Path, fit: Callable[[list[Row]], list[Row]], problem: str, remedy: str) -> list[Row]:
    """Returns the rows of a CSV file, as `fit` returns or refuses them; refused, `problem` says what the file is not.

    Raises: UserError where the file can't be read, or `fit` has raised ValueError.
    """
    try:
        return fit(list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline=""))))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} {problem} ({reason(error)}); {remedy}") from error


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Writes the named columns of rows; None is an empty cell. Raises: OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
