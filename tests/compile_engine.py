"""`python -m tests.compile_engine smac`, or `smacv2`: compiles the embedded engine for all processes that start later.

Tests that start together would each compile it, a minute of work; `make test` does it while the types are checked.
"""

import sys
from collections.abc import Mapping
from typing import Any

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.enemies import SCRIPT, SCRIPTS
from envs.sc2.sim.env import BattleVectorEnv as Smac
from envs.sc2.sim.smacv2.env import BattleVectorEnv as SmacV2

BATTLES: dict[str, tuple[type[Smac], list[dict[str, Any]]]] = {
    "smac": (
        Smac,
        [
            {"map_name": "3m"},
            {"map_name": "3m", "heuristic_ai": True},
            *({"map_name": "3m", "enemy": f"{SCRIPT}{name}"} for name in SCRIPTS),
        ],
    ),
    "smacv2": (SmacV2, [{"map_name": "terran_5_vs_5"}]),
}


def play(battles: type[Smac], env_args: Mapping[str, Any], n: int = 1, apart: int = 1) -> None:
    """Plays a few steps of n battles at once, in every so many rows of arrays, as the steps of a batch are."""
    env = battles(range(n), **env_args)
    rows = Observations.empty(n * apart, env.get_env_info())
    seen = Observations(*(field[::apart] for field in rows))
    outcomes = Outcomes.empty(n, env.info_keys)
    env.reset(seen)
    for _ in range(3):
        env.step(rows.avail_actions.argmax(-1)[::apart], seen, outcomes)


if __name__ == "__main__":
    for which in sys.argv[1:]:
        battles, settings = BATTLES[which]
        for env_args in settings:
            play(battles, env_args)
        play(battles, settings[0], n=2, apart=2)
        play(battles, {**settings[0], "n_threads": 2}, n=8)
