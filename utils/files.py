"""Reading files that people hand over: whole, no larger than they can sensibly be, and of the layout that is expected.

A layout is written as its content would be. It is a type, None, or a function that returns the value as it is to be
read or raises ValueError, such as `Key.read`; {"a": layout} asks for that key and {str: layout} for any keys, [layout]
for a list of any length and [layout, layout] for one of two, (layout, layout) for either. `object` is anything.

Weights are read in utils/weights.py, YAML in utils/config.py.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.memory import format_bytes

MOST_BYTES, MOST_UNPACKED_BYTES = 2**28, 2**24  # of a file, and of what is packed in one
Json = dict[str, Any]
"""An object as JSON and YAML have it."""
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", dict: "a group of keys"}
KINDS |= {list: "a list", tuple: "a list", type(None): "nothing"}


def digest(content: object) -> bytes:
    """Returns the SHA-256 of plain data; what JSON has no word for counts as its text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).digest()


def read_bytes(path: str | Path, most: int = MOST_BYTES, kind: str = "file") -> bytes:
    """Returns what is in a file.

    Raises: UserError where it is no file, can't be read, or holds more than `most` bytes.
    """
    try:
        if not Path(path).is_file():
            raise UserError(f"there is no {kind} {path}; check the path")
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise UserError(f"{path} can't be read: {reason(error)}; restore it or give another") from error
    if len(content) > most:
        raise UserError(f"{path} holds more than {format_bytes(most)}, which no such file does; give another")
    return content


def read_json(path: str | Path, layout: object, kind: str, remedy: str, packed: bool = False) -> Any:
    """Returns what a JSON file of a layout holds; `kind` and `remedy` say what it should be and what to do else.

    Raises: UserError as `read_bytes`, or where it is no JSON of this layout, or `packed` by gzip and too large.
    """
    return parse_json(read_bytes(path, kind=kind), layout, str(path), kind, remedy, packed)


def parse_json(content: bytes, layout: object, place: str, kind: str, remedy: str, packed: bool = False) -> Any:
    """Returns the JSON `content` that was read at `place`, if it is of the layout. Raises: UserError as `read_json`."""
    try:
        return fitted(json.loads(_unpacked(content) if packed else content), layout)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{place} is no {kind} ({reason(error)}); {remedy}") from error


def _unpacked(content: bytes) -> bytes:
    with gzip.open(io.BytesIO(content)) as file:
        unpacked = file.read(MOST_UNPACKED_BYTES + 1)
    if len(unpacked) > MOST_UNPACKED_BYTES:
        raise ValueError(f"it unfolds to more than {format_bytes(MOST_UNPACKED_BYTES)}")
    return unpacked


def read_config(records: Path, layout: object) -> Json:
    """Returns the configuration in a run's folder of records. Raises: UserError as `read_json`."""
    return read_json(records / "config.json", layout, "configuration of a run", "restore it, or leave this run out")


def fitted(value: Any, layout: Any, place: str = "") -> Any:
    """Returns the value as the layout has it; what else a mapping holds is left as it is.

    Raises: ValueError where it is not of this layout; says where.
    """
    where = f"'{place}'" if place else "the content"
    if isinstance(layout, tuple):
        *others, last = layout
        for other in others:
            try:
                return fitted(value, other, place)
            except ValueError:
                pass
        return fitted(value, last, place)
    if isinstance(layout, Mapping):
        _check_kind(value, Mapping, dict, where)
        prefix = f"{place}." if place else ""
        keys = value if str in layout else layout
        for key in keys:
            if not isinstance(key, str) or key not in value:
                raise ValueError(f"'{prefix}{key!s:.80}' is {'missing' if isinstance(key, str) else 'no name'}")
        return {**value, **{key: fitted(value[key], layout.get(str, layout.get(key)), prefix + key) for key in keys}}
    if isinstance(layout, list):
        _check_kind(value, (list, tuple), list, where)
        if len(layout) not in (1, len(value)):
            raise ValueError(f"{where} has {len(value)} entries, not {len(layout)}")
        layouts = layout * len(value) if len(layout) == 1 else layout
        return type(value)(fitted(entry, one, f"{place}[{i}]") for i, (entry, one) in enumerate(zip(value, layouts)))
    if layout is None or isinstance(layout, type):
        kind = layout or type(None)
        _check_kind(value, (int, float) if kind is float else kind, kind, where)
        return value
    try:
        return layout(value)
    except (ValueError, OverflowError) as error:
        if isinstance(value, str | int | float | None):
            where = f"{place}={value!s:.40} is not allowed"
        raise ValueError(f"{where}: {error}") from error


def _check_kind(value: object, kinds: type | tuple[type, ...], kind: type, where: str) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind in (int, float)):
        wanted, given = (KINDS.get(one, f"a {one.__name__.lower()}") for one in (kind, type(value)))
        raise ValueError(f"{where} must be {wanted}, not {given}")


def values_in(content: object, most: int) -> Iterator[Any]:
    """Yields all values in nested mappings and lists, those that are there several times as often as they are.

    Raises: ValueError where there are more than `most`.
    """
    waiting = [content]
    while waiting:
        value = waiting.pop()
        yield value
        entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        most -= len(entries)
        if most < 0:
            raise ValueError("it unfolds to more values than such a file can hold")
        waiting.extend(entries)


def reason(error: Exception) -> str:
    """Returns the error in a few words: torch opens with a title and has one line per parameter after it."""
    if isinstance(error, KeyError):
        return f"{error!s:.80} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__).rstrip(".;")[:200]
