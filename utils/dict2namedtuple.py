"""The configuration as `args`: attributes at the top level, read-only all the way down.
The configuration itself is made in main.py with utils/config.py.
"""

from collections import namedtuple
from collections.abc import Iterator, Mapping
from typing import Any


class FrozenDict(Mapping[str, Any]):
    """A read-only mapping that, other than `types.MappingProxyType`, can be copied and sent to other processes."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"FrozenDict({self._entries})"


def convert(config: Mapping[str, Any]) -> Any:
    """Gives a named tuple `args` with the keys of `config`; nested mappings become read-only mappings, lists tuples."""
    args = namedtuple("args", list(config))  # type: ignore[misc]  # the fields are known only now
    return args(**{key: _freeze(value) for key, value in config.items()})


def unfrozen(args: Any) -> dict[str, Any]:
    """Returns the configuration that `convert` was given, as plain dicts and lists."""
    return _thaw(args._asdict())


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thaw(inner) for key, inner in value.items()}
    return [_thaw(inner) for inner in value] if isinstance(value, tuple) else value


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return FrozenDict({key: _freeze(inner) for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(inner) for inner in value)
    return value
