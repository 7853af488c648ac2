"""Configuration as data: reading YAML strictly, merging layers, and checking each value against its declaration.
The values are in config/*.yaml, the declarations in config/schema.py, and the order of the layers in main.py.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError, nearest, unknown
from utils.files import fitted, read_bytes, values_in

MOST_YAML_BYTES = 2**18  # a tenth of a second per 5,000
KIND_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Key:
    """What a configuration key may hold: its kind or kinds, its unit, and its allowed values.

    `low` and `high` are allowed themselves, `above` is not. `names` is the "module:ATTRIBUTE" of a collection of
    allowed names that lives elsewhere, such as a registry, and is read only when a value is checked.
    """

    kind: type | tuple[type, ...]
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[Any, ...] = ()
    names: str = ""
    nullable: bool = False

    @property
    def kinds(self) -> tuple[type, ...]:
        return self.kind if isinstance(self.kind, tuple) else (self.kind,)

    def read(self, value: Any) -> Any:
        """Gives the value as the declared kind, so that 2e5 is a whole number and 1 a number.

        Raises:
            ValueError: the value is of another kind or is not an allowed one.
        """
        if value is None and self.nullable:
            return None
        for kind in self.kinds:
            typed = _as_kind(value, kind)
            if typed is not None and self._allows(typed):
                return typed
        raise ValueError(f"it must be {self.allowed()}")

    def read_text(self, text: str) -> Any:
        """Gives the value of what was typed on the command line: YAML's reading of it, or else the text itself.

        Raises:
            ValueError: neither reading is an allowed value.
        """
        try:
            return self.read(yaml.load(text, Loader=_Loader))
        except (ValueError, yaml.YAMLError) as error:
            if str in self.kinds:
                return self.read(text)
            raise ValueError(f"it must be {self.allowed()}") from error

    def allowed(self) -> str:
        """Words what the key may hold: `a whole number in environment steps, at least 1`."""
        limits = [("at least", self.low), ("at most", self.high), ("above", self.above)]
        bounds = "".join(f", {word} {limit}" for word, limit in limits if limit is not None)
        number = (f" in {self.unit}" if self.unit else "") + bounds
        kinds = [KIND_NAMES[kind] + (number if kind in (int, float) else "") for kind in self._free_kinds()]
        choices = [f"one of {', '.join(map(str, self.choices))}"] if self.choices else []
        return ", or ".join([*kinds, *choices, *(["null"] if self.nullable else [])])

    def _free_kinds(self) -> list[type]:
        """Gives the kinds that no choices restrict: of two kinds, one may be free and the other a choice."""
        return [kind for kind in self.kinds if not any(type(choice) is kind for choice in self.choices)]

    def _allows(self, value: Any) -> bool:
        if type(value) not in self._free_kinds():
            return value in self.choices
        if isinstance(value, (bool, str)):
            return True
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )


def _as_kind(value: Any, kind: type) -> Any:
    """Gives the value as `kind`, or None where it is of another kind."""
    if isinstance(value, bool) or kind in (bool, str):
        return value if type(value) is kind else None
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return kind(value) if kind is float or value == int(value) else None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads 1e-4 as a number and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_yaml(path: Path, layout: Any = dict, remedy: str = "correct the file") -> dict[str, Any]:
    """Reads one YAML mapping of a layout (see utils/files.py); `remedy` says what to do if it is none.

    Raises:
        UserError: the file is not there or not well formed (naming line and column), gives a key twice, holds no
            mapping of this layout, or unfolds to more than a configuration has.
    """
    try:
        content = yaml.load(read_bytes(path, MOST_YAML_BYTES).decode(), Loader=_Loader)
        for _ in values_in(content, MOST_YAML_BYTES):
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{path}: {place}{error.problem}; {remedy}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as YAML: {' '.join(str(error).split())[:200]}; {remedy}") from error
    if not isinstance(content, dict | None):
        raise UserError(f"{path} must hold lines of the form `key: value`, not {type(content).__name__}")
    try:
        return fitted(content or {}, layout)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {remedy}") from error


def recursive_dict_update(d: Mapping[str, Any], u: Mapping[str, Any]) -> dict[str, Any]:
    """Gives a new mapping: `d` overlaid with `u`, nested mappings merged key by key."""
    merged = dict(d)
    for key, value in u.items():
        both_nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = recursive_dict_update(merged[key], value) if both_nested else value
    return merged


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Gives every leaf as (dotted key, value); an empty mapping is a leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def nested(key: str, value: Any) -> dict[str, Any]:
    """Gives the mapping that a dotted key stands for: `a.b`, 1 -> {a: {b: 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@dataclass(frozen=True)
class Declarations:
    """All that values are checked against: the schema, the keys that the chosen YAML files declare, and look-ups.

    `names_of` gives the names that `Key.names` refers to; `owners_of` the algorithms or environments, other than the
    chosen ones, that declare a key.
    """

    schema: Mapping[str, Key]
    declared: Collection[str]
    names_of: Callable[[str], Iterable[str]]
    owners_of: Callable[[str], Iterable[str]]

    def read_layer(self, layer: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Gives a YAML layer with typed values; `source` says in messages where it was written.

        Raises:
            UserError: a key is unknown or a value is not allowed.
        """
        typed: dict[str, Any] = {}
        for key, value in flatten(layer):
            typed = recursive_dict_update(typed, nested(key, self._read(key, value, source, Key.read)))
        return typed

    def read_text(self, key: str, text: str, source: str) -> dict[str, Any]:
        """Gives the layer that one setting of the command line stands for.

        Raises:
            UserError: the key is unknown or the value is not allowed.
        """
        if not any(other.startswith(key + ".") for other in self.schema):
            return nested(key, self._read(key, text, source, Key.read_text))
        try:
            group = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            group = None
        if not isinstance(group, dict):
            inner = next(other for other in self.schema if other.startswith(key + "."))
            raise UserError(f"{source}: '{key}' is a group of keys; set one of them, such as {inner}")
        return self.read_layer(nested(key, group), source)

    def _read(self, key: str, value: Any, source: str, read: Callable[[Key, Any], Any]) -> Any:
        if key not in self.declared:
            if value == {} and any(other.startswith(key + ".") for other in self.schema):
                return value
            owners = " and ".join(self.owners_of(key))
            reason = f"; it belongs to {owners}" if owners else nearest(key, self.declared)
            raise UserError(f"{source}: unknown key '{key}'{reason} (--help lists all keys)")
        declaration = self.schema[key]
        try:
            typed = read(declaration, value)
        except ValueError as error:
            hint = nearest(str(value), map(str, declaration.choices))
            raise UserError(f"{source}: {key}={value} is not allowed: {error}{hint}") from error
        if declaration.names and typed is not None:
            names = list(self.names_of(declaration.names))
            if typed not in names:
                raise UserError(f"{source}: {unknown(key, typed, names)}")
        return typed
