"""SMACv2 on the combat engine, under SMACv2's own name: in place of `from smacv2.env import ...` write
`from smac_engine.smacv2 import StarCraftCapabilityEnvWrapper`.
"""

from envs.sc2.sim.smacv2.smacv2 import StarCraft2Env as StarCraftCapabilityEnvWrapper

__all__ = ["StarCraftCapabilityEnvWrapper"]
