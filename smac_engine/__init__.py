"""The combat engine on its own: SMAC's `StarCraft2Env` without the game, for any framework.

    from smac_engine import StarCraft2Env  # in place of: from smac.env import StarCraft2Env

`parallel_env` is a battle for PettingZoo, `BattleVectorEnv` many battles over NumPy arrays; Gymnasium's interfaces are
in `gymnasium_env.py`. setup.py builds this package with what it needs of `envs` and `utils`, under its own name.
"""

from typing import TYPE_CHECKING, Any

from envs.multiagentenv import MultiAgentEnv, Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.smac import StarCraft2Env

if TYPE_CHECKING:
    from smac_engine.pettingzoo_env import BattleParallelEnv

__all__ = [
    "MAP_NAMES",
    "BattleVectorEnv",
    "MultiAgentEnv",
    "Observations",
    "Outcomes",
    "StarCraft2Env",
    "parallel_env",
]


def parallel_env(map_name: str = "8m", **env_args: Any) -> "BattleParallelEnv":
    """Returns one battle as a PettingZoo parallel environment; the arguments are those of `BattleVectorEnv`.

    Raises: ImportError where PettingZoo is not installed.
    """
    from smac_engine.pettingzoo_env import BattleParallelEnv

    return BattleParallelEnv(map_name, **env_args)
