"""Append-only files of JSON lines: what a run measured, one line per statistic or test episode, as it happened."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.files import parse_json, read_bytes

MOST_BYTES = 2**32  # of a file that has grown line by line
METRIC = {"key": str, "value": float}  # the layout of a line of metrics.jsonl, as far as it is read


class JsonLines:
    """A file that grows by one JSON object per line. Each is handed to the system at once and survives a killed run."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)  # by lines

    def append(self, entry: dict[str, Any]) -> None:
        """Writes one line; as in Sacred's files, numbers that are not finite stand there as NaN and Infinity."""
        self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path, layout: Any = dict) -> Iterator[dict[str, Any]]:
    """The entries of such a file; a last line that a crash has torn is left out.

    Raises:
        UserError: the file can't be read, or another line is none of the `layout` (see utils/files.py).
    """
    for number, line in enumerate(read_bytes(path, MOST_BYTES).splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            yield parse_json(line, layout, f"{path}, line {number},", "record", "take the line out, or restore it")
