"""`python -m tests.compile_engine`: compiles the embedded engine, for all processes that start afterwards.

Tests that start together would each compile it, a minute of work; `make test` does it while the types are checked.
"""

from collections.abc import Mapping
from typing import Any

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.enemies import SCRIPT, SCRIPTS
from envs.sc2.sim.env import BattleVectorEnv as Smac
from envs.sc2.sim.smacv2.env import BattleVectorEnv as SmacV2

BATTLES: list[tuple[type[Smac], Mapping[str, Any]]] = [
    (Smac, {"map_name": "3m"}),
    (Smac, {"map_name": "3m", "heuristic_ai": True}),
    *((Smac, {"map_name": "3m", "enemy": f"{SCRIPT}{name}"}) for name in SCRIPTS),
    (SmacV2, {"map_name": "terran_5_vs_5"}),
]


def play(battles: type[Smac], env_args: Mapping[str, Any]) -> None:
    """Plays a few steps in one battle."""
    env = battles([1], **env_args)
    seen, outcomes = Observations.empty(1, env.get_env_info()), Outcomes.empty(1, env.info_keys)
    env.reset(seen)
    for _ in range(3):
        env.step(seen.avail_actions.argmax(-1), seen, outcomes)


if __name__ == "__main__":
    for battles, env_args in BATTLES:
        play(battles, env_args)
