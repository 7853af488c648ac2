"""Who may know whom: the imports of every file against one list, and what must not be imported early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import registries

ROOT = Path(__file__).resolve().parent.parent
LEARNING = {"modules", "components", "utils"}
ALLOWED = {
    "utils": set(),
    "config": {"utils"},
    "envs": {"utils"},
    "smac_engine": {"envs"},
    "modules": {"components", "utils"},
    "components": {"utils"},
    "controllers": LEARNING,
    "learners": LEARNING,
    "runners": {"envs", "components", "utils"},
    "run": {"runners", "controllers", "learners", "modules", "components", "envs", "utils"},
    # envs: its engine is settled before the run starts, to be recorded; run would import torch for that
    "main": {"run", "config", "utils", "envs"},
    "experiments": {"main", "run", "envs", "utils"},  # envs: the engine is calibrated without a run
}
FREE = {"tests", "benchmarks", "docs"}  # they look at everything
PACKAGES = ALLOWED.keys() | FREE
FILES = [path for top in sorted(ALLOWED) for path in sorted([*ROOT.glob(f"{top}.py"), *ROOT.glob(f"{top}/**/*.py")])]


def top_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_packages(source):
    """The project's packages that a source imports, in functions too."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module)
    return {module.split(".")[0] for module in modules} & PACKAGES


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_reader_sees_imports_of_every_form():
    source = "import envs.sc2 as e, os\nfrom learners.q import Q\ndef f():\n    from utils import config\n"
    assert imported_packages(source) == {"envs", "learners", "utils"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_folder_may_know(path):
    top = top_of(path)
    forbidden = imported_packages(path.read_text(encoding="utf-8")) - ALLOWED[top] - {top}
    assert not forbidden, f"{top} may not import {', '.join(sorted(forbidden))}"


def test_every_python_folder_has_its_line_in_the_list():
    tops = {top_of(path) for path in ROOT.glob("*/**/*.py") if not path.relative_to(ROOT).parts[0].startswith(".")}
    assert tops - {"results", "build"} <= PACKAGES


def test_environments_never_import_torch():
    code = (
        "import importlib, pkgutil, sys, envs\n"
        "names = [m.name for m in pkgutil.walk_packages(envs.__path__, 'envs.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "assert 'envs.sc2.sim.env' in names\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("package", registries.LAZY)
def test_importing_a_registry_imports_nothing_else(package):
    code = (
        f"import sys, {package}\n"
        f"assert len({package}.REGISTRY) > 0\n"
        "early = {'torch', 'numba', 'smac', 'pysc2'} & sys.modules.keys()\n"
        f"lazy = [e.split(':')[0] for e in {package}.REGISTRY._entries.values()]\n"
        f"early |= {{m for m in lazy if m in sys.modules and m != '{package}' and '.' in m}}\n"
        "assert not early, early\n"
    )
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr


def test_the_names_of_maps_are_known_without_compiling_anything():
    finished = run_python(
        "import sys\nfrom envs.sc2.sim.maps import MAP_NAMES\n"
        "assert '3m' in MAP_NAMES and not {'torch', 'numba'} & sys.modules.keys()\n"
    )
    assert finished.returncode == 0, finished.stderr
