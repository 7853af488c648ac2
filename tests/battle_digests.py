"""What battles on all 23 maps come to, as digests: the engine must play them alike until its version changes.

`python -m tests.battle_digests` writes them anew, after a change of `rules.ENGINE_VERSION`.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.rules import ENGINE_VERSION

FILE = Path(__file__).parent / "golden" / "battles" / "digests.json"
N_BATTLES, N_STEPS = 2, 120
ATTACKS = 0.7  # share of the steps in which an agent that can attack does


def digest(map_name: str) -> str:
    """Of all that is seen in two battles of some episodes, to a thousandth, and of where the units stand at the end."""
    env, rng, content = BattleVectorEnv(range(N_BATTLES), map_name=map_name), np.random.default_rng(0), hashlib.sha256()
    seen, outcomes = Observations.empty(N_BATTLES, env.get_env_info()), Outcomes.empty(N_BATTLES, env.info_keys)
    env.reset(seen)
    for _ in range(N_STEPS):
        wishes = rng.random(seen.avail_actions.shape) + (rng.random(seen.avail_actions.shape[:2]) < ATTACKS)[
            ..., None
        ] * (np.arange(seen.avail_actions.shape[-1]) >= 6)
        env.step((wishes * seen.avail_actions).argmax(-1), seen, outcomes)
        for array in (*seen, outcomes.reward, outcomes.terminated, outcomes.truncated):
            content.update(np.round(array * 1000.0).astype("<i8").tobytes())
        if (over := outcomes.terminated | outcomes.truncated).any():
            env.reset(seen, over)
    for name in ("x", "y", "health", "shield", "cooldown", "energy"):
        content.update(np.round(env.units[name] * 10_000).astype("<i8").tobytes())
    return content.hexdigest()[:16]


if __name__ == "__main__":
    digests = {name: digest(name) for name in MAP_NAMES}
    FILE.write_text(json.dumps({"engine_version": ENGINE_VERSION, "maps": digests}, indent=1) + "\n")
