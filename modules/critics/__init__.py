"""Critics: what judges the actions of a policy during training."""

from utils.registry import Registry

REGISTRY = Registry(
    "critic",
    coma="modules.critics.coma:COMACritic",
)
