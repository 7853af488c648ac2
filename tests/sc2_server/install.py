"""Installs a stand-in for StarCraft II: a folder for SC2PATH in which pysc2 finds a binary, and SMAC its maps.

    folder = install(tmp_path / "StarCraftII")
    monkeypatch.setenv("SC2PATH", str(folder))
    monkeypatch.setenv("SC2_STANDIN_FAULT", "crash@12")

The binary is `server.py`, which plays on the embedded engine. SC2_STANDIN_FAULT makes it fail, once in an installation,
at the n-th request of a step that one of its processes gets (`kind@n`; the 1st without `@n`):

    crash    the process ends
    hang     it never answers
    garbage  it answers with bytes that are no message
    vanish   it ends, and the binary is gone: the game can't be launched again

`kind@n!` makes every process fail there; `kind@launch` and `kind@launch!` make one, or each, fail before it listens.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.smac import StarCraft2Env
from envs.sc2.sim.smacv2.smacv2 import StarCraft2Env as SmacV2Env

ROOT = Path(__file__).resolve().parents[2]
BUILD_4_6_2, BUILD_4_10_0 = 69232, 75689
FLAT_MAP = "32x32_flat"
"""SMACv2's map."""


def install(folder: Path, builds: Sequence[int] = (BUILD_4_10_0,), maps: Sequence[str] = MAP_NAMES) -> Path:
    """Makes the folder, with a binary of each of these builds and these maps; gives it."""
    _compile()
    maps = (*maps, FLAT_MAP)
    for build in builds:
        binary = folder / "Versions" / f"Base{build}" / "SC2_x64"
        binary.parent.mkdir(parents=True)
        command = f'"{sys.executable}" -m tests.sc2_server.server --build {build} --binary "$0" "$@"'
        binary.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}:$PYTHONPATH" exec {command}\n')
        binary.chmod(0o755)
    (folder / "Maps" / "SMAC_Maps").mkdir(parents=True)
    for name in maps:
        (folder / "Maps" / "SMAC_Maps" / f"{name}.SC2Map").write_text(f"stand-in for the map {name}\n")
    return folder


@cache
def _compile() -> None:
    """Leaves the engine's compiled code where the stand-in finds it: pysc2 would not wait for as long as that takes."""
    for env in (StarCraft2Env("3m", seed=0), SmacV2Env(seed=0)):
        env.reset()
        env.step([1] * env.n_agents)
