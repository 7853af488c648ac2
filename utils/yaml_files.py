"""Reading YAML strictly: decimal numbers only, no key twice, plain values. `config.py` says what a key may hold."""

from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml, in which reading takes ten times as long
    from yaml import SafeLoader  # type: ignore[assignment]

from utils.config import DECIMAL, Key, decimal
from utils.errors import UserError
from utils.files import Json, fitted, read_bytes, values_in

MOST_YAML_BYTES = 2**18  # a tenth of a second per 5,000


class AnyKey(Key):
    """A key of which only its owner knows what it may hold; what is typed is read by YAML's rules."""

    def read(self, value: object) -> Any:
        return value

    def read_text(self, text: str) -> Any:
        try:
            return parse_yaml(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ValueError(f"it must be {self.allowed()}") from error

    def allowed(self) -> str:
        return "a value in YAML, such as 3, true, text or [1, 2]"


class YamlLoader(SafeLoader):
    """PyYAML's safe loader with decimal numbers only, without dates, and which refuses a key that is given twice."""

    yaml_implicit_resolvers = {
        first: [entry for entry in resolvers if entry[0].rpartition(":")[2] in ("null", "bool", "merge")]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Json:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar_of(self, node: yaml.ScalarNode) -> bool | int | float:
        """Returns a number or a truth value, also where a tag such as !!int asks for one."""
        value = self.bool_values.get(node.value.lower()) if node.tag.endswith(":bool") else decimal(node.value)
        if value is None:
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no {node.tag}", node.start_mark)
        return value


YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", DECIMAL, list("-+.0123456789"))
for _name in ("int", "float", "bool"):
    YamlLoader.add_constructor(f"tag:yaml.org,2002:{_name}", YamlLoader.construct_scalar_of)
for _name in ("timestamp", "binary", "omap", "pairs", "set"):
    YamlLoader.add_constructor(f"tag:yaml.org,2002:{_name}", YamlLoader.construct_undefined)


def parse_yaml(text: str) -> Any:
    """Returns what a YAML text holds. Raises: yaml.YAMLError, RecursionError; ValueError where aliases unfold it."""
    content = yaml.load(text, Loader=YamlLoader)
    for _ in values_in(content, MOST_YAML_BYTES):
        pass
    return content


def load_yaml(path: Path, layout: object = dict, remedy: str = "correct the file") -> Json:
    """Reads one YAML mapping of a layout (see utils/files.py); `remedy` says what to do if it is none.

    Raises: UserError where the file is not there or not well formed (naming line and column), gives a key twice, holds
    no mapping of this layout, or unfolds to more than a configuration has.
    """
    try:
        content = parse_yaml(read_bytes(path, MOST_YAML_BYTES).decode())
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
