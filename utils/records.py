"""Append-only files of JSON lines: what a run measured, one line per statistic or test episode, as it happened."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class JsonLines:
    """A file that grows by one JSON object per line. Each is handed to the system at once and survives a killed run."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)  # by lines

    def append(self, entry: dict[str, Any]) -> None:
        """Writes one line; as in Sacred's files, numbers that are not finite stand there as NaN and Infinity."""
        self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of such a file; a last line that a crash has torn is left out."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
