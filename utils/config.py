"""Configuration as data: what a key may hold, and merging layers; `yaml_files.py` reads YAML.
A component declares its keys beside its class by `key`; those of a run are in config/schema.py.
"""

import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, get_args, get_type_hints

from utils.dict2namedtuple import Config
from utils.errors import UserError
from utils.files import Json, read_bytes
from utils.MY_EXP_PATH import expanded

Numbers: TypeAlias = list[float]
LISTS: dict[object, type] = {list: str, Numbers: float}
"""Kinds that are lists, and the kind of their entries."""
KIND_NAMES: dict[object, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path, or empty",
    list: "a list of names, such as [a, b]",
    Numbers: "a list of numbers, such as [0.5, 1]",
}
STEPS, EPISODES = "environment steps", "episodes"
# Bounds far above use: of steps, of counts and points, of what is small, and of the width of networks and of batches.
T, M, K, WIDE = 10**12, 10**6, 10**3, 2**12
TRUTH_VALUES = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False}  # YAML's, in any case
NOTHING = ("", "null", "none", "~")  # in any case; what means nothing where a key may be nothing
WHOLE = "([0-9]+|[0-9]{1,3}(_[0-9]{3})+)"
DECIMAL = re.compile(rf"[-+]?({WHOLE}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{{1,4}})?$")
LONGEST_PATH, LONGEST_NAME = 3000, 255  # bytes; what a run writes below it must still fit into the system's 4,096


@dataclass(frozen=True)
class Key:
    """What a configuration key may hold: its kind or kinds, its unit, and its allowed values.

    `low` and `high` are allowed themselves, `above` is not. A `Path` is text in which `~` is expanded, and what
    `is_in_file_name` can be a part of one. `names` is the "module:ATTRIBUTE" of a collection of allowed names that
    lives elsewhere, such as a registry, and is read only when a value is checked.
    """

    kind: type | tuple[type, ...]
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[object, ...] = ()
    names: str = ""
    nullable: bool = False
    is_in_file_name: bool = False
    default: object = None
    help: str = ""

    @property
    def kinds(self) -> tuple[type, ...]:
        return self.kind if isinstance(self.kind, tuple) else (self.kind,)

    def read(self, value: object) -> Any:
        """Returns the value as the declared kind, so that 2e5 is a whole number and 1 a number.

        Raises: ValueError where the value is of another kind or is not an allowed one.
        """
        if self.nullable and value in (None, "None"):
            return None
        return self._first_allowed(value, _as_kind)

    def read_text(self, text: str) -> Any:
        """Returns the value of what was typed on the command line.

        Text stays as it is, but for quotes around the whole; a number is decimal; null, None and ~ are nothing where
        nothing is allowed.

        Raises: ValueError where it is not an allowed value.
        """
        if self.nullable and text.strip().lower() in NOTHING:
            return None
        return self._first_allowed(text, _text_as_kind)

    def _first_allowed(self, value: Any, as_kind: Callable[[Any, type], object]) -> object:
        for kind in self.kinds:
            typed = as_kind(value, kind)
            if typed is not None and self._allows(typed, kind):
                return typed
        raise ValueError(f"it must be {self.allowed()}")

    def allowed(self) -> str:
        """Words what the key may hold: `a whole number in environment steps, at least 1`."""
        limits = [("at least", self.low), ("above", self.above), ("at most", self.high)]
        bounds = "".join(f", {word} {limit:,}" for word, limit in limits if limit is not None)
        number = (f" in {self.unit}" if self.unit else "") + bounds
        kinds = [KIND_NAMES[kind] + (number if kind in (int, float) else "") for kind in self._free_kinds()]
        kinds = [f"{kind} of at most 100 bytes without /" for kind in kinds] if self.is_in_file_name else kinds
        choices = [f"one of {', '.join(map(str, self.choices))}"] if self.choices else []
        return ", or ".join([*kinds, *choices, *(["null"] if self.nullable else [])])

    def _free_kinds(self) -> list[type]:
        """Returns the kinds that no choices restrict: of two kinds, one may be free and the other a choice."""
        return [kind for kind in self.kinds if not any(type(choice) is kind for choice in self.choices)]

    def _allows(self, value: Any, kind: type) -> bool:
        if kind not in self._free_kinds():
            return value in self.choices
        if self.is_in_file_name:
            return len(os.fsencode(value)) <= 100 and not {"/", "\0"} & set(value)
        if isinstance(value, (bool, str, list)):
            return True
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )


def key(default: object, help: str, unit: str = "", **limits: Any) -> Any:
    """Declares one key of a component: a field of the frozen dataclass `Keys` in its class.

    `help` is one line; its kind, and whether it may be nothing, follow from the field's annotation; `limits` are the
    other fields of `Key`.
    """
    return field(default=default, metadata={"key": Key((), unit, default=default, help=help, **limits)})


@functools.cache
def declared_keys(declaration: Any, prefix: str = "") -> MappingProxyType[str, Key]:
    """Returns the keys that a dataclass of keys declares, by their dotted names; a dataclass in it is a group."""
    hints = get_type_hints(declaration)
    keys: dict[str, Key] = {}
    for one in fields(declaration):
        name, hint = prefix + one.name, hints[one.name]
        if isinstance(hint, type) and is_dataclass(hint):
            keys |= declared_keys(hint, f"{name}.")
        else:
            kinds = get_args(hint) or (hint,)
            kind = tuple(kind for kind in kinds if kind is not type(None))
            declared = replace(one.metadata["key"], kind=kind, nullable=kind != kinds)
            keys[name] = replace(declared, default=declared.read(declared.default))
    return MappingProxyType(keys)


def _as_kind(value: object, kind: type) -> object:
    """Returns the value as `kind`, or None where it is of another kind."""
    if kind is Path:
        return _as_path(value) if isinstance(value, str) else None
    if kind in LISTS:
        given = value if isinstance(value, (list, tuple)) else [None]
        entries = [_as_kind(entry, LISTS[kind]) for entry in given]
        return None if None in entries else entries
    if isinstance(value, bool) or kind in (bool, str):
        return value if type(value) is kind else None
    if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        return None
    return kind(value) if kind is float or value == int(value) else None


def _text_as_kind(text: str, kind: type) -> object:
    """Returns what was typed as `kind`, or None where it is of another kind."""
    if kind is bool:
        return TRUTH_VALUES.get(text.strip().lower())
    if kind in LISTS:
        inner = re.fullmatch(r"\[(.*)\]", text.strip(), re.DOTALL)
        parts = inner[1].split(",") if inner else []
        entries = [_text_as_kind(part.strip(), LISTS[kind]) for part in parts if part.strip()]
        return None if inner is None or None in entries else entries
    if kind in (str, Path):
        quoted = re.fullmatch(r"""'([^']*)'|"([^"]*)\"""", text, re.DOTALL)
        return _as_kind((quoted[1] or quoted[2] or "") if quoted else text, kind)
    return _as_kind(decimal(text.strip()), kind)


def decimal(text: str) -> int | float | None:
    """Returns the decimal number that a person reads, 010 as ten; None where there is none, as in 1:30 or 0x10."""
    if not DECIMAL.match(text):
        return None
    plain = text.replace("_", "")
    number = float(plain)
    return int(plain) if plain.lstrip("+-").isdigit() and math.isfinite(number) else number


def _as_path(text: str) -> str:
    """Returns the path with `~` expanded. Raises: ValueError where no system could have it, or none was meant."""
    path = expanded(text)
    if path in ("None", "null"):
        raise ValueError(f"it must be a path; leave it empty for none, or write ./{path} for a folder of that name")
    sizes = [len(os.fsencode(part)) for part in path.split("/")]
    if max(sizes) > LONGEST_NAME or sum(sizes) + len(sizes) > LONGEST_PATH or "\0" in path:
        limits = f"at most {LONGEST_PATH:,} bytes, {LONGEST_NAME} in a name, none of them zero"
        raise ValueError(f"it must be a path that a system can have: {limits}")
    return path


def recursive_dict_update(d: Config, u: Config) -> Json:
    """Returns a new mapping: `d` overlaid with `u`, nested mappings merged key by key."""
    merged = dict(d)
    for key, value in u.items():
        both_nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = recursive_dict_update(merged[key], value) if both_nested else value
    return merged


def flatten(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Returns every leaf as (dotted key, value); an empty mapping is a leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def nested(key: str, value: Any) -> Json:
    """Returns the mapping that a dotted key stands for: `a.b`, 1 -> {a: {b: 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def unflattened(values: Config) -> Json:
    """Returns the mappings that all dotted keys together stand for."""
    config: Json = {}
    for key, value in values.items():
        config = recursive_dict_update(config, nested(key, value))
    return config


def load_json(path: Path) -> Json:
    """Reads one JSON object. Raises: UserError where the file can't be read, is not well formed or holds no object."""
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}; correct the file") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object with keys, not {type(content).__name__}")
    return content
