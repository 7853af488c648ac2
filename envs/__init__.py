"""The environments by name. Their interfaces are in `multiagentenv.py`; `check.py` holds any environment against them."""

from utils.registry import Registry

REGISTRY = Registry("environment", {"sc2": "envs.sc2:StarCraft2Env"})
