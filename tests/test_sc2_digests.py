"""The 23 maps' battles come out as they always have in this version of the engine."""

import json

import pytest

from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.rules import ENGINE_VERSION
from tests.battle_digests import FILE, digest

RECORDED = json.loads(FILE.read_text())


def test_the_digests_are_of_this_version_of_the_engine():
    assert RECORDED["engine_version"] == ENGINE_VERSION, "write them anew: python -m tests.battle_digests"
    assert list(RECORDED["maps"]) == list(MAP_NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("map_name", MAP_NAMES)
def test_a_maps_battles_come_out_as_before(map_name):
    assert digest(map_name) == RECORDED["maps"][map_name]
