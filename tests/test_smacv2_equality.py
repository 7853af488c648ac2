"""SMACv2's own environment over the stand-in of `sc2_server/` against the embedded engine's, step by step.

The stand-in plays on the engine, so both play the same battles: compared is what SMACv2 computes from the game's
messages. Teams, places and chances are those that one of the two draws, for SMACv2 seeds none of its own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.sc2_server.install import ROOT, install

# Looked for and not imported: smac and smacv2 can't be in one process, which this one may share with smac's tests.
MISSING = [package for package in ("smacv2", "pysc2", "websockets") if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("race", ["terran", "protoss", "zerg"])
def test_whole_episodes_of_smacv2_equal_the_engines_own(race, tmp_path):
    environment = os.environ | {"SC2PATH": str(install(tmp_path / "game"))}
    command = [sys.executable, "-m", "tests.sc2_server.smacv2_episodes", race]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count(f"{race} ") == 3
