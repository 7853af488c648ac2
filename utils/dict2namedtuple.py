"""The configuration as `args`: attributes at the top level, read-only all the way down.
The configuration itself is made in main.py with utils/config.py.
"""

from collections import namedtuple
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

Config = Mapping[str, Any]
"""A configuration: values by the names of their keys; a group of keys is a mapping of its own."""


class Args(Protocol):
    """A configuration whose keys are attributes and can't be changed, as `convert` makes it."""

    def __getattr__(self, key: str) -> Any: ...
    def _replace(self, **changes: Any) -> "Args": ...
    def _asdict(self) -> dict[str, Any]: ...


class FrozenDict(Config):
    """A read-only mapping that, other than `types.MappingProxyType`, can be copied and sent to other processes."""

    def __init__(self, entries: Config) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"FrozenDict({self._entries})"


def convert(config: Config) -> Args:
    """Returns a named tuple with the keys of `config`; nested mappings become read-only mappings, lists tuples."""
    make = namedtuple("args", list(config))  # type: ignore[misc]  # the fields are known only now
    return cast(Args, make(**{key: _freeze(value) for key, value in config.items()}))


def unfrozen(args: Args) -> dict[str, Any]:
    """Returns the configuration that `convert` was given, as plain dicts and lists."""
    return _thaw(args._asdict())


def _thaw(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _thaw(inner) for key, inner in value.items()}
    return [_thaw(inner) for inner in value] if isinstance(value, tuple) else value


def _freeze(value: object) -> object:
    if isinstance(value, Mapping):
        return FrozenDict({key: _freeze(inner) for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(inner) for inner in value)
    return value
