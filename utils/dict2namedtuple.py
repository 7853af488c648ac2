"""The configuration as `args`: attributes at the top level, read-only all the way down.
The configuration itself is made in main.py with utils/config.py.
"""

from collections import namedtuple
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def convert(config: Mapping[str, Any]) -> Any:
    """Gives a named tuple `args` with the keys of `config`; nested mappings become read-only mappings, lists tuples."""
    args = namedtuple("args", list(config))  # type: ignore[misc]  # the fields are known only now
    return args(**{key: _freeze(value) for key, value in config.items()})


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _freeze(inner) for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(inner) for inner in value)
    return value
