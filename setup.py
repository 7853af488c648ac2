"""Builds the engine as a package of its own, `smac_engine`; pyproject.toml has its name, version and requirements.

The engine imports a few modules of `envs` and `utils`, names that other frameworks have, too. So the package holds
copies of them below its own name, in which `from envs...` reads `from smac_engine.envs...`.
"""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NAME, ENGINE, COPIED = "smac_engine", "envs/sc2/sim", ("envs", "utils")


class BuildEngine(build_py):
    """Adds the copies to what is built."""

    editable_mode: bool = False

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            raise SystemExit("smac_engine can't be installed with -e; leave -e out, or import it from the checkout")
        target = Path(self.build_lib) / NAME
        for path in [*needed_files(), *sorted((ROOT / NAME).glob("*.py"))]:
            copy = target / (path.name if path.parent.name == NAME else path.relative_to(ROOT))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(with_own_names(path.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copytree(ROOT / ENGINE / "data", target / ENGINE / "data", dirs_exist_ok=True)


def with_own_names(source: str) -> str:
    """Returns the source with imports of `envs` and `utils` from within the package."""
    return re.sub(rf"^(\s*from )({'|'.join(COPIED)})\b", rf"\1{NAME}.\2", source, flags=re.MULTILINE)


def needed_files() -> list[Path]:
    """Returns the files of `envs` and `utils` without which the engine can't be imported or used."""
    engine = sorted((ROOT / ENGINE).glob("*.py"))
    found = {path: None for path in engine}
    waiting = [*engine, *(ROOT / NAME).glob("*.py")]
    while waiting:
        path = waiting.pop()
        for other in imported(path, everywhere=path in engine or path.parent.name == NAME):
            if other not in found:
                found[other] = None
                waiting.append(other)
    return list(found)


def imported(path: Path, everywhere: bool) -> Iterator[Path]:
    """Returns the files that a file imports from `envs` and `utils`, with their packages; in functions `everywhere`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] in COPIED for alias in node.names):
            raise SystemExit(f"{path}, line {node.lineno}: write `from ... import ...`, which can get another name")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in COPIED:
            parts = node.module.split(".")
            for name in [*(parts[: n + 1] for n in range(len(parts))), *([*parts, alias.name] for alias in node.names)]:
                file = ROOT.joinpath(*name)
                yield from (one for one in (file / "__init__.py", file.with_suffix(".py")) if one.is_file())


setup(cmdclass={"build_py": BuildEngine})
