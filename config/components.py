"""The components of a configuration: which are chosen, the keys that each declares, and what can't be combined.

A key whose names are a registry chooses a component, whose class declares keys of its own in its dataclass `Keys` and
says in `conflict` what it can't work with. `schema.py` has the keys of every run, with which this begins.
"""

import importlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from config import schema
from config.schema import OF_PYMARL, RUN
from utils.config import Key, declared_keys, flatten, unflattened
from utils.dict2namedtuple import Config
from utils.errors import UserError, nearest, shortened, unknown
from utils.files import Json
from utils.logging import LOGGER_NAME
from utils.registry import Registry
from utils.yaml_files import AnyKey

GROUPS = {"env": "env_args."}
"""What the keys of a component are grouped under; those of all others stand at the top."""
OF_ALGORITHMS = "config/algs/"
"""Where the settings begin that hold in the environments that declare their keys, and in no other."""


class Setting(NamedTuple):
    """One value, and where it was written; of the command line (`is_typed`) its text."""

    key: str
    value: Any
    source: str
    is_typed: bool = False

    def read(self, key: Key) -> object:
        """Returns the value as the key has it. Raises: UserError where it is not allowed."""
        try:
            typed = key.read_text(self.value) if self.is_typed else key.read(self.value)
        except ValueError as error:
            hint = nearest(shortened(self.value), map(str, key.choices))
            given = f"{self.source}: {self.key}={shortened(self.value)}"
            raise UserError(f"{given} is not allowed: {error}{hint}") from error
        if key.names and typed not in (None, key.default) and typed not in (names := names_of(key)):
            raise UserError(f"{self.source}: {unknown(self.key, typed, names)}")
        return typed


class Part(NamedTuple):
    """A chosen component: the key and the name that choose it, its class, and the keys that it declares."""

    key: str
    name: str
    kind: type[Any]
    keys: Mapping[str, Key]

    def explain(self, values: Config) -> str:
        """Returns the component and its keys with their values, as a page of help has them."""
        head = f"\n{self.key}={self.name}" + ("" if self.keys else " has no keys")
        if getattr(self.kind, "takes_any_key", False):
            head += f"; every other {GROUPS[self.key]}KEY is an argument of the environment's own"
        return "\n".join([head, *(_explain(key, declared, values[key]) for key, declared in self.keys.items())])


def _explain(name: str, key: Key, value: Any) -> str:
    printed = {None: "null", "": '""'}.get(value, value)
    allowed = f"one of {', '.join(names_of(key))}{', or null' * key.nullable}" if key.names else key.allowed()
    return f"  {name}: {printed} # {key.help} ({allowed})"


@dataclass
class Choice:
    """Values of all keys of a run and of its components, by dotted names, and those components."""

    keys: dict[str, Key] = field(default_factory=dict)
    values: Json = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    def nested(self) -> Json:
        return {"env_args": {}, **unflattened(self.values)}


def choose(settings: Iterable[Setting]) -> Choice:
    """Returns what the settings mean, later ones over earlier ones, and defaults where there are none.

    Settings of keys that no chosen component has are left out.

    Raises: UserError where a value is not allowed.
    """
    given = defaultdict(list)
    for setting in settings:
        given[setting.key].append(setting)
    choice = Choice()

    def take(keys: Mapping[str, Key]) -> None:
        choice.keys.update(keys)
        for name, key in keys.items():
            choice.values[name] = ([setting.read(key) for setting in given[name]] or [key.default])[-1]
        for name, key in keys.items():
            if choice.values[name] and isinstance(names_of(key), Registry):
                choice.parts.append(part := part_of(name, key, choice.values[name]))
                take({**part.keys, **_undeclared(part, given)})

    take(RUN)
    return choice


def _undeclared(part: Part, given: Mapping[str, Sequence[Setting]]) -> dict[str, Key]:
    """Returns keys for what was set below the group of a component that takes any: `takes_any_key` in its class."""
    if not getattr(part.kind, "takes_any_key", False):
        return {}
    of_files = {name: settings for name, settings in given.items() if name.startswith(GROUPS[part.key])}
    return {
        name: AnyKey(object, help="an argument of the environment's own")
        for name, settings in of_files.items()
        if name not in part.keys and not all(one.source.startswith(OF_ALGORITHMS) for one in settings)
    }


def part_of(key: str, declaration: Key, name: str) -> Part:
    """Returns the component that `key` chooses by this name."""
    kind = names_of(declaration)[name]
    declared = getattr(kind, "Keys", None)  # a class without has no keys of its own
    return Part(key, name, kind, declared_keys(declared, GROUPS.get(key, "")) if declared else {})


def names_of(key: Key) -> Any:
    """Returns the collection that `Key.names` refers to, such as a registry, whose import imports nothing else."""
    module, _, attribute = key.names.partition(":")
    return getattr(importlib.import_module(module), attribute) if module else ()


def all_parts(keys: Mapping[str, Key] = RUN) -> Iterator[Part]:
    """Returns every component that can be chosen, some of them more than once."""
    for name, key in keys.items():
        for component in names if isinstance(names := names_of(key), Registry) else ():
            yield (part := part_of(name, key, component))
            yield from all_parts(part.keys)


def check_known(settings: Iterable[Setting], known: Collection[str]) -> None:
    """Raises: UserError for the first setting of a key that is not known: what has it, or the nearest one."""
    for setting in settings:
        if setting.key in known or (setting.value == {} and any(key.startswith(f"{setting.key}.") for key in known)):
            continue
        if inner := next((key for key in known if key.startswith(f"{setting.key}.")), None):
            raise UserError(f"{setting.source}: '{setting.key}' is a group of keys; set one of them, such as {inner}")
        if setting.key in OF_PYMARL:
            only = OF_PYMARL[setting.key]
            if str(setting.value) != str(only):
                raise UserError(
                    f"{setting.source}: {setting.key}={shortened(setting.value)} is not allowed: PyMARL's "
                    f"{setting.key} is known here as {only} only, which changes nothing; leave it out"
                )
            logging.getLogger(LOGGER_NAME).warning(
                f"{setting.source}: {setting.key}={only} is PyMARL's and changes nothing here"
            )
            continue
        owners = dict.fromkeys(f"{part.key}={part.name}" for part in all_parts() if setting.key in part.keys)
        reason = f"; it belongs to {' and '.join(owners)}" if owners else nearest(setting.key, known)
        raise UserError(f"{setting.source}: unknown key '{shortened(setting.key)}'{reason} (see --help)")


def conflict(config: Config) -> str:
    """Returns a sentence about two values that are allowed but not together, or nothing."""
    own = [{**config, **config[alg]} for alg in config["population"]] or [{**config}]
    return next(filter(None, map(_conflict_of_parts, own)), "") or schema.conflict(config)


def _conflict_of_parts(config: Config) -> str:
    choice = choose(Setting(key, value, "") for key, value in flatten(config))
    values = {**config, **choice.values}
    kinds = {part.key: part.kind for part in choice.parts}
    for part in choice.parts:
        if hasattr(part.kind, "conflict") and (sentence := part.kind.conflict(values, kinds)):
            return sentence
    return ""
