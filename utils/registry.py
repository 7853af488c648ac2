"""A table of names that imports an entry when it is asked for, so that importing a registry imports nothing else.
Every package that offers choices to the configuration holds one as `REGISTRY` in its `__init__.py`.
"""

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any

from utils.errors import UserError, unknown


class UnknownName(UserError, KeyError):
    """A name that a registry does not hold."""

    __str__ = Exception.__str__  # KeyError would print the sentence in quotes


class Registry(MutableMapping[str, type[Any]]):
    """Maps names to classes; an entry may be a lazy `"module:Class"` string, imported at `registry[name]`.

    Raises:
        UnknownName: a name is asked for that was never added.
        ValueError: a name is added twice.
    """

    def __init__(self, kind: str, /, **entries: type | str) -> None:
        self.kind = kind
        self._entries = entries

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._entries:
            raise UnknownName(unknown(self.kind, name, self._entries))
        entry = self._entries[name]
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __setitem__(self, name: str, entry: type | str) -> None:
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is already registered as {self._entries[name]}")
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # Mapping's own would import the entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
