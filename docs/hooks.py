"""mkdocs calls this for every page: it writes the tables of keys, from their declarations, in place of comments."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the imports here, after which mkdocs takes it out again

from config.components import Part, all_parts, names_of  # noqa: E402
from config.schema import RUN  # noqa: E402
from utils.config import Key  # noqa: E402

HEAD = "| key | default | meaning | allowed |\n|---|---|---|---|"
COMMENTED = re.compile(r"^(\w+): (.*?) # (.*)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs' event: returns the page with its tables."""
    if "<!-- keys of " not in markdown:
        return markdown
    sys.path.insert(0, str(ROOT))  # for the components, which are imported when they are asked for
    markdown = markdown.replace("<!-- keys of every run -->", keys_of_runs())
    return markdown.replace("<!-- keys of components -->", keys_of_components())


def keys_of_runs() -> str:
    """Returns the table of the keys of every run; values and meaning are those of config/default.yaml."""
    written = COMMENTED.findall((ROOT / "config" / "default.yaml").read_text(encoding="utf-8"))
    return "\n".join([HEAD, *(_row(name, value, text, RUN[name]) for name, value, text in written if name in RUN)])


def keys_of_components() -> str:
    """Returns a table for each component that declares keys, by the key that chooses it."""
    parts = {(part.key, part.name): part for part in all_parts() if part.keys}
    return "\n\n".join(_table(part) for _, part in sorted(parts.items()))


def _table(part: Part) -> str:
    def rows() -> Iterator[str]:
        for name, key in part.keys.items():
            yield _row(name, {None: "null", "": '""'}.get(key.default, key.default), key.help, key)  # type: ignore[call-overload]

    return "\n".join([f"### `{part.key}={part.name}`", "", HEAD, *rows()])


def _row(name: str, value: object, meaning: str, key: Key) -> str:
    allowed = f"one of {', '.join(names_of(key))}{', or null' * key.nullable}" if key.names else key.allowed()
    return "| " + " | ".join(text.replace("|", "\\|") for text in (f"`{name}`", f"`{value}`", meaning, allowed)) + " |"
